//! `schedule remove`: deactivates a job and removes its files.

use crate::commands::schedule::job_change::{CommonArgs, list_words, show_files};
use crate::commands::schedule::job_context::{build_job_context, find_configured_codex};
use crate::commands::schedule::scheduler_commands::run_steps;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::object;
use clap::Args;
use codex_manager_core::schedule::{self, FileAction, JobKind};
use serde_json::Value;

/// Deactivate a job and remove its files
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule remove backup
  codex-manager schedule remove sync --dry-run")]
pub(super) struct ScheduleRemoveArgs {
    /// The job to remove
    job: JobKind,
    #[command(flatten)]
    common: CommonArgs,
}

impl ScheduleRemoveArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        // A job can be removed after Codex was uninstalled.
        let codex_bin = find_configured_codex(context).unwrap_or_default();
        let job_context = build_job_context(context, self.common.scheduler(), codex_bin)?;

        let files = schedule::plan_remove(self.job, &job_context)?;
        let is_installed = files.iter().any(|file| file.action == FileAction::Remove);
        let steps = if is_installed {
            schedule::disable_commands(self.job, &job_context)
        } else {
            Vec::new()
        };

        let dry_run = self.common.dry_run;
        if !dry_run {
            // If the job is not enabled, there is nothing to deactivate.
            let was_enabled =
                schedule::find(self.job, &job_context)?.and_then(|job| job.is_enabled);
            if was_enabled != Some(false) {
                run_steps(&steps, context, "nothing was removed")?;
            }

            schedule::apply(&files, job_context.scheduler)?;
        }

        // The same keys as in the document of `install`.
        let json = object()
            .with("job", self.job)
            .with("scheduler", job_context.scheduler)
            .with("when", Value::Null)
            .with("runs", Vec::<String>::new())
            .with("files", &files)
            .with("commands", list_words(&steps))
            .with("enabled", false)
            .with("dry_run", dry_run);
        context.ui.document("schedule remove", &json);

        show_files(context, &files, dry_run);
        if !is_installed {
            context.note(format_args!("{} is not installed", self.job.name()));
        }
        Ok(Outcome::Done)
    }
}
