//! Captures the Codex home and makes a snapshot of it, for `vault backup` and `backup --vault`.

use crate::choices::vault_connection::{ConnectionArgs, host};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::backup_plan::{BackupPlan, check_account_unchanged, remove_leftovers};
use crate::steps::home_checks::refuse_during_restore;
use crate::views::account::warn_unless_recorded;
use codex_manager_core::archive::tree_capture::capture_tree;
use codex_manager_core::archive::{CapturedTree, Metadata};
use codex_manager_core::codex::Identity;
use codex_manager_core::io::atomic;
use codex_manager_core::vault::backup::{SnapshotReport, backup};
use codex_manager_core::vault::{TreeLock, state};

/// Makes a snapshot for `backup --vault`, after the archive was made. Returns the short id of the snapshot.
///
/// # Errors
/// See [`NewSnapshot::make`].
pub(crate) fn add_snapshot(context: &Context, plan: &BackupPlan) -> Result<String> {
    let snapshot = NewSnapshot::make(context, &ConnectionArgs::default(), plan)?;
    Ok(snapshot.report.short_id().to_owned())
}

/// A new snapshot, with the tree from which it was made and the lock on that tree.
pub(crate) struct NewSnapshot {
    pub(crate) tree: CapturedTree,
    pub(crate) report: SnapshotReport,
    pub(crate) host: String,
    is_recorded: bool,
    _lock: TreeLock,
}

impl NewSnapshot {
    /// Captures the files that `plan` selects and makes a snapshot of them.
    ///
    /// # Errors
    /// No vault is set up, another process restores the home, the home cannot be captured, the login changed during the
    /// capture, or restic fails. Earlier snapshots are unaffected.
    pub(crate) fn make(
        context: &Context,
        connection: &ConnectionArgs,
        plan: &BackupPlan,
    ) -> Result<Self> {
        let restic = connection.open(context)?;
        let manager = context.manager_home();
        atomic::create_private_folder(manager)?;
        refuse_during_restore(context)?;
        remove_leftovers(context);

        // All snapshots are made from the same folder, because restic recognizes unchanged files by their path.
        let lock = TreeLock::acquire(manager)?;
        let tmp = manager.join("tmp");
        let machine = state::ensure_machine_id(manager);
        let metadata = Metadata {
            machine: machine.as_ref().ok().cloned(),
            ..plan.metadata.clone()
        };
        let mut tree = capture_tree(&plan.scope, &lock.tree_path(), &tmp, metadata)?;

        // A restore may have begun while the files were captured.
        refuse_during_restore(context)?;
        check_account_unchanged(plan, tree.login.as_ref())?;

        let host = host(context);
        let profile = find_profile_name(context, tree.manifest.metadata.identity().as_ref());
        let bar = context.ui.growing_bar("backing up");
        let report = backup(&restic, &mut tree, &host, profile.as_deref(), &bar)?;
        drop(bar);

        let recorded = state::update(manager, |state| {
            state.backed_up_at = Some(context.local_now());
        });
        // A snapshot without the id of this machine also counts as not recorded.
        let failure = machine.err().or(recorded.err());
        let is_recorded = warn_unless_recorded(&context.ui, failure);

        for id in &report.superseded {
            context.warn(format_args!(
                "snapshot {id} has content that changed while restic read it; remove it: restic forget {id}"
            ));
        }

        Ok(Self {
            tree,
            report,
            host,
            is_recorded,
            _lock: lock,
        })
    }

    /// Returns [`Outcome::Partial`] if files were skipped, are damaged or changed while restic read them, or if the
    /// snapshot could not be recorded.
    pub(crate) fn outcome(&self) -> Outcome {
        let is_complete = self.tree.skipped.is_empty() && self.tree.damaged.is_empty();
        let is_consistent = self.report.superseded.is_empty();
        Outcome::partial_if(!is_complete || !is_consistent || !self.is_recorded)
    }
}

fn find_profile_name(context: &Context, identity: Option<&Identity>) -> Option<String> {
    let profiles = context.profiles();
    let profile = profiles.find(identity?).ok().flatten()?;
    Some(profile.name.clone())
}
