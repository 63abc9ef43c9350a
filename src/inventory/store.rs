//! Reading and writing `inventory.json`, and noting in it and in `cooldown.json` what was done.

use super::catalog;
use super::cooldown::{self, CooldownFile, CooldownUpdate, LOCK_NAME};
use super::records::{ArchiveProblem, ArchiveRecord, FileStamp, InventoryFile, VerifyRecord};
use crate::accounts::profile::{ProfileError, Profiles};
use crate::archive::metadata::{Metadata, Mode};
use crate::archive::publish::Published;
use crate::archive::reader::Archive;
use crate::archive::restore::safety::SAFETY_LABEL;
use crate::archive::sidecar::SidecarProblem;
use crate::io::IoError;
use crate::io::clock::Zone;
use crate::io::document::{self, DocumentError, DocumentState};
use crate::io::lock::{FileLock, LockError};
use chrono::{DateTime, Utc};
use std::path::{Path, PathBuf};

/// The name of the document.
pub const FILE_NAME: &str = "inventory.json";

/// The folder of archives in a manager home.
pub fn backups(manager_home: &Path) -> PathBuf {
    manager_home.join("backups")
}

/// Every archive and record that lies under `backups/` now. Reads `inventory.json` for what has
/// not changed; takes no lock and writes nothing. A damaged inventory only costs time.
pub fn archives(manager_home: &Path) -> Result<Vec<ArchiveRecord>, IoError> {
    let known = || {
        let file = document::read::<InventoryFile>(&manager_home.join(FILE_NAME)).ok();
        let file = file.and_then(DocumentState::good);
        file.map(|f| f.archives).unwrap_or_default()
    };
    catalog::list(&backups(manager_home), known)
}

/// Brings `inventory.json` up to what lies under `backups/`.
pub fn refresh(manager_home: &Path) -> Result<Option<PathBuf>, DocumentError> {
    document::update(
        &manager_home.join(FILE_NAME),
        &manager_home.join(LOCK_NAME),
        |_: &DocumentState<InventoryFile>| InventoryFile::default(),
        |inventory| -> Result<(), IoError> {
            let known = inventory.archives.clone();
            inventory.archives = catalog::list(&backups(manager_home), || known)?;
            Ok(())
        },
    )
    .and_then(|updated| {
        updated.value?;
        Ok(updated.moved_aside)
    })
}

/// What came of noting something that is done: no failure here undoes it.
#[derive(Debug, Default)]
pub struct NoteResult {
    /// What the user should know.
    pub warnings: Vec<String>,
    /// What could not be noted, and why.
    pub failures: Vec<DocumentError>,
}

/// Notes a new archive: the record, and that its account was used when the live home was archived.
pub fn note_archive(
    manager_home: &Path,
    published: &Published,
    now: &DateTime<Utc>,
    zone: Zone,
) -> NoteResult {
    let mut noted = NoteResult::default();
    match note_record(manager_home, published) {
        Ok(None) => {}
        Ok(Some(aside)) => noted.warnings.push(format!(
            "inventory.json was damaged and is made again; the damaged file is kept: {}",
            aside.display()
        )),
        Err(e) => noted.failures.push(e),
    }
    let used = cooldown::update(manager_home, now, zone, |file| {
        if let Some(identity) = published.metadata.identity() {
            file.used(&identity, published.metadata.created_at);
            file.found_login(&identity, published.metadata.mode != Mode::Sessions);
        }
        Ok::<(), DocumentError>(())
    });
    match used {
        Ok(updated) => noted.warnings.extend(updated.warnings),
        Err(e) => noted.failures.push(e),
    }
    noted
}

/// Adds the record of a new archive; says where a damaged inventory was moved to.
fn note_record(
    manager_home: &Path,
    published: &Published,
) -> Result<Option<PathBuf>, DocumentError> {
    let record = ArchiveRecord {
        path: catalog::relative_name(&backups(manager_home), &published.archive),
        archive: catalog::stamp(&published.archive),
        sidecar: catalog::stamp(&published.sidecar),
        metadata: published.metadata.clone(),
        seen: None,
        verified: None,
    };
    let updated = document::update(
        &manager_home.join(FILE_NAME),
        &manager_home.join(LOCK_NAME),
        |_: &DocumentState<InventoryFile>| InventoryFile::default(),
        |inventory| match inventory
            .archives
            .binary_search_by(|r| r.path.cmp(&record.path))
        {
            Ok(i) => inventory.archives[i] = record.clone(),
            Err(i) => inventory.archives.insert(i, record.clone()),
        },
    )?;
    Ok(updated.moved_aside)
}

/// What `verify` found in one archive.
#[derive(Debug, Clone)]
pub struct VerifyFinding {
    /// Its path.
    pub archive: PathBuf,
    /// The file that was read: another that stands there now has nothing noted.
    pub stamp: Option<FileStamp>,
    /// What is noted of it.
    pub verified: VerifyRecord,
    /// Whether its sidecar describes another archive: then it is listed by what it says of itself.
    pub is_misdescribed: bool,
}

/// Notes what `verify` found in archives; whether it did. Those that do not lie under `backups/` are left
/// out. Who only reads waits for nobody: while another command holds the lock, or the document is
/// damaged, nothing is noted.
pub fn note_verified(
    manager_home: &Path,
    results: &[VerifyFinding],
) -> Result<bool, DocumentError> {
    let backups = backups(manager_home);
    if !results.iter().any(|f| f.archive.starts_with(&backups)) {
        return Ok(true);
    }
    let held = match FileLock::try_exclusive(&manager_home.join(LOCK_NAME)) {
        Ok(held) => held,
        Err(LockError::Held(_)) => return Ok(false),
        Err(LockError::Io(e)) => return Err(e.into()),
    };
    note_verified_locked(manager_home, results, &held)
}

