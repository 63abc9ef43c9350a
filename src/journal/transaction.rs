//! A transaction under way: its staging folders, its journal, and the exchange of all steps.

use super::document::{JOURNAL, JournalFile, JournalState};
use super::error::JournalError;
use super::folder::{KeptAs, keep_as};
use super::step::{Move, Step};
use super::write_times::filesystem_clock_ns;
use crate::io::json_path::ListedPath;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError, atomic, document, exchange, file_open, tree};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The lock file in a staging folder.
pub(super) const LOCK: &str = "lock";

/// A transaction that is being prepared. Dropping it before [`Transaction::commit`] removes its
/// folders.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(super) journal: JournalFile,
    path: PathBuf,
    pub(super) ended: bool,
    /// An open descriptor without a use. Closing it allows removing the folders even if the process
    /// may open no more files.
    reserve_descriptor: Option<File>,
    _lock: FileLock,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The new state is live. These folders with the old state could not be removed.
    Done(Vec<PathBuf>),
    /// The old state is live. The new state is kept in these folders.
    Undone(Vec<PathBuf>),
}

impl Transaction {
    /// Creates the journal of a change of `home` in `folder`, whose lock is held.
    pub(super) fn create(folder: &Path, home: &Path, lock: FileLock) -> Result<Self, JournalError> {
        let reserve_descriptor = file_open::open(folder.join(LOCK)).inspect_err(|_| {
            let _ = (fs::remove_file(folder.join(LOCK)), fs::remove_dir(folder));
        });
        let reserve_descriptor = reserve_descriptor.at("open", folder.join(LOCK))?;
        let folders = vec![ListedPath(folder.to_path_buf())];
        let journal = JournalFile::prepared(folders, Some(ListedPath(home.to_path_buf())));
        let mut transaction = Self::of_journal(folder, journal, lock);
        transaction.reserve_descriptor = Some(reserve_descriptor);
        transaction.write_journal()?;
        Ok(transaction)
    }

    /// Returns the transaction of a journal that was read from `folder`.
    pub(super) fn of_journal(folder: &Path, journal: JournalFile, lock: FileLock) -> Self {
        Self {
            journal,
            path: folder.join(JOURNAL),
            ended: false,
            reserve_descriptor: None,
            _lock: lock,
        }
    }

    /// Adds a staging folder on another file system. It is in the journal before it is created.
    pub(crate) fn add_folder(&mut self, folder: &Path) -> Result<(), JournalError> {
        self.journal.folders.push(ListedPath(folder.to_path_buf()));
        self.write_journal()?;
        let created = atomic::create_private_folder(folder);
        if created.is_err() && folder.symlink_metadata().is_err() {
            // The folder does not exist: it needs no fsync and no removal.
            self.journal.folders.pop();
        }
        Ok(created?)
    }

    /// Returns the folder with the journal.
    pub(crate) fn folder(&self) -> &Path {
        &self.journal.folders[0].0
    }

