//! `sync run`: applies a plan.

use crate::commands::sync::plan::PlanFlags;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::run_log::run_with_log;
use crate::steps::sync_context::SyncContext;
use crate::steps::sync_shutdown::needs_shutdown;
use crate::steps::vault_sync::{StagingRule, VaultPurpose, VaultSync};
use crate::ui::Ui;
use crate::views::sync_plan::{
    build_plan_json, format_summary, format_totals, print_notes, print_unsynced, to_paths_json,
    undecided_error, undecided_files_error,
};
use clap::Args;
use codex_manager_core::io::events;
use codex_manager_core::io::quantity::pluralize;
use codex_manager_core::logging;
use codex_manager_core::sync::apply::{ApplyError, ApplyReport, index_update_of};
use codex_manager_core::sync::branches;
use codex_manager_core::sync::config::{SyncConfig, SyncRemote};
use codex_manager_core::sync::index_updates::ContentChange;
use codex_manager_core::sync::new_branches::record_new_branches;
use codex_manager_core::sync::plan::{
    self, Conflict, Op, PlanRequest, SyncAction, SyncPlan, SyncStep,
};
use codex_manager_core::sync::sides::Side;
use codex_manager_core::sync::snapshots::Join;
use codex_manager_core::sync::state::SyncState;

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

    pub(super) fn run(self, sync: &SyncContext<'_>) -> Result<Outcome> {
        let config = sync.config;
        if !self.applies(config) {
            return self.plan_flags.plan_and_print(sync, "sync run");
        }

        let machine = Some(&*config.machine_id);
        run_with_log(sync.context, &config.logging, machine, || {
            self.sync_and_publish(sync)
        })
    }

    /// Keeps the replica locked until the result is published.
    fn sync_and_publish(&self, sync: &SyncContext<'_>) -> Result<Outcome> {
        let _lock = sync.lock_replica()?;
        match VaultSync::open(sync, VaultPurpose::Run)? {
            Some(vault) => self.sync_through_vault(sync, &vault),
            None => self.sync_round(sync)?.report_outcome(sync),
        }
    }

    /// Joins the other machines, in several rounds if they changed the same files, and publishes the result.
    fn sync_through_vault(&self, sync: &SyncContext<'_>, vault: &VaultSync<'_>) -> Result<Outcome> {
        let mut join = vault.join(sync)?;
        let home_before = join.inspect_home()?;

        if self.plan_flags.staging_rule(sync.context) == StagingRule::UnlessIdle
            && !sync.has_pending_index_updates()
            && let Some(plan) = join.idle_plan(&home_before)?
        {
            let idle_round = SyncedRound {
                plan,
                ..SyncedRound::default()
            };
            return idle_round.report_outcome(&sync.staged(&join));
        }

        // An error is returned after the completed rounds are printed, because they may have changed files.
        let mut all_rounds = None;
        let published = self.sync_rounds_and_publish(sync, vault, &mut join, &mut all_rounds);
        let Some(mut all_rounds) = all_rounds else {
            return published.map(|()| Outcome::Done);
        };

        match published {
            Err(e) if all_rounds.report.done.is_empty() => all_rounds.error = Some(e),
            Err(e) => {
                all_rounds.error = Some(e.after_change(
                    "the changes of this machine are not published yet: run the same command again",
                ));
            }
            Ok(()) => {
                let recorded = join.record_idle(&home_before, &all_rounds.plan);
                all_rounds.error = recorded.err().map(CommandError::from);
            }
        }

        all_rounds.report_outcome(&sync.staged(&join))
    }

    /// Syncs round by round, and publishes the result. Adds each round to `all_rounds`, also one that an error stops.
    fn sync_rounds_and_publish<'c>(
        &self,
        sync: &SyncContext<'_>,
        vault: &VaultSync<'c>,
        join: &mut Join<'_, VaultSync<'c>>,
        all_rounds: &mut Option<SyncedRound>,
    ) -> Result<()> {
        while join.stage()? {
            let mut round = self.sync_round(&sync.staged(join))?;
            let stop_error = round.error.take();
            *all_rounds = Some(match all_rounds.take() {
                Some(earlier_rounds) => earlier_rounds.followed_by(round),
                None => round,
            });
            if let Some(error) = stop_error {
                return Err(error);
            }
            join.settle()?;
        }
        vault.publish(join, sync.config)
    }

    /// Plans, ends Codex if needed, applies the plan and updates Codex's index. If a conflict or a later failure stops
    /// the round, the error is in the result, so that the caller prints one document for all rounds.
    ///
    /// # Errors
    /// Codex cannot be ended, or an error stops the round before its first change.
    fn sync_round(&self, sync: &SyncContext<'_>) -> Result<SyncedRound> {
        let (context, config) = (sync.context, sync.config);
        let request = self.plan_flags.to_request(config, sync.replica);
        let (mut plan, state, needs_closed_codex) = end_codex_and_plan(sync, &request)?;

        log_conflicts(&plan.conflicts);
        // Without `--verbose`, prints the notes only if they differ from those of the last run.
        if context.ui.is_verbose() || plan.notes_digest() != state.notes_digest {
            print_notes(context, &plan);
        }

        if plan.is_stopped_by_conflict(config.policy.rules.conflict) {
            return Ok(SyncedRound {
                error: Some(undecided_error(&plan, config)),
                plan,
                ..SyncedRound::default()
            });
        }

        // Before a file is copied: once both sides have all files, no plan can tell that a branch is new.
        record_new_branches(&mut plan, &state, config);
        let records = branches::collect_records(&plan, &state);

        let is_cloud_missing = !config.cloud.exists();
        let report = match sync.apply_plan(&plan, state) {
            Err(error @ ApplyError::Stopped { .. }) => {
                return Ok(SyncedRound::stopped_after_change(plan, error));
            }
            report => report?,
        };

        log_report(&plan, &report);
        report_pruned_snapshots(context, config, &report);
        if is_cloud_missing {
            let cloud = config.cloud.display();
            context.note(format_args!("created the cloud folder: {cloud}"));
        }
        if !plan.steps.is_empty() {
            sync.warn_of_new_holders();
        }

        let mut index_error = None;
        // A running Codex owns its rows. If it still runs, because there are no steps, a later run applies `paths.map`.
        if needs_closed_codex || sync.describe_home_holders().is_empty() {
            index_error = sync.update_codex_index().err();
        }

        // The copies have brought both branches to this machine.
        let branch_conflicts = branches::find_undecided_conflicts(&config.local, &records);
        log_conflicts(&branch_conflicts);
        plan.conflicts.extend(branch_conflicts);

        Ok(SyncedRound {
            plan,
            report,
            error: index_error,
            ..SyncedRound::default()
        })
    }
}

