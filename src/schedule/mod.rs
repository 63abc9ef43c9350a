//! Installs jobs for the system's own scheduler: systemd user timers, launchd agents, Windows tasks.
//!
//! A job runs this program with absolute paths; no process stays in memory between two runs. The files of
//! a job contain a marker line with the options of the job. A file of the same name without the marker
//! belongs to the user, and is neither replaced nor removed.

pub mod launchd;
pub mod systemd;
pub mod windows;

use crate::io::environment::Environment;
use crate::io::file_open;
use crate::io::{IoContext, IoError, atomic, tree};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The beginning of the marker line; the options follow as JSON.
const MARKER: &str = "made by codex-manager schedule: ";

/// The command that a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// The command `codex-manager sync run`.
    Sync,
    /// The command `codex-manager backup`.
    Backup,
    /// The command `codex-manager status`.
    Status,
}

impl JobKind {
    /// The kinds of jobs in the order of output.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Backup, Self::Status];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Backup => "backup",
            Self::Status => "status",
        }
    }
}

/// The times at which a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// At an interval of this many seconds.
    Every(u32),
    /// Once a day at this hour and minute of local time.
    Daily(u8, u8),
}

impl Trigger {
    /// Returns the time between two runs, in seconds.
    fn period_seconds(self) -> u32 {
        match self {
            Self::Every(secs) => secs,
            Self::Daily(..) => 24 * 60 * 60,
        }
    }
}

/// The options of a job. They are stored in the marker line of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// The command that the job runs.
    pub job: JobKind,
    /// The times of its runs.
    pub when: Trigger,
    /// True for `sync run --apply`, false for `sync run --dry-run`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apply: bool,
    /// The absolute path of the configuration of `sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// The `PATH` of the job. It is stored here because it differs between shells, and another `PATH` of
    /// the current shell must not make an installed job out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
}

/// The scheduler of an operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// systemd user timers (Linux).
    Systemd,
    /// Agents of launchd, for macOS.
    Launchd,
    /// The Task Scheduler (Windows).
    Windows,
}

impl Scheduler {
    /// Returns the scheduler of the system that this program was built for.
    pub fn of_this_build() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }

    /// Returns the name of one of its jobs, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd user timer",
            Self::Launchd => "launchd agent",
            Self::Windows => "Windows task",
        }
    }
}

/// The environment of a job. All paths are absolute.
#[derive(Debug, Clone)]
pub struct JobContext<'a> {
    /// The scheduler that runs the job.
    pub scheduler: Scheduler,
    /// The path of this program.
    pub program: PathBuf,
    /// The Codex home that the job works on.
    pub codex_home: PathBuf,
    /// The manager home that the job works on.
    pub manager_home: PathBuf,
    /// The configured Codex program, if any.
    pub codex_bin: Option<PathBuf>,
    /// The current environment; the job gets some of its variables.
    pub env: &'a Environment,
    /// The numeric id of the user on Unix; used by launchd only.
    pub user_id: u32,
}

/// The reason why a job cannot be installed, removed or shown.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A file at the path of a job has no marker line.
    #[error("codex-manager did not create this file and leaves it unchanged: {}", .0.display())]
    Foreign(PathBuf),
    /// A path or variable that the scheduler's file format cannot represent.
    #[error("a {format} cannot contain this text ({why}): {text:?}")]
    Unwritable {
        /// The name of the scheduler's jobs; see [`Scheduler::name`].
        format: &'static str,
        /// The reason, for the message.
        why: &'static str,
        /// The path or value of the variable.
        text: String,
    },
    /// The user's home folder is unknown.
    #[error("the home folder of the user is unknown")]
    NoHome,
    /// A file cannot be read, written or removed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// The content of a job, independent of the scheduler's format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDefinition {
    /// The options for the marker line.
    pub options: JobOptions,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The environment variables of the program. Empty for Windows.
    pub environment: Vec<(String, String)>,
}

