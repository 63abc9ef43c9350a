//! Reads and writes `inventory.json`, and records new archives, results of `verify` and profiles.

use super::catalog;
use super::cooldown::{self, CooldownFile, LOCK_NAME};
use super::records::{ArchiveProblem, ArchiveRecord, FileStamp, InventoryFile, VerifyRecord};
use crate::accounts::{ProfileError, Profiles};
use crate::archive::{ArchiveReader, BackupMode, Metadata, PublishedArchive, SidecarProblem};
use crate::io::{DocumentError, DocumentState, FileLock, IoError, Timestamp, Zone, document};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name of the document in the manager home.
pub const FILE_NAME: &str = "inventory.json";

pub fn backups_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("backups")
}

/// Lists the archives and sidecars below `backups/`, using `inventory.json` for unchanged files.
/// Takes no lock and writes nothing. If `inventory.json` cannot be read, this only takes longer.
pub fn list_archives(manager_home: &Path) -> Result<Vec<ArchiveRecord>, IoError> {
    let read_known = || {
        let file = document::read::<InventoryFile>(&manager_home.join(FILE_NAME)).ok();
        let file = file.and_then(DocumentState::good);
        file.map(|f| f.archives).unwrap_or_default()
    };
    catalog::list_all(&backups_folder(manager_home), read_known)
}

/// Updates `inventory.json` from `backups/`. Returns the path to which a damaged document was moved, if it was damaged.
pub fn refresh(manager_home: &Path) -> Result<Option<PathBuf>, DocumentError> {
    update_inventory(manager_home, |inventory| {
        // A copy, because the document is also written if the listing fails.
        let known_records = inventory.archives.clone();
        inventory.archives = catalog::list_all(&backups_folder(manager_home), || known_records)?;
        Ok(())
    })
}

/// Like [`refresh`], after archives were moved into or out of the trash. Keeps their results of `verify`.
///
/// `in_trash` has the names of the archives in the trash. `renamed` has the archives that were moved back under
/// another name, each with its name in the trash and its new name.
pub fn refresh_with_trash(
    manager_home: &Path,
    in_trash: &BTreeSet<String>,
    renamed: &[(String, String)],
) -> Result<Option<PathBuf>, DocumentError> {
    update_inventory(manager_home, |inventory| {
        let mut known_records = inventory.archives.clone();
        // An undo may give an archive another name than it had in the trash.
        for (trash_name, new_name) in renamed {
            if let Some(record) = inventory.trashed.iter().find(|r| r.path == *trash_name) {
                known_records.push(ArchiveRecord {
                    path: new_name.clone(),
                    ..record.clone()
                });
            }
        }

        for record in &inventory.trashed {
            if !known_records.iter().any(|r| r.path == record.path) {
                known_records.push(record.clone());
            }
        }

        inventory.archives =
            catalog::list_all(&backups_folder(manager_home), || known_records.clone())?;

        // An archive in the trash keeps its result of `verify` for an undo.
        let listed_paths: BTreeSet<_> = inventory.archives.iter().map(|r| &r.path).collect();
        known_records.retain(|r| {
            r.verified.is_some() && in_trash.contains(&r.path) && !listed_paths.contains(&r.path)
        });
        inventory.trashed = known_records;
        Ok(())
    })
}

/// Changes `inventory.json` under its lock. Returns the path to which a damaged inventory was moved.
fn update_inventory(
    manager_home: &Path,
    change: impl FnOnce(&mut InventoryFile) -> Result<(), IoError>,
) -> Result<Option<PathBuf>, DocumentError> {
    let (path, lock) = (manager_home.join(FILE_NAME), manager_home.join(LOCK_NAME));
    let (change_result, moved_to) = document::update(&path, &lock, change)?;
    change_result?;
    Ok(moved_to)
}

/// Returns the warning about a damaged `inventory.json` that was moved to `moved_to`.
pub(crate) fn format_rebuilt_warning(moved_to: &Path) -> String {
    format!(
        "inventory.json was damaged and was rebuilt; the damaged file is kept as {}",
        moved_to.display()
    )
}

/// The result of recording an archive, which exists even if recording failed.
#[derive(Debug, Default)]
pub struct NoteResult {
    /// Warnings to print, such as a damaged document that was moved aside.
    pub warnings: Vec<String>,
    /// The documents that could not be updated.
    pub failures: Vec<DocumentError>,
}