/// A plan and the report of its run.
#[derive(Default)]
struct SyncedRound {
    plan: SyncPlan,
    report: ApplyReport,
    /// The snapshots of all rounds but the last one that has a snapshot.
    earlier_snapshots: Vec<String>,
    /// The index of the first step of the round that made the last snapshot.
    snapshot_start: usize,
    /// The error that stopped the round.
    error: Option<CommandError>,
}

impl SyncedRound {
    /// Returns a round that stopped between two steps. Lists no step as completed, because only the next plan finds out
    /// which steps are.
    fn stopped_after_change(plan: SyncPlan, error: ApplyError) -> Self {
        let mut report = ApplyReport::default();
        if let ApplyError::Stopped { snapshot, .. } = &error {
            events::warn!(
                snapshot = &**snapshot,
                "the overwritten files are in a snapshot"
            );
            report.snapshot = Some(snapshot.clone());
        }
        Self {
            plan,
            report,
            error: Some(error.into()),
            ..Self::default()
        }
    }

    /// Appends the plan and the report of a later round of the same run.
    fn followed_by(mut self, later: Self) -> Self {
        let earlier_count = self.plan.steps.len();
        self.plan.append(later.plan);
        let (report, later_report) = (&mut self.report, later.report);
        // `done` has the indices of steps. The later steps now come after the earlier ones.
        let later_done = later_report.done.iter().map(|index| index + earlier_count);
        report.done.extend(later_done);
        report.skipped.extend(later_report.skipped);
        if let Some(later_snapshot) = later_report.snapshot {
            let earlier_snapshot = report.snapshot.replace(later_snapshot);
            self.earlier_snapshots.extend(earlier_snapshot);
            self.snapshot_start = earlier_count;
        }
        report.pruned.extend(later_report.pruned);
        report.prune_error = later_report.prune_error.or(report.prune_error.take());
        self
    }

    /// Prints the names of the snapshots, and the commands that restore the last one.
    fn print_snapshots(&self, context: &Context, remote: SyncRemote) {
        if let Some(snapshot) = &self.report.snapshot {
            print_snapshot(&context.ui, &self.list_snapshot_steps(), snapshot, remote);
        }
        let is_left = |name: &&String| !self.report.pruned.contains(name);
        for snapshot in self.earlier_snapshots.iter().filter(is_left) {
            // Without a command that restores it: a snapshot of files in the vault alone would replace newer files of
            // the home.
            context.note(format_args!(
                "an earlier round of this run made the snapshot {snapshot}"
            ));
        }
    }

