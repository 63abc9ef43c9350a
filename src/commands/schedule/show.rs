//! `schedule show`: shows the installed jobs and their next runs.

use crate::commands::schedule::job_change::describe_trigger;
use crate::commands::schedule::job_context::{build_job_context, find_configured_codex};
use crate::commands::schedule::scheduler_commands::run_command;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Cell, Column, Style, Table, object};
use crate::views::account::{full_time, time_json};
use crate::views::table_format::TableArgs;
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use codex_manager_core::io::shell;
use codex_manager_core::schedule::{
    self, InstalledJob, JobKind, JobOptions, Scheduler, Trigger, systemd,
};

const COLUMNS: [Column; 4] = [
    Column::new("JOB"),
    Column::new("STATE"),
    Column::new("RUNS").rank(1).shorten(12),
    Column::new("NEXT").rank(2),
];

/// Show the installed jobs, their state and their next runs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager schedule show
  codex-manager schedule show backup --json")]
pub(super) struct ScheduleShowArgs {
    /// Show only this job
    job: Option<JobKind>,
    #[command(flatten)]
    table: TableArgs,
}

impl ScheduleShowArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        // If Codex is not found, the jobs are still shown, but a job with a path of Codex counts as out of date.
        let codex_bin = find_configured_codex(context).unwrap_or_default();
        let job_context = build_job_context(context, Scheduler::of_this_build(), codex_bin)?;
        let all_jobs = || JobKind::value_variants().to_vec();
        let jobs = self.job.map_or_else(all_jobs, |job| vec![job]);

        let ui = &context.ui;
        let mut table = Table::new(ui, COLUMNS);
        let mut documents = Vec::new();
        let mut hints = Vec::new();
        for job in jobs {
            let installed_job = schedule::find(job, &job_context)?;
            let installed_job = installed_job.as_ref();
            let options = installed_job.map(|job| &job.options);
            let next_run = installed_job.and_then(|job| find_next_run(job, context));
            hints.extend(installed_job.and_then(suggest_update));

            let (style, state) = describe_state(installed_job);
            table.add_row([
                Cell::new(Style::Strong, job.name()),
                Cell::new(style, state),
                Cell::plain(options.map_or("-".into(), describe_runs)),
                Cell::plain(next_run.map_or("-".into(), |at| full_time(&at, context)))
                    .value(time_json(next_run, context).unwrap_or_default()),
            ]);
            documents.push(
                object()
                    .with("job", job)
                    .with("installed", installed_job.is_some())
                    .with("up_to_date", installed_job.map(|job| job.is_current))
                    .with("enabled", installed_job.and_then(|job| job.is_enabled))
                    .with("when", options.map(|options| options.when))
                    .with("apply", options.map(|options| options.apply))
                    .with("next_run", time_json(next_run, context))
                    .with("files", schedule::file_paths(job, &job_context)?),
            );
        }

        let json = object()
            .with("scheduler", job_context.scheduler)
            .with("jobs", documents);
        ui.document("schedule show", &json);
        table.print(ui);
        for hint in hints {
            ui.note(hint);
        }
        Ok(Outcome::Done)
    }
}

fn describe_runs(options: &JobOptions) -> String {
    let is_dry_run = options.job == JobKind::Sync && !options.apply;
    let dry_note = if is_dry_run { ", dry run" } else { "" };
    format!("{}{dry_note}", describe_trigger(options.when))
}

fn describe_state(installed_job: Option<&InstalledJob>) -> (Style, &'static str) {
    match installed_job {
        None => (Style::Dim, "not installed"),
        Some(job) if !job.is_current => (Style::Warn, "out of date"),
        Some(InstalledJob {
            is_enabled: Some(false),
            ..
        }) => (Style::Warn, "not active"),
        // launchd and Windows have no file that shows if a job is active, so the state is unknown.
        Some(InstalledJob {
            is_enabled: None, ..
        }) => (Style::Good, "installed"),
        Some(_) => (Style::Good, "enabled"),
    }
}

/// Returns the hint for a job that is out of date or not active: the command that updates or activates it.
fn suggest_update(job: &InstalledJob) -> Option<String> {
    let options = &job.options;
    if job.is_current && job.is_enabled != Some(false) {
        return None;
    }

    let trigger_flag = match options.when {
        Trigger::Every(secs) => format!("--every {secs}s"),
        Trigger::Daily(hour, minute) => format!("--daily {hour:02}:{minute:02}"),
    };
    let apply_flag = if options.apply { " --apply" } else { "" };
    let changed_flag = if options.if_codex_changed {
        " --if-codex-changed"
    } else {
        ""
    };
    let config_flag = options.config.as_ref().map_or(String::new(), |path| {
        let word = shell::quote_if_needed(&path.to_string_lossy());
        format!(" --config {word}")
    });

    let verbs = match (job.is_current, job.is_enabled) {
        (false, Some(true)) => "update",
        (false, _) => "update and activate",
        (true, _) => "activate",
    };
    Some(format!(
        "{verbs} it: codex-manager schedule install {} {trigger_flag}{changed_flag}{apply_flag}{config_flag} --enable",
        options.job.name()
    ))
}

/// Returns the time of the next run of an enabled job, if the scheduler is systemd and reports it.
fn find_next_run(job: &InstalledJob, context: &Context) -> Option<DateTime<Utc>> {
    if job.is_enabled != Some(true) {
        return None;
    }
    let query = systemd::next_run_command(job.options.job);
    let output = run_command(&query, &context.env).ok()?.output;
    let micros = systemd::parse_next_run(&output)?;
    DateTime::from_timestamp_micros(micros)
}