    /// Performs `steps`, then calls `confirm`. If that returns false, undoes them and keeps the
    /// staging folders, because processes may have files of the new state open.
    ///
    /// # Errors
    /// A step failed, or the folders could not be synced; the steps were undone. If that failed
    /// too, the journal stays, and the next command undoes the rest. Or two steps change the same
    /// path; then none was done.
    pub(crate) fn commit(
        mut self,
        mut steps: Vec<Step>,
        confirm: impl FnOnce() -> bool,
    ) -> Result<Outcome, JournalError> {
        drop_duplicate_steps(&mut steps);
        check_disjoint(changed_paths(&steps).into_iter())?;
        check_disjoint(steps.iter().map(|step| step.staged.as_path()))?;
        let folders = self.journal.folders.iter();
        let clocks = folders.map(|folder| filesystem_clock_ns(&folder.0));
        self.journal.since_ns = clocks.collect::<Result<_, _>>()?;
        self.journal.steps = self.without_unsupported_exchanges(steps)?;
        // Durable before the journal says `committing`: after a power failure, a recovery exchanges
        // whatever is staged.
        for folder in &self.journal.folders {
            tree::sync(&folder.0)?;
        }
        if let Err(e) = self.set_state(JournalState::Committing) {
            // No step is done, so the staged files may be removed.
            self.reset_journal()?;
            return Err(e);
        }
        let applied = self.journal.steps.iter().try_for_each(Step::apply);
        if let Err(e) = applied.and_then(|()| self.sync_parents()) {
            self.undo_steps()?;
            self.reset_journal()?;
            return Err(e.into());
        }
        if !confirm() {
            self.journal.keeps_replaced = true;
            self.undo_steps()?;
            self.reset_journal()?;
            return Ok(Outcome::Undone(self.keep_folders()));
        }
        // Only now: until the journal says so, the staged files are the only way back.
        if self.record_committed().is_err() {
            // A later process finds every step done and removes the old state.
            self.ended = true;
            return Ok(Outcome::Done(vec![self.folder().to_path_buf()]));
        }
        Ok(Outcome::Done(self.remove_folders()))
    }

    /// Replaces exchanges by two moves where the file system has no call for an exchange.
    pub(super) fn without_unsupported_exchanges(
        &self,
        steps: Vec<Step>,
    ) -> Result<Vec<Step>, JournalError> {
        let folders = self.journal.folders.iter().map(|f| f.0.as_path());
        let supported: HashMap<_, _> = folders.map(|f| (f, exchange::is_supported(f))).collect();
        let mut all = Vec::with_capacity(steps.len());
        for (number, step) in steps.into_iter().enumerate() {
            let staging = self.journal.staging_of(&step);
            let asides = staging.join("replaced");
            match step.as_two_moves(asides.join(number.to_string())) {
                Some(moves) if !supported[staging] => {
                    atomic::create_private_folder(&asides)?;
                    all.extend(moves);
                }
                _ => all.push(step),
            }
        }
        Ok(all)
    }

    /// Undoes the steps that this process has done.
    fn undo_steps(&mut self) -> Result<(), JournalError> {
        // If this write fails and the process is killed, a recovery goes forward. That leads to a
        // complete state too.
        let _ = self.set_state(JournalState::Undoing);
        self.journal.steps.iter().rev().try_for_each(Step::undo)?;
        Ok(self.sync_parents()?)
    }

    /// Records durably that the staged files are the old state and may be removed.
    pub(super) fn record_committed(&mut self) -> Result<(), JournalError> {
        if self.set_state(JournalState::Committed).is_err() {
            // Removing the journal needs no disk space.
            tree::remove(&self.path)?;
            atomic::sync_folder(self.folder())?;
        }
        Ok(())
    }

    /// Replaces the journal by one without steps, after all steps were undone. Until then the
    /// staged files have to stay, because another process may follow the old journal.
    pub(super) fn reset_journal(&mut self) -> Result<(), JournalError> {
        let (folders, home) = (self.journal.folders.clone(), self.journal.home.clone());
        let mut empty_journal = JournalFile::prepared(folders, home);
        empty_journal.keeps_replaced = self.journal.keeps_replaced();
        if document::write(&self.path, &empty_journal).is_err() {
            // Removing the journal needs no disk space. A later process then knows only the first
            // folder; this process removes the others.
            tree::remove(&self.path)?;
            atomic::sync_folder(self.folder())?;
        }
        self.journal = empty_journal;
        Ok(())
    }

    pub(super) fn set_state(&mut self, state: JournalState) -> Result<(), JournalError> {
        self.journal.state = state;
        self.write_journal()
    }

    pub(super) fn write_journal(&self) -> Result<(), JournalError> {
        Ok(document::write(&self.path, &self.journal)?)
    }

    /// Makes the renames durable.
    pub(super) fn sync_parents(&self) -> Result<(), IoError> {
        #[cfg(test)]
        super::tests::before_sync()?;
        let steps = self.journal.steps.iter();
        let paths = steps.flat_map(|step| [&step.live, &step.staged]);
        let parents: BTreeSet<&Path> = paths.map(|path| atomic::parent_of(path)).collect();
        parents.into_iter().try_for_each(atomic::sync_folder)
    }

