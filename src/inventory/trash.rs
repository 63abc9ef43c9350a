//! `backups/.trash/`: pruned archives, one folder for each prune, until the trash is emptied.
//!
//! The moves into and out of the trash are transactions ([`crate::journal`]), so an archive and its
//! sidecar are never separated.

use super::store;
use crate::archive::names;
use crate::archive::names::ARCHIVE_SUFFIX;
use crate::io::{
    Document, DocumentState, FileLock, IoContext, IoError, atomic, document, file_id, sharing, tree,
};
use crate::journal::{self, JournalError, NoPolicy, Recovery, Step, Transaction};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

/// The name of the trash below `backups/`.
pub(crate) const FOLDER: &str = ".trash";

/// The journal of earlier versions.
const OLD_JOURNAL: &str = "moves.json";

/// The format of a batch's folder name, a time in UTC.
const BATCH_NAME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The content of a journal of earlier versions.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
struct OldJournal {
    /// Source and target of each move, relative to `backups/`, with `/`.
    moves: Vec<(String, String)>,
}

impl Document for OldJournal {
    const SCHEMA: u64 = 1;
}

/// An archive that an undo moves back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct RestoredArchive {
    /// The name in the trash.
    pub archive: String,
    /// The name below `backups/`, which differs if another archive took the name.
    pub name: String,
}

pub(crate) fn folder(manager_home: &Path) -> PathBuf {
    store::backups_folder(manager_home).join(FOLDER)
}

/// Moves archives, given by their names below `backups/`, with their sidecars into a new batch of
/// the trash and returns its folder. Durable on return. `held` is the lock of the manager home.
///
/// # Errors
/// A file could not be moved. Then all moves were undone.
pub(crate) fn move_to_trash(
    manager_home: &Path,
    archives: &[String],
    now: &DateTime<Utc>,
    _held: &FileLock,
) -> Result<PathBuf, JournalError> {
    let transaction = begin(manager_home)?;
    let backups = store::backups_folder(manager_home);
    let trash = folder(manager_home);
    let stamp = now.format(BATCH_NAME_FORMAT).to_string();
    // The new batch must sort last, even if the clock was ahead before: undo takes the last one.
    let newest = list_batches(manager_home)?
        .last()
        .and_then(|b| parse_batch_name(b));
    let name = match newest {
        Some((last, number)) if last >= stamp => format!("{last}-{:03}", number + 1),
        _ => stamp,
    };
    let target = trash.join(&name);
    // Durable before the moves: a power failure must not lose the folder that the journal names.
    atomic::create_private_folder(&target)?;
    atomic::sync_folder(&trash)?;
    atomic::sync_folder(&backups)?;
    let moves = archives
        .iter()
        .flat_map(|archive| [Some(archive.clone()), names::sidecar_name(archive)])
        .flatten()
        .filter(|file| backups.join(file).symlink_metadata().is_ok())
        .map(|file| Step::new(backups.join(&file), target.join(&file)))
        .collect::<Result<_, _>>()?;
    match transaction.commit(moves, &NoPolicy) {
        Ok(_) => Ok(target),
        Err(e) => {
            // Succeeds only if the folder is empty, so never while moves remain to be undone.
            let _ = sharing::remove_dir(&target);
            Err(e)
        }
    }
}

/// Returns what [`undo`] would move back: the archives of the last prune.
///
/// # Errors
/// The trash cannot be listed.
pub(crate) fn plan_undo(manager_home: &Path) -> Result<Vec<RestoredArchive>, IoError> {
    Ok(match find_newest_batch(manager_home)? {
        Some((_, archives)) => plan_restore(manager_home, archives),
        None => Vec::new(),
    })
}

fn plan_restore(manager_home: &Path, archives: Vec<String>) -> Vec<RestoredArchive> {
    let backups = store::backups_folder(manager_home);
    let mut taken = BTreeSet::new();
    let mut back = Vec::new();
    for archive in archives {
        let stem = archive.strip_suffix(ARCHIVE_SUFFIX).unwrap_or(&archive);
        let is_free = |name: &String| {
            let sidecar = names::sidecar_name(name).unwrap_or_default();
            !taken.contains(name)
                && backups.join(name).symlink_metadata().is_err()
                && backups.join(sidecar).symlink_metadata().is_err()
        };
        let name = (1..=u32::MAX)
            .map(|n| names::archive_name(stem, n))
            .find(is_free)
            .unwrap_or_default();
        taken.insert(name.clone());
        back.push(RestoredArchive { archive, name });
    }
    back
}

