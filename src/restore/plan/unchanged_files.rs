//! Finds the live files that a restore would replace with the same content.

use super::live_files::read_stored_target;
use super::restore_plan::RestorePlan;
use crate::archive::{ArchiveError, ArchiveManifest, FileEntry, NameSet};
use crate::codex::home::database_sidecars;
use crate::codex::{HomeEntryKind, kind_of};
use crate::io::{Progress, ReportingReader, file_open, is_interrupted, modified_ns, parallel};
use std::path::Path;

/// The largest number of files that wait to be compared.
const MAX_WAITING: usize = 64;

/// Returns the files of `home` that `plan` replaces with equal ones. A file is equal if it has the size of the
/// archived one and its time or its digest. Most equal files have the time, so few are read.
///
/// # Errors
/// [`ArchiveError::Interrupted`].
pub(crate) fn find_unchanged(
    contents: &ArchiveManifest,
    plan: &RestorePlan,
    home: &Path,
    progress: &dyn Progress,
) -> Result<NameSet, ArchiveError> {
    let mut unchanged = NameSet::with_names(plan.writes.names());
    let is_replaced = |path: &Path| plan.writes.contains(path) && !plan.added.contains(path);
    for link in &contents.links {
        let path = link.path.as_path();
        if is_replaced(path) && read_stored_target(home, path).as_ref() == Some(&link.target) {
            unchanged.insert(&link.path);
        }
    }
    let files = contents.files.iter();
    parallel::run_each_ordered(
        MAX_WAITING,
        files.filter(|file| is_replaced(file.path.as_path())),
        |file: FileEntry| {
            let is_equal = is_equal(&home.join(file.path.as_path()), &file, progress);
            (!is_interrupted()).then_some(is_equal.then_some(file.path))
        },
        |equal| {
            unchanged.extend(equal.ok_or(ArchiveError::Interrupted)?);
            Ok::<_, ArchiveError>(())
        },
    )?;
    Ok(unchanged)
}

fn is_equal(path: &Path, file: &FileEntry, progress: &dyn Progress) -> bool {
    // A log has changes that the database file does not have yet.
    let has_log = |path: &Path| path.metadata().is_ok_and(|meta| meta.len() > 0);
    let is_database = kind_of(file.path.as_path()) == HomeEntryKind::Database;
    let has_changes = is_database && database_sidecars(path).iter().any(|log| has_log(log));
    let meta = path.symlink_metadata();
    meta.is_ok_and(|meta| {
        let is_same_size = meta.is_file() && meta.len() == file.size && !has_changes;
        is_same_size && (modified_ns(&meta) == file.mtime || has_content(path, file, progress))
    })
}

/// Returns true if the file at `path` has the size and the digest of `file`. One that cannot be read has not.
pub(crate) fn has_content(path: &Path, file: &FileEntry, progress: &dyn Progress) -> bool {
    file.digest.is_some_and(|digest| {
        let read = file_open::open_no_link(path).and_then(|reader| {
            let mut reader = ReportingReader { reader, progress };
            digest.hasher().hash(&mut reader)
        });
        read.is_ok_and(|read| read == (digest, file.size))
    })
}
