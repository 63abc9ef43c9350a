//! `backups/.trash/`: pruned archives, one folder for each prune, until the trash is emptied.
//!
//! The moves into and out of the trash are transactions ([`crate::journal`]), so an archive and its
//! sidecar are never separated.

use super::archive_names::file_name;
use super::{catalog, store};
use crate::archive::{names, publish};
use crate::io::clock::Timestamp;
use crate::io::{FileLock, IoContext, IoError, atomic, file_id, sharing, tree};
use crate::journal::{self, JournalError, NoPolicy, Recovery, Step, Transaction};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The name of the trash below `backups/`.
const FOLDER: &str = ".trash";

/// The format of a batch's folder name, a time in UTC.
const BATCH_NAME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// An archive that an undo moves back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredArchive {
    /// The name in the trash.
    pub archive: String,
    /// The name below `backups/`, which has a number if another archive took the old name.
    pub name: String,
    /// The time of the backup; `None` if neither the sidecar nor the archive can be read.
    pub created_at: Option<Timestamp>,
}

pub fn trash_folder(manager_home: &Path) -> PathBuf {
    store::backups_folder(manager_home).join(FOLDER)
}

/// Moves archives, given by their names below `backups/`, with their sidecars into a new batch of
/// the trash and returns its folder. Durable on return. The caller holds the lock of the manager home.
///
/// # Errors
/// A file could not be moved. Then all moves were undone.
pub fn move_to_trash(
    manager_home: &Path,
    archives: &[String],
    now: &DateTime<Utc>,
    _lock: &FileLock,
) -> Result<PathBuf, JournalError> {
    let transaction = begin_transaction(manager_home)?;
    let backups = store::backups_folder(manager_home);
    let trash = trash_folder(manager_home);

    // An undo takes the batch that sorts last, so the new batch must sort last even if the clock went back.
    let batches = list_batches(manager_home)?;
    let newest_time = batches.last().and_then(|batch| parse_batch_time(batch));
    let after_newest =
        newest_time.and_then(|at| at.and_utc().checked_add_signed(TimeDelta::seconds(1)));
    let time = after_newest.map_or(*now, |at| at.max(*now));
    let batch = trash.join(time.format(BATCH_NAME_FORMAT).to_string());

    // Durable before the moves: a power failure must not lose the folder that the journal names.
    atomic::create_private_folder(&batch)?;
    atomic::sync_folder(&trash)?;
    atomic::sync_folder(&backups)?;

    let mut move_steps = Vec::new();
    for archive in archives {
        for file in std::iter::once(archive.clone()).chain(names::sidecar_name(archive)) {
            if backups.join(&file).symlink_metadata().is_ok() {
                move_steps.push(Step::record(backups.join(&file), batch.join(&file))?);
            }
        }
    }

    match transaction.commit(move_steps, &NoPolicy) {
        Ok(committed) => {
            committed.remove_old_state();
            Ok(batch)
        }
        Err(e) => {
            // Succeeds only if the folder is empty, so never while moves remain to be undone.
            let _ = sharing::remove_dir(&batch);
            Err(e)
        }
    }
}

/// Returns the archives that [`undo_last_prune`] would move back. Returns none if the trash is empty.
///
/// # Errors
/// The trash cannot be listed.
pub fn plan_undo(manager_home: &Path) -> Result<Vec<RestoredArchive>, IoError> {
    Ok(match find_newest_batch(manager_home)? {
        Some(batch) => plan_undo_of_batch(manager_home, &batch)?,
        None => Vec::new(),
    })
}

/// Returns the archives of a batch with their future names below `backups/`: the old name, with a number if another
/// archive or sidecar has it.
fn plan_undo_of_batch(manager_home: &Path, batch: &Path) -> Result<Vec<RestoredArchive>, IoError> {
    let backups = store::backups_folder(manager_home);
    let mut taken_names = BTreeSet::new();
    let mut restored = Vec::new();

    let records = catalog::list_all(batch, Vec::new)?.into_iter();
    for record in records.filter(|record| record.archive.is_some()) {
        let archive = record.path;
        let stem = names::strip_archive_suffix(&archive);
        // The numbers of the free paths do not end, so one name is found.
        let free_name = publish::free_paths(stem, &backups)
            .map(|(path, _)| file_name(&path))
            .find(|name| !taken_names.contains(name))
            .unwrap_or_default();

        taken_names.insert(free_name.clone());
        restored.push(RestoredArchive {
            archive,
            name: free_name,
            created_at: record.metadata.made_at(),
        });
    }

    Ok(restored)
}

