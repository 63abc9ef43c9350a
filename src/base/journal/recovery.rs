//! Begins a transaction, and recovers one that was killed: finishes or undoes it.

use super::database_locks::DatabaseLocks;
use super::document::{JOURNAL_NAME, JournalFile, JournalState, LOCK_NAME};
use super::error::{Direction, JournalError, RecoveryObstacle};
use super::folder::{give_to_owner, is_real_folder, is_staging_folder_path};
use super::late_writes::WriteSide;
use super::ownership::{check_own_folder, check_paths, has_content};
use super::policy::RecoveryPolicy;
use super::step::{Step, StepStatus};
use super::transaction::{Transaction, discard_empty};
use crate::io::{
    DocumentState, FileLock, FollowedLinks, IoContext, IoError, ListedPath, LockHolder,
    OrdinaryPath, atomic, beneath, document, lock, owner, sharing,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest wait for a lock. Another command holds it this briefly while it looks for interrupted transactions.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// The result of looking for an interrupted transaction and recovering it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// There is no interrupted transaction.
    None,
    /// Another process works with the journal.
    InProgress(LockHolder),
    /// The old state is live: no step was done, or the steps were undone. These folders keep files that other
    /// processes wrote during the transaction.
    Undone(Vec<PathBuf>),
    /// The new state is live. These folders keep files that other processes wrote during the transaction.
    Finished(Vec<PathBuf>),
    /// The transaction cannot be recovered now. Nothing was changed.
    Deferred(RecoveryObstacle),
}

/// Returns the process that works with the journal in `folder`; `None` if there is none. Changes nothing.
pub fn find_running(folder: &Path) -> Option<LockHolder> {
    lock::find_holder(&folder.join(LOCK_NAME))
}

/// Finishes or undoes the transaction whose journal is in `folder`, and removes its staging
/// folders.
///
/// If the killed process had done no step, the recovery does no step either, because the files may have been used
/// since. While a process uses the files, nothing is exchanged. If a file that would be removed was written since the
/// kill, the staged files are kept.
///
/// # Errors
/// The journal is unreadable, or another user could have written it: nothing was changed. An I/O error: the next
/// recovery continues.
pub fn recover(folder: &Path, policy: &dyn RecoveryPolicy) -> Result<Recovery, JournalError> {
    if !is_real_folder(folder)? {
        return Ok(Recovery::None);
    }

    check_own_folder(folder, policy)?;
    beneath::protect(folder, FollowedLinks::AT_TOP);

    let lock = match FileLock::try_acquire(&folder.join(LOCK_NAME)) {
        Ok(Some(lock)) if lock.is_current(&folder.join(LOCK_NAME)) => lock,
        // Another process removed the folder first.
        Ok(Some(_)) => return Ok(Recovery::None),
        Ok(None) => {
            return Ok(Recovery::InProgress(LockHolder::find(
                &folder.join(LOCK_NAME),
            )));
        }
        // Another process removed the folder between the check above and the lock.
        Err(e) if e.is_not_found() => return Ok(Recovery::None),
        Err(e) => return Err(e.into()),
    };

    match recover_locked(folder, lock, policy) {
        Err(JournalError::Deferred(obstacle)) => Ok(Recovery::Deferred(obstacle)),
        recovered => recovered,
    }
}

