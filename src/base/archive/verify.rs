//! Verifies an archive: every byte against its digest, every database by SQLite's integrity check.

use super::error::ArchiveError;
use super::file_extract::PathSink;
use super::format::manifest::is_database_path;
use super::format::sidecar::{self, SidecarProblem};
use super::format::{EntryName, FileEntry};
use super::reader::ArchiveReader;
use super::sink::Extent;
use crate::codex::database::{self, DatabaseError};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::staging::Staging;
use crate::io::{IoContext, IoError, Progress, file_open, parallel, space, with_suffix};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Default)]
pub struct VerifyReport {
    pub archive: PathBuf,
    /// Damage of the archive itself. Empty if the archive is good or could not be read.
    pub problems: Vec<String>,
    /// The read error of the archive file that ended the check. It does not prove damage.
    pub read_error: Option<IoError>,
    /// Problem of the sidecar. The archive can be restored without one.
    pub sidecar_problem: Option<SidecarProblem>,
    /// Notes about checks that were impossible, because archives of the Python tool have no digests.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Returns true if the archive was read completely and can be restored, whatever the state of
    /// its sidecar.
    pub fn is_archive_good(&self) -> bool {
        self.problems.is_empty() && self.read_error.is_none()
    }

    /// Returns true if neither the archive nor its sidecar has a problem.
    pub fn is_ok(&self) -> bool {
        self.is_archive_good() && self.sidecar_problem.is_none()
    }
}

/// Verifies the archive at `path`. Unpacks its databases into `tmp` to check them.
///
/// # Errors
/// The check was impossible, which does not prove damage: too little disk space, no write access to `tmp`,
/// interruption.
pub fn verify(
    path: &Path,
    tmp: &Path,
    progress: &dyn Progress,
) -> Result<VerifyReport, ArchiveError> {
    let mut report = VerifyReport {
        archive: path.to_path_buf(),
        ..VerifyReport::default()
    };

    match verify_into(path, tmp, progress, &mut report) {
        Ok(()) => {}
        Err(ArchiveError::Io(e)) if e.path == path => report.read_error = Some(e),
        Err(e) if e.is_environmental() => return Err(e),
        Err(e) => report.problems.push(e.to_string()),
    }
    Ok(report)
}

fn verify_into(
    path: &Path,
    tmp: &Path,
    progress: &dyn Progress,
    report: &mut VerifyReport,
) -> Result<(), ArchiveError> {
    let archive = ArchiveReader::open(path)?;
    let staging = Staging::create_in(tmp)?;
    let databases = plan_database_copies(&archive, &staging);

    // A full disk would look like a damaged database.
    space::require_free_space(tmp, total_database_bytes(&archive))?;

    for journal in archive.contents().files.iter().filter(is_filled_journal) {
        // SQLite would roll the copy back to a state that never was, because the parts are of
        // different moments. It also removes files that a journal names, so no journal is unpacked.
        let name = journal.path;
        let detail = format!("{name}: copied in the middle of a write (it has a journal)");
        let error = ArchiveError::damaged(path, detail);
        report.problems.push(error.to_string());
    }

    // The archive is hashed and read at the same time, so that both use the same cached disk blocks.
    let path_of = |entry: &FileEntry| find_copy_path(&databases, &entry.path);
    let sink = PathSink { path_of };
    let (sidecar_problem, read_result) = parallel::run_both(
        || find_sidecar_problem(path, &archive),
        || archive.read(Extent::All, &sink, progress),
    );

    match read_result {
        Err(e) if e.is_environmental() => return Err(e),
        Err(e) => report.problems.push(e.to_string()),
        Ok(()) => {}
    }

    for (name, copy) in &databases {
        // A file with the name of a database and other content is no damage: `backup` reported it, and its digest was
        // checked. Archives of the Python tool have no digests.
        let is_empty = copy.metadata().is_ok_and(|meta| meta.len() == 0);
        let must_be_sqlite = archive.is_python() && !is_empty;
        if (database::may_be_sqlite(copy) || must_be_sqlite)
            && let Err(e) = check_database(copy)?
        {
            report.problems.push(format!("{name}: {e}"));
        }
    }

    report.sidecar_problem = match sidecar_problem? {
        // The digest of a damaged archive always differs from the sidecar's; that adds no
        // information.
        Some(SidecarProblem::Mismatch) if !report.problems.is_empty() => None,
        problem => problem,
    };
    if archive.is_python() {
        let note = "no digests: made by the Python codex-manager";
        report.notes.push(note.into());
    }

    Ok(())
}

