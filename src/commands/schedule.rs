//! `schedule`: jobs that the system's own scheduler runs.

use crate::codex::program::Program;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::child::{ChildGroup, Heard};
use crate::io::clock::from_unix_nanos;
use crate::io::shell;
use crate::io::{IoContext, atomic, wall};
use crate::logging;
use crate::schedule::{
    self, Entry, FileAction, Installed, Job, JobOptions, Place, PlannedFile, Scheduler, Step, When,
    systemd,
};
use crate::ui::time;
use crate::ui::{Style, table::Table};
use chrono::{DateTime, Timelike, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a command of the scheduler may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a job may run, and how seldom: what all schedulers take.
const DISTANCE_SECS: std::ops::RangeInclusive<i64> = 60..=31 * 24 * 60 * 60;

/// Run sync, backup or status by the system's own scheduler
///
/// systemd user timers on Linux, launchd agents on macOS, the Task Scheduler on Windows. The job runs
/// this program on the homes that hold now; nothing of it stays in memory in between.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule install backup --daily 03:30 --enable
  codex-manager schedule show
  codex-manager schedule remove backup")]
pub struct ScheduleArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Install(InstallArgs),
    Remove(RemoveArgs),
    Show(ShowArgs),
}

/// Write the files of a job, and with --enable have the scheduler take it up
///
/// sync only says what it would do until it is installed with --apply. backup makes an archive only
/// when the last one is older than half the time between two runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule install backup --daily 03:30 --enable
  codex-manager schedule install sync --every 30min     # says what it would do
  codex-manager schedule install sync --every 30min --apply --enable
  codex-manager schedule install status --every 1h --dry-run")]
struct InstallArgs {
    /// What is to run
    job: Job,
    /// Again and again, such as 30min or 12h [default: 1h for sync, 24h for backup, 1h for status]
    #[arg(long, value_name = "DUR", conflicts_with = "daily")]
    every: Option<String>,
    /// Once a day, by the clock of the system
    #[arg(long, value_name = "HH:MM")]
    daily: Option<String>,
    /// Let sync change files; without it a dry run
    #[arg(long)]
    apply: bool,
    /// The configuration of sync
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run what makes the scheduler take it up; else that is only shown
    #[arg(long)]
    enable: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// Have the scheduler forget a job and remove its files
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule remove backup
  codex-manager schedule remove sync --dry-run")]
struct RemoveArgs {
    /// What is to run no more
    job: Job,
    #[command(flatten)]
    common: CommonArgs,
}

/// Show which jobs are installed, whether they are up to date, and when they run next
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule show
  codex-manager schedule show backup --json")]
struct ShowArgs {
    /// One job alone
    job: Option<Job>,
}

#[derive(Debug, Args)]
struct CommonArgs {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The scheduler of another system: only with --dry-run
    #[arg(long, value_name = "WHICH", requires = "dry_run")]
    scheduler: Option<Scheduler>,
}

impl CommonArgs {
    fn scheduler(&self) -> Scheduler {
        self.scheduler.unwrap_or(Scheduler::of_this_build())
    }
}

impl ScheduleArgs {
    /// Runs the command.
    ///
    /// # Errors
    /// Flags that mean nothing, a file of that name that is not ours, a path that the scheduler's
    /// format cannot hold, a file that cannot be written, or a scheduler that refuses.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        match self.verb {
            Verb::Install(args) => args.run(context),
            Verb::Remove(args) => args.run(context),
            Verb::Show(args) => args.run(context),
        }
    }
}

/// The JSON document of install and remove. Its keys are a contract.
#[derive(Debug, Serialize)]
struct ChangeJson<'a> {
    job: Job,
    scheduler: Scheduler,
    when: Option<When>,
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