/// Records a new archive in `inventory.json`, and the use of its account in `cooldown.json`.
pub fn note_archive(
    manager_home: &Path,
    published: &PublishedArchive,
    now: &DateTime<Utc>,
    zone: Zone,
) -> NoteResult {
    let mut result = NoteResult::default();

    match note_in_inventory(manager_home, published) {
        Ok(None) => {}
        Ok(Some(moved_to)) => result.warnings.push(format_rebuilt_warning(&moved_to)),
        Err(e) => result.failures.push(e),
    }

    let cooldown_result = cooldown::update(manager_home, now, zone, |file| {
        if let Some(identity) = published.metadata.identity() {
            file.record_use(&identity, published.metadata.created_at);
            file.record_archived_account(&identity, published.metadata.captures_login());
        }
    });
    match cooldown_result {
        Ok(((), warnings)) => result.warnings.extend(warnings),
        Err(e) => result.failures.push(e),
    }

    result
}

/// Adds the record of a new archive, and records of all other archives that the inventory lacks, so that later commands
/// need not read their sidecars. Returns the path to which a damaged inventory was moved.
fn note_in_inventory(
    manager_home: &Path,
    published: &PublishedArchive,
) -> Result<Option<PathBuf>, DocumentError> {
    let record = ArchiveRecord {
        path: catalog::relative_name(&backups_folder(manager_home), &published.archive),
        archive: catalog::read_file_stamp(&published.archive),
        sidecar: catalog::read_file_stamp(&published.sidecar),
        metadata: published.metadata.clone(),
        listed_problem: None,
        verified: None,
    };

    update_inventory(manager_home, |inventory| {
        let records = &mut inventory.archives;
        match records.binary_search_by(|r| r.path.cmp(&record.path)) {
            Ok(i) => records[i] = record.clone(),
            Err(i) => records.insert(i, record.clone()),
        }

        // An error here must not lose the record of the new archive.
        if let Ok(listed) = catalog::list_all(&backups_folder(manager_home), || records.clone()) {
            inventory.archives = listed;
        }
        Ok(())
    })
}

#[derive(Debug, Clone)]
pub struct VerifyFinding {
    /// The absolute path of the archive.
    pub archive: PathBuf,
    /// The stamp of the file that was read. If the file changed since, the result is not recorded.
    pub stamp: Option<FileStamp>,
    pub verified: VerifyRecord,
    /// True if the sidecar describes another archive, so the metadata is taken from the archive
    /// itself.
    pub is_misdescribed: bool,
}

/// Records results of `verify`. Ignores archives that are outside of `backups/` or changed since they were read.
///
/// Returns false and records nothing if `inventory.json` is damaged, or if another command holds the lock. `verify` is
/// a reading command, so it does not wait.
///
/// # Errors
/// `inventory.json` cannot be read or written, or is of a newer version, or `backups/` cannot be listed.
pub fn note_verified(
    manager_home: &Path,
    results: &[VerifyFinding],
) -> Result<bool, DocumentError> {
    // Without a result to record, a held lock does not matter.
    let backups = backups_folder(manager_home);
    if !results.iter().any(|f| f.archive.starts_with(&backups)) {
        return Ok(true);
    }
    match FileLock::try_acquire(&manager_home.join(LOCK_NAME))? {
        Some(lock) => note_verified_locked(manager_home, results, &lock),
        None => Ok(false),
    }
}

/// Like [`note_verified`], for a caller that holds the lock of the manager home.
pub fn note_verified_locked(
    manager_home: &Path,
    results: &[VerifyFinding],
    _lock: &FileLock,
) -> Result<bool, DocumentError> {
    // Without a result to record, the archives need not be listed.
    let backups = backups_folder(manager_home);
    if !results.iter().any(|f| f.archive.starts_with(&backups)) {
        return Ok(true);
    }

    let path = manager_home.join(FILE_NAME);
    let mut inventory = match document::read_or_damaged::<InventoryFile>(&path)? {
        DocumentState::Good(inventory) => inventory,
        DocumentState::Absent => InventoryFile::default(),
        DocumentState::Damaged(_) => return Ok(false),
    };

    let known_records = std::mem::take(&mut inventory.archives);
    inventory.archives = catalog::list_all(&backups, || known_records)?;
    for finding in results.iter().filter(|f| f.archive.starts_with(&backups)) {
        let path = catalog::relative_name(&backups, &finding.archive);
        let mut records = inventory.archives.iter_mut();
        let Some(record) = records.find(|r| r.path == path && r.archive == finding.stamp) else {
            continue;
        };

        record.verified = Some(finding.verified.clone());
        // The listing took the metadata from the sidecar, which describes another archive.
        if finding.is_misdescribed
            && let Ok(opened) = ArchiveReader::open(&finding.archive)
        {
            record.metadata = opened.metadata().clone();
            record.listed_problem = Some(ArchiveProblem::Sidecar(SidecarProblem::Mismatch));
        }
    }

    document::write(&path, &inventory)?;
    Ok(true)
}