    /// Returns the completed steps of the round that made the last snapshot, and of later rounds.
    fn list_snapshot_steps(&self) -> Vec<&SyncStep> {
        let done = self.report.done.iter();
        let done = done.filter(|index| **index >= self.snapshot_start);
        done.map(|index| &self.plan.steps[*index]).collect()
    }

    /// Prints the result, and returns the outcome of the command.
    ///
    /// # Errors
    /// An error stopped the run, or a conflict needs a decision.
    fn report_outcome(self, sync: &SyncContext<'_>) -> Result<Outcome> {
        let (context, config) = (sync.context, sync.config);
        show_report(context, config, &self.plan, &self.report);
        self.print_snapshots(context, config.remote);
        if let Some(error) = self.error {
            return Err(error);
        }
        print_next_steps(context, config, &self.plan, &self.report);
        if !self.plan.conflicts.is_empty() {
            return Err(undecided_files_error(&self.plan));
        }
        let is_partial = self.plan.is_partial() || !self.report.skipped.is_empty();
        Ok(Outcome::partial_if(is_partial))
    }
}

/// Plans, ends Codex with the user's consent, and plans again if Codex was running. Codex is not ended if there is
/// nothing to do, or if a conflict stops the run. Returns the plan, its state, and true if the round needs Codex to be
/// closed, also if no Codex was running.
fn end_codex_and_plan(
    sync: &SyncContext<'_>,
    request: &PlanRequest<'_>,
) -> Result<(SyncPlan, SyncState, bool)> {
    let config = sync.config;
    let was_in_use = sync.is_home_in_use();
    let (mut plan, mut state) = plan::plan(request)?;

    let updates_index = !plan.is_stopped_by_conflict(config.policy.rules.conflict)
        && sync.has_pending_index_updates();
    let needs_closed_codex = needs_shutdown(&plan, config) || updates_index;

    if needs_closed_codex {
        sync.shut_down_codex()?;
        sync.flush_pending_index_updates();
        if was_in_use {
            // Plans again, to include what Codex wrote when it ended.
            (plan, state) = plan::plan(request)?;
            // The user may have started Codex again while the plan was made.
            sync.shut_down_codex()?;
        }
    }

    Ok((plan, state, needs_closed_codex))
}

/// Prints the JSON document, the completed steps, and the files that were left alone.
fn show_report(context: &Context, config: &SyncConfig, plan: &SyncPlan, report: &ApplyReport) {
    let mut json = build_plan_json(context, plan, |index| {
        report.done.binary_search(&index).is_ok()
    });
    json.dry_run = false;
    json.snapshot = report.snapshot.as_deref();
    json.skipped.extend(to_paths_json(&report.skipped));
    context.ui.document("sync run", &json);

    let ui = &context.ui;
    let done_steps = list_done_steps(plan, report);
    if !done_steps.is_empty() {
        let conflicts = plan.conflicts.len();
        ui.prose(format_totals(&done_steps, conflicts, config.remote));
    }

    for (path, why) in &report.skipped {
        ui.warn(format_args!("left for the next run: {path}: {why}"));
    }

    print_unsynced(context, plan, config, done_steps.iter().copied());
}

fn list_done_steps<'p>(plan: &'p SyncPlan, report: &ApplyReport) -> Vec<&'p SyncStep> {
    let done_steps = report.done.iter().map(|index| &plan.steps[*index]);
    done_steps.collect()
}

fn log_conflicts(conflicts: &[Conflict]) {
    for conflict in conflicts {
        let (path, why) = (&*conflict.path, &*conflict.reason);
        events::warn!(path, why, "conflict");
    }
}

