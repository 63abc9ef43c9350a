//! Finds the live files that a restore would probably replace with the same content, for the preview of the restore.

use super::live_files::read_stored_target;
use super::restore_plan::RestorePlan;
use crate::archive::{ArchiveManifest, FileEntry, NameSet};
use crate::codex::home::database_sidecars;
use crate::io::{Progress, ReportingReader, file_open, modified_ns};
use std::path::Path;

/// Returns the files of `home` that `plan` replaces with files of the same size and modification time, and the
/// links that it replaces with links to the same target. A database does not count if the plan removes a non-empty
/// sidecar file of it, which can have changes that the database file does not have yet.
pub fn find_unchanged(contents: &ArchiveManifest, plan: &RestorePlan, home: &Path) -> NameSet {
    let mut unchanged = NameSet::with_name_table(plan.writes.name_table());
    let is_replaced = |path: &Path| plan.writes.contains(path) && !plan.added.contains(path);

    for link in &contents.links {
        let path = link.path.as_path();
        if is_replaced(path) && read_stored_target(home, path).as_ref() == Some(&link.target) {
            unchanged.insert(&link.path);
        }
    }

    let is_not_empty = |path: &Path| home.join(path).metadata().is_ok_and(|meta| meta.len() > 0);
    let loses_log = |path: &Path| {
        let mut sidecars = database_sidecars(path).into_iter();
        sidecars.any(|log| plan.removed.contains(&log) && is_not_empty(&log))
    };

    let files = contents.files.iter();
    let unchanged_files = files.filter(|file| {
        let path = file.path.as_path();
        is_replaced(path) && looks_unchanged(&home.join(path), file) && !loses_log(path)
    });
    unchanged.extend(unchanged_files.map(|file| file.path));
    unchanged
}

fn looks_unchanged(path: &Path, archived: &FileEntry) -> bool {
    path.symlink_metadata().is_ok_and(|meta| {
        meta.is_file() && meta.len() == archived.size && modified_ns(&meta) == archived.mtime
    })
}

/// Returns true if the file at `path` has the size and the digest of `file`. Returns false if the file cannot be read.
pub(crate) fn has_archived_content(path: &Path, file: &FileEntry, progress: &dyn Progress) -> bool {
    file.digest.is_some_and(|digest| {
        progress.expect_bytes(file.size);
        let hashed = file_open::open_no_link(path).and_then(|reader| {
            let mut reader = ReportingReader { reader, progress };
            digest.hasher().hash(&mut reader)
        });
        hashed.is_ok_and(|hashed| hashed == (digest, file.size))
    })
}
