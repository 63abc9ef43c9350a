//! `schedule install`: writes the files of a job and optionally enables it.

use crate::choices::sync_config::{format_sync_command, read_config_quietly, resolve_config_path};
use crate::choices::vault_connection::warn_if_jobs_cannot_open_vault;
use crate::commands::schedule::job_change::{
    CommonArgs, describe_trigger, format_step, list_words, show_files,
};
use crate::commands::schedule::job_context::{build_job_context, find_configured_codex};
use crate::commands::schedule::scheduler_commands::run_steps;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::object;
use chrono::{Duration, Timelike};
use clap::Args;
use codex_manager_core::io::time_format::parse_duration;
use codex_manager_core::io::{IoContext, OrdinaryPath, atomic, time_format};
use codex_manager_core::logging;
use codex_manager_core::schedule::{self, JobDefinition, JobKind, JobOptions, Scheduler, Trigger};
use std::path::PathBuf;

/// The allowed interval between two runs, in seconds. All schedulers support this range.
const ALLOWED_INTERVAL_SECS: std::ops::RangeInclusive<u32> = 60..=31 * 24 * 60 * 60;

/// Write the files of a job, and with --enable activate it
///
/// sync runs as a dry run unless it is installed with --apply. backup creates an archive only if the
/// last one is older than half the interval; with --if-codex-changed it runs every hour, and archives
/// once a day and after each update of Codex. vault makes a snapshot, and once a month a drill. notify
/// shows news on the desktop.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule install backup --daily 03:30 --enable
  codex-manager schedule install backup --if-codex-changed --enable
  codex-manager schedule install sync --every 30min     # a dry run
  codex-manager schedule install sync --every 30min --apply --enable
  codex-manager schedule install status --every 1h --dry-run")]
pub(super) struct InstallArgs {
    /// The job to install
    job: JobKind,
    /// The interval, such as 30min or 12h [default: 10min for notify, 1h for sync, status and --if-codex-changed, 24h
    /// for backup and vault]
    #[arg(long, value_name = "DUR", conflicts_with = "daily", value_parser = parse_duration)]
    every: Option<Duration>,
    /// Run once a day at this local time
    #[arg(long, value_name = "HH:MM")]
    daily: Option<String>,
    /// Let sync change files; without this flag it is a dry run
    #[arg(long)]
    apply: bool,
    /// Let backup also make an archive after an update of Codex
    #[arg(long, conflicts_with = "daily")]
    if_codex_changed: bool,
    /// The configuration file of sync
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Activate the job; otherwise the commands for that are only shown
    #[arg(long)]
    enable: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl InstallArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let options = self.resolve_options(context)?;
        let codex_bin = find_configured_codex(context)?;
        let job_context = build_job_context(context, self.common.scheduler(), codex_bin)?;
        let definition = JobDefinition::new(options, &job_context)?;
        let files = schedule::plan_install(&definition, &job_context)?;
        let steps = schedule::enable_commands(self.job, &job_context)?;

        let dry_run = self.common.dry_run;
        if !dry_run {
            if job_context.scheduler == Scheduler::Launchd {
                // launchd creates the file for standard error, but not its folder.
                atomic::create_private_folder(&job_context.manager_home.join(logging::FOLDER))?;
            }
            schedule::apply(&files, job_context.scheduler)?;
            if self.enable {
                run_steps(&steps, context, "the files of the job were written")?;
            }
        }

        let enabled = self.enable && !dry_run;
        let options = &definition.options;
        let json = object()
            .with("job", self.job)
            .with("scheduler", job_context.scheduler)
            .with("when", options.when)
            .with("runs", &definition.command)
            .with("files", &files)
            .with("commands", list_words(&steps))
            .with("enabled", enabled)
            .with("dry_run", dry_run);
        context.ui.document("schedule install", &json);

        let ui = &context.ui;
        show_files(context, &files, dry_run);
        let (name, when) = (self.job.name(), describe_trigger(options.when));
        ui.note(match (dry_run, enabled) {
            (true, _) => format!("{name} would run {when}"),
            (false, true) => format!("{name} runs {when}"),
            (false, false) => format!("{name} will run {when} once it is activated"),
        });

