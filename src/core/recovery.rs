//! Finishes or undoes what killed commands left incomplete: the one call at the start of each command.

use crate::history::{HistoryError, repair};
use crate::inventory::trash;
use crate::io::IoError;
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::journal::{JournalError, Recovery};
use crate::restore::pending;
use crate::storage::trash_entry::TrashError;
use crate::storage::{trash as conversation_trash, vacuum};
use crate::vault;
use std::path::Path;

/// The command that was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// A restore of the Codex home that this command works on.
    Restore,
    /// A restore of another home.
    OtherRestore,
    /// `prune`, while it moved archives into the trash or out of it.
    Prune,
    /// `history undo`, or a repair that recreates the database.
    History,
    /// `storage trash`, while it moved a conversation.
    Trash,
    /// `storage vacuum`, while it exchanged databases.
    Vacuum,
    /// `vault backup` or `vault import`, while restic read the files, or a command that downloaded a snapshot.
    Snapshot,
}

/// The reason why an interrupted command could not be recovered. The next command tries again.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Trash(#[from] TrashError),
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Recovers every interrupted command. Returns each command with its result, which is never [`Recovery::None`]. Without
/// an interrupted command, only lists a few folders.
pub fn recover_all(
    codex_home: &Path,
    manager_home: &Path,
    env: &Environment,
    now: Timestamp,
) -> Vec<(Interrupted, Result<Recovery, RecoveryError>)> {
    let restores = pending::recover_all(codex_home, manager_home, env, now).into_iter();
    let restores = restores.map(|restore| {
        let interrupted = if restore.is_of_this_home {
            Interrupted::Restore
        } else {
            Interrupted::OtherRestore
        };
        (interrupted, restore.result.map_err(Into::into))
    });

    let prune = trash::recover(manager_home).map_err(Into::into);
    let history = repair::recover(manager_home, env);
    let vacuum = vacuum::recover(manager_home, env);
    let trash = conversation_trash::recover(manager_home);

    // The leftovers of a snapshot are only removed, so there is nothing to report.
    let snapshot = vault::remove_leftovers(manager_home).map(|()| Recovery::None);

    let others = [
        (Interrupted::Prune, prune),
        (Interrupted::Vacuum, vacuum.map_err(Into::into)),
        (Interrupted::Trash, trash.map_err(Into::into)),
        (Interrupted::History, history.map_err(Into::into)),
        (Interrupted::Snapshot, snapshot.map_err(Into::into)),
    ];
    let is_interrupted = |(_, result): &(Interrupted, Result<Recovery, RecoveryError>)| {
        !matches!(result, Ok(Recovery::None))
    };
    restores.chain(others).filter(is_interrupted).collect()
}
