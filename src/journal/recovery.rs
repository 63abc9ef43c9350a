//! Begins a transaction, and recovers one that was killed: finishes or undoes it.

use super::document::{JOURNAL, JournalFile, JournalState};
use super::error::{Direction, JournalError, RecoveryObstacle};
use super::folder::{check_private_folder, has_staging_suffix, is_real_folder};
use super::late_writes::has_late_writes;
use super::policy::RecoveryPolicy;
use super::step::{Step, StepStatus};
use super::transaction::{LOCK, Transaction};
use super::write_times::modified_ns;
use crate::io::atomic::{self, with_suffix};
use crate::io::document::{self, DocumentState};
use crate::io::json_path::ListedPath;
use crate::io::lock::{self, FileLock, LockError};
use crate::io::{IoContext, IoError};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The wait for a lock that another command holds only while it looks for interrupted transactions.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// The result of looking for an interrupted transaction and recovering it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// There is no interrupted transaction.
    None,
    /// Another process works with the journal.
    InProgress,
    /// The old state is live: no step was done, or the steps were undone. Files that were written
    /// meanwhile are kept in these folders.
    Undone(Vec<PathBuf>),
    /// The new state is live. Files that were written meanwhile are kept in these folders.
    Finished(Vec<PathBuf>),
    /// The transaction cannot be recovered now. Nothing was changed.
    Deferred(RecoveryObstacle),
}

/// Returns true if another process works with the journal in `folder`. Changes nothing.
pub(crate) fn is_in_progress(folder: &Path) -> bool {
    lock::is_held(&folder.join(LOCK))
}

/// Finishes or undoes the transaction whose journal is in `folder`, and removes its staging
/// folders.
///
/// If no step is done, none is begun, because the files may have been used since. While a process
/// uses them, nothing is exchanged. If files that are moved away were written since the kill, the
/// staging folders are kept.
///
/// # Errors
/// An I/O error, or an unreadable journal; then nothing is changed.
pub(crate) fn recover(
    folder: &Path,
    policy: &dyn RecoveryPolicy,
) -> Result<Recovery, JournalError> {
    if !is_real_folder(folder) {
        return Ok(Recovery::None);
    }
    check_private_folder(folder)?;
    let lock = match FileLock::try_exclusive(&folder.join(LOCK)) {
        Ok(lock) if lock.is_current(&folder.join(LOCK)) => lock,
        // Another process removed the folder first.
        Ok(_) => return Ok(Recovery::None),
        Err(LockError::Held(_)) => return Ok(Recovery::InProgress),
        // Another process removed it between the check above and the lock.
        Err(LockError::Io(e)) if e.is_not_found() => return Ok(Recovery::None),
        Err(LockError::Io(e)) => return Err(e.into()),
    };
    recover_locked(folder, lock, policy)
}