/// Moves the archives of the last prune back. Durable on return.
///
/// # Errors
/// A file could not be moved. Then all moves were undone.
pub(crate) fn undo(
    manager_home: &Path,
    _held: &FileLock,
) -> Result<Vec<RestoredArchive>, JournalError> {
    let transaction = begin(manager_home)?;
    let Some((batch, archives)) = find_newest_batch(manager_home)? else {
        return Ok(Vec::new());
    };
    // Planned again under the lock: another command may have taken a name since it was shown.
    let back = plan_restore(manager_home, archives);
    let backups = store::backups_folder(manager_home);
    let mut moves = Vec::new();
    for RestoredArchive { archive, name } in &back {
        let sidecars = (names::sidecar_name(archive), names::sidecar_name(name));
        for (from, to) in [(Some(archive.clone()), Some(name.clone())), sidecars] {
            if let (Some(from), Some(to)) = (from, to)
                && batch.join(&from).symlink_metadata().is_ok()
            {
                moves.push(Step::new(batch.join(from), backups.join(to))?);
            }
        }
    }
    transaction.commit(moves, &NoPolicy)?;
    // Fails if the user put other files there, which stay.
    let _ = sharing::remove_dir(&batch);
    Ok(back)
}

/// The batches in the trash at one time.
#[derive(Debug, Default)]
pub(crate) struct TrashContent {
    /// The size of all files in the trash.
    pub bytes: u64,
    /// The number of archives in the trash.
    pub archives: usize,
    batches: Vec<PathBuf>,
}

/// Lists the batches of the trash.
///
/// # Errors
/// A folder of the trash cannot be listed.
pub(crate) fn read_content(manager_home: &Path) -> Result<TrashContent, IoError> {
    let mut content = TrashContent::default();
    for batch in list_batches(manager_home)? {
        // Another process may empty the trash meanwhile.
        for (name, _) in tree::list_if_exists(&batch)? {
            if let Some((_, meta)) = file_id::stat(&batch.join(&name))? {
                content.bytes += meta.len();
                content.archives += usize::from(names::is_archive_name(&name.to_string_lossy()));
            }
        }
        content.batches.push(batch);
    }
    Ok(content)
}

/// Returns the names of all archives in the trash.
///
/// # Errors
/// A folder of the trash cannot be listed.
pub(crate) fn list_archive_names(manager_home: &Path) -> Result<BTreeSet<String>, IoError> {
    let mut names = BTreeSet::new();
    for batch in list_batches(manager_home)? {
        names.extend(list_archives_in(&batch)?);
    }
    Ok(names)
}

/// Returns the paths of all archives in the trash, those of the last prune first.
///
/// # Errors
/// A folder of the trash cannot be listed.
pub(crate) fn list_archives(manager_home: &Path) -> Result<Vec<PathBuf>, IoError> {
    let mut archives = Vec::new();
    for batch in list_batches(manager_home)?.iter().rev() {
        let names = list_archives_in(batch)?;
        archives.extend(names.into_iter().rev().map(|name| batch.join(name)));
    }
    Ok(archives)
}

/// Deletes the batches in `seen` permanently. Batches added since stay.
///
/// # Errors
/// A file could not be deleted.
pub(crate) fn remove(
    manager_home: &Path,
    seen: &TrashContent,
    _held: &FileLock,
) -> Result<(), JournalError> {
    // An interrupted undo may still have to move archives out of these batches.
    recover(manager_home)?;
    for batch in &seen.batches {
        tree::remove(batch)?;
    }
    let trash = folder(manager_home);
    if trash.exists() {
        atomic::sync_folder(&trash)?;
    }
    Ok(())
}

fn journal_folder(manager_home: &Path) -> PathBuf {
    journal::journal_folder_of_command(manager_home, "prune")
}

fn begin(manager_home: &Path) -> Result<Transaction, JournalError> {
    finish_old_moves(manager_home)?;
    let backups = store::backups_folder(manager_home);
    Transaction::begin(&journal_folder(manager_home), &backups, &NoPolicy)
}

