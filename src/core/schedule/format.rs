//! The files and commands of a job, in the format of its scheduler.

use super::error::ScheduleError;
use super::job::{JobContext, JobDefinition, JobKind, JobOptions, parse_marker_line};
use super::scheduler::{Scheduler, SchedulerCommand};
use super::{launchd, systemd, windows};
use std::path::PathBuf;

/// Encodes the text of a job file as the scheduler reads it: UTF-16 for Windows, otherwise UTF-8.
pub(super) fn encode_file(text: &str, scheduler: Scheduler) -> Vec<u8> {
    match scheduler {
        Scheduler::Windows => windows::encode_utf16(text),
        Scheduler::Systemd | Scheduler::Launchd => text.as_bytes().to_vec(),
    }
}

/// Returns the paths of the files of a job.
///
/// # Errors
/// The home folder of the user is unknown.
pub fn file_paths(job: JobKind, context: &JobContext<'_>) -> Result<Vec<PathBuf>, ScheduleError> {
    match context.scheduler {
        Scheduler::Systemd => systemd::unit_paths(job, context),
        Scheduler::Launchd => Ok(vec![launchd::plist_path(job, context)?]),
        Scheduler::Windows => Ok(vec![windows::task_file_path(job, context)]),
    }
}

/// Returns the texts of the files of a job, in the order of [`file_paths`].
pub fn render(definition: &JobDefinition, context: &JobContext<'_>) -> Vec<String> {
    match context.scheduler {
        Scheduler::Systemd => systemd::render_units(definition),
        Scheduler::Launchd => vec![launchd::render_plist(definition, context)],
        Scheduler::Windows => vec![windows::render_task(definition)],
    }
}

/// Returns the commands that enable a job after its files are written.
///
/// # Errors
/// The home folder of the user is unknown.
pub fn enable_commands(
    job: JobKind,
    context: &JobContext<'_>,
) -> Result<Vec<SchedulerCommand>, ScheduleError> {
    Ok(match context.scheduler {
        Scheduler::Systemd => systemd::enable_commands(job),
        Scheduler::Launchd => launchd::enable_commands(job, context)?,
        Scheduler::Windows => windows::enable_commands(job, context),
    })
}

/// Returns the commands that disable a job, to be run before its files are removed.
pub fn disable_commands(job: JobKind, context: &JobContext<'_>) -> Vec<SchedulerCommand> {
    match context.scheduler {
        Scheduler::Systemd => systemd::disable_commands(job),
        Scheduler::Launchd => launchd::disable_commands(job, context),
        Scheduler::Windows => windows::disable_commands(job),
    }
}

/// Parses the options in the marker line of a job file, in UTF-8 or UTF-16. Returns `None` if the file has no valid
/// marker line.
pub(super) fn parse_options(bytes: &[u8]) -> Option<JobOptions> {
    let text = windows::decode_utf16(bytes).or_else(|| String::from_utf8(bytes.to_vec()).ok())?;
    parse_marker_line(&text)
}