/// Moves the archives of the last prune back to `backups/` and returns them. Durable on return.
///
/// # Errors
/// A file could not be moved. Then all moves were undone.
pub fn undo_last_prune(
    manager_home: &Path,
    _lock: &FileLock,
) -> Result<Vec<RestoredArchive>, JournalError> {
    let transaction = begin_transaction(manager_home)?;
    let Some(batch) = find_newest_batch(manager_home)? else {
        return Ok(Vec::new());
    };

    // Planned again under the lock: another command may have taken a name since it was shown.
    let restored = plan_undo_of_batch(manager_home, &batch)?;

    let backups = store::backups_folder(manager_home);
    let mut move_steps = Vec::new();
    for RestoredArchive { archive, name, .. } in &restored {
        let sidecars = names::sidecar_name(archive).zip(names::sidecar_name(name));
        for (from, to) in std::iter::once((archive.clone(), name.clone())).chain(sidecars) {
            if batch.join(&from).symlink_metadata().is_ok() {
                move_steps.push(Step::record(batch.join(from), backups.join(to))?);
            }
        }
    }

    transaction
        .commit(move_steps, &NoPolicy)?
        .remove_old_state();
    // Fails if the user has put other files into the folder. These files stay.
    let _ = sharing::remove_dir(&batch);

    Ok(restored)
}

/// The batches in the trash at the time of the listing, and their totals.
#[derive(Debug, Default)]
pub struct TrashContent {
    /// The size of all files, with the sidecars.
    pub bytes: u64,
    pub archives: usize,
    batches: Vec<PathBuf>,
}

/// Lists the batches of the trash.
///
/// # Errors
/// A folder of the trash cannot be listed.
pub fn read_trash(manager_home: &Path) -> Result<TrashContent, IoError> {
    let mut trash = TrashContent::default();
    for batch in list_batches(manager_home)? {
        // Another process may empty the trash meanwhile.
        for (name, _) in tree::list_if_exists(&batch)? {
            if let Some((_, meta)) = file_id::stat(&batch.join(&name))? {
                trash.bytes += meta.len();
                if names::is_archive_name(&name.to_string_lossy()) {
                    trash.archives += 1;
                }
            }
        }
        trash.batches.push(batch);
    }
    Ok(trash)
}

/// Returns the names of all archives in the trash.
///
/// # Errors
/// A folder of the trash cannot be listed.
pub fn list_archive_names(manager_home: &Path) -> Result<BTreeSet<String>, IoError> {
    let archives = list_archives(manager_home)?;
    Ok(archives.iter().map(|path| file_name(path)).collect())
}

/// Returns the paths of all archives in the trash. The archives of the last prune come first.
///
/// # Errors
/// A folder of the trash cannot be listed.
pub fn list_archives(manager_home: &Path) -> Result<Vec<PathBuf>, IoError> {
    let mut archives = Vec::new();
    for batch in list_batches(manager_home)?.iter().rev() {
        let names = list_archives_in(batch)?;
        archives.extend(names.into_iter().rev().map(|name| batch.join(name)));
    }
    Ok(archives)
}

/// Deletes the batches in `listed` permanently. Batches that were added since the listing stay.
///
/// # Errors
/// A file could not be deleted.
pub fn delete_batches(
    manager_home: &Path,
    listed: &TrashContent,
    _lock: &FileLock,
) -> Result<(), JournalError> {
    // An interrupted undo may still have to move archives out of these batches.
    recover(manager_home)?;
    for batch in &listed.batches {
        tree::remove(batch)?;
    }
    let trash = trash_folder(manager_home);
    if trash.exists() {
        atomic::sync_folder(&trash)?;
    }
    Ok(())
}

fn journal_folder(manager_home: &Path) -> PathBuf {
    journal::journal_folder_of_command(manager_home, "prune")
}

fn begin_transaction(manager_home: &Path) -> Result<Transaction, JournalError> {
    let backups = store::backups_folder(manager_home);
    Transaction::begin(&journal_folder(manager_home), &backups, &NoPolicy)
}

/// Finishes or undoes interrupted moves. Costs one `lstat` if there are none.
///
/// # Errors
/// The moves could not be finished.
pub fn recover(manager_home: &Path) -> Result<Recovery, JournalError> {
    journal::recover(&journal_folder(manager_home), &NoPolicy)
}

/// Returns the folders of the trash, oldest first.
fn list_batches(manager_home: &Path) -> Result<Vec<PathBuf>, IoError> {
    let mut batches = tree::list_folders(&trash_folder(manager_home))?;
    batches.sort_by_key(|batch| (parse_batch_time(batch), batch.clone()));
    Ok(batches)
}

/// Returns the time in a batch's folder name. Earlier versions added a number to the time.
fn parse_batch_time(batch: &Path) -> Option<NaiveDateTime> {
    let name = batch.file_name()?.to_str()?;
    let time = name.split('-').next()?;
    NaiveDateTime::parse_from_str(time, BATCH_NAME_FORMAT).ok()
}

