//! `sync forget`: removes snapshots of sync from the vault.

use crate::choices::sync_config::{read_config, replica};
use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::object;
use clap::Args;
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::sync::config::SyncRemote;
use codex_manager_core::sync::snapshots::{self, RemoteError, RemoteSnapshot};
use codex_manager_core::vault::VaultError;
use codex_manager_core::vault::replica_snapshot::{
    ReplicaSnapshot, ids_of_all_but_newest, list_replica_snapshots, newest_by_replica,
    read_manifest,
};
use codex_manager_core::vault::restic::Restic;
use std::path::Path;

/// A shorter text selects a machine only by its name, not by the beginning of its id.
const MIN_ID_PREFIX: usize = 4;

/// Remove old snapshots of sync from the vault, or all of a machine that is gone
///
/// The newest snapshots of each machine stay, as many as `sync.keep_snapshots` says. If you name a machine, all its
/// snapshots are removed; the other machines keep the conversations that they received from it. A machine that syncs
/// refuses that until it has merged the newest of them. Backups of `vault` are not affected.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync forget --dry-run
  codex-manager sync forget old-laptop --yes")]
pub(super) struct SyncForgetArgs {
    /// The name of a machine that is gone, or the beginning of its id; without it, old snapshots of all machines
    machine: Option<String>,
    /// Show what would be removed; remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl SyncForgetArgs {
    pub(super) fn run(self, context: &Context, path: &Path) -> Result<Outcome> {
        let config = read_config(context, path)?;
        if config.remote != SyncRemote::Vault {
            return Err(
                CommandError::usage("this machine does not sync through the vault")
                    .hint("set it up with: codex-manager sync init --vault"),
            );
        }

        let own_replica = replica(context, &config);
        let own_id = snapshots::replica_id(&own_replica.folder);
        let restic = ConnectionArgs::default().open(context)?;
        let snapshots = list_replica_snapshots(&restic)?;

        // A named machine loses all its snapshots.
        let keep_count = if self.machine.is_some() {
            0
        } else {
            config.keep_snapshots
        };

        let machine_ids = self.select_machines(&snapshots, own_id.as_deref())?;
        let old_snapshots = machine_ids
            .iter()
            .flat_map(|machine_id| ids_of_all_but_newest(&snapshots, machine_id, keep_count));
        let old_snapshots: Vec<_> = old_snapshots.collect();
        let removed_count = old_snapshots.len();

        if self.machine.is_some() {
            let published = snapshots.iter().map(|s| s.published.clone());
            let published: Vec<_> = published.collect();
            for machine_id in &machine_ids {
                for snapshot in own_replica.find_unjoined(&config, machine_id, &published)? {
                    refuse_unjoined(context, &restic, &snapshot)?;
                }
            }
        }

        let removed = pluralize(removed_count, "snapshot");
        if removed_count == 0 {
            context.ui.line("nothing to forget");
        } else if self.dry_run {
            context.ui.prose(format_args!("{removed} would be removed"));
        } else {
            context.confirm_deletion(&removed)?;
            remove_snapshots(context, &restic, &old_snapshots)?;
        }

        let json = object()
            .with("machine", self.machine)
            .with("removed", removed_count)
            .with("dry_run", self.dry_run);
        context.ui.document("sync forget", &json);
        Ok(Outcome::Done)
    }

    /// Returns the ids of the replicas of the selected machines. The name of a machine is that in its newest
    /// snapshot. Without a name, selects all machines.
    ///
    /// # Errors
    /// No machine has this name or an id that begins with it, several have, or the machine is this one.
    fn select_machines<'l>(
        &self,
        snapshots: &'l [ReplicaSnapshot],
        own_id: Option<&str>,
    ) -> Result<Vec<&'l str>> {
        let newest = newest_by_replica(snapshots).into_iter();
        let is_selected = |id: &str, snapshot: &ReplicaSnapshot| {
            self.machine.as_deref().is_none_or(|name| {
                let is_id_prefix = name.len() >= MIN_ID_PREFIX && id.starts_with(name);
                snapshot.published.machine == name || is_id_prefix
            })
        };

        let selected = newest.filter(|(id, snapshot)| is_selected(id, snapshot));
        let machine_ids: Vec<_> = selected.map(|(id, _)| id).collect();

        match &self.machine {
            Some(name) if machine_ids.is_empty() => {
                let message =
                    format!("no machine with this name has synced through the vault: {name}");
                Err(CommandError::failed(message).hint("nothing was changed"))
            }
            Some(name) if machine_ids.len() > 1 => {
                let message = format!("{name} is the name of several machines");
                Err(CommandError::failed(message).hint(format!(
                    "name one by the beginning of its id: {}; nothing was changed",
                    machine_ids.join(", ")
                )))
            }
            Some(name) if own_id.is_some_and(|own_id| machine_ids.contains(&own_id)) => {
                let message = format!("{name} is this machine");
                Err(CommandError::usage(message).hint("name another machine; nothing was changed"))
            }
            // Without a name, the old snapshots of this machine are selected too.
            _ => Ok(machine_ids),
        }
    }
}

/// Refuses to remove a newest snapshot that this machine has not joined completely, because it may be the only one with
/// its changes. If its manifest is damaged, only prints a warning, because no machine can join it.
fn refuse_unjoined(context: &Context, restic: &Restic, snapshot: &RemoteSnapshot) -> Result<()> {
    let locks = false;
    match read_manifest(restic, snapshot, locks) {
        Ok(_) => {
            let RemoteSnapshot { id, machine, .. } = snapshot;
            let message = format!("this machine has not merged all changes of {machine}");
            Err(CommandError::refused(message).hint(format!(
                "sync first: codex-manager sync run --apply; if that reports conflicts, decide them: \
                 codex-manager sync resolve; to lose these changes: restic forget {id}; nothing was changed",
            )))
        }
        Err(e @ VaultError::Sync(RemoteError::Damaged { .. })) => {
            context.ui.warn(e);
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

/// Removes snapshots, and the data that only they use.
///
/// # Errors
/// restic fails, or the repository is append-only for this machine. The error says if the snapshots were removed.
fn remove_snapshots(context: &Context, restic: &Restic, ids: &[&str]) -> Result<()> {
    restic.forget(ids.iter().copied())?;
    let removed = format!("{} removed", pluralize(ids.len(), "snapshot"));

    // A separate step, because a killed prune leaves only unused data, which the next prune removes.
    let pruned = restic.run(&["prune"]);
    pruned.map_err(|e| CommandError::from(e).after_change(removed.as_str()))?;
    context.ui.prose(removed);
    Ok(())
}
