//! `sync restore`: restores files that a sync overwrote or deleted.

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::run_log::run_with_log;
use crate::steps::sync_context::SyncContext;
use crate::steps::sync_shutdown::print_shutdown_plan;
use crate::ui::object;
use crate::ui::time::bytes;
use crate::views::dry_run::wording;
use crate::views::sync_plan::to_paths_json;
use clap::Args;
use codex_manager_core::io::events;
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::sync::config::{SyncConfig, SyncRemote};
use codex_manager_core::sync::index_updates::{ContentChange, IndexUpdate};
use codex_manager_core::sync::pending_index_updates::PendingIndexUpdates;
use codex_manager_core::sync::restore::{self, SyncRestorePlan};
use codex_manager_core::sync::sides::Side;

/// Restore files that a sync overwrote or deleted
///
/// Files that the restore replaces are backed up first. The next sync treats the restored files like any other change:
/// if the other side has the same conversation with more lines, the sync adds these lines again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync restore --dry-run
  codex-manager sync restore --from desk-20261120T120000Z --apply
  codex-manager sync restore --target cloud --apply")]
pub(super) struct SyncRestoreArgs {
    /// The name of a snapshot in the backup folder [default: the latest; with a vault, the latest with files of this
    /// machine]
    #[arg(long, value_name = "NAME")]
    from: Option<String>,
    /// The side to restore to [default: local; with a cloud folder, cloud if the snapshot has no files of this machine]
    #[arg(long, value_enum)]
    target: Option<Side>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long, conflicts_with = "apply")]
    dry_run: bool,
    /// Restore the files; without it, `dry_run_default` decides
    #[arg(long)]
    apply: bool,
}

impl SyncRestoreArgs {
    /// Returns true if the command changes files, by its flags and the configuration.
    pub(super) fn applies(&self, config: &SyncConfig) -> bool {
        self.apply || !(self.dry_run || config.safety.dry_run_default)
    }

    pub(super) fn run(self, sync: &SyncContext<'_>) -> Result<Outcome> {
        let (context, config) = (sync.context, sync.config);
        if config.remote == SyncRemote::Vault && self.target == Some(Side::Remote) {
            let message = "snapshots in the vault are never replaced";
            return Err(CommandError::usage(message).hint(
                "restore to this machine with --target local, then sync it; nothing was changed",
            ));
        }

        if !self.applies(config) {
            let plan = self.make_plan(sync)?;
            let (is_applied, safety_snapshot) = (false, None);
            print_result(context, &plan, is_applied, safety_snapshot);
            if plan.target == Side::Local {
                print_shutdown_plan(context, sync.plan_shutdown().as_ref());
            }
            return Ok(Outcome::partial_if(!plan.skipped.is_empty()));
        }

        let machine = Some(&*config.machine_id);
        run_with_log(context, &config.logging, machine, || {
            self.restore_files(sync)
        })
    }

    fn make_plan(&self, sync: &SyncContext<'_>) -> Result<SyncRestorePlan> {
        let from = self.from.as_deref();
        Ok(restore::plan(sync.config, sync.replica, from, self.target)?)
    }

    fn restore_files(&self, sync: &SyncContext<'_>) -> Result<Outcome> {
        let _lock = sync.lock_replica()?;
        let plan = self.make_plan(sync)?;
        let targets_home = plan.target == Side::Local;

        if targets_home {
            sync.shut_down_codex()?;
            // Recorded before the files are replaced: after a kill, the next run still updates Codex's index.
            let updates = plan.files.iter();
            let updates = updates
                .filter_map(|file| IndexUpdate::from_path(&file.path, ContentChange::Replaced));
            PendingIndexUpdates::new(sync.replica).record(&updates.collect::<Vec<_>>())?;
        }

        let now = sync.context.now();
        let safety_snapshot = restore::apply(&plan, sync.config, sync.replica, now)?;
        if targets_home {
            sync.update_codex_index()?;
            sync.warn_of_new_holders();
        }

        for (path, why) in &plan.skipped {
            let (path, why) = (&**path, &**why);
            events::warn!(path, why, "left alone");
        }

        let is_applied = true;
        print_result(sync.context, &plan, is_applied, safety_snapshot);
        Ok(Outcome::partial_if(!plan.skipped.is_empty()))
    }
}

/// Prints the plan, or with `is_applied` the result. `safety_snapshot` has the files that the restore replaced.
fn print_result(
    context: &Context,
    plan: &SyncRestorePlan,
    is_applied: bool,
    safety_snapshot: Option<String>,
) {
    const MAX_SHOWN: usize = 40;
    let verb = wording(!is_applied, "would restore", "restored");
    let total_bytes: u64 = plan.files.iter().map(|file| file.size).sum();
    let target = match plan.target {
        Side::Local => "local",
        Side::Remote => "cloud",
    };

    let ui = &context.ui;
    let shown_count = ui.limit_items(plan.files.len(), MAX_SHOWN);
    for file in &plan.files[..shown_count] {
        ui.line(&file.path);
    }
    ui.print_hidden_count(plan.files.len() - shown_count);

    ui.prose(format_args!(
        "{verb} {} ({}) from the snapshot {} to the {target} side",
        pluralize(plan.files.len(), "file"),
        bytes(total_bytes),
        plan.snapshot.name
    ));
    for (path, reason) in &plan.skipped {
        ui.warn(format_args!("not restored: {path}: {reason}"));
    }
    if let Some(safety_snapshot) = &safety_snapshot {
        ui.note(format_args!(
            "the replaced files are in the snapshot {safety_snapshot}"
        ));
    }

    let files: Vec<_> = plan.files.iter().map(|file| &file.path).collect();
    let json = object()
        .with("snapshot", &plan.snapshot.name)
        .with("target", target)
        .with("files", files)
        .with("skipped", to_paths_json(&plan.skipped))
        .with("bytes", total_bytes)
        .with("safety_snapshot", safety_snapshot)
        .with("dry_run", !is_applied);
    ui.document("sync restore", &json);
}
