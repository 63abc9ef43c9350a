//! `sync run`: applies a plan.

use crate::choices::sync_config::{read_config, replica};
use crate::commands::sync::plan::{self as plan_command, PlanFlags};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::events;
use crate::io::progress::is_interrupted;
use crate::io::quantity::pluralize;
use crate::logging;
use crate::steps::run_log::run_with_log;
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_index::{
    flush_pending_index_updates, has_pending_index_updates, lock_replica, update_codex_index,
};
use crate::steps::sync_shutdown::{
    is_home_in_use, list_home_users, needs_shutdown, shut_down_codex, warn_of_new_users,
};
use crate::steps::vault_sync::{VaultPurpose, VaultSync};
use crate::sync::apply::{self, ApplyError, ApplyReport, ApplyRequest};
use crate::sync::branches;
use crate::sync::config::{SyncConfig, SyncRemote};
use crate::sync::new_branches::record_new_branches;
use crate::sync::plan::{self, Conflict, Op, PlanRequest, SyncAction, SyncPlan, SyncStep};
use crate::sync::sides::Side;
use crate::sync::state::{Replica, SyncState};
use crate::ui::Ui;
use crate::views::sync_plan::{
    build_plan_json, print_notes, print_unsynced, sum_steps, summarize, to_paths_json,
    undecided_error, undecided_files_error,
};
use clap::Args;
use std::iter;
use std::path::Path;

/// Sync conversations, prompts and skills in both directions
///
/// Without a flag, `dry_run_default` of the configuration decides. Overwritten files are backed up first. A
/// conversation that changed on both sides is a conflict: it stays unchanged until you decide with `sync
/// resolve`, or `conflict.policy` does. Everything else is synced.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync run --dry-run
  codex-manager sync run --apply")]
pub(super) struct RunArgs {
    /// Show what would be done; write nothing
    #[arg(short = 'n', long, conflicts_with = "apply")]
    dry_run: bool,
    /// Change files; without it, `dry_run_default` decides
    #[arg(long)]
    apply: bool,
    #[command(flatten)]
    plan_flags: PlanFlags,
}

impl RunArgs {
    /// Returns true if the command changes files, by its flags and the configuration.
    pub(super) fn applies(&self, config: &SyncConfig) -> bool {
        self.apply || !(self.dry_run || config.safety.dry_run_default)
    }

    pub(super) fn run(
        self,
        context: &Context,
        path: &Path,
        shutdown_args: &ShutdownArgs,
    ) -> Result<Outcome, CommandError> {
        let config = read_config(context, path)?;
        if !self.applies(&config) {
            return plan_command::show(
                context,
                &config,
                &self.plan_flags,
                shutdown_args,
                "sync run",
            );
        }
        let machine = Some(&*config.machine_id);
        run_with_log(context, &config.logging, machine, || {
            self.apply(context, &config, shutdown_args)
        })
    }

    /// Syncs with the cloud folder. Through the vault, joins the other machines one after the other, each in a round of
    /// its own, and publishes the result.
    fn apply(
        &self,
        context: &Context,
        config: &SyncConfig,
        shutdown_args: &ShutdownArgs,
    ) -> Result<Outcome, CommandError> {
        let replica = replica(context, config);
        let _lock = lock_replica(&replica)?;
        let Some(vault) = VaultSync::open(context, config, VaultPurpose::Run)? else {
            let round = self.sync(context, config, &replica, shutdown_args)?;
            return round.finish(context, config);
        };
        let mut join = vault.join(config, &replica)?;
        let before = join.inspect()?;
        if self.plan_flags.allow_secrets.is_empty()
            && !context.ui.is_verbose()
            && let Some(plan) = join.idle_plan(&before)?
        {
            let report = ApplyReport::default();
            return SyncedRound { plan, report }.finish(context, &join.config);
        }
        let mut rounds: Option<SyncedRound> = None;
        let mut sync_all = || {
            while join.stage()? {
                let round = self.sync(context, &join.config, &join.replica, shutdown_args)?;
                rounds = Some(match rounds.take() {
                    Some(earlier) => earlier.followed_by(round),
                    None => round,
                });
                join.settle()?;
            }
            vault.publish(&mut join, config)
        };
        let published = sync_all();
        let Some(rounds) = rounds else {
            return published.map(|()| Outcome::Done);
        };
        match published {
            Err(e) if rounds.report.done.is_empty() => Err(e),
            Err(e) => {
                let _ = rounds.finish(context, &join.config);
                Err(e.changed(
                    "the changes of this machine are not published yet: run the same command again",
                ))
            }
            Ok(()) => {
                if !has_pending_index_updates(&replica) {
                    join.record_idle(&before, &rounds.plan)?;
                }
                rounds.finish(context, &join.config)
            }
        }
    }

