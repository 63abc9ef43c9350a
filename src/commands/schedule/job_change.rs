//! A change of a job's files, by `install` or `remove`.

use crate::context::Context;
use crate::ui::time;
use crate::views::dry_run::wording;
use clap::Args;
use codex_manager_core::io::shell;
use codex_manager_core::schedule::{
    FileAction, PlannedJobFile, Scheduler, SchedulerCommand, Trigger,
};

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Show what would be done; write nothing, run nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Show the files for another system's scheduler; only with --dry-run
    #[arg(long, value_name = "WHICH", requires = "dry_run")]
    pub(super) scheduler: Option<Scheduler>,
}

impl CommonArgs {
    pub(super) fn scheduler(&self) -> Scheduler {
        self.scheduler.unwrap_or(Scheduler::of_this_build())
    }
}

/// Returns the words of each command, for the JSON document.
pub(super) fn list_words(steps: &[SchedulerCommand]) -> Vec<&[String]> {
    steps.iter().map(|step| &*step.words).collect()
}

/// Prints what happens to each file of the job, with its content.
pub(super) fn show_files(context: &Context, files: &[PlannedJobFile], dry_run: bool) {
    let ui = &context.ui;
    for PlannedJobFile { path, action, text } in files {
        let (done_text, planned_text) = match action {
            FileAction::Create => ("created", "would create"),
            FileAction::Update => ("updated", "would update"),
            FileAction::Keep => ("up to date", "up to date"),
            FileAction::Remove => ("removed", "would remove"),
            FileAction::Absent => continue,
        };

        let action_text = wording(dry_run, planned_text, done_text);
        ui.prose(format_args!("{action_text}: {}", path.display()));
        for line in text.trim_end().lines() {
            ui.line(format!("    {line}").trim_end());
        }
    }
}

/// Returns the command, quoted for the shell of the system.
pub(super) fn format_step(step: &SchedulerCommand, scheduler: Scheduler) -> String {
    let words = step.words.iter().map(|word| match scheduler {
        Scheduler::Windows if word.contains(' ') => format!("\"{word}\""),
        Scheduler::Windows => word.clone(),
        Scheduler::Systemd | Scheduler::Launchd => shell::quote_if_needed(word),
    });
    words.collect::<Vec<_>>().join(" ")
}

pub(super) fn describe_trigger(trigger: Trigger) -> String {
    match trigger {
        Trigger::Every(secs) => {
            let span = chrono::Duration::seconds(i64::from(secs));
            format!("every {}", time::format_duration(span))
        }
        Trigger::Daily(hour, minute) => format!("daily at {hour:02}:{minute:02}"),
    }
}