impl InstallArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let options = self.options(context)?;
        let (job, when) = (options.job, options.when);
        let place = place(context, self.common.scheduler(), codex_bin(context)?)?;
        let entry = Entry::new(options, &place)?;
        let files = schedule::plan_install(&entry, &place)?;
        let steps = schedule::enabling(job, &place)?;
        let dry_run = self.common.dry_run;
        if !dry_run {
            if place.scheduler == Scheduler::Launchd {
                // It makes the file that its errors go to, and not the folder.
                atomic::create_private_folder(&place.manager_home.join(logging::FOLDER))?;
            }
            schedule::apply(&files, place.scheduler)?;
            if self.enable {
                run_all(&steps, context, "the files were written")?;
            }
        }
        let enabled = self.enable && !dry_run;
        context.ui.document(
            "schedule install",
            &ChangeJson {
                job,
                scheduler: place.scheduler,
                when: Some(when),
                runs: &entry.command,
                files: files.iter().map(Into::into).collect(),
                commands: steps.iter().map(|step| step.words.as_slice()).collect(),
                enabled,
                dry_run,
            },
        );
        let ui = &context.ui;
        show_files(context, &files, dry_run);
        let done = if dry_run { "would run" } else { "runs" };
        ui.note(format_args!("{} {done} {}", job.name(), shown_when(when)));
        if job == Job::Sync
            && let Err(e) = super::sync::check_config(context, entry.options.config.as_deref())
        {
            ui.warn(format_args!("every run will end with exit code 4: {e}"));
            ui.note("codex-manager sync init --cloud FOLDER writes a configuration");
        }
        if job == Job::Sync && !entry.options.apply {
            ui.note(
                "sync is installed as a dry run; when you like what it says, install it with --apply",
            );
        }
        if !enabled {
            let what = if dry_run && self.enable {
                "would be run:"
            } else {
                "to have it taken up, run this, or install with --enable:"
            };
            ui.note(what);
            show_steps(context, &steps, place.scheduler);
        }
        Ok(Outcome::Done)
    }

    fn options(&self, context: &Context) -> Result<JobOptions, CommandError> {
        if self.job != Job::Sync && (self.apply || self.config.is_some()) {
            return Err(CommandError::usage(
                "--apply and --config belong to schedule install sync alone",
            ));
        }
        let config = self
            .config
            .as_ref()
            .map(|path| {
                let path = context.env.absolute(path);
                path.canonicalize().at("read", &path)
            })
            .transpose()
            .map_err(|e| CommandError::usage(e.to_string()).because(e))?;
        Ok(JobOptions {
            job: self.job,
            when: self.when()?,
            apply: self.apply,
            config,
            search_path: schedule::search_path(&context.env, self.common.scheduler())?,
        })
    }

    fn when(&self) -> Result<When, CommandError> {
        if let Some(text) = &self.daily {
            let time = wall::parse(text)
                .filter(|time| time.day.is_none())
                .and_then(|time| time.time)
                .ok_or_else(|| CommandError::usage(format!("--daily is no time: {text:?}")))?;
            let small = |number: u32| u8::try_from(number).unwrap_or_default();
            return Ok(When::Daily(small(time.hour()), small(time.minute())));
        }
        let default = match self.job {
            Job::Sync | Job::Status => "1h",
            Job::Backup => "24h",
        };
        let text = self.every.as_deref().unwrap_or(default);
        let span = wall::parse_span(text)
            .ok_or_else(|| CommandError::usage(format!("--every is no duration: {text:?}")))?;
        u32::try_from(span.num_seconds())
            .ok()
            .filter(|secs| DISTANCE_SECS.contains(&i64::from(*secs)))
            .map(When::Every)
            .ok_or_else(|| {
                CommandError::usage(format!(
                    "--every is to be from one minute to 31 days: {text:?}"
                ))
            })
    }
}

impl RemoveArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        // Also where Codex is gone.
        let bin = codex_bin(context).unwrap_or_default();
        let place = place(context, self.common.scheduler(), bin)?;
        let files = schedule::plan_remove(self.job, &place)?;
        let is_there = files.iter().any(|file| file.action == FileAction::Remove);
        let steps = if is_there {
            schedule::disabling(self.job, &place)
        } else {
            Vec::new()
        };
        let dry_run = self.common.dry_run;
        if !dry_run {
            // A scheduler that has never heard of the job is content too.
            let was_enabled = schedule::find(self.job, &place)?.and_then(|job| job.is_enabled);
            if was_enabled != Some(false) {
                run_all(&steps, context, "nothing was removed")?;
            }
            schedule::apply(&files, place.scheduler)?;
        }
        context.ui.document(
            "schedule remove",
            &ChangeJson {
                job: self.job,
                scheduler: place.scheduler,
                when: None,
                runs: &[],
                files: files.iter().map(Into::into).collect(),
                commands: steps.iter().map(|step| step.words.as_slice()).collect(),
                enabled: false,
                dry_run,
            },
        );
        show_files(context, &files, dry_run);
        if !is_there {
            let name = self.job.name();
            context.ui.note(format_args!("{name} is not installed"));
        }
        Ok(Outcome::Done)
    }
}

