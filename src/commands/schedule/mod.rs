//! `schedule`: installs, removes and shows jobs of the system's scheduler.

mod install;
mod remove;
mod scheduler_commands;
mod show;

use crate::codex::program::Program;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::shell;
use crate::schedule::{
    FileAction, JobContext, JobKind, PlannedJobFile, Scheduler, SchedulerCommand, Trigger,
};
use crate::ui::time;
use clap::{Args, Subcommand};
use install::InstallArgs;
use remove::ScheduleRemoveArgs;
use serde::Serialize;
use show::ScheduleShowArgs;
use std::path::{Path, PathBuf};

/// Run sync, backup or status regularly with the system's scheduler
///
/// Uses systemd user timers on Linux, launchd agents on macOS, the Task Scheduler on Windows. A job uses
/// the homes that are configured when it is installed. There is no background process between runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule install backup --daily 03:30 --enable
  codex-manager schedule show
  codex-manager schedule remove backup")]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    verb: ScheduleCommand,
}

#[derive(Debug, Subcommand)]
enum ScheduleCommand {
    Install(InstallArgs),
    Remove(ScheduleRemoveArgs),
    Show(ScheduleShowArgs),
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Show what would be done; write nothing, run nothing
    #[arg(long)]
    dry_run: bool,
    /// Show the files for another system's scheduler; only with --dry-run
    #[arg(long, value_name = "WHICH", requires = "dry_run")]
    scheduler: Option<Scheduler>,
}

impl CommonArgs {
    fn scheduler(&self) -> Scheduler {
        self.scheduler.unwrap_or(Scheduler::of_this_build())
    }
}

impl ScheduleArgs {
    /// # Errors
    /// Invalid flags, a foreign file with the name of the job, a path that the scheduler's format cannot
    /// contain, a file that cannot be written, or a scheduler command that fails.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        match self.verb {
            ScheduleCommand::Install(args) => args.run(context),
            ScheduleCommand::Remove(args) => args.run(context),
            ScheduleCommand::Show(args) => args.run(context),
        }
    }
}

/// The JSON document of install and remove. Its keys are an interface.
#[derive(Debug, Serialize)]
struct JobChangeJson<'a> {
    job: JobKind,
    scheduler: Scheduler,
    when: Option<Trigger>,
    runs: &'a [String],
    files: Vec<FileJson<'a>>,
    commands: Vec<&'a [String]>,
    enabled: bool,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct FileJson<'a> {
    path: &'a Path,
    action: FileAction,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
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

/// Returns the absolute path of the configured Codex program, if one is configured. A bare name is
/// resolved now, because the scheduler's `PATH` may differ.
fn codex_bin(context: &Context) -> Result<Option<PathBuf>, CommandError> {
    let program = context
        .settings
        .codex_bin
        .as_deref()
        .map(|bin| Program::find(Some(bin), &context.env))
        .transpose()
        .map_err(|e| {
            CommandError::usage(e.to_string())
                .hint("set its path: codex-manager config set codex.bin FILE; nothing was changed")
        })?;
    Ok(program.map(|program| program.path().to_path_buf()))
}

fn current_place(
    context: &Context,
    scheduler: Scheduler,
    codex_bin: Option<PathBuf>,
) -> Result<JobContext<'_>, CommandError> {
    let settings = &context.settings;
    Ok(JobContext {
        scheduler,
        program: this_program(context)?,
        codex_home: settings.codex_home.clone(),
        manager_home: settings.manager_home.clone(),
        codex_bin,
        env: &context.env,
        user_id: user_id(),
    })
}

/// Returns the path of this program: its entry on `PATH` if that leads to it, else its real path. An
/// upgrade replaces the real file but keeps the entry.
fn this_program(context: &Context) -> Result<PathBuf, CommandError> {
    let exe = std::env::current_exe()
        .map_err(|e| CommandError::failed("cannot find the path of this program").because(e))?;
    let named = exe
        .file_name()
        .and_then(|name| Program::find(Some(Path::new(name)), &context.env).ok())
        .map(|program| program.path().to_path_buf())
        .filter(|path| path.canonicalize().ok() == exe.canonicalize().ok());
    Ok(named.unwrap_or(exe))
}

#[cfg(unix)]
fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

#[cfg(not(unix))]
fn user_id() -> u32 {
    0
}

fn show_files(context: &Context, files: &[PlannedJobFile], dry_run: bool) {
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

fn show_steps(context: &Context, steps: &[SchedulerCommand], scheduler: Scheduler) {
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

fn shown_when(when: Trigger) -> String {
    match when {
        Trigger::Every(secs) => {
            let span = chrono::Duration::seconds(i64::from(secs));
            format!("every {}", time::duration(span))
        }
        Trigger::Daily(hour, minute) => format!("daily at {hour:02}:{minute:02}"),
    }
}