/// Records in `cooldown.json` which accounts have a profile, and applies `change` in the same write. Returns
/// warnings to print.
pub fn note_profiles_and(
    manager_home: &Path,
    now: &DateTime<Utc>,
    zone: Zone,
    change: impl FnOnce(&mut CooldownFile),
) -> Result<Vec<String>, ProfileError> {
    let profiles = Profiles::of(manager_home).list()?;
    let ((), warnings) = cooldown::update(manager_home, now, zone, |file| {
        file.set_profiles(&profiles);
        change(file);
    })?;
    Ok(warnings)
}

/// Returns the newest usable archive that satisfies `is_wanted`, by its time of creation.
pub fn find_newest_usable(
    records: &[ArchiveRecord],
    is_wanted: impl Fn(&Metadata) -> bool,
) -> Option<&ArchiveRecord> {
    records
        .iter()
        .filter(|r| r.is_usable() && is_wanted(&r.metadata))
        .max_by_key(|r| (r.metadata.created_at, r.path.clone()))
}

/// Returns the accepted archives in the order of `latest`, `latest~1`: full archives with conversations, then other
/// full archives, then archives of other modes, each from the newest. Leaves out safety backups and single logins,
/// which may hold few files.
///
/// If the best archive is of `home` on the machine with the id `machine`, returns only archives of that home and
/// machine. Otherwise, returns the archives of this path from all machines. If there are none, returns all archives,
/// because the home may have been moved.
pub fn list_latest_first<'r>(
    records: &'r [ArchiveRecord],
    home: &Path,
    machine: Option<&str>,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Vec<&'r ArchiveRecord> {
    let is_listed =
        |r: &&ArchiveRecord| !r.metadata.is_safety() && !r.metadata.is_single_login() && accepts(r);
    let mut archives: Vec<_> = records.iter().filter(is_listed).collect();
    // Of archives with the same time, the last one in the list is the latest.
    archives.reverse();
    let prefers_machine = has_own_conversations(&archives, home, machine);
    archives.sort_by_cached_key(|r| {
        std::cmp::Reverse(restore_preference(r, home, machine, prefers_machine))
    });

    // Archives of this path come first, so the best archive shows whether the path has archives.
    let best = archives.first().map(|r| &r.metadata);
    if best.is_some_and(|best| best.is_of_home(home, machine)) {
        archives.retain(|r| r.metadata.is_of_home(home, machine));
    } else if best.is_some_and(|best| best.is_of_home_path(home)) {
        archives.retain(|r| r.metadata.is_of_home_path(home));
    }
    archives
}

/// Returns the accepted archive that is best for a restore by `RestorePreference`: archives of `home` come first,
/// single logins last. Leaves out safety backups, which are restored only by name. `machine` is the id of this machine.
pub fn find_preferred<'r>(
    records: &'r [ArchiveRecord],
    home: &Path,
    machine: Option<&str>,
    accepts: impl Fn(&ArchiveRecord) -> bool,
) -> Option<&'r ArchiveRecord> {
    let is_accepted = |r: &&ArchiveRecord| !r.metadata.is_safety() && accepts(r);
    let archives: Vec<_> = records.iter().filter(is_accepted).collect();
    let prefers_machine = has_own_conversations(&archives, home, machine);
    let archives = archives.into_iter();
    archives.max_by_key(|r| restore_preference(r, home, machine, prefers_machine))
}

/// Returns true if the best archive of `home` from this machine may have conversations. If not, as on a new machine,
/// the archives of all machines count alike.
fn has_own_conversations(archives: &[&ArchiveRecord], home: &Path, machine: Option<&str>) -> bool {
    let own_archives = archives
        .iter()
        .filter(|r| r.metadata.is_of_home(home, machine) && !r.metadata.is_single_login());
    let prefers_machine = true;
    let best = own_archives.max_by_key(|r| restore_preference(r, home, machine, prefers_machine));
    best.is_some_and(|r| !r.metadata.has_no_conversations())
}

/// Orders archives by their use for a restore; the best one is the largest. The first field in which two archives
/// differ decides.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RestorePreference {
    is_more_than_login: bool,
    is_of_home_path: bool,
    is_of_preferred_machine: bool,
    is_full_with_conversations: bool,
    is_full: bool,
    created_at: Timestamp,
    has_sessions_mode: bool,
}

fn restore_preference(
    record: &ArchiveRecord,
    home: &Path,
    machine: Option<&str>,
    prefers_machine: bool,
) -> RestorePreference {
    let metadata = &record.metadata;
    RestorePreference {
        is_more_than_login: !metadata.is_single_login(),
        is_of_home_path: metadata.is_of_home_path(home),
        is_of_preferred_machine: !prefers_machine || !metadata.is_from_other_machine(machine),
        // A backup of an emptied home must not take the place of an earlier one.
        is_full_with_conversations: metadata.is_full() && !metadata.has_no_conversations(),
        is_full: metadata.is_full(),
        created_at: metadata.created_at,
        has_sessions_mode: metadata.mode == BackupMode::Sessions,
    }
}