    /// Plans, ends Codex if needed, applies the plan and updates Codex's index.
    ///
    /// # Errors
    /// A conflict stops the run, Codex cannot be ended, or a step fails.
    fn sync(
        &self,
        context: &Context,
        config: &SyncConfig,
        replica: &Replica,
        shutdown_args: &ShutdownArgs,
    ) -> Result<SyncedRound, CommandError> {
        let request = self.plan_flags.request(config, replica);
        let (mut plan, state, needs_closed_codex) =
            end_codex_and_plan(context, &request, shutdown_args)?;
        log_conflicts(&plan.conflicts);
        if context.ui.is_verbose() || plan.notes_digest() != state.notes_digest {
            print_notes(context, &plan);
        }
        if plan.is_stopped(config.policy.rules.conflict) {
            context
                .ui
                .document("sync run", &build_plan_json(context, &plan, |_| false));
            print_unsynced(context, &plan, config, iter::empty());
            return Err(undecided_error(&plan, config));
        }
        record_new_branches(&mut plan, &state, config);
        let records = branches::collect_records(&plan, &state);
        let total = plan.steps.iter().map(|step| step.bytes).sum();
        let bar = context.ui.bar("syncing", total);
        let report = apply::apply(
            &plan,
            state,
            &ApplyRequest {
                config,
                replica,
                keep_going: &|| !is_interrupted(),
                progress: &bar,
                now: context.now(),
            },
        );
        drop(bar);
        let report = report.map_err(|error| report_with_snapshot(context, &plan, error))?;
        log_report(context, config, &plan, &report);
        if !plan.steps.is_empty() {
            warn_of_new_users(context, config);
        }
        // A running Codex owns its rows, so rules for project folders wait until it has ended.
        if needs_closed_codex || list_home_users(context, config).is_empty() {
            update_codex_index(context, config, replica)
                .map_err(|error| add_snapshot_hint(context, &plan, &report, error))?;
        }
        // Now both branches are on this machine.
        let open = branches::find_conflicts(&config.local, &records);
        log_conflicts(&open);
        plan.conflicts.extend(open);
        Ok(SyncedRound { plan, report })
    }
}

/// A plan and the report of its run.
struct SyncedRound {
    plan: SyncPlan,
    report: ApplyReport,
}

impl SyncedRound {
    /// Appends the plan and the report of a later round of the same run.
    fn followed_by(mut self, later: Self) -> Self {
        let steps = self.plan.steps.len();
        self.plan.append(later.plan);
        let (own, other) = (&mut self.report, later.report);
        own.done
            .extend(other.done.iter().map(|index| index + steps));
        own.skipped.extend(other.skipped);
        own.index_updates.extend(other.index_updates);
        own.snapshot = other.snapshot.or(own.snapshot.take());
        own.pruned.extend(other.pruned);
        own.prune_error = other.prune_error.or(own.prune_error.take());
        self
    }

    /// Prints the result, and returns the outcome of the command.
    ///
    /// # Errors
    /// A conflict needs a decision.
    fn finish(self, context: &Context, config: &SyncConfig) -> Result<Outcome, CommandError> {
        show_report(context, config, &self.plan, &self.report);
        if !self.plan.conflicts.is_empty() {
            return Err(undecided_files_error(&self.plan));
        }
        let partial = self.plan.is_partial() || !self.report.skipped.is_empty();
        Ok(Outcome::partial_if(partial))
    }
}

