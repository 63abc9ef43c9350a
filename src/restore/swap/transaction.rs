//! A swap under way: its staging folders, its journal, and the exchange of all steps.

use super::super::journal_path::JournalPath;
use super::super::leftovers;
use super::super::step::{ExchangeStep, StepStatus};
use super::super::write_times::filesystem_clock_ns;
use super::error::SwapError;
use super::journal::{JOURNAL, JournalFile, JournalState};
use crate::io::document;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError, atomic, file_open, tree};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The lock file in a staging folder.
pub(super) const LOCK: &str = "lock";

/// A swap that is being prepared. Dropping it before [`Swap::commit`] removes its folders.
#[derive(Debug)]
pub struct Swap {
    pub(super) journal: JournalFile,
    pub(super) path: PathBuf,
    pub(super) finished: bool,
    /// Folders that could not be removed.
    pub(super) leftovers: Vec<PathBuf>,
    /// An open descriptor without a use. Closing it allows removing the folders even if the process
    /// may open no more files.
    pub(super) reserve_descriptor: Option<File>,
    pub(super) _lock: FileLock,
}

impl Swap {
    /// Creates the journal of a swap of `home` in `folder`, whose lock is held.
    pub(super) fn create(folder: &Path, home: &Path, lock: FileLock) -> Result<Self, SwapError> {
        let folders = vec![JournalPath(folder.to_path_buf())];
        let journal = JournalFile::prepared(folders, Some(JournalPath(home.to_path_buf())));
        let reserve_descriptor = file_open::open(folder.join(LOCK)).inspect_err(|_| {
            let _ = (fs::remove_file(folder.join(LOCK)), fs::remove_dir(folder));
        });
        let swap = Self {
            journal,
            path: folder.join(JOURNAL),
            finished: false,
            leftovers: Vec::new(),
            reserve_descriptor: Some(reserve_descriptor.at("open", folder.join(LOCK))?),
            _lock: lock,
        };
        swap.write_journal()?;
        Ok(swap)
    }

    /// Adds a staging folder on another file system. It is in the journal before it is created.
    pub fn add_folder(&mut self, folder: &Path) -> Result<(), SwapError> {
        self.journal.folders.push(JournalPath(folder.to_path_buf()));
        self.write_journal()?;
        let created = atomic::create_private_folder(folder);
        if created.is_err() && folder.symlink_metadata().is_err() {
            // The folder does not exist: it needs no fsync and no removal.
            self.journal.folders.pop();
        }
        Ok(created?)
    }

    /// Returns the folder with the journal.
    pub fn folder(&self) -> &Path {
        &self.journal.folders[0].0
    }

    /// Performs `steps`, then calls `confirm`. If that returns false, undoes them and moves the new
    /// state to `undo_destinations` (from, to), because processes may have its files open.
    ///
    /// # Errors
    /// A step failed, or the folders could not be synced; the steps were undone. If that failed
    /// too, the journal stays, and the next command undoes the rest. Or two steps change the same
    /// path; then none was done.
    pub fn commit(
        mut self,
        mut steps: Vec<ExchangeStep>,
        confirm: impl FnOnce() -> bool,
        undo_destinations: &[(PathBuf, PathBuf)],
    ) -> Result<SwapOutcome, SwapError> {
        drop_duplicate_steps(&mut steps);
        check_disjoint(steps.iter().map(|step| step.live.as_path()))?;
        check_disjoint(steps.iter().map(|step| step.staged.as_path()))?;
        self.journal.since_ns = self.prepare_folders()?;
        // Durable before the journal says `committing`: after a power failure, a recovery exchanges
        // whatever is staged.
        for folder in &self.journal.folders {
            tree::sync(&folder.0)?;
        }
        self.journal.steps = steps;
        if let Err(e) = self.set_state(JournalState::Committing) {
            // No step is done, so the staged files may be removed.
            self.reset_journal()?;
            return Err(e);
        }
        let applied = self.apply_steps();
        if let Err(e) = applied.and_then(|()| Ok(self.sync_parents()?)) {
            self.undo_steps()?;
            self.reset_journal()?;
            return Err(e);
        }
        if !confirm() {
            // Processes may have files of the new state open and continue to write to them.
            let pair = |(from, to): &(PathBuf, PathBuf)| {
                (JournalPath(from.clone()), JournalPath(to.clone()))
            };
            self.journal.undo_destinations = undo_destinations.iter().map(pair).collect();
            self.undo_steps()?;
            let moved = self.move_out_new_state()?;
            self.reset_journal()?;
            return Ok(SwapOutcome::Undone(moved));
        }
        // Only now: until the journal says so, the staged files are the only way back.
        if self.record_committed().is_err() {
            // A later process finds every step done and removes the old state.
            self.finished = true;
            return Ok(SwapOutcome::Done(vec![self.folder().to_path_buf()]));
        }
        self.remove_folders(make_leftover);
        Ok(SwapOutcome::Done(std::mem::take(&mut self.leftovers)))
    }