impl JobDefinition {
    /// Creates the job with these options.
    ///
    /// # Errors
    /// A path is not UTF-8, or contains a character that the scheduler's format cannot represent.
    pub fn new(options: JobOptions, context: &JobContext<'_>) -> Result<Self, ScheduleError> {
        let path = |path: &Path| text(path.as_os_str(), context.scheduler);
        let mut command = vec![path(&context.program)?];
        let mut environment = Vec::new();
        let homes = [
            ("--codex-home", "CODEX_HOME", &context.codex_home),
            (
                "--manager-home",
                "CODEX_MANAGER_HOME",
                &context.manager_home,
            ),
        ];
        for (flag, variable, home) in homes {
            // A Windows task has no variables of its own.
            if context.scheduler == Scheduler::Windows {
                command.extend([flag.into(), path(home)?]);
            } else {
                environment.push((variable.into(), path(home)?));
            }
        }
        if let Some(bin) = &context.codex_bin {
            command.extend(["--codex-bin".into(), path(bin)?]);
        }
        if context.scheduler != Scheduler::Windows {
            if let Some(folder) = context.env.get("CODEX_SQLITE_HOME") {
                let folder = context.env.absolute(Path::new(folder));
                environment.push(("CODEX_SQLITE_HOME".into(), path(&folder)?));
            }
            if let Some(folders) = &options.search_path {
                environment.push(("PATH".into(), text(folders.as_ref(), context.scheduler)?));
            }
            if let Some(zone) = context.env.get("TZ") {
                environment.push(("TZ".into(), text(zone, context.scheduler)?));
            }
        }
        match options.job {
            JobKind::Sync => {
                command.extend(["sync".into(), "run".into()]);
                if let Some(config) = &options.config {
                    command.extend(["--config".into(), path(config)?]);
                }
                command.push(
                    if options.apply {
                        "--apply"
                    } else {
                        "--dry-run"
                    }
                    .into(),
                );
            }
            JobKind::Backup => {
                // Half the time between two runs: a run that starts a little early still makes an archive,
                // and an archive that the user made shortly before is enough.
                let minutes = (options.when.period_seconds() / 120).max(1);
                command.extend([
                    "backup".into(),
                    "--if-older".into(),
                    format!("{minutes}min"),
                    "--quiet".into(),
                ]);
            }
            JobKind::Status => command.extend(["status".into(), "--quiet".into()]),
        }
        // The configuration of sync decides about its log.
        if options.job != JobKind::Sync {
            command.push("--log".into());
        }
        Ok(Self {
            options,
            command,
            environment,
        })
    }

    /// Returns the marker line. It has no `--`, so that it is valid in an XML comment.
    fn marker(&self) -> String {
        let options = serde_json::to_string(&self.options).unwrap_or_default();
        format!("{MARKER}{}", options.replace("--", "-\\u002d"))
    }
}

/// Returns the `PATH` of a job: the absolute folders of the current `PATH`. Relative folders are dropped,
/// because a job runs in another current folder. `None` for a Windows task, which has no variables.
///
/// # Errors
/// A folder is not UTF-8, or contains a character that the scheduler's format cannot represent.
pub fn search_path(
    env: &Environment,
    scheduler: Scheduler,
) -> Result<Option<String>, ScheduleError> {
    let Some(folders) = env.get("PATH").filter(|_| scheduler != Scheduler::Windows) else {
        return Ok(None);
    };
    let folders = std::env::split_paths(folders).filter(|folder| folder.is_absolute());
    match std::env::join_paths(folders) {
        Ok(folders) => text(&folders, scheduler).map(Some),
        // Does not happen: the folders come from splitting.
        Err(_) => Ok(None),
    }
}

/// Converts `text` to UTF-8, and checks that the scheduler's format can represent it.
fn text(text: &std::ffi::OsStr, scheduler: Scheduler) -> Result<String, ScheduleError> {
    let unwritable = |why| ScheduleError::Unwritable {
        format: scheduler.name(),
        why,
        text: text.to_string_lossy().into_owned(),
    };
    let plain = text.to_str().ok_or_else(|| unwritable("not UTF-8"))?;
    if plain
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        return Err(unwritable("a control character"));
    }
    // The Task Scheduler expands `%NAME%` and `$(NAME)`, and there is no way to escape them.
    let is_replaced = plain.matches('%').count() > 1 || plain.contains("$(");
    if scheduler == Scheduler::Windows && is_replaced {
        return Err(unwritable("Windows would expand it as a variable"));
    }
    Ok(plain.to_owned())
}

/// A file that a scheduler reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFile {
    /// The absolute path of the file.
    pub path: PathBuf,
    /// The content; in UTF-16 on disk for Windows.
    pub text: String,
}

impl JobFile {
    fn bytes(&self, scheduler: Scheduler) -> Vec<u8> {
        match scheduler {
            Scheduler::Windows => windows::encode(&self.text),
            Scheduler::Systemd | Scheduler::Launchd => self.text.clone().into_bytes(),
        }
    }
}

/// Returns the paths of the files of a job.
///
/// # Errors
/// The home folder of the user is unknown.
pub fn paths(job: JobKind, context: &JobContext<'_>) -> Result<Vec<PathBuf>, ScheduleError> {
    match context.scheduler {
        Scheduler::Systemd => systemd::paths(job, context),
        Scheduler::Launchd => launchd::paths(job, context),
        Scheduler::Windows => Ok(windows::paths(job, context)),
    }
}

/// Returns the files of a job, in the order of [`paths`].
///
/// # Errors
/// The home folder of the user is unknown.
pub fn render(
    definition: &JobDefinition,
    context: &JobContext<'_>,
) -> Result<Vec<JobFile>, ScheduleError> {
    let texts = match context.scheduler {
        Scheduler::Systemd => systemd::render(definition),
        Scheduler::Launchd => vec![launchd::render(definition, context)],
        Scheduler::Windows => vec![windows::render(definition)],
    };
    let paths = paths(definition.options.job, context)?;
    Ok(paths
        .into_iter()
        .zip(texts)
        .map(|(path, text)| JobFile { path, text })
        .collect())
}