/// Plans, ends Codex with the user's consent, and plans again if Codex was running. Codex is not ended if there is
/// nothing to do, or if a conflict stops the run. The returned bool is true if the run needs Codex to be closed, even
/// if no Codex was running.
fn end_codex_and_plan(
    context: &Context,
    request: &PlanRequest<'_>,
    shutdown_args: &ShutdownArgs,
) -> Result<(SyncPlan, SyncState, bool), CommandError> {
    let (config, replica) = (request.config, request.replica);
    let was_in_use = is_home_in_use(context, config);
    let (mut plan, mut state) = plan::plan(request)?;
    let has_pending_updates =
        !plan.is_stopped(config.policy.rules.conflict) && has_pending_index_updates(replica);
    let needs_closed_codex = needs_shutdown(&plan, config) || has_pending_updates;
    if needs_closed_codex {
        shut_down_codex(context, config, shutdown_args)?;
        flush_pending_index_updates(context, config, replica);
        if was_in_use {
            // Plans again, to include what Codex wrote when it ended.
            (plan, state) = plan::plan(request)?;
            shut_down_codex(context, config, shutdown_args)?;
        }
    }
    Ok((plan, state, needs_closed_codex))
}

/// Adds the name of the snapshot to the error of a run that could not update Codex's index, and prints the JSON
/// document. Without a snapshot, only returns the error.
fn add_snapshot_hint(
    context: &Context,
    plan: &SyncPlan,
    report: &ApplyReport,
    error: CommandError,
) -> CommandError {
    match &report.snapshot {
        Some(snapshot) => {
            show_stopped(context, plan, snapshot);
            error.hint(format!("the overwritten files are in {snapshot}"))
        }
        None => error,
    }
}

/// Prints the result and the JSON document of a run that was not stopped by an error.
fn show_report(context: &Context, config: &SyncConfig, plan: &SyncPlan, report: &ApplyReport) {
    let mut json = build_plan_json(context, plan, |index| {
        report.done.binary_search(&index).is_ok()
    });
    json.dry_run = false;
    json.snapshot = report.snapshot.as_deref();
    json.skipped.extend(to_paths_json(&report.skipped));
    context.ui.document("sync run", &json);
    let done = report.done.iter().map(|index| &plan.steps[*index]);
    if !report.done.is_empty() {
        let steps: Vec<_> = done.clone().collect();
        context
            .ui
            .prose(sum_steps(&steps, plan.conflicts.len(), config.remote));
    }
    for (path, why) in &report.skipped {
        context
            .ui
            .warn(format_args!("left for the next run: {path}: {why}"));
    }
    print_unsynced(context, plan, config, done);
    print_done(context, config, plan, report);
}

fn log_conflicts(conflicts: &[Conflict]) {
    for conflict in conflicts {
        let (path, why) = (&*conflict.path, &*conflict.reason);
        events::warn!(path, why, "conflict");
    }
}

/// Converts the error of a run. If the run stopped after a change, logs its snapshot and prints the document.
fn report_with_snapshot(context: &Context, plan: &SyncPlan, error: ApplyError) -> CommandError {
    if let ApplyError::Stopped { snapshot, .. } = &error {
        let snapshot = &**snapshot;
        events::warn!(snapshot, "the overwritten files are in a snapshot");
        show_stopped(context, plan, snapshot);
    }
    error.into()
}

/// Prints the JSON document of a run that an error stopped. It lists no steps, because only the next plan knows which
/// steps are done.
fn show_stopped(context: &Context, plan: &SyncPlan, snapshot: &str) {
    let mut json = build_plan_json(context, plan, |_| false);
    json.dry_run = false;
    json.snapshot = Some(snapshot);
    context.ui.document("sync run", &json);
}