    /// Removes the staging folders: the one with the journal last, and its lock at the very end, so
    /// that no other transaction begins there before. A folder that cannot be removed is renamed
    /// and returned.
    pub(super) fn remove_folders(&mut self) -> Vec<PathBuf> {
        self.end(|folder| {
            if remove_with_lock(folder).is_ok() {
                return None;
            }
            let _ = tree::remove(&folder.join(JOURNAL));
            let kept = keep_as(folder, KeptAs::Leftover);
            tree::remove(&kept).is_err().then_some(kept)
        })
    }

    /// Keeps the staging folders under other names and returns these.
    pub(super) fn keep_folders(&mut self) -> Vec<PathBuf> {
        self.end(|folder| {
            let kept = keep_as(folder, KeptAs::Evidence);
            let _ = (
                tree::remove(&kept.join(JOURNAL)),
                tree::remove(&kept.join(LOCK)),
            );
            Some(kept)
        })
    }

    /// Calls `end_folder` for each staging folder, the one with the journal last.
    fn end(&mut self, end_folder: impl Fn(&Path) -> Option<PathBuf>) -> Vec<PathBuf> {
        self.ended = true;
        self.reserve_descriptor = None;
        let folders = self.journal.folders.iter().rev();
        folders.filter_map(|folder| end_folder(&folder.0)).collect()
    }
}

/// Drops repeated steps: two links in a home may lead to one folder.
fn drop_duplicate_steps(steps: &mut Vec<Step>) {
    let mut seen = HashMap::new();
    let names = steps.iter().map(|step| (&step.live, &step.staged));
    let is_new = names.map(|(live, staged)| seen.insert(live, staged) != Some(staged));
    let is_new: Vec<bool> = is_new.collect();
    let mut is_new = is_new.into_iter();
    steps.retain(|_| is_new.next().unwrap_or(true));
}

/// Returns the live paths of `steps`. A path that one step empties and a later one fills counts
/// once.
fn changed_paths(steps: &[Step]) -> Vec<&Path> {
    let mut emptied = HashSet::new();
    let mut changed = Vec::with_capacity(steps.len());
    for step in steps {
        match step.as_move() {
            Some(Move::Here) if emptied.remove(&step.live) => continue,
            Some(Move::Away) => drop(emptied.insert(&step.live)),
            _ => {}
        }
        changed.push(step.live());
    }
    changed
}

/// Fails if one path equals another or is below it.
fn check_disjoint<'a>(
    mut names: impl Iterator<Item = &'a Path> + Clone,
) -> Result<(), JournalError> {
    let mut all = HashSet::new();
    for name in names.clone() {
        if !all.insert(name) {
            return Err(JournalError::ConflictingSteps(name.to_path_buf()));
        }
    }
    let is_below = |name: &&Path| name.ancestors().skip(1).any(|above| all.contains(above));
    let conflict = names.find(is_below);
    conflict.map_or(Ok(()), |name| {
        Err(JournalError::ConflictingSteps(name.to_path_buf()))
    })
}

/// Removes a staging folder, its journal and lock last. Once the lock is gone, another transaction
/// may begin there.
fn remove_with_lock(folder: &Path) -> Result<(), IoError> {
    let entries = match tree::list(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at("list", folder)?,
    };
    let (lock, journal) = (folder.join(LOCK), folder.join(JOURNAL));
    for (name, _) in entries {
        let path = folder.join(name);
        if path != lock && path != journal {
            tree::remove(&path)?;
        }
    }
    tree::remove(&journal)?;
    tree::remove(&lock)?;
    match fs::remove_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", folder),
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended && self.journal.state == JournalState::Prepared {
            // The next command removes what cannot be removed now.
            self.end(|folder| remove_with_lock(folder).err().map(|e| e.path));
        }
    }
}