fn total_database_bytes(archive: &ArchiveReader) -> u64 {
    let files = &archive.contents().files;
    let databases = files.iter().filter(|f| is_database_path(f.path.as_path()));
    databases.map(|f| f.size).fold(0, u64::saturating_add)
}

/// Checks an unpacked database, and returns its damage as the inner error. Before that, applies the `-wal` beside it,
/// which archives of the Python tool can have.
///
/// # Errors
/// The copy could not be checked, which does not prove damage of the archive.
fn check_database(copy: &Path) -> Result<Result<(), DatabaseError>, ArchiveError> {
    let has_wal = home::database_sidecars(copy).iter().any(|p| p.exists());
    let checkpointed = if has_wal {
        database::checkpoint_wal(copy)
    } else {
        Ok(())
    };
    match checkpointed.and_then(|()| database::check_integrity(copy)) {
        Err(e) if e.is_caused_by_machine() => Err(e.into()),
        checked => Ok(checked),
    }
}

/// Compares the archive with the size and the digest in its sidecar. Returns the problem of the sidecar; `None` if the
/// sidecar is good, or if the archive needs none: it is one of the Python tool, or its name does not end in `.tar.gz`.
fn find_sidecar_problem(
    path: &Path,
    archive: &ArchiveReader,
) -> Result<Option<SidecarProblem>, ArchiveError> {
    // A sidecar of the Python tool has no digest.
    if archive.is_python() {
        return Ok(None);
    }
    let Some(sidecar) = super::format::names::sidecar_path(path) else {
        return Ok(None);
    };

    let metadata = match sidecar::read(&sidecar) {
        Ok(metadata) => metadata,
        Err(problem) => return Ok(Some(problem)),
    };

    let Some(listed_digest) = metadata.archive_digest() else {
        return Ok(Some(SidecarProblem::Mismatch));
    };

    let mut file = file_open::open(path).at("read", path)?;
    let (digest, bytes) = listed_digest.hasher().hash(&mut file).at("read", path)?;
    let is_of_archive = digest == listed_digest && bytes == metadata.archive_bytes;
    Ok((!is_of_archive).then_some(SidecarProblem::Mismatch))
}

/// Returns the databases of an archive, sorted by name, with the paths in `staging` to which they are unpacked.
fn plan_database_copies(
    archive: &ArchiveReader,
    staging: &Staging,
) -> BTreeMap<EntryName, PathBuf> {
    let files = archive.contents().files.iter();
    let databases = files.filter(|file| is_database_path(file.path.as_path()));
    let numbered = databases.enumerate();
    numbered
        .map(|(number, file)| (file.path, staging.path(&format!("{number}.sqlite"))))
        .collect()
}

/// Returns the path to which the entry `name` is unpacked if it is a database, or the `-wal` of one, which only
/// archives of the Python tool have. `None` for other entries.
fn find_copy_path(databases: &BTreeMap<EntryName, PathBuf>, name: &EntryName) -> Option<PathBuf> {
    if let Some(copy) = databases.get(name) {
        return Some(copy.clone());
    }
    let database = name.as_path().to_str()?.strip_suffix("-wal")?;
    let database = EntryName::from_path(Path::new(database)).ok()?;
    Some(with_suffix(databases.get(&database)?, "-wal"))
}

/// Returns true for the rollback journal of a database, unless it is empty.
fn is_filled_journal(file: &FileEntry) -> bool {
    let is_sidecar = kind_of(file.path.as_path()) == HomeEntryKind::DatabaseSidecar;
    is_sidecar && file.size > 0 && file.path.to_string().ends_with("-journal")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_wrong_content_is_reported_as_damage() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("0.sqlite");
        let gone = check_database(&copy).unwrap_err();
        assert!(gone.is_environmental(), "{gone}");

        let garbage = [b"SQLite format 3\0".as_slice(), &[0xff; 4096]].concat();
        fs::write(&copy, &garbage).unwrap();
        check_database(&copy).unwrap().unwrap_err();
    }
}
