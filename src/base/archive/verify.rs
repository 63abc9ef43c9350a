//! Verifies an archive: every byte against its digest, every database by SQLite's integrity check.

use super::error::ArchiveError;
use super::file_extract::PathSink;
use super::format::manifest::is_database_path;
use super::format::sidecar::{self, SidecarProblem};
use super::format::{EntryName, FileEntry};
use super::reader::ArchiveReader;
use super::sink::{Extent, Sink};
use crate::codex::database::{self, DatabaseError};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::progress::Silent;
use crate::io::staging::Staging;
use crate::io::{IoContext, IoError, Progress, file_open, parallel, space, with_suffix};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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

/// Verifies the archive at `path`. Unpacks its databases into `tmp` to check them; their content shows which files are
/// databases.
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

    for journal in archive.contents().files.iter().filter(is_filled_journal) {
        // SQLite would roll the copy back to a state that never was, because the parts are of
        // different moments. It also removes files that a journal names, so no journal is unpacked.
        let name = journal.path;
        let detail = format!("{name}: copied in the middle of a write (it has a journal)");
        let error = ArchiveError::damaged(path, detail);
        report.problems.push(error.to_string());
    }

    // The archive is hashed and read at the same time, so that both use the same cached disk blocks.
    let finder = DatabaseFinder {
        is_python: archive.is_python(),
        databases: Mutex::default(),
    };
    let (sidecar_problem, read_result) = parallel::run_both(
        || find_sidecar_problem(path, &archive),
        || archive.read(Extent::All, &finder, progress),
    );

    let databases = finder.databases.into_inner().unwrap_or_default();
    let check_result = read_result.and_then(|()| check_databases(&archive, databases, tmp, report));
    match check_result {
        Err(e) if e.is_environmental() => return Err(e),
        Err(e) => report.problems.push(e.to_string()),
        Ok(()) => {}
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

/// Finds the databases of an archive while it is read.
struct DatabaseFinder {
    is_python: bool,
    databases: Mutex<Vec<FileEntry>>,
}

impl Sink for DatabaseFinder {
    fn wants(&self, entry: &FileEntry) -> bool {
        entry.size > 0 && home::may_be_database(entry.path.as_path())
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        // A file with the name of a database of Codex and other content is no damage: `backup` reported it, and its
        // digest was checked. Archives of the Python tool have no digests.
        let must_be_database = self.is_python && is_database_path(entry.path.as_path());
        if offset == 0
            && (database::begins_like_database(bytes) || must_be_database)
            && let Ok(mut databases) = self.databases.lock()
        {
            databases.push(entry.clone());
        }
        Ok(())
    }
}

/// Unpacks these databases of an archive into `tmp`, and adds those that are damaged to the problems.
///
/// # Errors
/// The check was impossible, or the archive is damaged.
fn check_databases(
    archive: &ArchiveReader,
    databases: Vec<FileEntry>,
    tmp: &Path,
    report: &mut VerifyReport,
) -> Result<(), ArchiveError> {
    if databases.is_empty() {
        return Ok(());
    }

    let staging = Staging::create_in(tmp)?;
    // A full disk would look like a damaged database.
    let sizes = databases.iter().map(|file| file.size);
    space::require_free_space(tmp, sizes.fold(0, u64::saturating_add))?;

    let numbered = databases.into_iter().enumerate();
    let copies: BTreeMap<_, _> = numbered
        .map(|(number, file)| (file.path, staging.path(&format!("{number}.sqlite"))))
        .collect();
    let path_of = |entry: &FileEntry| find_copy_path(&copies, &entry.path);
    archive.read(Extent::Wanted, &PathSink { path_of }, &Silent)?;

    for (name, copy) in &copies {
        if let Err(e) = check_database(copy)? {
            report.problems.push(format!("{name}: {e}"));
        }
    }
    Ok(())
}

/// Checks an unpacked database, and returns its damage as the inner error. Before that, applies the `-wal` beside it,
/// which archives of the Python tool and of older versions can have.
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

/// Returns the path to which the entry `name` is unpacked if it is a database, or the `-wal` of one, which only archives
/// of the Python tool and of older versions have. `None` for other entries.
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