impl Transaction {
    /// Begins a transaction that changes `home`, with the journal in `folder` (created, 0700). One
    /// that was killed there is first recovered.
    pub(crate) fn begin(
        folder: &Path,
        home: &Path,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Self, JournalError> {
        let lock = loop {
            atomic::create_private_folder(folder)?;
            check_private_folder(folder)?;
            match FileLock::exclusive_within(&folder.join(LOCK), LOCK_TIMEOUT) {
                Ok(lock) if !lock.is_current(&folder.join(LOCK)) => {}
                Ok(lock) if folder.join(JOURNAL).exists() => {
                    if let Recovery::Deferred(obstacle) = recover_locked(folder, lock, policy)? {
                        return Err(obstacle.into());
                    }
                }
                Ok(lock) => break lock,
                Err(LockError::Held(_)) => {
                    return Err(JournalError::InProgress(folder.to_path_buf()));
                }
                // Another process removed the folder between the two calls above.
                Err(LockError::Io(e)) if e.is_not_found() => {}
                Err(LockError::Io(e)) => {
                    // Removes the folder only if it is empty: then it is the one created above.
                    let _ = fs::remove_dir(folder);
                    return Err(e.into());
                }
            }
        };
        Self::create(folder, home, lock)
    }
}

/// Same as [`recover`], for the caller that holds the lock of the folder.
fn recover_locked(
    folder: &Path,
    lock: FileLock,
    policy: &dyn RecoveryPolicy,
) -> Result<Recovery, JournalError> {
    let path = folder.join(JOURNAL);
    let journal = match document::read::<JournalFile>(&path)? {
        DocumentState::Good(journal) => journal,
        DocumentState::Damaged(detail) => {
            return Err(JournalError::DamagedJournal { path, detail });
        }
        // Killed before the first journal was written: the folder is empty.
        DocumentState::Absent => {
            JournalFile::prepared(vec![ListedPath(folder.to_path_buf())], None)
        }
    };
    // These folders are removed at the end, so a damaged journal must not name any other.
    if journal.folders.first().map(|f| f.0.as_path()) != Some(folder)
        || !journal.folders.iter().all(|f| has_staging_suffix(&f.0))
    {
        let detail = "it names folders that are no staging folders".to_owned();
        return Err(JournalError::DamagedJournal { path, detail });
    }
    let mut transaction = Transaction::of_journal(folder, journal, lock);
    let completed = match transaction.journal.state {
        JournalState::Prepared => Ok(Completed::Undone),
        JournalState::Committing => transaction.complete(Direction::Forward, policy)?,
        JournalState::Undoing => transaction.complete(Direction::Back, policy)?,
        JournalState::Committed => Ok(Completed::Finished),
    };
    transaction.ended = true;
    Ok(match completed {
        Ok(completed) => {
            let kept = if transaction.journal.keeps_replaced() {
                transaction.keep_folders()
            } else {
                transaction.remove_folders();
                Vec::new()
            };
            match completed {
                Completed::Finished => Recovery::Finished(kept),
                Completed::Undone => Recovery::Undone(kept),
            }
        }
        Err(obstacle) => Recovery::Deferred(obstacle),
    })
}

/// The state that a recovery has led to.
enum Completed {
    Finished,
    Undone,
}

impl Transaction {
    /// Finishes or undoes the steps of a killed process. Removes nothing.
    fn complete(
        &mut self,
        direction: Direction,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Result<Completed, RecoveryObstacle>, JournalError> {
        // Without its disk, a step would look done.
        let missing = self.journal.folders.iter().find(|f| !is_real_folder(&f.0));
        if let Some(ListedPath(missing)) = missing {
            return Ok(Err(RecoveryObstacle::MissingFolder(missing.clone())));
        }
        if self.journal.since_ns.is_empty() {
            self.adopt_clock()?;
        }
        self.adopt_asides()?;
        let home = self.journal.home();
        let statuses = self.statuses()?;
        if self.is_unrecognized(&statuses, &home, policy) {
            let folder = self.folder().to_path_buf();
            return Ok(Err(RecoveryObstacle::Unrecognized { home, folder }));
        }
        if direction == Direction::Forward && !statuses.contains(&StepStatus::Done) {
            // The files are complete and may have been used since. Going forward could lose later
            // changes.
            self.reset_journal()?;
            return Ok(Ok(Completed::Undone));
        }
        let remaining = self.remaining(&statuses, direction)?;
        if !remaining.is_empty() || self.journal.keeps_replaced() {
            let holders = policy.holders(&home);
            if !holders.is_empty() {
                return Ok(Err(RecoveryObstacle::InUse { home, holders }));
            }
        }
        self.prepare_remaining(&remaining, direction, &home, policy)?;
        self.exchange_remaining(remaining, direction)?;
        self.journal.keeps_replaced |= self.has_late_writes(&home, policy)?;
        Ok(Ok(match direction {
            Direction::Forward => {
                self.record_committed()?;
                Completed::Finished
            }
            Direction::Back => {
                self.reset_journal()?;
                Completed::Undone
            }
        }))
    }

    /// Adds the clock to a journal of an older version.
    fn adopt_clock(&mut self) -> Result<(), IoError> {
        let path = self.folder().join(JOURNAL);
        let meta = path.symlink_metadata().at("look at", &path)?;
        self.journal.since_ns = vec![modified_ns(&meta); self.journal.folders.len()];
        Ok(())
    }

    /// Completes or reverts exchanges of older versions that were killed between their renames.
    fn adopt_asides(&self) -> Result<(), IoError> {
        for (number, step) in self.journal.steps.iter().enumerate() {
            let asides = self.journal.staging_of(step).join("aside");
            step.adopt_aside(&asides.join(format!("{number}.linked")))?;
            step.adopt_aside(&asides.join(format!("{number}.moved")))?;
            step.adopt_aside(&with_suffix(&step.staged, ".aside"))?;
        }
        Ok(())
    }

    fn statuses(&self) -> Result<Vec<StepStatus>, IoError> {
        self.journal.steps.iter().map(Step::status).collect()
    }

    /// Returns true if the files of a step fit neither state. A file that Codex replaces, such as
    /// the login, stays as it is.
    fn is_unrecognized(
        &self,
        statuses: &[StepStatus],
        home: &Path,
        policy: &dyn RecoveryPolicy,
    ) -> bool {
        let mut steps = statuses.iter().zip(&self.journal.steps);
        steps.any(|(status, step)| {
            *status == StepStatus::Unknown && !policy.is_disposable(home, &step.live)
        })
    }

    /// Returns the numbers of the steps to exchange, in the order of the journal.
    fn remaining(
        &self,
        statuses: &[StepStatus],
        direction: Direction,
    ) -> Result<Vec<usize>, IoError> {
        let mut numbers = Vec::new();
        for (number, status) in statuses.iter().enumerate() {
            let is_remaining = match direction {
                Direction::Forward => *status == StepStatus::Pending,
                Direction::Back => {
                    *status == StepStatus::Done && self.journal.steps[number].can_be_undone()?
                }
            };
            if is_remaining {
                numbers.push(number);
            }
        }
        Ok(numbers)
    }

    /// Lets the policy look at what is replaced, and records the current file ids: since the kill,
    /// other programs may have replaced files.
    fn prepare_remaining(
        &mut self,
        remaining: &[usize],
        direction: Direction,
        home: &Path,
        policy: &dyn RecoveryPolicy,
    ) -> Result<(), JournalError> {
        let steps = &mut self.journal.steps;
        for &number in remaining {
            let outgoing = &steps[number].live;
            let of_path = remaining.iter().map(|n| &steps[*n]);
            let mut of_path = of_path.filter(|step| step.live == *outgoing);
            let incoming = of_path.find(|step| step.fills_live_path(direction));
            let incoming = incoming.map(|step| step.staged.as_path());
            policy.before_exchange(home, outgoing, incoming)?;
        }
        for &number in remaining {
            // The second of two moves finds the live path empty only after the first.
            let is_pair = remaining
                .iter()
                .any(|n| *n != number && steps[*n].live == steps[number].live);
            if !is_pair {
                steps[number].record_again(direction)?;
            }
        }
        if remaining.is_empty() {
            return Ok(());
        }
        match self.write_journal() {
            // If this process is killed too, the next recovery still has the journal as it was.
            Err(JournalError::Io(e)) if e.is_no_space() => Ok(()),
            written => written,
        }
    }

    fn exchange_remaining(
        &self,
        remaining: Vec<usize>,
        direction: Direction,
    ) -> Result<(), IoError> {
        let steps = remaining.into_iter().map(|n| &self.journal.steps[n]);
        match direction {
            Direction::Forward => steps.into_iter().try_for_each(Step::apply)?,
            Direction::Back => steps.rev().try_for_each(Step::undo)?,
        }
        self.sync_parents()
    }

    /// Returns true if a file that would be removed was written since the exchange began.
    fn has_late_writes(&self, home: &Path, policy: &dyn RecoveryPolicy) -> Result<bool, IoError> {
        for step in &self.journal.steps {
            let is_disposable = |live: &Path| policy.is_disposable(home, live);
            if has_late_writes(step, self.journal.since_ns(step), &is_disposable)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