/// Returns the newest archive of this home, machine and mode without known damage. Skips safety backups and single
/// logins, which may hold few files.
pub(crate) fn find_last_of_home<'a>(
    records: &'a [ArchiveRecord],
    home: &Path,
    machine: Option<&str>,
    mode: BackupMode,
) -> Option<&'a ArchiveRecord> {
    find_newest_usable(records, |metadata| {
        is_of_home_and_mode(metadata, home, machine, mode)
    })
}

/// Like [`find_last_of_home`], but prefers archives with conversations, from which a backup copies more data.
pub fn find_last_with_conversations<'a>(
    records: &'a [ArchiveRecord],
    home: &Path,
    machine: Option<&str>,
    mode: BackupMode,
) -> Option<&'a ArchiveRecord> {
    let is_wanted = |metadata: &Metadata, machine: Option<&str>| {
        is_of_home_and_mode(metadata, home, machine, mode) && !metadata.has_no_conversations()
    };
    // On a new machine, only the archives that the old machine made may have conversations. Each archive is compared
    // with its own machine, so all machines match.
    let of_any_machine = || find_newest_usable(records, |m| is_wanted(m, m.machine.as_deref()));

    find_newest_usable(records, |metadata| is_wanted(metadata, machine))
        .or_else(of_any_machine)
        .or_else(|| find_last_of_home(records, home, machine, mode))
}

fn is_of_home_and_mode(
    metadata: &Metadata,
    home: &Path,
    machine: Option<&str>,
    mode: BackupMode,
) -> bool {
    metadata.mode == mode
        && !metadata.is_single_login()
        && !metadata.is_safety()
        && metadata.records_home(home)
        && !metadata.is_from_other_machine(machine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::metadata::SAFETY_LABEL;

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
                mode: BackupMode::Full,
                ..Metadata::default()
            },
            listed_problem: None,
            verified: None,
        };
        change(&mut record);
        record
    }

    #[test]
    fn the_previous_archive_is_an_intact_one_of_the_same_home_and_mode() {
        let records = [
            record("good", "2026-11-01T00:00:00+00:00", |_| {}),
            record("older", "2026-10-01T00:00:00+00:00", |_| {}),
            record("safety", "2026-11-02T00:00:00+00:00", |r| {
                r.metadata.label = Some(SAFETY_LABEL.into());
            }),
            record("other mode", "2026-11-03T00:00:00+00:00", |r| {
                r.metadata.mode = BackupMode::Auth;
            }),
            record("other home", "2026-11-04T00:00:00+00:00", |r| {
                r.metadata.source_codex_home = "/elsewhere".into();
            }),
            record("other machine", "2026-11-04T12:00:00+00:00", |r| {
                r.metadata.machine = Some("b".into());
            }),
            record("damaged", "2026-11-05T00:00:00+00:00", |r| {
                r.listed_problem = Some(ArchiveProblem::Damaged("empty".into()));
            }),
            record("legacy", "2026-11-06T00:00:00+00:00", |r| {
                r.metadata.legacy_auth_filename = Some("1jan_a@x.com_auth.json".into());
            }),
            record("record alone", "2026-11-07T00:00:00+00:00", |r| {
                r.archive = None;
            }),
        ];
        let find =
            |records| find_last_of_home(records, Path::new("/home"), Some("a"), BackupMode::Full);
        assert_eq!(find(&records).map(|r| r.path.as_str()), Some("good"));
        assert_eq!(find(&records[2..]), None);
    }

    #[test]
    fn find_last_with_conversations_falls_back_to_the_last_archive() {
        let lists = |file: &'static str| {
            move |r: &mut ArchiveRecord| r.metadata.captured_files = vec![file.into()]
        };
        let records = [
            record("full", "2026-11-01T00:00:00+00:00", lists("sessions/")),
            record("empty", "2026-11-02T00:00:00+00:00", lists("auth.json")),
        ];
        let (home, mode) = (Path::new("/home"), BackupMode::Full);
        let last = find_last_of_home(&records, home, None, mode);
        assert_eq!(last.map(|r| r.path.as_str()), Some("empty"));
        let previous = find_last_with_conversations(&records, home, None, mode);
        assert_eq!(previous.map(|r| r.path.as_str()), Some("full"));
        let previous = find_last_with_conversations(&records[1..], home, None, mode);
        assert_eq!(previous.map(|r| r.path.as_str()), Some("empty"));
    }
}