    /// Creates the folders for backups. Returns the clock of each file system.
    pub(super) fn prepare_folders(&self) -> Result<Vec<i64>, IoError> {
        let folders = self.journal.folders.iter();
        let prepare = |folder: &JournalPath| {
            atomic::create_private_folder(&folder.0.join("aside"))?;
            filesystem_clock_ns(&folder.0)
        };
        folders.map(prepare).collect()
    }

    /// Performs every pending step.
    pub(super) fn apply_steps(&self) -> Result<(), SwapError> {
        for (number, step) in self.journal.steps.iter().enumerate() {
            step.apply(&self.journal.backup(number)?)?;
        }
        Ok(())
    }

    /// Undoes the steps that this process has done.
    pub(super) fn undo_steps(&mut self) -> Result<(), SwapError> {
        // If this write fails and the process is killed, a recovery goes forward. That leads to a
        // complete state too.
        let _ = self.set_state(JournalState::Undoing);
        for (number, step) in self.journal.steps.iter().enumerate().rev() {
            let backup = self.journal.backup(number)?;
            if step.status(&backup)? == StepStatus::Interrupted {
                let is_login = step.is_for(&self.journal.auth_json());
                // This process exchanged the login under its lock, so nothing newer has to be
                // saved.
                step.resolve_interrupted(&backup, is_login, |_| Ok(()))?;
            }
            step.undo(&backup)?;
        }
        Ok(self.sync_parents()?)
    }

    /// Moves the staged new state to its destinations and returns them. A killed process may have
    /// moved some of it.
    pub(super) fn move_out_new_state(&self) -> Result<Vec<PathBuf>, SwapError> {
        let mut moved = Vec::new();
        for (JournalPath(staged), JournalPath(place)) in &self.journal.undo_destinations {
            if staged.symlink_metadata().is_ok() {
                let names = (2..).map(|n| atomic::with_suffix(place, &format!("-{n}")));
                let mut names = std::iter::once(place.clone()).chain(names);
                let is_free = |name: &PathBuf| name.symlink_metadata().is_err();
                let free = names.find(is_free).unwrap_or_else(|| place.clone());
                atomic::rename(staged, &free)?;
                moved.push(free);
            } else if place.symlink_metadata().is_ok() {
                moved.push(place.clone());
            }
        }
        Ok(moved)
    }

    /// Records durably that the staged files are the old state and may be removed.
    pub(super) fn record_committed(&mut self) -> Result<(), SwapError> {
        if self.set_state(JournalState::Committed).is_err() {
            // Removing the journal needs no disk space.
            tree::remove(&self.path)?;
            atomic::sync_folder(self.folder())?;
        }
        Ok(())
    }

    /// Replaces the journal by one without steps, after all steps were undone. Until then the
    /// staged files have to stay, because another process may follow the old journal.
    pub(super) fn reset_journal(&mut self) -> Result<(), SwapError> {
        let (folders, home) = (self.journal.folders.clone(), self.journal.home.clone());
        let empty_journal = JournalFile::prepared(folders, home);
        if document::write(&self.path, &empty_journal).is_err() {
            // Removing the journal needs no disk space. A later process then knows only the first
            // folder; this process removes the others.
            tree::remove(&self.path)?;
            atomic::sync_folder(self.folder())?;
        }
        self.journal = empty_journal;
        Ok(())
    }

    pub(super) fn set_state(&mut self, state: JournalState) -> Result<(), SwapError> {
        self.journal.state = state;
        self.write_journal()
    }

    pub(super) fn write_journal(&self) -> Result<(), SwapError> {
        Ok(document::write(&self.path, &self.journal)?)
    }

    pub(super) fn sync_parents(&self) -> Result<(), IoError> {
        #[cfg(test)]
        tests::before_sync()?;
        let parents: BTreeSet<&Path> = self
            .journal
            .steps
            .iter()
            .map(|s| atomic::parent_of(&s.live))
            .collect();
        parents.into_iter().try_for_each(atomic::sync_folder)
    }