impl Transaction {
    /// Begins a transaction that changes `home`, with the journal in `folder`, which it creates (0700). First
    /// recovers a killed transaction whose journal is there.
    ///
    /// # Errors
    /// Another process works in `folder`, another user could have written to it, or the killed transaction cannot be
    /// recovered now.
    pub fn begin(
        folder: &Path,
        home: &Path,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Self, JournalError> {
        let mut has_recovered = false;
        // The loop begins again after a recovery, and whenever another process removes the folder in between.
        let lock = loop {
            atomic::create_private_folder(folder)?;
            owner::remove_access_lists(folder);
            give_to_owner(folder);
            check_own_folder(folder, policy)?;
            let lock = match FileLock::acquire_within(&folder.join(LOCK_NAME), LOCK_TIMEOUT) {
                Ok(Some(lock)) if lock.is_current(&folder.join(LOCK_NAME)) => lock,
                // The process that held the lock has removed the folder. A third process may have created it again.
                Ok(Some(_)) => continue,
                Ok(None) => {
                    return Err(JournalError::InProgress {
                        folder: folder.to_path_buf(),
                        holder: LockHolder::find(&folder.join(LOCK_NAME)),
                    });
                }
                // Another process removed the folder between the two calls above.
                Err(e) if e.is_not_found() => continue,
                Err(e) => {
                    // Removes the folder only if it is empty: then it is the one created above.
                    let _ = sharing::remove_dir(folder);
                    return Err(e.into());
                }
            };

            let needs_recovery = has_content(folder).inspect_err(|_| discard_empty(folder))?;
            if !needs_recovery {
                break lock;
            }
            if has_recovered {
                // The files of the folder could be neither removed nor renamed.
                return Err(JournalError::FolderExists(folder.to_path_buf()));
            }
            has_recovered = true;
            recover_locked(folder, lock, policy)?;
        };

        // Written before anything is staged: on a disk without file modes, a recovery trusts a folder with content only
        // if its lock has the marker.
        if let Some(marker) = policy.lock_marker(folder).filter(|text| !text.is_empty()) {
            lock.write_content(marker.as_bytes())
                .at("write", folder.join(LOCK_NAME))?;
        }

        Self::start(folder, home, lock)
    }
}

/// Same as [`recover`], for the caller that holds the lock of the folder. An obstacle is an error.
fn recover_locked(
    folder: &Path,
    lock: FileLock,
    policy: &dyn RecoveryPolicy,
) -> Result<Recovery, JournalError> {
    let journal = read_journal(folder)?;
    let mut transaction = Transaction::from_journal(folder, journal, lock);

    // Dropping the transaction after an error must leave everything for the next recovery.
    transaction.keeps_folders_on_drop = true;

    // The new state is live after `Forward`, the old one after `Back`.
    let live_state = match transaction.journal.state {
        JournalState::Prepared => Direction::Back,
        JournalState::Committing => transaction.finish_or_undo(Direction::Forward, policy)?,
        JournalState::Undoing => transaction.finish_or_undo(Direction::Back, policy)?,
        JournalState::Committed => Direction::Forward,
    };

    // Staged files stay in folders of their own if another program wrote to them.
    let kept_folders = if transaction.journal.keeps_staged_files {
        transaction.move_staged_to_kept_folders()?
    } else {
        transaction.remove_folders();
        Vec::new()
    };

    Ok(match live_state {
        Direction::Forward => Recovery::Finished(kept_folders),
        Direction::Back => Recovery::Undone(kept_folders),
    })
}

/// Reads the journal in `folder` and checks the folders that it names.
fn read_journal(folder: &Path) -> Result<JournalFile, JournalError> {
    let path = folder.join(JOURNAL_NAME);
    let journal = match document::read::<JournalFile>(&path)? {
        DocumentState::Good(journal) => journal,
        DocumentState::Damaged(detail) => {
            return Err(JournalError::DamagedJournal { path, detail });
        }
        // Killed before the first journal was written, or after the journal was removed.
        DocumentState::Absent => JournalFile::without_steps(
            vec![ListedPath(folder.to_path_buf())],
            ListedPath::default(),
        ),
    };

    // The recovery removes these folders at its end, so a damaged journal must not name other folders.
    let recorded_folder = journal.folders.first().cloned().unwrap_or_default().0;
    if recorded_folder.file_name() != folder.file_name()
        || !journal.folders.iter().all(|f| is_staging_folder_path(&f.0))
    {
        let detail = "it names folders that are no staging folders".to_owned();
        return Err(JournalError::DamagedJournal { path, detail });
    }

    if recorded_folder.canonical().ok() != folder.canonical().ok() {
        // The home was moved, so the paths of the steps are wrong.
        return Err(RecoveryObstacle::MissingFolder {
            folder: recorded_folder,
            journal: folder.to_path_buf(),
        }
        .into());
    }
    check_paths(&path, &journal)?;
    Ok(journal)
}

impl Transaction {
    /// Finishes or undoes the steps of a killed process. Removes nothing. Returns `Back` if the old state is live.
    fn finish_or_undo(
        &mut self,
        direction: Direction,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Direction, JournalError> {
        let statuses = self.read_recognized_statuses(policy)?;
        if direction == Direction::Forward && !statuses.contains(&StepStatus::Done) {
            // The old files are complete and may have been used since the kill: going forward could lose these changes.
            // If an undo was killed, the new state was live, and another program may have written to it.
            self.journal.keeps_staged_files |= self.has_late_writes(Direction::Back, policy)?;
            self.reset_journal()?;
            return Ok(Direction::Back);
        }

        let remaining = self.list_remaining_steps(direction)?;
        let mut locks = DatabaseLocks::default();
        if !remaining.is_empty() || self.journal.keeps_staged_files {
            let steps = remaining.iter().map(|number| &self.journal.steps[*number]);
            let locked = self.lock_idle_home(steps, policy);
            locks = locked.map_err(|holders| RecoveryObstacle::InUse {
                home: self.journal.home.0.clone(),
                holders,
            })?;
        }

        self.exchange_remaining(&remaining, direction, policy)?;
        // The release waits for processes that still have a replaced database open, so their last writes are found.
        locks.release();
        self.journal.keeps_staged_files |= self.has_late_writes(direction, policy)?;

        match direction {
            Direction::Forward => self.record_committed()?,
            Direction::Back => self.reset_journal()?,
        }
        Ok(direction)
    }

    /// Returns the status of each step. Fails if a staging folder is missing, or if files other than disposable ones
    /// match neither state.
    fn read_recognized_statuses(
        &self,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Vec<StepStatus>, JournalError> {
        // If the disk of a staging folder is missing, the steps of this folder look done.
        for ListedPath(folder) in &self.journal.folders {
            if !is_real_folder(folder)? {
                let folder = folder.clone();
                let journal = self.folder().to_path_buf();
                return Err(RecoveryObstacle::MissingFolder { folder, journal }.into());
            }
        }

        let statuses = self.journal.steps.iter().map(Step::read_status);
        let statuses = statuses.collect::<Result<Vec<_>, IoError>>()?;

        let home = &self.journal.home.0;
        let mut changed = Vec::new();
        for (status, step) in statuses.iter().zip(&self.journal.steps) {
            // A file that Codex replaces, such as the login, stays as it is.
            if *status == StepStatus::Unknown && !policy.is_disposable(home, &step.live) {
                changed.push(step.live.clone());
            }
        }
        if !changed.is_empty() {
            return Err(RecoveryObstacle::Unrecognized {
                home: home.clone(),
                folder: self.folder().to_path_buf(),
                changed,
            }
            .into());
        }
        Ok(statuses)
    }

    /// Returns true if another process wrote to the staged state. The steps have gone in `direction`, so this state
    /// will be removed.
    pub(super) fn has_late_writes(
        &self,
        direction: Direction,
        policy: &dyn RecoveryPolicy,
    ) -> Result<bool, IoError> {
        // Without a latest time for the staging folders, each later write counts.
        let files = self.find_late_writes(direction, policy, WriteSide::Staged, &[])?;
        Ok(!files.is_empty())
    }
}