impl<'a> From<&'a PlannedFile> for FileJson<'a> {
    fn from(planned: &'a PlannedFile) -> Self {
        Self {
            path: &planned.file.path,
            action: planned.action,
            text: &planned.file.text,
        }
    }
}

/// The JSON document of show. Its keys are a contract.
#[derive(Debug, Serialize)]
struct ShowJson {
    scheduler: Scheduler,
    jobs: Vec<JobJson>,
}

#[derive(Debug, Serialize)]
struct JobJson {
    job: Job,
    installed: bool,
    up_to_date: Option<bool>,
    enabled: Option<bool>,
    when: Option<When>,
    apply: Option<bool>,
    next_run: Option<String>,
    files: Vec<PathBuf>,
}

impl ShowArgs {
    fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        // Also where Codex is gone: a job that names another is not up to date.
        let bin = codex_bin(context).unwrap_or_default();
        let place = place(context, Scheduler::of_this_build(), bin)?;
        let jobs = self.job.map_or(Job::ALL.to_vec(), |job| vec![job]);
        let (ui, zone, now) = (&context.ui, context.settings.zone, context.now());
        let mut table = Table::new(ui, &["JOB", "STATE", "RUNS", "NEXT"]);
        let mut documents = Vec::new();
        let mut hints = Vec::new();
        for job in jobs {
            let found = schedule::find(job, &place)?;
            let next = found.as_ref().and_then(|job| next_run(job, context));
            let (style, state) = state_of(found.as_ref());
            if let Some(found) = &found {
                hints.extend(hint(found));
            }
            let runs = found.as_ref().map_or("-".into(), |job| {
                let is_dry = job.options.job == Job::Sync && !job.options.apply;
                let when = shown_when(job.options.when);
                if is_dry {
                    format!("{when}, dry run")
                } else {
                    when
                }
            });
            let at = next.map_or("-".into(), |at| time::full(&at, zone, &now));
            let name = job.name().to_owned();
            table.row(
                ui,
                [
                    (Style::Strong, name),
                    (style, state.to_owned()),
                    (Style::Plain, runs),
                    (Style::Plain, at),
                ],
            );
            documents.push(JobJson {
                job,
                installed: found.is_some(),
                up_to_date: found.as_ref().map(|job| job.is_current),
                enabled: found.as_ref().and_then(|job| job.is_enabled),
                when: found.as_ref().map(|job| job.options.when),
                apply: found.as_ref().map(|job| job.options.apply),
                next_run: next.map(|at| time::rfc3339(&at, zone)),
                files: schedule::paths(job, &place)?,
            });
        }
        ui.document(
            "schedule show",
            &ShowJson {
                scheduler: place.scheduler,
                jobs: documents,
            },
        );
        ui.line(table.render());
        for hint in hints {
            ui.note(hint);
        }
        Ok(Outcome::Done)
    }
}

fn state_of(found: Option<&Installed>) -> (Style, &'static str) {
    match found {
        None => (Style::Dim, "not installed"),
        Some(job) if !job.is_current => (Style::Warn, "out of date"),
        Some(Installed {
            is_enabled: Some(false),
            ..
        }) => (Style::Warn, "not taken up"),
        Some(Installed {
            is_enabled: None, ..
        }) => (Style::Good, "installed"),
        Some(_) => (Style::Good, "enabled"),
    }
}

/// The command that makes a job what it should be.
fn hint(found: &Installed) -> Option<String> {
    let options = &found.options;
    if found.is_current && found.is_enabled != Some(false) {
        return None;
    }
    let when = match options.when {
        When::Every(secs) => format!("--every {secs}s"),
        When::Daily(hour, minute) => format!("--daily {hour:02}:{minute:02}"),
    };
    let apply = if options.apply { " --apply" } else { "" };
    let config = options
        .config
        .as_ref()
        .map(|path| format!(" --config {}", shell::word(&path.to_string_lossy())))
        .unwrap_or_default();
    Some(format!(
        "hint: codex-manager schedule install {} {when}{apply}{config} --enable",
        options.job.name()
    ))
}