    /// Removes every folder of the swap: the one with the journal last, and its lock at the very
    /// end, so that no other restore begins there before. A folder that cannot be removed is passed
    /// to `on_failure`; the swap succeeds all the same.
    pub(super) fn remove_folders(&mut self, on_failure: fn(&Path) -> Option<PathBuf>) {
        self.finished = true;
        self.reserve_descriptor = None;
        let folders = self.journal.folders.clone();
        let Some((own, others)) = folders.split_first() else {
            return;
        };
        for JournalPath(folder) in others.iter().rev() {
            if tree::remove(folder).is_err() {
                self.leftovers.extend(on_failure(folder));
            }
        }
        if remove_with_lock(&own.0).is_err() {
            self.leftovers.extend(on_failure(&own.0));
        }
    }
}

/// Drops repeated steps: two links in a home may lead to one folder.
fn drop_duplicate_steps(steps: &mut Vec<ExchangeStep>) {
    let mut seen = HashMap::new();
    let names = steps.iter().map(|step| (&step.live, &step.staged));
    let is_new = names.map(|(live, staged)| seen.insert(live, staged) != Some(staged));
    let is_new: Vec<bool> = is_new.collect();
    let mut is_new = is_new.into_iter();
    steps.retain(|_| is_new.next().unwrap_or(true));
}

/// Fails if one path equals another or is below it.
fn check_disjoint<'a>(mut names: impl Iterator<Item = &'a Path> + Clone) -> Result<(), SwapError> {
    let mut all = HashSet::new();
    for name in names.clone() {
        if !all.insert(name) {
            return Err(SwapError::ConflictingSteps(name.to_path_buf()));
        }
    }
    let is_below = |name: &&Path| name.ancestors().skip(1).any(|above| all.contains(above));
    let conflict = names.find(is_below);
    conflict.map_or(Ok(()), |name| {
        Err(SwapError::ConflictingSteps(name.to_path_buf()))
    })
}

/// Turns a folder without pending work into a leftover.
pub(super) fn make_leftover(folder: &Path) -> Option<PathBuf> {
    let _ = tree::remove(&folder.join(JOURNAL));
    leftovers::rename_and_remove(folder)
}

/// Removes the journal's folder. Once the lock is gone, another restore may begin there.
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

impl Drop for Swap {
    fn drop(&mut self) {
        if !self.finished && self.journal.state == JournalState::Prepared {
            // The next command removes the rest.
            self.remove_folders(|_| None);
        }
    }
}

/// The result of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The new state is live. These parts of the old state could not be removed.
    Done(Vec<PathBuf>),
    /// The old state is live. The new state was moved to these paths.
    Undone(Vec<PathBuf>),
}

#[cfg(test)]
mod tests {
    use super::super::recovery::{Recovery, recover};
    use super::super::test_fixture::*;
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// The number of the next syncs of this thread that fail.
        static FAILING_SYNCS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn before_sync() -> Result<(), IoError> {
        let left = FAILING_SYNCS.get();
        FAILING_SYNCS.set(left.saturating_sub(1));
        if left == 0 {
            return Ok(());
        }
        Err(io::Error::other("no sync")).at("fsync", Path::new("live"))
    }

