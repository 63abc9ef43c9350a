//! One sync: locks its replica, applies a plan, and updates Codex's index.

use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::earlier_turns::project_continued_rollouts;
use crate::steps::shutdown::ShutdownArgs;
use codex_manager_core::conversations::index;
use codex_manager_core::io::progress::is_interrupted;
use codex_manager_core::io::{FileLock, LockHolder, atomic};
use codex_manager_core::sync::apply::{self, ApplyError, ApplyReport, ApplyRequest};
use codex_manager_core::sync::config::SyncConfig;
use codex_manager_core::sync::index_updates::{CodexIndex, ContentChange, IndexUpdate};
use codex_manager_core::sync::pending_index_updates::PendingIndexUpdates;
use codex_manager_core::sync::plan::SyncPlan;
use codex_manager_core::sync::snapshots::Join;
use codex_manager_core::sync::state::{Replica, SyncState};
use std::time::Duration;

/// The time to wait for the lock. A forked child process inherits the lock until it calls `exec`, so another process
/// may hold the lock for a moment although no sync runs.
const LOCK_WAIT: Duration = Duration::from_millis(300);

/// The parts of one sync.
pub(crate) struct SyncContext<'a> {
    pub(crate) context: &'a Context,
    pub(crate) config: &'a SyncConfig,
    pub(crate) replica: &'a Replica,
    pub(crate) shutdown_args: &'a ShutdownArgs,
}

impl<'a> SyncContext<'a> {
    /// Returns the sync with the folder in which the contents of the vault are staged.
    pub(crate) fn staged<'s, R>(&self, join: &'s Join<'_, R>) -> SyncContext<'s>
    where
        'a: 's,
    {
        SyncContext {
            config: &join.config,
            replica: &join.replica,
            ..*self
        }
    }

    /// Locks the replica. Two runs at the same time would undo each other's changes.
    pub(crate) fn lock_replica(&self) -> Result<FileLock> {
        atomic::create_private_folder(&self.replica.folder)?;
        let lock = FileLock::acquire_within(&self.replica.lock_file(), LOCK_WAIT)?;
        lock.ok_or_else(|| {
            let holder = LockHolder::find(&self.replica.lock_file());
            let message = format!("{holder} is syncing this Codex home");
            CommandError::failed(message).hint("wait for it to end; nothing was changed")
        })
    }

    /// Applies a plan and shows a progress bar. An interrupt stops between two steps.
    pub(crate) fn apply_plan(
        &self,
        plan: &SyncPlan,
        state: SyncState,
    ) -> Result<ApplyReport, ApplyError> {
        let total_bytes = plan.steps.iter().map(|step| step.bytes).sum();
        let bar = self.context.ui.bar("syncing", total_bytes);
        let request = ApplyRequest {
            config: self.config,
            replica: self.replica,
            keep_going: &|| !is_interrupted(),
            progress: &bar,
            now: self.context.now(),
        };
        let report = apply::apply(plan, state, &request);
        if !plan.steps.is_empty() {
            index::expect_changed_rollouts(self.context.manager_home(), &self.config.local);
        }
        report
    }

    fn codex_index(&self) -> CodexIndex<'a> {
        CodexIndex {
            home: &self.config.local,
            env: &self.context.env,
            rules: &self.config.path_rules,
        }
    }

    /// Updates Codex's index with the pending updates of this run and of earlier runs, then removes the record of these
    /// updates. Names stay recorded until Codex has an index. The caller holds the lock of the replica and has made
    /// sure that Codex does not use the home.
    pub(crate) fn update_codex_index(&self) -> Result<()> {
        let pending = PendingIndexUpdates::new(self.replica);
        let codex_index = self.codex_index();
        let updates = pending.read()?;

        let is_written = |update: &&IndexUpdate| {
            use ContentChange::{Extended, New, Replaced};
            matches!(update.change, New | Extended | Replaced)
        };
        let written_updates = updates.iter().filter(is_written);
        let written_threads = written_updates
            .map(|update| update.id.to_lowercase())
            .collect();

        for note in codex_index.update_index(updates)? {
            self.context.ui.note(note);
        }
        project_continued_rollouts(self.context, &self.config.local, &written_threads);

        let cleared = if codex_index.exists() {
            pending.clear()
        } else {
            pending.keep_names_only()
        };
        Ok(cleared?)
    }

    /// Returns true if Codex's index has to be updated: an earlier run ended before its update, or Codex now has the
    /// index for which recorded names waited. Returns true also if the record cannot be read, because the update then
    /// reports the error.
    pub(crate) fn has_pending_index_updates(&self) -> bool {
        let Ok(updates) = PendingIndexUpdates::new(self.replica).read() else {
            return true;
        };
        let is_content_change = |update: &IndexUpdate| update.change != ContentChange::Renamed;
        let has_content_changes = updates.iter().any(is_content_change);
        // Names wait until Codex has an index.
        has_content_changes || (!updates.is_empty() && self.codex_index().exists())
    }

    /// Updates Codex's index with the pending updates of earlier runs, before an error can end this run. If this fails,
    /// only prints a warning, because this run updates the index again after its files are in place.
    pub(crate) fn flush_pending_index_updates(&self) {
        if self.has_pending_index_updates()
            && let Err(error) = self.update_codex_index()
        {
            self.context.ui.warn(error);
        }
    }
}