/// Returns the newest batch with an archive. A failed prune may leave an empty batch.
fn find_newest_batch(manager_home: &Path) -> Result<Option<PathBuf>, IoError> {
    for batch in list_batches(manager_home)?.into_iter().rev() {
        if !list_archives_in(&batch)?.is_empty() {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}

fn list_archives_in(batch: &Path) -> Result<Vec<String>, IoError> {
    let entries = tree::list(batch).at("list", batch)?.into_iter();
    let file_names = entries.filter_map(|(name, _)| name.into_string().ok());
    let is_archive = |name: &String| names::is_archive_name(name);
    Ok(file_names.filter(is_archive).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const NAME: &str = "2026-11-20-100000-a@x.com-codex.tar.gz";
    const SIDECAR: &str = "2026-11-20-100000-a@x.com-codex.metadata.json";

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        let backups = store::backups_folder(home.path());
        fs::create_dir(&backups).unwrap();
        fs::write(backups.join(NAME), "archive").unwrap();
        fs::write(backups.join(SIDECAR), "sidecar").unwrap();
        home
    }

    fn lock(home: &Path) -> FileLock {
        FileLock::acquire(&home.join(super::super::cooldown::LOCK_NAME)).unwrap()
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000, 0).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn undo_does_not_overwrite_an_archive_with_the_same_name() {
        let home = home();
        let held = lock(home.path());
        let backups = store::backups_folder(home.path());
        move_to_trash(home.path(), &[NAME.into()], &now(), &held).unwrap();
        fs::write(backups.join(NAME), "another").unwrap();
        let back = undo_last_prune(home.path(), &held).unwrap();
        assert_eq!(back[0].name, "2026-11-20-100000-a@x.com-2-codex.tar.gz");
        assert_eq!(fs::read(backups.join(NAME)).unwrap(), b"another");
        assert_eq!(fs::read(backups.join(&back[0].name)).unwrap(), b"archive");
        assert_eq!(
            undo_last_prune(home.path(), &held).unwrap(),
            [],
            "nothing is left"
        );
    }

    #[test]
    fn the_last_prune_is_undone_first_even_if_the_clock_was_ahead() {
        let home = home();
        let held = lock(home.path());
        let backups = store::backups_folder(home.path());
        let ahead = now() + TimeDelta::days(30);
        let archives: Vec<_> = (0..4)
            .map(|n| format!("2026-11-20-11000{n}-a@x.com-codex.tar.gz"))
            .collect();
        for (i, name) in archives.iter().enumerate() {
            fs::write(backups.join(name), "other").unwrap();
            let at = if i == 0 { ahead } else { now() };
            move_to_trash(home.path(), std::slice::from_ref(name), &at, &held).unwrap();
        }
        for name in archives.iter().rev() {
            assert_eq!(
                &undo_last_prune(home.path(), &held).unwrap()[0].archive,
                name
            );
        }
    }

    #[test]
    fn undo_skips_an_empty_batch() {
        let home = home();
        let held = lock(home.path());
        let backups = store::backups_folder(home.path());
        move_to_trash(home.path(), &[NAME.into()], &now(), &held).unwrap();
        let other = "2026-11-20-110000-a@x.com-codex.tar.gz";
        fs::write(backups.join(other), "other").unwrap();
        // Listed twice.
        let twice = [other.to_owned(), other.to_owned()];
        move_to_trash(home.path(), &twice, &(now() + TimeDelta::days(1)), &held).unwrap();
        assert_eq!(undo_last_prune(home.path(), &held).unwrap().len(), 1);
        assert_eq!(list_batches(home.path()).unwrap().len(), 1);
        // A prune that was killed before its first move.
        fs::create_dir(trash_folder(home.path()).join("20990101T000000Z")).unwrap();
        let expected = [RestoredArchive {
            archive: NAME.into(),
            name: NAME.into(),
            created_at: None,
        }];
        assert_eq!(plan_undo(home.path()).unwrap(), expected);
        assert_eq!(undo_last_prune(home.path(), &held).unwrap(), expected);
        assert_eq!(names(&backups), [FOLDER, SIDECAR, NAME, other]);
    }

    #[test]
    fn a_batch_added_after_listing_is_not_deleted() {
        let home = home();
        let held = lock(home.path());
        let backups = store::backups_folder(home.path());
        move_to_trash(home.path(), &[NAME.into()], &now(), &held).unwrap();
        let seen = read_trash(home.path()).unwrap();
        assert_eq!((seen.bytes, seen.archives), (14, 1));
        // Another prune, in the same second.
        let other = "2026-11-20-110000-a@x.com-codex.tar.gz";
        fs::write(backups.join(other), "other").unwrap();
        move_to_trash(home.path(), &[other.into()], &now(), &held).unwrap();
        delete_batches(home.path(), &seen, &held).unwrap();
        let left = read_trash(home.path()).unwrap();
        assert_eq!((left.bytes, left.archives), (5, 1));
        assert_eq!(undo_last_prune(home.path(), &held).unwrap()[0].name, other);
    }
}