        warn_of_useless_runs(options, context);
        if !enabled {
            let heading = if dry_run && self.enable {
                "would run:"
            } else {
                "to activate it, run these commands, or install with --enable:"
            };
            ui.note(heading);
            for step in &steps {
                ui.note(format_args!(
                    "  {}",
                    format_step(step, job_context.scheduler)
                ));
            }
        }
        Ok(Outcome::Done)
    }

    /// Returns the options of the job. Refuses options of another job, and a configuration file that does not exist.
    fn resolve_options(&self, context: &Context) -> Result<JobOptions> {
        if self.job != JobKind::Sync && (self.apply || self.config.is_some()) {
            return Err(CommandError::usage(
                "--apply and --config are only for schedule install sync",
            ));
        }
        if self.job != JobKind::Backup && self.if_codex_changed {
            return Err(CommandError::usage(
                "--if-codex-changed is only for schedule install backup",
            ));
        }

        // The path must be absolute, because the scheduler starts jobs in another folder.
        let find_config = |path: &PathBuf| {
            let path = context.env.absolute(path);
            // Fails if the file does not exist.
            let found = path.canonical().at("read", &path);
            found.map_err(|e| CommandError::usage(e.to_string()).because(e))
        };
        let config = self.config.as_ref().map(find_config).transpose()?;

        Ok(JobOptions {
            job: self.job,
            when: self.parse_trigger()?,
            apply: self.apply,
            if_codex_changed: self.if_codex_changed,
            config,
            search_path: schedule::search_path(&context.env, self.common.scheduler())?,
        })
    }

    /// Returns the time of `--daily` or the interval of `--every`. Without both, returns the default interval.
    fn parse_trigger(&self) -> Result<Trigger> {
        if let Some(text) = &self.daily {
            let time_of_day = time_format::parse_wall_time(text)
                .filter(|parsed| parsed.day.is_none())
                .and_then(|parsed| parsed.time)
                .ok_or_else(|| {
                    CommandError::usage(format!("--daily is not a time such as 03:30: {text:?}"))
                })?;

            return Ok(Trigger::Daily(time_of_day.hour(), time_of_day.minute()));
        }

        let default_interval = match self.job {
            JobKind::Backup if self.if_codex_changed => Duration::hours(1),
            JobKind::Notify => Duration::minutes(10),
            JobKind::Sync | JobKind::Status => Duration::hours(1),
            JobKind::Backup | JobKind::Vault => Duration::hours(24),
        };

        let interval = self.every.unwrap_or(default_interval);
        u32::try_from(interval.num_seconds())
            .ok()
            .filter(|secs| ALLOWED_INTERVAL_SECS.contains(secs))
            .map(Trigger::Every)
            .ok_or_else(|| CommandError::usage("--every must be between one minute and 31 days"))
    }
}

/// Warns if every run of the job would fail or would change nothing, because a scheduled run cannot tell the user.
fn warn_of_useless_runs(options: &JobOptions, context: &Context) {
    let ui = &context.ui;
    match options.job {
        JobKind::Sync => {
            let path = resolve_config_path(context, options.config.as_deref());
            if let Err(e) = read_config_quietly(context, &path) {
                let code = e.kind as u8;
                ui.warn(format_args!(
                    "every run will fail with exit code {code}: {e}"
                ));
                let (purpose, arguments) = if path.exists() {
                    ("check", "validate")
                } else {
                    ("create", "init --cloud FOLDER")
                };
                let command = format_sync_command(context, &path, arguments);
                ui.note(format_args!("{purpose} it: {command}"));
            }
            if !options.apply {
                ui.note(
                    "sync is installed as a dry run; after checking its output, install it with --apply",
                );
            }
        }
        JobKind::Vault => warn_if_jobs_cannot_open_vault(context),
        JobKind::Backup | JobKind::Status | JobKind::Notify => {}
    }
}
