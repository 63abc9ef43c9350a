//! Checking an archive: every byte against its digest, every database by SQLite's own check.

use super::ArchiveError;
use super::entry_name::EntryName;
use super::manifest::FileEntry;
use super::reader::{Archive, Layout};
use super::sidecar::{self, SidecarProblem};
use super::sink::{Extent, Sink};
use crate::codex::database::{self, DatabaseError};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::file_open;
use crate::io::hash::Sha256Digest;
use crate::io::staging::Staging;
use crate::io::{IoContext, IoError, Progress, hash, parallel, position, space};
use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// What was found in one archive.
#[derive(Debug)]
pub struct VerifyReport {
    /// The archive.
    pub archive: PathBuf,
    /// What is wrong with the archive itself; empty when it is good, or could not be read.
    pub problems: Vec<String>,
    /// Why the archive could not be read to its end, which says nothing about it.
    pub unread: Option<IoError>,
    /// What is wrong with its sidecar, without which it is whole all the same.
    pub sidecar: Option<SidecarProblem>,
    /// What could not be checked: archives of the Python tool carry no digests.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Whether the archive was read through and can be put back, whatever its sidecar is like.
    pub fn is_archive_good(&self) -> bool {
        self.problems.is_empty() && self.unread.is_none()
    }

    /// Whether nothing is wrong, with its sidecar neither.
    pub fn is_ok(&self) -> bool {
        self.is_archive_good() && self.sidecar.is_none()
    }
}

/// Checks the archive at `path`; databases are unpacked into `tmp` for that.
///
/// # Errors
/// Only what says nothing about any archive: no room, no right to write into `tmp`, interrupted.
pub fn verify(
    path: &Path,
    tmp: &Path,
    progress: &dyn Progress,
) -> Result<VerifyReport, ArchiveError> {
    let mut report = VerifyReport {
        archive: path.to_path_buf(),
        problems: Vec::new(),
        unread: None,
        sidecar: None,
        notes: Vec::new(),
    };
    match read_through(path, tmp, progress, &mut report) {
        Ok(()) => Ok(report),
        Err(ArchiveError::Io(e)) if e.path == path => {
            report.unread = Some(e);
            Ok(report)
        }
        Err(e) if e.is_of_machine() => Err(e),
        Err(e) => {
            report.problems.push(e.to_string());
            Ok(report)
        }
    }
}

fn read_through(
    path: &Path,
    tmp: &Path,
    progress: &dyn Progress,
    report: &mut VerifyReport,
) -> Result<(), ArchiveError> {
    let archive = Archive::open(path)?;
    let checker = Checker::new(&archive, Staging::inside(tmp)?);
    let needed_bytes = contents_of_databases(&archive);
    if let Some(free_bytes) = space::free_bytes(tmp).filter(|free| *free < needed_bytes) {
        return Err(ArchiveError::NoSpace {
            folder: tmp.to_path_buf(),
            needed_bytes,
            free_bytes,
        });
    }
    for journal in &checker.journals {
        let torn = format!("{journal}: copied in the middle of a write (a journal)");
        let torn = ArchiveError::damaged(path, torn);
        report.problems.push(torn.to_string());
    }
    // Another reader of the same bytes: the two keep each other's disk warm.
    let is_ours = matches!(archive.layout(), Layout::Ours(_));
    let (sidecar, read) = parallel::both(
        || is_ours.then(|| compare_with_sidecar(path)),
        || archive.read(Extent::All, &checker, progress),
    );
    match read {
        Err(e) if e.is_of_machine() => return Err(e),
        Err(e) => report.problems.push(e.to_string()),
        Ok(()) => {}
    }
    for (name, copy) in checker.databases() {
        let told = || digest_of(&archive, name);
        match check_database(copy, told)? {
            Ok(()) => {}
            Err(e) => report.problems.push(format!("{name}: {e}")),
        }
    }
    match sidecar.transpose()? {
        None => report
            .notes
            .push("no digests: made by the Python codex-manager".into()),
        // Of one that is damaged the digest is another: that says nothing more.
        Some(Some(SidecarProblem::OfAnother)) if !report.problems.is_empty() => {}
        Some(problem) => report.sidecar = problem,
    }
    Ok(())
}

fn contents_of_databases(archive: &Archive) -> u64 {
    let files = archive.contents().files;
    let databases = files.iter().filter(is_database);
    databases.map(|f| f.size).fold(0, u64::saturating_add)
}

fn digest_of(archive: &Archive, name: &EntryName) -> Option<Sha256Digest> {
    let files = archive.contents().files;
    files.iter().find(|f| f.path == *name)?.sha256
}

/// Checks a database that was unpacked, of which the archive `told` the digest. The Python tool's
/// archives may hold a `-wal`, copied apart: what counts is both together.
///
/// # Errors
/// The copy could not be checked, which says nothing about the archive.
fn check_database(
    copy: &Path,
    told: impl FnOnce() -> Option<Sha256Digest>,
) -> Result<Result<(), DatabaseError>, ArchiveError> {
    let has_wal = home::database_sidecars(copy).iter().any(|p| p.exists());
    let folded = if has_wal {
        database::checkpoint_wal(copy)
    } else {
        Ok(())
    };
    match folded.and_then(|()| database::check(copy)) {
        Err(e) if e.is_of_machine() => Err(e.into()),
        Err(e) if !has_wal => {
            // What was unpacked had the digest it should have: has it still?
            let file = file_open::open(copy).at("read", copy)?;
            let (digest, _) = hash::sha256_of(&mut BufReader::new(file)).at("read", copy)?;
            if told().is_some_and(|told| told.to_string() != digest) {
                let other = std::io::Error::other("it is not what was written");
                return Err(other).at("read back", copy)?;
            }
            Ok(Err(e))
        }
        other => Ok(other),
    }
}