/// Finishes or undoes interrupted moves. Costs two `lstat` if there are none.
///
/// # Errors
/// The moves could not be finished.
pub(crate) fn recover(manager_home: &Path) -> Result<Recovery, JournalError> {
    if finish_old_moves(manager_home)? {
        return Ok(Recovery::Finished(Vec::new()));
    }
    journal::recover(&journal_folder(manager_home), &NoPolicy)
}

/// Finishes moves that an earlier version began. Returns false if there are none.
fn finish_old_moves(manager_home: &Path) -> Result<bool, JournalError> {
    let path = folder(manager_home).join(OLD_JOURNAL);
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let backups = store::backups_folder(manager_home);
    let transaction = Transaction::begin(&journal_folder(manager_home), &backups, &NoPolicy)?;
    let moves = match document::read::<OldJournal>(&path)? {
        DocumentState::Good(journal) => journal.moves,
        DocumentState::Absent => Vec::new(),
        // The document named the moves, and each archive is in one of the two folders anyway.
        DocumentState::Damaged(_) => {
            document::move_aside(&path)?;
            return Ok(true);
        }
    };
    let steps = moves
        .into_iter()
        .filter(|(from, to)| is_inside(from) && is_inside(to))
        .map(|(from, to)| (backups.join(from), backups.join(to)))
        .filter(|(from, to)| from.symlink_metadata().is_ok() && to.symlink_metadata().is_err())
        .map(|(from, to)| Step::new(from, to));
    let steps = steps.collect::<Result<_, _>>()?;
    transaction.commit(steps, &NoPolicy)?;
    tree::remove(&path)?;
    Ok(true)
}

/// Returns the folders of the trash, oldest first.
fn list_batches(manager_home: &Path) -> Result<Vec<PathBuf>, IoError> {
    let mut batches = tree::list_folders(&folder(manager_home))?;
    batches.sort_by_key(|batch| (parse_batch_name(batch), batch.clone()));
    Ok(batches)
}

/// Parses a batch's folder name into time and number, by which batches are sorted.
fn parse_batch_name(batch: &Path) -> Option<(String, u32)> {
    let name = batch.file_name()?.to_str()?;
    let (stamp, number) = match name.split_once('-') {
        Some((stamp, number)) => (stamp, number.parse().ok()?),
        None => (name, 1),
    };
    chrono::NaiveDateTime::parse_from_str(stamp, BATCH_NAME_FORMAT).ok()?;
    Some((stamp.to_owned(), number))
}

/// Returns the newest batch with an archive, and its archives. A failed prune may leave a batch
/// without any.
fn find_newest_batch(manager_home: &Path) -> Result<Option<(PathBuf, Vec<String>)>, IoError> {
    for batch in list_batches(manager_home)?.into_iter().rev() {
        let archives = list_archives_in(&batch)?;
        if !archives.is_empty() {
            return Ok(Some((batch, archives)));
        }
    }
    Ok(None)
}

fn list_archives_in(batch: &Path) -> Result<Vec<String>, IoError> {
    let entries = tree::list(batch).at("list", batch)?.into_iter();
    let names = entries.filter_map(|(name, _)| name.into_string().ok());
    Ok(names.filter(|name| names::is_archive_name(name)).collect())
}

