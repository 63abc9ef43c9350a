//! Sync through the vault: opens the vault and the staging folder of a run, and publishes its result.

use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::steps::sync_context::SyncContext;
use codex_manager_core::io::{Staging, atomic, events, pluralize, staging, tree};
use codex_manager_core::sync::config::{SyncConfig, SyncRemote};
use codex_manager_core::sync::plan::SyncPlan;
use codex_manager_core::sync::snapshots::{
    Join, Publication, Remote, RemoteSnapshot, SnapshotManifest,
};
use codex_manager_core::vault::TreeLock;
use codex_manager_core::vault::replica_snapshot::{
    self, ReplicaSnapshot, ids_of_all_but_newest, list_replica_snapshots,
};
use codex_manager_core::vault::restic::Restic;
use codex_manager_core::vault::restored_files::restore_files;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The purpose for which the vault is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VaultPurpose {
    Plan,
    /// A run that publishes. It holds the lock on the staged tree.
    Run,
}

/// The vault and the staging folder of one run.
pub(crate) struct VaultSync<'c> {
    context: &'c Context,
    restic: Restic,
    /// True if the next manifest is read under a lock of the repository. True at the start of a run, so that the run
    /// learns of a locked repository before it changes anything.
    locks_next_read: Cell<bool>,
    // Declared before `lock`, because fields are dropped in order: the staged tree is removed while the lock is held.
    staging: Staging,
    /// Held by a run, which publishes; `None` for a plan.
    lock: Option<TreeLock>,
    /// The snapshots that were listed last.
    listed_snapshots: RefCell<Vec<ReplicaSnapshot>>,
    /// The folder in which the staged tree is kept between two runs.
    kept_tree: PathBuf,
}

impl Remote for VaultSync<'_> {
    type Error = CommandError;

    fn snapshots(&self) -> Result<Vec<RemoteSnapshot>> {
        let snapshots = list_replica_snapshots(&self.restic)?;
        let published = snapshots.iter().map(|s| s.published.clone()).collect();
        // A publication takes its parent, and the snapshots to remove, from this list.
        self.listed_snapshots.replace(snapshots);
        Ok(published)
    }

    fn manifest(&self, snapshot: &RemoteSnapshot) -> Result<SnapshotManifest> {
        // A run locks the repository only for the first manifest that it reads.
        let locks = self.locks_next_read.replace(false);
        let manifest = replica_snapshot::read_manifest(&self.restic, snapshot, locks)?;
        Ok(manifest)
    }

    fn fetch(
        &self,
        snapshot: &RemoteSnapshot,
        manifest: &SnapshotManifest,
        wanted: &BTreeSet<&str>,
        folder: &Path,
    ) -> Result<()> {
        let all_paths = manifest.files().map(|(path, _)| path);
        restore_files(&self.restic, &snapshot.id, all_paths, wanted, folder)?;
        Ok(())
    }

    fn publish(&self, tree: &Path, publication: &Publication) -> Result<String> {
        let Some(lock) = &self.lock else {
            return Err(CommandError::failed(
                "cannot publish: this run holds no lock of the vault",
            ));
        };

        // Only a snapshot that is still in the repository can be the parent.
        let snapshots = self.listed_snapshots.borrow();
        let is_listed = |id: &&str| snapshots.iter().any(|s| s.published.id.starts_with(id));
        let parent = publication.base.as_deref().filter(is_listed);
        let (restic, bar) = (&self.restic, self.context.ui.growing_bar("publishing"));
        let id = replica_snapshot::publish(restic, lock, tree, publication, parent, &bar)?;
        Ok(id)
    }
}

impl<'c> VaultSync<'c> {
    /// Opens the vault. If the sync does not go through the vault, returns `None`; a run then also removes the staged
    /// tree that earlier runs through the vault have kept.
    ///
    /// # Errors
    /// No vault is set up, restic or the password is missing, the user interrupts the wait for the lock, or the disk is
    /// full.
    pub(crate) fn open(sync: &SyncContext<'c>, purpose: VaultPurpose) -> Result<Option<Self>> {
        let context = sync.context;
        let publishes = purpose == VaultPurpose::Run;
        let manager = context.manager_home();
        let staging_folder = manager.join("sync").join("staging");
        let kept_tree = staging_folder.join("kept");

        if sync.config.remote != SyncRemote::Vault {
            if publishes {
                tree::remove(&kept_tree)?;
            }
            return Ok(None);
        }

        let restic = ConnectionArgs::default().open(context)?;
        let lock = if publishes {
            let lock = TreeLock::acquire(manager)?;
            // Only under the lock: `acquire` has waited for the restic of a killed run, which reads its staging folder.
            if let Some(error) = staging::remove_stale(&staging_folder).into_iter().next() {
                return Err(error.into());
            }
            Some(lock)
        } else {
            None
        };

        Ok(Some(Self {
            context,
            restic,
            locks_next_read: Cell::new(publishes),
            lock,
            listed_snapshots: RefCell::default(),
            staging: Staging::create_in(&staging_folder)?,
            kept_tree,
        }))
    }