/// The same by who holds the lock of the manager home.
pub fn note_verified_locked(
    manager_home: &Path,
    results: &[VerifyFinding],
    _held: &FileLock,
) -> Result<bool, DocumentError> {
    let backups = backups(manager_home);
    let inside: Vec<_> = results
        .iter()
        .filter(|finding| finding.archive.starts_with(&backups))
        .collect();
    if inside.is_empty() {
        return Ok(true);
    }
    let path = manager_home.join(FILE_NAME);
    let mut inventory = match document::read::<InventoryFile>(&path)? {
        DocumentState::Good(inventory) => inventory,
        DocumentState::Absent => InventoryFile::default(),
        DocumentState::Damaged(_) => return Ok(false),
    };
    let known = std::mem::take(&mut inventory.archives);
    inventory.archives = catalog::list(&backups, || known)?;
    for finding in inside {
        let path = catalog::relative_name(&backups, &finding.archive);
        let is_same = |r: &&mut ArchiveRecord| r.path == path && r.archive == finding.stamp;
        let Some(record) = inventory.archives.iter_mut().find(is_same) else {
            continue;
        };
        record.verified = Some(finding.verified.clone());
        if finding.is_misdescribed
            && let Ok(opened) = Archive::open(&finding.archive)
        {
            record.metadata = opened.metadata().clone();
            record.seen = Some(ArchiveProblem::Sidecar(SidecarProblem::OfAnother));
        }
    }
    document::write(&path, &inventory)?;
    Ok(true)
}

/// Notes in `cooldown.json` which accounts have a profile now.
pub fn note_profiles(
    manager_home: &Path,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<CooldownUpdate<()>, ProfileError> {
    note_profiles_and(manager_home, now, zone, |_| {})
}

/// The same, with something more to note.
pub fn note_profiles_and(
    manager_home: &Path,
    now: &DateTime<Utc>,
    zone: Zone,
    more: impl FnOnce(&mut CooldownFile),
) -> Result<CooldownUpdate<()>, ProfileError> {
    let profiles = Profiles::of(manager_home).list()?;
    Ok(cooldown::update(manager_home, now, zone, |file| {
        file.set_profiles(&profiles);
        more(file);
        Ok::<(), DocumentError>(())
    })?)
}

/// The newest archive that `wanted` takes, by the time it was made.
pub fn newest(
    records: &[ArchiveRecord],
    wanted: impl Fn(&Metadata) -> bool,
) -> Option<&ArchiveRecord> {
    records
        .iter()
        .filter(|r| r.is_usable() && wanted(&r.metadata))
        .max_by_key(|r| (r.metadata.created_at, r.path.clone()))
}

/// The newest archive of `home` in this mode: what the next one can copy unchanged parts from. One
/// that is known to be damaged is none, and a safety backup may hold next to nothing.
pub fn previous(records: &[ArchiveRecord], home: &Path, mode: Mode) -> Option<String> {
    let home = home.display().to_string();
    let same = |m: &Metadata| {
        m.mode == mode
            && m.source_codex_home == home
            && m.legacy_auth_filename.is_none()
            && m.label.as_deref() != Some(SAFETY_LABEL)
    };
    newest(records, same).map(|r| r.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(path: &str, at: &str, change: impl FnOnce(&mut ArchiveRecord)) -> ArchiveRecord {
        let mut record = ArchiveRecord {
            path: path.into(),
            archive: Some(FileStamp {
                bytes: 1,
                mtime_ns: 0,
            }),
            sidecar: None,
            metadata: Metadata {
                created_at: at.parse().unwrap(),
                source_codex_home: "/home".into(),
                mode: Mode::Full,
                ..Metadata::default()
            },
            seen: None,
            verified: None,
        };
        change(&mut record);
        record
    }

    #[test]
    fn only_a_whole_archive_of_the_same_home_is_copied_from() {
        let records = [
            record("good", "2026-11-01T00:00:00+00:00", |_| {}),
            record("older", "2026-10-01T00:00:00+00:00", |_| {}),
            record("safety", "2026-11-02T00:00:00+00:00", |r| {
                r.metadata.label = Some(SAFETY_LABEL.into());
            }),
            record("other mode", "2026-11-03T00:00:00+00:00", |r| {
                r.metadata.mode = Mode::Auth;
            }),
            record("other home", "2026-11-04T00:00:00+00:00", |r| {
                r.metadata.source_codex_home = "/elsewhere".into();
            }),
            record("damaged", "2026-11-05T00:00:00+00:00", |r| {
                r.seen = Some(ArchiveProblem::Damaged("empty".into()));
            }),
            record("legacy", "2026-11-06T00:00:00+00:00", |r| {
                r.metadata.legacy_auth_filename = Some("1jan_a@x.com_auth.json".into());
            }),
            record("record alone", "2026-11-07T00:00:00+00:00", |r| {
                r.archive = None;
            }),
        ];
        let found = previous(&records, Path::new("/home"), Mode::Full);
        assert_eq!(found.as_deref(), Some("good"));
        assert_eq!(
            previous(&records[2..], Path::new("/home"), Mode::Full),
            None
        );
    }
}
