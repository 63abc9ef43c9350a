//! `sync plan`: shows what a sync would do.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::sync_context::SyncContext;
use crate::steps::sync_shutdown::{needs_shutdown, print_shutdown_plan};
use crate::steps::vault_sync::{StagingRule, with_staged_vault};
use crate::views::sync_plan::{
    build_plan_json, format_summary, print_notes, print_unsynced, show_steps, undecided_error,
};
use crate::views::table_format::TableArgs;
use clap::Args;
use codex_manager_core::sync::branches;
use codex_manager_core::sync::config::SyncConfig;
use codex_manager_core::sync::plan::{self, PlanRequest, SyncPlan};
use codex_manager_core::sync::state::Replica;

/// Show what a sync would do; write nothing
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync plan
  codex-manager sync plan --json | jq .actions")]
pub(super) struct PlanArgs {
    #[command(flatten)]
    plan_flags: PlanFlags,
    #[command(flatten)]
    pub(super) table: TableArgs,
}

impl PlanArgs {
    pub(super) fn run(self, sync: &SyncContext<'_>) -> Result<Outcome> {
        self.plan_flags.plan_and_print(sync, "sync plan")
    }
}

/// The flags that `plan` and `run` share.
#[derive(Debug, Args)]
pub(super) struct PlanFlags {
    /// Copy missing files to the cloud folder again, even if most of them are missing
    #[arg(long)]
    refill: bool,
    /// Also use files of the cloud folder that no machine lists
    #[arg(long)]
    accept_unlisted: bool,
    /// Delete files on the other side even if there are many
    #[arg(long)]
    delete_many: bool,
    /// Sync this file once, although its text seems to contain a secret; a path below the Codex home, as in the warning
    #[arg(long, value_name = "PATH")]
    allow_secrets: Vec<String>,
}

impl PlanFlags {
    /// Returns the request for a plan of all files.
    pub(super) fn to_request<'a>(
        &'a self,
        config: &'a SyncConfig,
        replica: &'a Replica,
    ) -> PlanRequest<'a> {
        PlanRequest {
            refill: self.refill,
            accept_unlisted: self.accept_unlisted,
            delete_many: self.delete_many,
            allow_secrets: &self.allow_secrets,
            ..PlanRequest::new(config, replica)
        }
    }

    /// Returns [`StagingRule::Always`] if the flags need a new plan. An idle plan only repeats that the last run found
    /// nothing to do: it lacks the steps that `--allow-secrets` adds, and the details that `--verbose` prints.
    pub(super) fn staging_rule(&self, context: &Context) -> StagingRule {
        if self.allow_secrets.is_empty() && !context.ui.is_verbose() {
            StagingRule::UnlessIdle
        } else {
            StagingRule::Always
        }
    }

    /// Makes the plan and prints it.
    pub(super) fn plan_and_print(&self, sync: &SyncContext<'_>, command: &str) -> Result<Outcome> {
        with_staged_vault(sync, self.staging_rule(sync.context), |sync, idle_plan| {
            if let Some(plan) = idle_plan {
                return print_plan(sync, &plan, command);
            }

            let (mut plan, state) = plan::plan(&self.to_request(sync.config, sync.replica))?;
            let records = branches::collect_records(&plan, &state);
            let branch_conflicts = branches::find_undecided_conflicts(&sync.config.local, &records);
            plan.conflicts.extend(branch_conflicts);
            print_plan(sync, &plan, command)
        })
    }
}

/// Prints the plan. A conflict that needs a decision is an error.
fn print_plan(sync: &SyncContext<'_>, plan: &SyncPlan, command: &str) -> Result<Outcome> {
    let (context, config) = (sync.context, sync.config);
    let shutdown_plan = if needs_shutdown(plan, config) {
        sync.plan_shutdown()
    } else {
        // Only prints the programs that use the home, under `--verbose`.
        sync.is_home_in_use();
        None
    };

    let includes_step = |_| true;
    let mut json = build_plan_json(context, plan, includes_step);
    json.closing = shutdown_plan.as_ref();
    context.ui.document(command, &json);

    if plan.steps.is_empty() || !context.ui.wants_tsv() {
        context.ui.prose(format_summary(plan, config.remote));
    }
    if !plan.steps.is_empty() {
        show_steps(context, config, plan);
        context.note("nothing was changed; apply it with: codex-manager sync run --apply");
    }

    print_shutdown_plan(context, shutdown_plan.as_ref());
    print_notes(context, plan);
    print_unsynced(context, plan, config, plan.steps.iter());

    if !plan.conflicts.is_empty() {
        return Err(undecided_error(plan, config));
    }
    Ok(Outcome::partial_if(plan.is_partial()))
}