    /// Reads the snapshots of the other machines and prepares their merge.
    pub(crate) fn join(&self, sync: &SyncContext<'_>) -> Result<Join<'_, Self>> {
        let (config, replica) = (sync.config, sync.replica);
        let tree = self.staging.path("tree");
        atomic::create_private_folder(&tree)?;

        let publishes = self.lock.is_some();
        let join = Join::open(self, config, replica, &tree, &self.kept_tree, publishes)?;
        if join.was_copied {
            let message = "the newest snapshot of this machine in the vault is not the one in its records: \
                           another machine has a copy of this disk, or this disk was restored from a copy";
            let hint = format!(
                "to compare all files anew, move this folder away: {}; nothing was changed",
                replica.folder.display()
            );
            return Err(CommandError::refused(message).hint(hint));
        }

        Ok(join)
    }

    /// Returns the URL of the repository, without credentials.
    pub(crate) fn location(&self) -> String {
        self.restic.location()
    }

    /// Publishes the synced files as a snapshot. If this machine had at least twice as many snapshots before as the
    /// configuration keeps, removes the old ones, unless another process locks the repository.
    pub(crate) fn publish(&self, join: &mut Join<'_, Self>, config: &SyncConfig) -> Result<()> {
        let ui = &self.context.ui;
        let id = join.publish()?;
        join.keep_tree();
        let Some(id) = id else {
            return Ok(());
        };
        events::info!("published as snapshot {id}");

        let keep = config.keep_snapshots;
        let own_replica = join.replica_id();
        let snapshots = self.listed_snapshots.borrow();
        let old_ids = ids_of_all_but_newest(&snapshots, own_replica, keep);
        // Removes several snapshots at once, because each removal locks the repository.
        if old_ids.len() < keep {
            return Ok(());
        }

        let old_snapshots = pluralize(old_ids.len(), "old snapshot");
        // A later run can remove them. A wait would hold the lock of this replica, so that other runs would fail.
        match self.restic.without_lock_wait().forget(old_ids) {
            Ok(()) => events::info!("removed {old_snapshots}"),
            Err(e) if e.is_append_only() => ui.note(
                "old snapshots stay, because the repository only accepts new ones; a machine that may remove them \
                 runs: codex-manager sync forget",
            ),
            Err(e) => ui.warn(format_args!("old snapshots were not removed: {e}")),
        }
        Ok(())
    }
}

/// Decides whether the contents of the vault are staged if a run would have nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StagingRule {
    Always,
    UnlessIdle,
}

/// Stages the contents of the vault in a folder, and calls `work` with a sync with that folder. With
/// [`StagingRule::UnlessIdle`], a run that would have nothing to do stages nothing, and `work` gets the plan without
/// steps. If the sync does not go through the vault, calls `work` with `sync`. Publishes nothing.
pub(crate) fn with_staged_vault<T>(
    sync: &SyncContext<'_>,
    staging_rule: StagingRule,
    work: impl FnOnce(&SyncContext<'_>, Option<SyncPlan>) -> Result<T>,
) -> Result<T> {
    let no_plan = None;
    let Some(vault) = VaultSync::open(sync, VaultPurpose::Plan)? else {
        return work(sync, no_plan);
    };

    let mut join = vault.join(sync)?;
    if staging_rule == StagingRule::UnlessIdle
        && let Some(plan) = join.idle_plan(&join.inspect_home()?)?
    {
        return work(&sync.staged(&join), Some(plan));
    }

    join.stage()?;
    if join.has_further_round() {
        sync.context.ui.note(
            "several machines changed the same files: a run merges them one after the other; this plan shows the first",
        );
    }

    let result = work(&sync.staged(&join), no_plan);
    join.keep_tree();
    result
}
