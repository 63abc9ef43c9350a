//! Replaces files of a Codex home as a whole: after a kill, the next command finishes or undoes it.

use super::HistoryError;
use crate::io::{IoContext, atomic};
use crate::journal::{self, JournalError, Outcome, Recovery, RecoveryPolicy, Step, Transaction};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An exchange that is being prepared.
#[derive(Debug)]
pub(super) struct FileExchange {
    transaction: Transaction,
    home: PathBuf,
    /// The staging folders beside the files.
    folders: BTreeSet<PathBuf>,
    number: usize,
    removals: Vec<Step>,
    files: Vec<Step>,
}

fn journal_folder(manager_home: &Path) -> PathBuf {
    journal::folder_of_command(manager_home, "history")
}

/// Returns true if an exchange was interrupted and is not recovered yet.
pub(super) fn is_pending(manager_home: &Path) -> bool {
    journal_folder(manager_home).symlink_metadata().is_ok()
}

/// Finishes or undoes an exchange that a killed command left incomplete.
pub(super) fn recover(
    manager_home: &Path,
    policy: &dyn RecoveryPolicy,
) -> Result<Recovery, JournalError> {
    journal::recover(&journal_folder(manager_home), policy)
}

impl FileExchange {
    /// Begins an exchange of files of the Codex home `home`. The caller holds the lock on the
    /// snapshots.
    pub(super) fn begin(
        manager_home: &Path,
        home: &Path,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Self, HistoryError> {
        Ok(Self {
            transaction: Transaction::begin(&journal_folder(manager_home), home, policy)?,
            home: home.to_path_buf(),
            folders: BTreeSet::new(),
            number: 0,
            removals: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Removes the file at `live`, if there is one.
    pub(super) fn remove(&mut self, live: &Path) -> Result<(), HistoryError> {
        if live.symlink_metadata().is_ok() {
            let staged = self.stage(live)?;
            self.removals.push(Step::new(live.to_path_buf(), staged)?);
        }
        Ok(())
    }

    /// Replaces the file at `live`, which may be missing, by the one that `write` writes.
    pub(super) fn replace(
        &mut self,
        live: &Path,
        write: impl FnOnce(&Path) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let staged = self.stage(live)?;
        write(&staged)?;
        self.files.push(Step::new(live.to_path_buf(), staged)?);
        Ok(())
    }

    /// Performs the exchange, unless a process uses the home. Durable on return.
    ///
    /// # Errors
    /// Nothing was changed, or [`is_pending`] is true.
    pub(super) fn commit(self, policy: &dyn RecoveryPolicy) -> Result<(), HistoryError> {
        // SQLite would apply a log to whichever database lies beside it, so logs are removed before
        // their database is replaced.
        let steps = [self.removals, self.files].concat();
        let mut holders = policy.holders(&self.home);
        if !holders.is_empty() {
            return Err(HistoryError::Busy(holders));
        }
        let confirm = || {
            holders = policy.holders(&self.home);
            holders.is_empty()
        };
        match self.transaction.commit(steps, confirm)? {
            Outcome::Done(_) => Ok(()),
            Outcome::Undone(_) => Err(HistoryError::Busy(holders)),
        }
    }

    /// Returns a free staging path on the file system of `live`.
    fn stage(&mut self, live: &Path) -> Result<PathBuf, HistoryError> {
        let parent = atomic::parent_of(live);
        atomic::create_private_folder(parent)?;
        // One folder for all spellings.
        let parent = parent.canonicalize().at("look at", parent)?;
        let folder = journal::staging_in(&parent);
        if self.folders.insert(folder.clone()) {
            self.transaction.add_folder(&folder)?;
        }
        self.number += 1;
        Ok(folder.join(self.number.to_string()))
    }
}
