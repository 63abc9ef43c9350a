//! The lock of a replica, and the update of Codex's index under it.

use crate::context::Context;
use crate::error::CommandError;
use crate::io::atomic;
use crate::io::lock::{FileLock, LockError};
use crate::steps::earlier_turns::project_continued_rollouts;
use crate::sync::config::SyncConfig;
use crate::sync::index_updates::{CodexIndex, ContentChange};
use crate::sync::pending_index_updates::PendingIndexUpdates;
use crate::sync::state::Replica;
use std::time::Duration;

/// The time to wait for the lock. A forked child inherits it until it calls `exec`, so it can be held although no sync
/// runs.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(300);

/// Locks the replica, because two runs at once would each undo what the other one plans.
pub(crate) fn lock_replica(replica: &Replica) -> Result<FileLock, CommandError> {
    atomic::create_private_folder(&replica.folder)?;
    FileLock::acquire_within(&replica.lock_file(), LOCK_WAIT).map_err(|e| match e {
        LockError::Held(_) => CommandError::failed("another sync of this folder is running")
            .hint("wait for it to end; nothing was changed"),
        LockError::Io(e) => e.into(),
    })
}

/// Updates Codex's index with the pending updates of this run and of earlier ones, and removes their record. The caller
/// holds the lock of the replica and has made sure that Codex does not use the home.
pub(crate) fn update_codex_index(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<(), CommandError> {
    let pending = PendingIndexUpdates::new(replica);
    let codex_index = CodexIndex {
        home: &config.local,
        env: &context.env,
        rules: &config.path_rules,
    };
    let (updates, renamed) = (pending.read()?, pending.read_renamed_ids()?);
    for note in codex_index.update_index(&updates, &renamed)? {
        context.ui.note(note);
    }
    let changed = updates
        .iter()
        .filter(|update| update.change != ContentChange::Unchanged);
    let threads = changed.map(|update| update.id.to_lowercase()).collect();
    project_continued_rollouts(context, &config.local, &threads);
    Ok(pending.clear()?)
}

/// Returns true if an earlier run ended before it updated Codex's index.
pub(crate) fn has_pending_index_updates(replica: &Replica) -> bool {
    let left = PendingIndexUpdates::new(replica);
    left.read().is_ok_and(|left| !left.is_empty())
        || left.read_renamed_ids().is_ok_and(|named| !named.is_empty())
}

/// Updates Codex's index with the updates of earlier runs, before anything can end this run. A failure is
/// only printed, because the update is tried again after this run's files are in place.
pub(crate) fn flush_pending_index_updates(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) {
    if has_pending_index_updates(replica)
        && let Err(error) = update_codex_index(context, config, replica)
    {
        context.ui.warn(error);
    }
}
