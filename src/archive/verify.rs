//! Checking an archive: every byte against its digest, every database by SQLite's own check.

use super::ArchiveError;
use super::manifest::FileEntry;
use super::reader::{Archive, Content, Layout, Sink, damaged};
use crate::codex::database;
use crate::codex::home::{self, Kind, kind_of};
use crate::io::document::{self, Found};
use crate::io::staging::Staging;
use crate::io::{IoContext, Progress, hash, space};
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

/// What was found in one archive.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// The archive.
    pub archive: PathBuf,
    /// What is wrong with it; empty when it is good.
    pub problems: Vec<String>,
    /// What could not be checked: archives of the Python tool carry no digests.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks the archive at `path`; databases are unpacked into `tmp` for that.
///
/// # Errors
/// Only what says nothing about the archive: no room, no permission, interrupted.
pub fn verify(
    path: &Path,
    tmp: &Path,
    progress: &dyn Progress,
) -> Result<VerifyReport, ArchiveError> {
    let mut report = VerifyReport {
        archive: path.to_path_buf(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let mut note = |result: Result<(), ArchiveError>| match result {
        Err(
            e @ (ArchiveError::Io(_) | ArchiveError::Interrupted | ArchiveError::NoSpace { .. }),
        ) => Err(e),
        Err(e) => {
            report.problems.push(e.to_string());
            Ok(())
        }
        Ok(()) => Ok(()),
    };
    let archive = match Archive::open(path) {
        Ok(archive) => archive,
        Err(e) => {
            note(Err(e))?;
            return Ok(report);
        }
    };
    let mut checker = Checker {
        archive: path.to_path_buf(),
        staging: Staging::inside(tmp)?,
        databases: Vec::new(),
    };
    let needed_bytes = contents_of_databases(&archive);
    if let Some(free_bytes) = space::free_bytes(tmp).filter(|free| *free < needed_bytes) {
        return Err(ArchiveError::NoSpace {
            folder: tmp.to_path_buf(),
            needed_bytes,
            free_bytes,
        });
    }
    note(archive.read_through(&mut checker, progress))?;
    for (name, copy) in checker.databases.drain(..) {
        if let Err(e) = check_database(&copy) {
            report.problems.push(format!("{name}: {e}"));
        }
    }
    match archive.layout() {
        Layout::Python(_) => report
            .notes
            .push("no digests: made by the Python codex-manager".into()),
        Layout::Ours(_) => {
            if let Some(problem) = compare_with_sidecar(path)? {
                report.problems.push(problem);
            }
        }
    }
    Ok(report)
}

fn contents_of_databases(archive: &Archive) -> u64 {
    let contents = archive.contents();
    let databases = contents.files.iter().filter(|f| is_database(f));
    databases.map(|f| f.size).fold(0, u64::saturating_add)
}

/// The Python tool's archives may hold a `-wal`, copied apart: what counts is both together.
fn check_database(copy: &Path) -> Result<(), database::DatabaseError> {
    if home::database_sidecars(copy).iter().any(|p| p.exists()) {
        database::fold_wal(copy)?;
    }
    database::check(copy)
}

/// The sidecar knows the digest of the whole archive.
fn compare_with_sidecar(path: &Path) -> Result<Option<String>, ArchiveError> {
    let Some(sidecar) = super::names::sidecar_path(path) else {
        return Ok(None);
    };
    let metadata = match document::read::<super::metadata::Metadata>(&sidecar) {
        Ok(Found::Good(metadata)) => metadata,
        Ok(Found::Absent) => {
            return Ok(Some(
                "the sidecar is missing (verify --repair makes it)".into(),
            ));
        }
        Ok(Found::Damaged(detail)) => return Ok(Some(format!("the sidecar is damaged: {detail}"))),
        Err(e) => return Ok(Some(e.to_string())),
    };
    let file = File::open(path).at("read", path)?;
    let (digest, bytes) = hash::sha256_of(&mut BufReader::new(file)).at("read", path)?;
    let same = metadata.archive_bytes == bytes && metadata.archive_sha256 == digest;
    Ok((!same).then(|| "the archive is not the one that its sidecar describes".into()))
}

struct Checker {
    archive: PathBuf,
    staging: Staging,
    databases: Vec<(String, PathBuf)>,
}

impl Checker {
    /// Where an entry is unpacked to: databases, and what stands beside one of them.
    fn place(&self, entry: &FileEntry) -> Option<PathBuf> {
        if is_database(entry) {
            return Some(
                self.staging
                    .path(&format!("{}.sqlite", self.databases.len())),
            );
        }
        let name = entry.path.to_string();
        self.databases.iter().find_map(|(database, copy)| {
            let suffix = name.strip_prefix(database.as_str())?;
            // Never a rollback journal: SQLite removes files that one names.
            let file_name = copy.file_name()?.to_str()?;
            (suffix == "-wal").then(|| copy.with_file_name(format!("{file_name}-wal")))
        })
    }
}

impl Sink for Checker {
    fn file(&mut self, entry: &FileEntry, content: &mut Content<'_>) -> Result<(), ArchiveError> {
        if entry.size > 0 && is_journal(entry) {
            return Err(damaged(
                &self.archive,
                format!(
                    "{}: copied in the middle of a write (a journal)",
                    entry.path
                ),
            ));
        }
        let Some(copy) = self.place(entry) else {
            return Ok(());
        };
        let mut file = File::create_new(&copy).at("create", &copy)?;
        let mut is_sqlite = None;
        while let Some(bytes) = content.chunk()? {
            is_sqlite.get_or_insert_with(|| bytes.starts_with(b"SQLite format 3\0"));
            file.write_all(bytes).at("write", &copy)?;
        }
        if is_database(entry) {
            if is_sqlite == Some(true) {
                self.databases.push((entry.path.to_string(), copy));
            } else {
                drop(file);
                std::fs::remove_file(&copy).at("remove", &copy)?;
            }
        }
        Ok(())
    }
}

/// Whether an entry is a rollback journal beside a database.
fn is_journal(entry: &FileEntry) -> bool {
    kind_of(entry.path.as_path()) == Kind::DatabaseSidecar
        && entry.path.to_string().ends_with("-journal")
}

/// Whether an entry is a database by its name, in the home or outside it.
pub(super) fn is_database(entry: &FileEntry) -> bool {
    let path = entry.path.as_path();
    kind_of(path) == Kind::Database
        || path.parent() == Some(Path::new(super::manifest::OUTSIDE_DATABASES))
}
