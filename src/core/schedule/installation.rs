//! The installation of a job: its files on disk and its commands, in the format of its scheduler.

use super::error::ScheduleError;
use super::job::{JobContext, JobDefinition, JobKind, JobOptions, parse_marker_line};
use super::scheduler::{Scheduler, SchedulerCommand};
use super::{launchd, systemd, windows};
use crate::io::{IoContext, atomic, file_open, tree};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// The planned action on a file of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAction {
    Create,
    /// Replace a file of the job with other content.
    Update,
    /// Leave the file unchanged, because it already has the planned content.
    Keep,
    Remove,
    /// There is nothing to remove, because the file does not exist.
    Absent,
}

/// A file of a job with its planned action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedJobFile {
    pub path: PathBuf,
    pub action: FileAction,
    /// The planned content; empty in a plan of a removal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
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

/// Plans the installation of a job: compares its files with the existing ones.
///
/// # Errors
/// An existing file has no marker line, or cannot be read.
pub fn plan_install(
    definition: &JobDefinition,
    context: &JobContext<'_>,
) -> Result<Vec<PlannedJobFile>, ScheduleError> {
    let plan_file = |(path, text): (PathBuf, String)| {
        let action = match read_job_file(&path)? {
            None => FileAction::Create,
            Some((bytes, _)) if bytes == encode_file(&text, context.scheduler) => FileAction::Keep,
            Some(_) => FileAction::Update,
        };
        Ok(PlannedJobFile { path, action, text })
    };
    let paths = file_paths(definition.options.job, context)?;
    let files = paths.into_iter().zip(render(definition, context));
    files.map(plan_file).collect()
}

/// Plans the removal of a job: finds its existing files.
///
/// # Errors
/// An existing file has no marker line, or cannot be read.
pub fn plan_remove(
    job: JobKind,
    context: &JobContext<'_>,
) -> Result<Vec<PlannedJobFile>, ScheduleError> {
    let plan_file = |path: PathBuf| {
        let action = match read_job_file(&path)? {
            None => FileAction::Absent,
            Some(_) => FileAction::Remove,
        };
        let text = String::new();
        Ok(PlannedJobFile { path, action, text })
    };
    let paths = file_paths(job, context)?;
    paths.into_iter().map(plan_file).collect()
}

/// Writes and removes the planned files. Each write is atomic, with mode 0600.
///
/// # Errors
/// A file cannot be written or removed. The files before it in the list are already changed.
pub fn apply(files: &[PlannedJobFile], scheduler: Scheduler) -> Result<(), ScheduleError> {
    for PlannedJobFile { path, action, text } in files {
        match action {
            FileAction::Create | FileAction::Update => {
                atomic::create_private_folder(atomic::parent_of(path))?;
                atomic::write(path, &encode_file(text, scheduler))?;
            }
            FileAction::Remove => {
                tree::remove(path)?;
                atomic::sync_folder(atomic::parent_of(path))?;
            }
            FileAction::Keep | FileAction::Absent => {}
        }
    }
    Ok(())
}

/// A job whose files exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledJob {
    /// The options in the marker line.
    pub options: JobOptions,
    /// True if installing the job again would not change its files.
    pub is_current: bool,
    /// True if the scheduler runs the job. `None` for launchd and Windows, which do not record it in a file.
    pub is_enabled: Option<bool>,
}

/// Finds an installed job. Returns `None` if none of its files exists.
///
/// # Errors
/// A file at one of the job's paths has no marker line, or cannot be read.
pub fn find(job: JobKind, context: &JobContext<'_>) -> Result<Option<InstalledJob>, ScheduleError> {
    let mut options = None;
    for path in file_paths(job, context)? {
        if let Some((_, options_in_file)) = read_job_file(&path)? {
            // The options in the first file count.
            options.get_or_insert(options_in_file);
        }
    }

    let Some(options) = options else {
        return Ok(None);
    };

    let planned_files = JobDefinition::new(options.clone(), context)
        .and_then(|definition| plan_install(&definition, context));
    let would_keep_files =
        planned_files.is_ok_and(|files| files.iter().all(|f| f.action == FileAction::Keep));
    Ok(Some(InstalledJob {
        // The user may have edited the marker line, so that it names another job, or a path that cannot be
        // represented. Both mean that the job is out of date.
        is_current: options.job == job && would_keep_files,
        options,
        is_enabled: match context.scheduler {
            Scheduler::Systemd => Some(systemd::is_enabled(job, context)?),
            Scheduler::Launchd | Scheduler::Windows => None,
        },
    }))
}

/// Reads a file of a job, with the options in its marker line. Returns `None` if the file does not exist.
///
/// # Errors
/// The file has no marker line, or cannot be read.
fn read_job_file(path: &Path) -> Result<Option<(Vec<u8>, JobOptions)>, ScheduleError> {
    let foreign = || ScheduleError::Foreign(path.to_path_buf());
    match file_open::read(path).at("read", path) {
        Ok(bytes) => {
            let options = parse_options(&bytes).ok_or_else(foreign)?;
            Ok(Some((bytes, options)))
        }
        Err(e) if !e.is_not_found() => Err(e.into()),
        // A dangling link is not from codex-manager, so it must not be replaced or removed.
        Err(_) if path.is_symlink() => Err(foreign()),
        Err(_) => Ok(None),
    }
}

/// Encodes the text of a job file as the scheduler reads it: UTF-16 for Windows, otherwise UTF-8.
fn encode_file(text: &str, scheduler: Scheduler) -> Vec<u8> {
    match scheduler {
        Scheduler::Windows => windows::encode_utf16(text),
        Scheduler::Systemd | Scheduler::Launchd => text.as_bytes().to_vec(),
    }
}

/// Parses the options in the marker line of a job file, in UTF-8 or UTF-16. Returns `None` if the file has no valid
/// marker line.
fn parse_options(bytes: &[u8]) -> Option<JobOptions> {
    let text = windows::decode_utf16(bytes).or_else(|| String::from_utf8(bytes.to_vec()).ok())?;
    parse_marker_line(&text)
}