fn is_inside(path: &str) -> bool {
    let mut components = Path::new(path).components();
    components.all(|c| matches!(c, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
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
    fn undo_does_not_overwrite_an_archive_of_the_same_name() {
        let home = home();
        let held = lock(home.path());
        let backups = store::backups_folder(home.path());
        move_to_trash(home.path(), &[NAME.into()], &now(), &held).unwrap();
        fs::write(backups.join(NAME), "another").unwrap();
        let back = undo(home.path(), &held).unwrap();
        assert_eq!(back[0].name, "2026-11-20-100000-a@x.com-2-codex.tar.gz");
        assert_eq!(fs::read(backups.join(NAME)).unwrap(), b"another");
        assert_eq!(fs::read(backups.join(&back[0].name)).unwrap(), b"archive");
        assert_eq!(undo(home.path(), &held).unwrap(), [], "nothing is left");
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
            assert_eq!(&undo(home.path(), &held).unwrap()[0].archive, name);
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
        assert_eq!(undo(home.path(), &held).unwrap().len(), 1);
        assert_eq!(list_batches(home.path()).unwrap().len(), 1);
        // A prune that was killed before its first move.
        fs::create_dir(folder(home.path()).join("20990101T000000Z")).unwrap();
        let expected = [RestoredArchive {
            archive: NAME.into(),
            name: NAME.into(),
        }];
        assert_eq!(plan_undo(home.path()).unwrap(), expected);
        assert_eq!(undo(home.path(), &held).unwrap(), expected);
        assert_eq!(names(&backups), [FOLDER, SIDECAR, NAME, other]);
    }

    #[test]
    fn a_batch_added_after_listing_is_not_deleted() {
        let home = home();
        let held = lock(home.path());
        let backups = store::backups_folder(home.path());
        move_to_trash(home.path(), &[NAME.into()], &now(), &held).unwrap();
        let seen = read_content(home.path()).unwrap();
        assert_eq!((seen.bytes, seen.archives), (14, 1));
        // Another prune, in the same second.
        let other = "2026-11-20-110000-a@x.com-codex.tar.gz";
        fs::write(backups.join(other), "other").unwrap();
        move_to_trash(home.path(), &[other.into()], &now(), &held).unwrap();
        remove(home.path(), &seen, &held).unwrap();
        let left = read_content(home.path()).unwrap();
        assert_eq!((left.bytes, left.archives), (5, 1));
        assert_eq!(undo(home.path(), &held).unwrap()[0].name, other);
    }

    /// Writes the journal of an earlier version that moves the archive and its sidecar to
    /// `.trash/t/`, and does the first `done` moves. Returns that folder.
    fn journal_of_an_earlier_version(home: &Path, done: usize) -> PathBuf {
        let backups = store::backups_folder(home);
        let trash = folder(home);
        let batch = trash.join("20261120T100000Z");
        fs::create_dir_all(&batch).unwrap();
        let to = |name: &str| format!("{FOLDER}/20261120T100000Z/{name}");
        let moves = vec![
            (NAME.to_owned(), to(NAME)),
            (SIDECAR.to_owned(), to(SIDECAR)),
        ];
        for (from, to) in &moves[..done] {
            fs::rename(backups.join(from), backups.join(to)).unwrap();
        }
        document::write(&trash.join(OLD_JOURNAL), &OldJournal { moves }).unwrap();
        batch
    }

    #[test]
    fn moves_of_an_earlier_version_are_finished() {
        for done in 0..=2 {
            let home = home();
            let batch = journal_of_an_earlier_version(home.path(), done);
            let finished = Recovery::Finished(Vec::new());
            assert_eq!(recover(home.path()).unwrap(), finished);
            assert_eq!(names(&batch), [SIDECAR, NAME]);
            assert_eq!(recover(home.path()).unwrap(), Recovery::None);
        }
    }

    #[test]
    fn every_operation_first_finishes_the_moves_of_a_killed_one() {
        type TrashOperation = fn(&Path, &FileLock);
        let works: [TrashOperation; 3] = [
            |home, held| {
                move_to_trash(home, &["other".into()], &now(), held).unwrap();
            },
            |home, held| {
                undo(home, held).unwrap();
            },
            |home, held| remove(home, &TrashContent::default(), held).unwrap(),
        ];
        for (work, is_back) in works.into_iter().zip([false, true, false]) {
            let home = home();
            let backups = store::backups_folder(home.path());
            let batch = journal_of_an_earlier_version(home.path(), 1);
            work(home.path(), &lock(home.path()));
            let folder = if is_back { &backups } else { &batch };
            assert!(folder.join(NAME).exists() && folder.join(SIDECAR).exists());
            assert_eq!(recover(home.path()).unwrap(), Recovery::None);
        }
    }

    #[test]
    fn a_journal_with_paths_outside_of_the_folder_moves_nothing() {
        let home = home();
        let backups = store::backups_folder(home.path());
        fs::create_dir_all(backups.join(FOLDER)).unwrap();
        let moves = [
            ("../secret", "x"),
            (NAME, "../../out"),
            ("/etc/passwd", "x"),
        ]
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .to_vec();
        let journal = backups.join(FOLDER).join(OLD_JOURNAL);
        document::write(&journal, &OldJournal { moves }).unwrap();
        let finished = Recovery::Finished(Vec::new());
        assert_eq!(recover(home.path()).unwrap(), finished);
        assert_eq!(names(&backups), [FOLDER, SIDECAR, NAME]);
    }
}