/// Logs the applied steps and the files that were left alone.
fn log_report(plan: &SyncPlan, report: &ApplyReport) {
    // Written together, because each event alone would lock and open the log again.
    logging::gather_events(|| {
        for step in list_done_steps(plan, report) {
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
    for left_alone in [
        &plan.notices.waiting,
        &plan.notices.skipped,
        &report.skipped,
    ] {
        for (path, why) in left_alone {
            let (path, why) = (&**path, &**why);
            events::warn!(path, why, "left alone");
        }
    }
    for file in &plan.notices.undelivered {
        events::warn!(path = &*file.path, why = file.reason(), "not arrived");
    }
}

/// Logs and prints which old snapshots were removed, and why others could not be.
fn report_pruned_snapshots(context: &Context, config: &SyncConfig, report: &ApplyReport) {
    if let Some(error) = &report.prune_error {
        let path = config.backup.folder.display().to_string();
        events::warn!(path, why = error.to_string(), "old snapshots are left");
        context.warn(format_args!(
            "not all old snapshots could be removed: {error}"
        ));
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

/// Prints what the user has to do next. For an empty plan, prints its summary; otherwise, if no step was applied, that.
fn print_next_steps(context: &Context, config: &SyncConfig, plan: &SyncPlan, report: &ApplyReport) {
    let ui = &context.ui;
    if plan.steps.is_empty() {
        ui.prose(format_summary(plan, config.remote));
        return;
    }

    if report.done.is_empty() {
        let remaining_steps = pluralize(plan.steps.len(), "step");
        ui.prose(format_args!(
            "no step was done; {remaining_steps} left for the next run"
        ));
        return;
    }

    let remote_actions = [
        SyncAction::CopyToCloud,
        SyncAction::Merge,
        SyncAction::MoveCloud,
        SyncAction::DeleteCloud,
    ];
    let done_steps = list_done_steps(plan, report);
    let mut actions = done_steps.iter().map(|step| step.action);
    if actions.any(|action| remote_actions.contains(&action)) {
        print_step_on_other_machine(ui, config.remote);
    }
    // While files have not arrived, the user should not continue yet.
    if plan.notices.undelivered.is_empty() {
        print_resume_step(ui, config, &done_steps);
    }
}

fn print_step_on_other_machine(ui: &Ui, remote: SyncRemote) {
    match remote {
        SyncRemote::Vault => ui.note(
            "next: run on the other machine, before you start Codex there: codex-manager sync run --apply",
        ),
        SyncRemote::Folder => {
            ui.note(
                "next: wait until the cloud client has uploaded everything; then run on the other machine, before you \
                 start Codex there: codex-manager sync run --apply",
            );
            ui.note(
                "a new machine first needs a login, which sync never copies, and its own settings: codex-manager sync \
                 init --cloud DIR",
            );
        }
    }
}

/// Prints how to continue the conversations that the run changed on this machine.
fn print_resume_step(ui: &Ui, config: &SyncConfig, done_steps: &[&SyncStep]) {
    let updates = done_steps.iter().filter_map(|step| index_update_of(step));
    let updates = updates.filter(|update| update.change != ContentChange::Deleted);
    let continued: Vec<_> = updates.collect();
    let arguments = match &*continued {
        [] => return,
        _ if config.path_rules.is_empty() => String::new(),
        // `codex resume` of 0.169 looks for the folder stored in the conversation, not for the mapped one in its index.
        [one] => format!(" {}", one.id),
        _ => " --all (lists conversations of all folders)".to_owned(),
    };
    ui.note(format_args!(
        "next: start Codex and continue with: codex resume{arguments}"
    ));
}

/// Prints the snapshot of a run, with the commands that restore it.
fn print_snapshot(ui: &Ui, done_steps: &[&SyncStep], snapshot: &str, remote: SyncRemote) {
    ui.note(format_args!(
        "the overwritten and deleted files are in the snapshot {snapshot}"
    ));

    for (side, name) in [(Side::Local, "local"), (Side::Remote, "cloud")] {
        // Snapshots in the vault are never replaced.
        if side == Side::Remote && remote == SyncRemote::Vault {
            continue;
        }
        let ops = done_steps.iter().flat_map(|step| &step.ops);
        if ops.flat_map(Op::targets).any(|target| target.side == side) {
            ui.note(format_args!(
                "restore those of the {name} side with: codex-manager sync restore --from {snapshot} --target {name} --apply"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a round that has completed one step and has a snapshot, if named.
    fn round(snapshot: Option<&str>, path: &str) -> SyncedRound {
        let mut plan = SyncPlan::default();
        let step = SyncStep::new(path, path, SyncAction::CopyToLocal, "");
        plan.steps.push(step);
        let report = ApplyReport {
            done: vec![0],
            snapshot: snapshot.map(str::to_owned),
            ..ApplyReport::default()
        };
        SyncedRound {
            plan,
            report,
            ..SyncedRound::default()
        }
    }

    #[test]
    fn the_snapshots_of_all_rounds_are_named_and_the_last_one_has_the_steps_since_its_round() {
        let rounds = [
            round(Some("a"), "1"),
            round(None, "2"),
            round(Some("b"), "3"),
            round(Some("c"), "4"),
            round(None, "5"),
        ];
        let all = rounds.into_iter().reduce(SyncedRound::followed_by).unwrap();
        assert_eq!(all.report.snapshot.as_deref(), Some("c"));
        assert_eq!(all.earlier_snapshots, ["a", "b"]);
        let steps = all.list_snapshot_steps();
        let paths: Vec<_> = steps.iter().map(|step| &*step.path).collect();
        assert_eq!(paths, ["4", "5"]);
    }
}
