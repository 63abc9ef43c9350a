//! A change of a job's files, by `install` or `remove`.

use crate::context::Context;
use crate::io::shell;
use crate::schedule::{FileAction, JobKind, PlannedJobFile, Scheduler, SchedulerCommand, Trigger};
use clap::Args;
use serde::Serialize;
use std::path::Path;

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// Show what would be done; write nothing, run nothing
    #[arg(long)]
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

/// The JSON document of install and remove. Its keys are an interface.
#[derive(Debug, Serialize)]
pub(super) struct JobChangeJson<'a> {
    pub(super) job: JobKind,
    pub(super) scheduler: Scheduler,
    pub(super) when: Option<Trigger>,
    pub(super) runs: &'a [String],
    pub(super) files: Vec<FileJson<'a>>,
    pub(super) commands: Vec<&'a [String]>,
    pub(super) enabled: bool,
    pub(super) dry_run: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct FileJson<'a> {
    pub(super) path: &'a Path,
    pub(super) action: FileAction,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) text: &'a str,
}

impl<'a> From<&'a PlannedJobFile> for FileJson<'a> {
    fn from(planned: &'a PlannedJobFile) -> Self {
        Self {
            path: &planned.file.path,
            action: planned.action,
            text: &planned.file.text,
        }
    }
}

pub(super) fn show_files(context: &Context, files: &[PlannedJobFile], dry_run: bool) {
    for PlannedJobFile { file, action } in files {
        let (done, planned) = match action {
            FileAction::Create => ("created", "would create"),
            FileAction::Update => ("updated", "would update"),
            FileAction::Keep => ("up to date", "up to date"),
            FileAction::Remove => ("removed", "would remove"),
            FileAction::Absent => continue,
        };
        let verb = if dry_run { planned } else { done };
        let path = file.path.display();
        context.ui.prose(format_args!("{verb}: {path}"));
        if !file.text.is_empty() {
            for line in file.text.trim_end().lines() {
                context
                    .ui
                    .line(format_args!("    {line}").to_string().trim_end());
            }
        }
    }
}

pub(super) fn show_steps(context: &Context, steps: &[SchedulerCommand], scheduler: Scheduler) {
    for step in steps {
        let words: Vec<_> = step
            .words
            .iter()
            .map(|word| match scheduler {
                Scheduler::Windows if word.contains(' ') => format!("\"{word}\""),
                Scheduler::Windows => word.clone(),
                Scheduler::Systemd | Scheduler::Launchd => shell::word(word),
            })
            .collect();
        context.ui.note(format_args!("  {}", words.join(" ")));
    }
}
