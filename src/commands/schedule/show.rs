//! `schedule show`: shows the installed jobs and their next runs.

use crate::commands::schedule::job_change::shown_when;
use crate::commands::schedule::place::{codex_bin, current_place};
use crate::commands::schedule::scheduler_commands::run;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::io::clock::from_unix_nanos;
use crate::io::shell;
use crate::schedule::{self, InstalledJob, JobKind, Scheduler, Trigger, systemd};
use crate::ui::Style;
use crate::ui::table::{Cell, Column, Table};
use crate::ui::time;
use crate::views::table_format::TableArgs;
use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

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

/// The JSON document of show. Its keys are an interface.
#[derive(Debug, Serialize)]
struct SchedulesJson {
    scheduler: Scheduler,
    jobs: Vec<JobJson>,
}

#[derive(Debug, Serialize)]
struct JobJson {
    job: JobKind,
    installed: bool,
    up_to_date: Option<bool>,
    enabled: Option<bool>,
    when: Option<Trigger>,
    apply: Option<bool>,
    next_run: Option<String>,
    files: Vec<PathBuf>,
}

impl ScheduleShowArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let context = &self.table.apply(context)?;
        // Without Codex the jobs are still shown; a job with another program is out of date.
        let bin = codex_bin(context).unwrap_or_default();
        let place = current_place(context, Scheduler::of_this_build(), bin)?;
        let jobs = self.job.map_or(JobKind::ALL.to_vec(), |job| vec![job]);
        let (ui, zone, now) = (&context.ui, context.settings.zone, context.now());
        let mut table = Table::new(ui, COLUMNS);
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
                let is_dry = job.options.job == JobKind::Sync && !job.options.apply;
                let when = shown_when(job.options.when);
                if is_dry {
                    format!("{when}, dry run")
                } else {
                    when
                }
            });
            let at = next.map_or("-".into(), |at| time::full(&at, zone, &now));
            let name = job.name().to_owned();
            table.row([
                Cell::new(Style::Strong, name),
                Cell::new(style, state),
                Cell::plain(runs),
                Cell::plain(at).value(next.map_or(String::new(), |at| time::rfc3339(&at, zone))),
            ]);
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
            &SchedulesJson {
                scheduler: place.scheduler,
                jobs: documents,
            },
        );
        table.print(ui);
        for hint in hints {
            ui.note(hint);
        }
        Ok(Outcome::Done)
    }
}

fn state_of(found: Option<&InstalledJob>) -> (Style, &'static str) {
    match found {
        None => (Style::Dim, "not installed"),
        Some(job) if !job.is_current => (Style::Warn, "out of date"),
        Some(InstalledJob {
            is_enabled: Some(false),
            ..
        }) => (Style::Warn, "not active"),
        Some(InstalledJob {
            is_enabled: None, ..
        }) => (Style::Good, "installed"),
        Some(_) => (Style::Good, "enabled"),
    }
}

/// Returns the command that updates or activates a job, if it needs that.
fn hint(found: &InstalledJob) -> Option<String> {
    let options = &found.options;
    if found.is_current && found.is_enabled != Some(false) {
        return None;
    }
    let when = match options.when {
        Trigger::Every(secs) => format!("--every {secs}s"),
        Trigger::Daily(hour, minute) => format!("--daily {hour:02}:{minute:02}"),
    };
    let apply = if options.apply { " --apply" } else { "" };
    let config = options
        .config
        .as_ref()
        .map(|path| format!(" --config {}", shell::word(&path.to_string_lossy())))
        .unwrap_or_default();
    Some(format!(
        "update and activate it: codex-manager schedule install {} {when}{apply}{config} --enable",
        options.job.name()
    ))
}

/// Returns the time of the next run, if the scheduler reports it.
fn next_run(found: &InstalledJob, context: &Context) -> Option<DateTime<Utc>> {
    if found.is_enabled != Some(true) {
        return None;
    }
    let words = systemd::next_run_query(found.options.job);
    let answer = run(&words, &context.env).ok()?.output;
    let micros = systemd::parse_next_run(&answer)?;
    Some(from_unix_nanos(i128::from(micros) * 1000))
}
