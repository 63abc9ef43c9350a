//! `sync plan`: what a sync would do.

use super::shared::{self, document, read_config, replica};
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::sync::plan::{self, Request};
use crate::ui::time::bytes;
use clap::Args;
use std::path::Path;

/// Show what a sync would do; write nothing
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync plan
  codex-manager sync plan --json | jq .actions")]
pub(super) struct PlanArgs {
    /// Put back what is missing in the cloud folder, even if it is most of it
    #[arg(long)]
    refill: bool,
    /// Take files that no machine vouches for as they are
    #[arg(long)]
    accept_unlisted: bool,
}

impl PlanArgs {
    pub(super) fn run(self, context: &Context, path: &Path) -> Result<Outcome, CommandError> {
        show(
            context,
            path,
            self.refill,
            self.accept_unlisted,
            "sync plan",
        )
    }
}

/// Makes the plan and shows it.
pub(super) fn show(
    context: &Context,
    path: &Path,
    refill: bool,
    accept_unlisted: bool,
    command: &str,
) -> Result<Outcome, CommandError> {
    let config = read_config(context, path)?;
    let replica = replica(context, &config);
    let (plan, _) = plan::plan(&Request {
        config: &config,
        replica: &replica,
        refill,
        accept_unlisted,
        chosen: None,
    })?;
    context.ui.document(command, &document(&plan, |_| true));
    shared::show_steps(context, &plan);
    let total: u64 = plan.steps.iter().map(|step| step.bytes).sum();
    context.ui.line(if plan.steps.is_empty() {
        format!(
            "nothing to do: {} files are the same on both sides",
            plan.unchanged
        )
    } else {
        format!(
            "would do {} steps ({}); {} files are the same on both sides. Nothing was changed.",
            plan.steps.len(),
            bytes(total),
            plan.unchanged
        )
    });
    shared::say_the_rest(context, &plan, &config);
    if !plan.conflicts.is_empty() {
        return Err(shared::undecided(&plan));
    }
    Ok(Outcome::partial_if(
        !plan.waiting.is_empty() || !plan.skipped.is_empty(),
    ))
}