/// The sidecar knows the digest of the whole archive.
fn compare_with_sidecar(path: &Path) -> Result<Option<SidecarProblem>, ArchiveError> {
    let Some(sidecar) = super::names::sidecar_path(path) else {
        return Ok(None);
    };
    let metadata = match sidecar::read(&sidecar) {
        Ok(metadata) => metadata,
        Err(problem) => return Ok(Some(problem)),
    };
    let file = file_open::open(path).at("read", path)?;
    let (digest, bytes) = hash::sha256_of(&mut BufReader::new(file)).at("read", path)?;
    let same = metadata.archive_bytes == bytes && metadata.archive_sha256 == digest;
    Ok((!same).then_some(SidecarProblem::OfAnother))
}

/// Unpacks databases, and what the Python tool copied beside them, so that they can be checked.
struct Checker {
    /// Holds what is unpacked; gone with it.
    _staging: Staging,
    places: HashMap<EntryName, PathBuf>,
    journals: Vec<EntryName>,
    /// Whether what is no database at all may stand in the place of one: ours tell of it when they are
    /// made, and have digests.
    takes_wrecks: bool,
}

impl Checker {
    fn new(archive: &Archive, staging: Staging) -> Self {
        let contents = archive.contents();
        let databases = contents.files.iter().filter(is_database);
        let mut places: HashMap<_, _> = databases
            .enumerate()
            .map(|(i, f)| (f.path, staging.path(&format!("{i}.sqlite"))))
            .collect();
        // Never a rollback journal: SQLite removes files that one names.
        let beside: Vec<_> = contents
            .files
            .iter()
            .filter_map(|f| {
                let name = f.path.as_path().to_str()?;
                let database = EntryName::parse(name.strip_suffix("-wal")?.as_bytes()).ok()?;
                let mut copy = places.get(&database)?.clone().into_os_string();
                copy.push("-wal");
                Some((f.path, copy.into()))
            })
            .collect();
        places.extend(beside);
        let journals = contents
            .files
            .iter()
            .filter(|f| f.size > 0 && is_journal(f));
        let journals = journals.map(|f| f.path).collect();
        Self {
            _staging: staging,
            places,
            journals,
            takes_wrecks: !matches!(archive.layout(), Layout::Python(_)),
        }
    }

    /// The databases that were unpacked; where wrecks may be, by their heads.
    fn databases(&self) -> Vec<(&EntryName, &Path)> {
        let mut databases: Vec<_> = self
            .places
            .iter()
            .map(|(name, copy)| (name, copy.as_path()))
            .filter(|(_, copy)| {
                let is_empty = || copy.metadata().is_ok_and(|meta| meta.len() == 0);
                copy.extension().is_some_and(|e| e == "sqlite")
                    && (database::is_sqlite(copy) || !(self.takes_wrecks || is_empty()))
            })
            .collect();
        databases.sort();
        databases
    }
}

impl Sink for Checker {
    fn wants(&self, entry: &FileEntry) -> bool {
        self.places.contains_key(&entry.path)
    }

    fn part(&self, entry: &FileEntry, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some(copy) = self.places.get(&entry.path) else {
            return Ok(());
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(copy)
            .at("create", copy)?;
        Ok(position::write_all_at(&file, bytes, offset).at("write", copy)?)
    }

    fn done(&self, _entry: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// Whether an entry is a rollback journal beside a database.
fn is_journal(entry: &FileEntry) -> bool {
    kind_of(entry.path.as_path()) == HomeEntryKind::DatabaseSidecar
        && entry.path.to_string().ends_with("-journal")
}

/// Whether an entry is a database by its name, in the home or outside it.
pub(super) fn is_database(entry: &FileEntry) -> bool {
    let path = entry.path.as_path();
    kind_of(path) == HomeEntryKind::Database
        || path.parent() == Some(Path::new(super::manifest::OUTSIDE_DATABASES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_what_is_wrong_with_the_content_is_damage() {
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("0.sqlite");
        let told = |bytes: &[u8]| {
            let mut hasher = hash::Hasher::default();
            hasher.update(bytes);
            Some(hasher.digest())
        };
        let gone = check_database(&copy, || None).unwrap_err();
        assert!(gone.is_of_machine(), "{gone}");

        let wreck = [b"SQLite format 3\0".as_slice(), &[0xff; 4096]].concat();
        fs::write(&copy, &wreck).unwrap();
        for told in [told(&wreck), None] {
            check_database(&copy, || told).unwrap().unwrap_err();
        }
        let changed = check_database(&copy, || told(b"another")).unwrap_err();
        assert!(changed.is_of_machine(), "{changed}");
    }
}