/// When a job runs next, where the scheduler can say.
fn next_run(found: &Installed, context: &Context) -> Option<DateTime<Utc>> {
    if found.is_enabled != Some(true) {
        return None;
    }
    let words = systemd::asking_next(found.options.job);
    let (answer, _) = run(&words, context).ok()?;
    let micros = systemd::parse_next(&answer)?;
    Some(from_unix_nanos(i128::from(micros) * 1000))
}

/// Where the Codex program is that the settings name. A bare name is looked for now: where it is then may
/// not be where it is found later.
fn codex_bin(context: &Context) -> Result<Option<PathBuf>, CommandError> {
    let program = context
        .settings
        .codex_bin
        .as_deref()
        .map(|bin| Program::find(Some(bin), &context.env))
        .transpose()
        .map_err(|e| {
            CommandError::usage(e.to_string()).hint(
                "set where it is now: codex-manager config set codex.bin FILE; nothing was changed",
            )
        })?;
    Ok(program.map(|program| program.path().to_path_buf()))
}

fn place(
    context: &Context,
    scheduler: Scheduler,
    codex_bin: Option<PathBuf>,
) -> Result<Place<'_>, CommandError> {
    let settings = &context.settings;
    Ok(Place {
        scheduler,
        program: this_program(context)?,
        codex_home: settings.codex_home.clone(),
        manager_home: settings.manager_home.clone(),
        codex_bin,
        env: &context.env,
        user_id: user_id(),
    })
}

/// This program by the name on PATH under which it is installed, else by its file: an installation
/// that is replaced keeps its name.
fn this_program(context: &Context) -> Result<PathBuf, CommandError> {
    let exe = std::env::current_exe()
        .map_err(|e| CommandError::failed("cannot tell where this program is").because(e))?;
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

fn show_files(context: &Context, files: &[PlannedFile], dry_run: bool) {
    for PlannedFile { file, action } in files {
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

fn show_steps(context: &Context, steps: &[Step], scheduler: Scheduler) {
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

fn shown_when(when: When) -> String {
    match when {
        When::Every(secs) => {
            let span = chrono::Duration::seconds(i64::from(secs));
            format!("every {}", time::duration(span))
        }
        When::Daily(hour, minute) => format!("daily at {hour:02}:{minute:02}"),
    }
}

/// Runs the steps; `so_far` says what holds where one of them fails.
fn run_all(steps: &[Step], context: &Context, so_far: &str) -> Result<(), CommandError> {
    for step in steps {
        let said = match run(&step.words, context) {
            Ok((_, None)) => continue,
            Ok((_, Some(said))) => said,
            Err(e) => e,
        };
        if step.may_fail {
            context
                .ui
                .detail(format_args!("{}: {said}", step.words.join(" ")));
            continue;
        }
        return Err(
            CommandError::failed(format!("the scheduler refused: {said}")).hint(format!(
                "{so_far}; run this where your session runs: {}",
                step.words.join(" ")
            )),
        );
    }
    Ok(())
}

/// Runs a command of the scheduler: its output, and what it said where it failed.
fn run(words: &[String], context: &Context) -> Result<(Vec<u8>, Option<String>), String> {
    let (name, arguments) = words.split_first().ok_or("nothing to run")?;
    let program = Program::find(Some(Path::new(name)), &context.env).map_err(|e| e.to_string())?;
    let mut command = Command::new(program.path());
    command.env_clear().envs(context.env.variables());
    command.args(arguments);
    let deadline = Instant::now() + PATIENCE;
    let mut child =
        ChildGroup::spawn(&mut command).map_err(|e| format!("cannot run {name}: {e}"))?;
    child.close_input();
    let mut output = Vec::new();
    while let Heard::Line(line) = child.hear(deadline) {
        output.extend_from_slice(&line);
        output.push(b'\n');
    }
    let status = child.finish(deadline);
    if status.is_some_and(|status| status.success()) {
        return Ok((output, None));
    }
    let said = child.stderr();
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    let said = last.map_or_else(
        || status.map_or("no answer in time".into(), |status| status.to_string()),
        |line| format!("{name}: {}", crate::codex::redaction::printable(line)),
    );
    Ok((output, Some(said)))
}