/// A command that changes the state of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerCommand {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// True if an error is ignored, because the job may not be enabled.
    pub may_fail: bool,
}

impl SchedulerCommand {
    fn new(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            may_fail: false,
        }
    }

    fn may_fail(words: &[&str]) -> Self {
        Self {
            may_fail: true,
            ..Self::new(words)
        }
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

/// The planned action on a file of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAction {
    /// Create a new file.
    Create,
    /// Replace an older file of the job.
    Update,
    /// Leave an up-to-date file unchanged.
    Keep,
    /// Remove a file of the job.
    Remove,
    /// Nothing to remove: the file does not exist.
    Absent,
}

/// A file of a job with its planned action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJobFile {
    /// The file; its text is empty if it is removed.
    pub file: JobFile,
    /// The action on the file.
    pub action: FileAction,
}

/// Plans the installation of a job: compares its files with the existing ones.
///
/// # Errors
/// An existing file has no marker line, or cannot be read.
pub fn plan_install(
    definition: &JobDefinition,
    context: &JobContext<'_>,
) -> Result<Vec<PlannedJobFile>, ScheduleError> {
    render(definition, context)?
        .into_iter()
        .map(|file| {
            let action = match read(&file.path)? {
                None => FileAction::Create,
                Some(bytes) if bytes == file.bytes(context.scheduler) => FileAction::Keep,
                Some(bytes) if parse_marker(&bytes).is_some() => FileAction::Update,
                Some(_) => return Err(ScheduleError::Foreign(file.path)),
            };
            Ok(PlannedJobFile { file, action })
        })
        .collect()
}

/// Plans the removal of a job: finds its existing files.
///
/// # Errors
/// An existing file has no marker line, or cannot be read.
pub fn plan_remove(
    job: JobKind,
    context: &JobContext<'_>,
) -> Result<Vec<PlannedJobFile>, ScheduleError> {
    paths(job, context)?
        .into_iter()
        .map(|path| {
            let action = match read(&path)? {
                None => FileAction::Absent,
                Some(bytes) if parse_marker(&bytes).is_some() => FileAction::Remove,
                Some(_) => return Err(ScheduleError::Foreign(path)),
            };
            let text = String::new();
            Ok(PlannedJobFile {
                file: JobFile { path, text },
                action,
            })
        })
        .collect()
}

/// Writes and removes the planned files. Each write is atomic, with mode 0600.
///
/// # Errors
/// A file cannot be written or removed; the actions before it are done.
pub fn apply(files: &[PlannedJobFile], scheduler: Scheduler) -> Result<(), ScheduleError> {
    for PlannedJobFile { file, action } in files {
        match action {
            FileAction::Create | FileAction::Update => {
                atomic::create_private_folder(atomic::parent_of(&file.path))?;
                atomic::write(&file.path, &file.bytes(scheduler))?;
            }
            FileAction::Remove => {
                tree::remove(&file.path)?;
                atomic::sync_folder(atomic::parent_of(&file.path))?;
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
    /// True if installing it again would not change its files.
    pub is_current: bool,
    /// True if the scheduler runs the job; `None` if the files do not show it (launchd, Windows).
    pub is_enabled: Option<bool>,
}

/// Finds an installed job; `None` if it is not installed.
///
/// # Errors
/// A file at its path has no marker line, or cannot be read.
pub fn find(job: JobKind, context: &JobContext<'_>) -> Result<Option<InstalledJob>, ScheduleError> {
    let mut options = None;
    for path in paths(job, context)? {
        if let Some(bytes) = read(&path)? {
            let found = parse_marker(&bytes).ok_or(ScheduleError::Foreign(path))?;
            options.get_or_insert(found);
        }
    }
    let Some(options) = options else {
        return Ok(None);
    };
    let files = JobDefinition::new(options.clone(), context)
        .and_then(|definition| plan_install(&definition, context));
    Ok(Some(InstalledJob {
        // The user may have edited the marker line to another job, or to a path that cannot be
        // represented; both mean out of date.
        is_current: options.job == job
            && files.is_ok_and(|files| files.iter().all(|f| f.action == FileAction::Keep)),
        options,
        is_enabled: match context.scheduler {
            Scheduler::Systemd => Some(systemd::is_enabled(job, context)?),
            Scheduler::Launchd | Scheduler::Windows => None,
        },
    }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ScheduleError> {
    match file_open::read(path).at("read", path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if !e.is_not_found() => Err(e.into()),
        // A dangling link belongs to the user, too.
        Err(_) if path.is_symlink() => Err(ScheduleError::Foreign(path.to_path_buf())),
        Err(_) => Ok(None),
    }
}

/// Parses the options in the marker line of a file; `None` if there is no valid marker line.
fn parse_marker(bytes: &[u8]) -> Option<JobOptions> {
    let text = windows::decode(bytes).or_else(|| String::from_utf8(bytes.to_vec()).ok())?;
    let (_, rest) = text.split_once(MARKER)?;
    let line = rest.lines().next()?;
    let mut values = serde_json::Deserializer::from_str(line).into_iter();
    values.next()?.ok()
}
