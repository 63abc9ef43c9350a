//! Locks the replica of a sync, and updates Codex's index under that lock.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::earlier_turns::project_continued_rollouts;
use codex_manager_core::io::{FileLock, LockError, atomic};
use codex_manager_core::sync::config::SyncConfig;
use codex_manager_core::sync::index_updates::{CodexIndex, ContentChange, IndexUpdate};
use codex_manager_core::sync::pending_index_updates::PendingIndexUpdates;
use codex_manager_core::sync::state::Replica;
use std::time::Duration;

/// The time to wait for the lock. A forked child process inherits the lock until it calls `exec`, so another process
/// may hold the lock for a moment although no sync runs.
pub(crate) const LOCK_WAIT: Duration = Duration::from_millis(300);

/// Locks the replica. Two runs at the same time would undo each other's changes.
pub(crate) fn lock_replica(replica: &Replica) -> Result<FileLock> {
    atomic::create_private_folder(&replica.folder)?;
    FileLock::acquire_within(&replica.lock_file(), LOCK_WAIT).map_err(|e| match e {
        LockError::Held(_) => CommandError::failed("another sync of this folder is running")
            .hint("wait for it to end; nothing was changed"),
        LockError::Io(e) => e.into(),
    })
}

fn codex_index<'a>(context: &'a Context, config: &'a SyncConfig) -> CodexIndex<'a> {
    CodexIndex {
        home: &config.local,
        env: &context.env,
        rules: &config.path_rules,
    }
}

/// Updates Codex's index with the pending updates of this run and of earlier runs, then removes the record of these
/// updates. Names stay recorded until Codex has an index. The caller holds the lock of the replica and has made sure that
/// Codex does not use the home.
pub(crate) fn update_codex_index(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) -> Result<()> {
    let pending = PendingIndexUpdates::new(replica);
    let codex_index = codex_index(context, config);
    let updates = pending.read()?;

    let written = [
        ContentChange::New,
        ContentChange::Extended,
        ContentChange::Replaced,
    ];
    let written_updates = updates
        .iter()
        .filter(|update| written.contains(&update.change));
    let threads = written_updates
        .map(|update| update.id.to_lowercase())
        .collect();

    for note in codex_index.update_index(updates)? {
        context.ui.note(note);
    }
    project_continued_rollouts(context, &config.local, &threads);

    let cleared = if codex_index.exists() {
        pending.clear()
    } else {
        pending.keep_names_only()
    };
    Ok(cleared?)
}

/// Returns true if an earlier run ended before it updated Codex's index, if Codex has had no index until now, or if the
/// record of pending updates cannot be read: then the update reports the error.
pub(crate) fn has_pending_index_updates(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) -> bool {
    let Ok(updates) = PendingIndexUpdates::new(replica).read() else {
        return true;
    };
    let is_renamed = |update: &IndexUpdate| update.change == ContentChange::Renamed;
    // Names wait until Codex has an index.
    !updates.iter().all(is_renamed) || !updates.is_empty() && codex_index(context, config).exists()
}

/// Updates Codex's index with the pending updates of earlier runs, before an error can end this run. If this fails,
/// only prints a warning, because this run updates the index again after its files are in place.
pub(crate) fn flush_pending_index_updates(
    context: &Context,
    config: &SyncConfig,
    replica: &Replica,
) {
    if has_pending_index_updates(context, config, replica)
        && let Err(error) = update_codex_index(context, config, replica)
    {
        context.ui.warn(error);
    }
}