/// Logs the applied steps and the files that were left alone. Logs and prints which old snapshots were removed, or why
/// none could be.
fn log_report(context: &Context, config: &SyncConfig, plan: &SyncPlan, report: &ApplyReport) {
    logging::gather_events(|| {
        for step in report.done.iter().map(|index| &plan.steps[*index]) {
            let (action, path, why) = (step.action.name(), &*step.path, &*step.reason);
            events::info!(action, path, why, "synced");
            if let Some(why) = step.conflict.as_deref() {
                events::warn!(path, why, "conflict");
            }
        }
    });
    for (path, why) in &plan.notices.warnings {
        let (path, why) = (&**path, &**why);
        events::warn!(path, why, "not as configured");
    }
    for (path, why) in plan
        .notices
        .waiting
        .iter()
        .chain(&plan.notices.skipped)
        .chain(&report.skipped)
    {
        let (path, why) = (&**path, &**why);
        events::warn!(path, why, "left alone");
    }
    for file in &plan.notices.undelivered {
        events::warn!(path = &*file.path, why = file.reason(), "not arrived");
    }
    if let Some(error) = &report.prune_error {
        let path = config.backup.folder.display().to_string();
        events::warn!(path, why = error.to_string(), "old snapshots are left");
        context
            .ui
            .warn(format_args!("old snapshots were not removed: {error}"));
    }
    for name in &report.pruned {
        events::info!(name = &**name, "old snapshot removed");
    }
    if let [latest, ..] = &*report.pruned {
        let count = pluralize(report.pruned.len(), "old snapshot");
        context.ui.note(format_args!(
            "removed {count} as [backup] configures, the newest of them {latest}"
        ));
    }
}

/// Prints the snapshot of the run and what the user has to do next, or that no step was applied.
fn print_done(context: &Context, config: &SyncConfig, plan: &SyncPlan, report: &ApplyReport) {
    let ui = &context.ui;
    if plan.steps.is_empty() {
        ui.prose(summarize(plan, config.remote));
        return;
    }
    if report.done.is_empty() {
        let remaining = pluralize(plan.steps.len(), "step");
        ui.prose(format_args!(
            "no step was done; {remaining} left for the next run"
        ));
        return;
    }
    let done: Vec<&SyncStep> = report
        .done
        .iter()
        .map(|index| &plan.steps[*index])
        .collect();
    if let Some(snapshot) = &report.snapshot {
        print_snapshot(ui, &done, snapshot, config.remote);
    }
    let to_cloud = [
        SyncAction::CopyToCloud,
        SyncAction::Merge,
        SyncAction::MoveCloud,
        SyncAction::DeleteCloud,
    ];
    let changes_remote = done.iter().any(|step| to_cloud.contains(&step.action));
    if changes_remote && config.remote == SyncRemote::Vault {
        ui.note(
            "next: run on the other machine, before you start Codex there: codex-manager sync run --apply",
        );
    } else if changes_remote {
        ui.note(
            "next: wait until the cloud client has uploaded everything; then run on the other machine, before you \
             start Codex there: codex-manager sync run --apply",
        );
        ui.note("sign in on the other machine as well, because sync never copies logins");
    }
    match (&*report.index_updates, &*config.path_rules) {
        ([], _) => {}
        // Files that have not arrived come first.
        _ if !plan.notices.undelivered.is_empty() => {}
        (_, []) => ui.note("next: start Codex and continue with: codex resume"),
        // Codex 0.169 searches by the folder stored in the conversation, whatever its index says.
        ([one], _) => ui.note(format_args!(
            "next: start Codex and continue with: codex resume {}",
            one.id
        )),
        _ => ui.note(
            "next: start Codex and continue with: codex resume --all (lists conversations of all folders)",
        ),
    }
}

/// Prints the snapshot of a run, with the commands that restore it.
fn print_snapshot(ui: &Ui, done: &[&SyncStep], snapshot: &str, remote: SyncRemote) {
    ui.note(format_args!(
        "the overwritten and deleted files are in the snapshot {snapshot}"
    ));
    for (side, name) in [(Side::Local, "local"), (Side::Remote, "cloud")] {
        let mut targets = done.iter().flat_map(|step| &step.ops).flat_map(Op::targets);
        // Snapshots in the vault are never replaced.
        if side == Side::Remote && remote == SyncRemote::Vault {
            continue;
        }
        if targets.any(|seen| seen.side == side) {
            ui.note(format_args!(
                "restore those of the {name} side with: codex-manager sync restore --from {snapshot} --target {name} --apply"
            ));
        }
    }
}
