//! Replaces files of a Codex home, all of them or none: after a kill, the next command finishes or undoes the exchange.

use super::error::JournalError;
use super::folder;
use super::policy::RecoveryPolicy;
use super::recovery::{self, Recovery};
use super::step::Step;
use super::transaction::Transaction;
use crate::io::{IoContext, OrdinaryPath, atomic};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An exchange that is being prepared.
#[derive(Debug)]
pub(crate) struct FileExchange {
    transaction: Transaction,
    /// The staging folders beside the files.
    folders: BTreeSet<PathBuf>,
    last_staged_number: usize,
    removals: Vec<Step>,
    replacements: Vec<Step>,
}

impl FileExchange {
    /// Begins an exchange of files of `home`. The name of the command names the journal, so that the command finds it
    /// again.
    pub(crate) fn begin(
        manager_home: &Path,
        command: &str,
        home: &Path,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Self, JournalError> {
        let journal_folder = folder::journal_folder_of_command(manager_home, command);
        Ok(Self {
            transaction: Transaction::begin(&journal_folder, home, policy)?,
            folders: BTreeSet::new(),
            last_staged_number: 0,
            removals: Vec::new(),
            replacements: Vec::new(),
        })
    }

    /// Returns true if an exchange by `command` is under way, or was interrupted and is not recovered yet.
    pub(crate) fn is_pending(manager_home: &Path, command: &str) -> bool {
        let folder = folder::journal_folder_of_command(manager_home, command);
        folder.symlink_metadata().is_ok()
    }

    /// Finishes or undoes an exchange that a killed `command` left incomplete.
    pub(crate) fn recover(
        manager_home: &Path,
        command: &str,
        policy: &dyn RecoveryPolicy,
    ) -> Result<Recovery, JournalError> {
        let journal_folder = folder::journal_folder_of_command(manager_home, command);
        recovery::recover(&journal_folder, policy)
    }

    /// Adds the removal of the file at `live` to the exchange, if there is such a file.
    pub(crate) fn add_removal(&mut self, live: &Path) -> Result<(), JournalError> {
        if live.symlink_metadata().is_ok() {
            let staged = self.allocate_staging_path(live)?;
            self.removals
                .push(Step::record(live.to_path_buf(), staged)?);
        }
        Ok(())
    }

    /// Adds the replacement of the file at `live`, which may be missing, by the file that `write` writes to the staged
    /// path.
    pub(crate) fn add_replacement<E: From<JournalError>>(
        &mut self,
        live: &Path,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let staged = self.allocate_staging_path(live)?;
        write(&staged)?;
        let step = Step::record(live.to_path_buf(), staged).map_err(JournalError::from)?;
        self.replacements.push(step);
        Ok(())
    }

    /// Performs the exchange, unless a process uses the home. Durable on return.
    ///
    /// # Errors
    /// Nothing was changed, or [`FileExchange::is_pending`] is true.
    pub(crate) fn commit(self, policy: &dyn RecoveryPolicy) -> Result<(), JournalError> {
        // SQLite would apply a log to whichever database lies beside it, so logs are removed before
        // their database is replaced.
        let steps = [self.removals, self.replacements].concat();
        // A folder that cannot be removed only takes up space, or the next recovery removes it.
        self.transaction.commit(steps, policy)?.remove_old_state();
        Ok(())
    }

    /// Returns a free staging path on the file system of `live`. Creates its folder if it is missing.
    fn allocate_staging_path(&mut self, live: &Path) -> Result<PathBuf, JournalError> {
        let parent = atomic::parent_of(live);
        atomic::create_private_folder(parent)?;
        // All spellings of a folder must have the same staging folder.
        let parent = parent.canonical().at("inspect", parent)?;
        let folder = folder::staging_folder_in(&parent);
        if self.folders.insert(folder.clone()) {
            self.transaction.add_folder(&folder)?;
        }
        self.last_staged_number += 1;
        Ok(folder.join(self.last_staged_number.to_string()))
    }
}