    #[test]
    fn steps_that_cannot_be_synced_are_undone() {
        let fixture = SwapFixture::new();
        let (swap, steps) = fixture.begin();
        FAILING_SYNCS.set(1);
        swap.commit(steps, || true, &[]).unwrap_err();
        assert_eq!(fixture.live_state(), OLD);
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn an_undo_that_cannot_be_synced_is_completed_by_the_next_command() {
        let fixture = SwapFixture::new();
        let (swap, steps) = fixture.begin();
        FAILING_SYNCS.set(2);
        swap.commit(steps, || true, &[]).unwrap_err();
        let recovery = recover(&fixture.path(STAGING), NO_GUARD).unwrap();
        assert_eq!(recovery, Recovery::Undone(vec![]));
        assert_eq!(fixture.live_state(), OLD);
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn commit_exchanges_all_steps_and_removes_the_staging_folder() {
        let fixture = SwapFixture::new();
        let (swap, steps) = fixture.begin();
        let outcome = swap.commit(steps, || true, &[]).unwrap();
        assert_eq!(outcome, SwapOutcome::Done(vec![]));
        assert_eq!(fixture.live_state(), NEW);
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn conflicting_steps_are_refused() {
        let at = |fixture: &SwapFixture, live: &str, staged: &str| {
            ExchangeStep::new(
                fixture.path("live").join(live),
                fixture.path(STAGING).join(staged),
            )
        };
        for (live, staged) in [
            ("auth", "old/0"),
            ("folder/x", "old/0"),
            ("folder/x", "new/folder/x"),
            ("other", "new/added"),
            ("other", "new/folder/x"),
        ] {
            let fixture = SwapFixture::new();
            let (swap, mut steps) = fixture.begin();
            steps.insert(0, at(&fixture, live, staged));
            let refused = swap.commit(steps, || true, &[]).unwrap_err();
            assert!(
                matches!(refused, SwapError::ConflictingSteps(_)),
                "{live}: {refused}"
            );
            assert_eq!(fixture.live_state(), OLD);
            assert!(!fixture.path(STAGING).exists());
        }
        // A repeated step counts once.
        let fixture = SwapFixture::new();
        let (swap, mut steps) = fixture.begin();
        steps.extend_from_within(..);
        let outcome = swap.commit(steps, || true, &[]).unwrap();
        assert_eq!(outcome, SwapOutcome::Done(vec![]));
        assert_eq!(fixture.live_state(), NEW);
    }

    #[test]
    fn a_refused_commit_is_undone() {
        let fixture = SwapFixture::new();
        let (swap, steps) = fixture.begin();
        let (staged, left) = (fixture.path(STAGING).join("new"), fixture.path("left"));
        let outcome = swap.commit(steps, || false, &[(staged, left.clone())]);
        assert_eq!(outcome.unwrap(), SwapOutcome::Undone(vec![left.clone()]));
        assert_eq!(fixture.live_state(), OLD);
        assert_eq!(fs::read_to_string(left.join("auth")).unwrap(), "new");
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn a_dropped_swap_removes_the_staging_folder() {
        let fixture = SwapFixture::new();
        drop(fixture.begin());
        assert_eq!(fixture.live_state(), OLD);
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn user_files_named_like_backups_are_not_backups() {
        let fixture = SwapFixture::new();
        let (swap, mut steps) = fixture.begin();
        let staged = fixture.path(STAGING).join("new");
        for (folder, text) in [(&fixture.path("live"), "old"), (&staged, "new")] {
            for name in ["auth.aside", "added.aside", "0.linked", "0.moved"] {
                fs::write(folder.join(name), format!("{text} {name}")).unwrap();
            }
        }
        for name in ["auth.aside", "added.aside", "0.linked", "0.moved"] {
            steps.push(ExchangeStep::new(
                fixture.path("live").join(name),
                staged.join(name),
            ));
        }
        let outcome = swap.commit(steps, || true, &[]).unwrap();
        assert_eq!(outcome, SwapOutcome::Done(vec![]));
        assert_eq!(fixture.live_state(), NEW);
        for name in ["auth.aside", "added.aside", "0.linked", "0.moved"] {
            let text = fs::read_to_string(fixture.path("live").join(name)).unwrap();
            assert_eq!(text, format!("new {name}"));
        }
        assert_eq!(fixture.late_write_names(), [""; 0]);
    }

    #[test]
    fn if_committed_cannot_be_written_the_journal_is_removed_before_the_old_state() {
        let fixture = SwapFixture::new();
        let (swap, steps) = fixture.begin();
        let journal = fixture.path(STAGING).join(JOURNAL);
        let block = || {
            // A folder cannot be replaced by a rename of a file.
            fs::remove_file(&journal).unwrap();
            fs::create_dir(&journal).unwrap();
            fs::write(journal.join("in"), "the way").unwrap();
            true
        };
        let outcome = swap.commit(steps, block, &[]).unwrap();
        assert_eq!(outcome, SwapOutcome::Done(vec![]));
        assert_eq!(fixture.live_state(), NEW);
        assert!(!fixture.path(STAGING).exists());
    }

    #[test]
    fn a_step_that_fails_undoes_those_before_it() {
        let fixture = SwapFixture::new();
        let (swap, mut steps) = fixture.begin();
        fs::write(fixture.path(STAGING).join("new/taken"), "new").unwrap();
        let blocked = ExchangeStep::new(
            fixture.path("live/taken"),
            fixture.path(STAGING).join("new/taken"),
        );
        fs::write(fixture.path("live/taken"), "appeared").unwrap();
        steps.push(blocked);
        swap.commit(steps, || true, &[]).unwrap_err();
        assert_eq!(fixture.live_state(), OLD);
    }
}
