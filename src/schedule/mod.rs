//! Jobs that the system's own scheduler runs: systemd user timers, launchd agents, Windows tasks.
//!
//! What runs is this program with absolute paths; nothing of ours stays in memory in between. The
//! files that describe a job carry a line by which they are known as ours, with the options they
//! were made from: a file of the same name without it is somebody else's, and is neither replaced
//! nor removed.

pub mod launchd;
pub mod systemd;
pub mod windows;

use crate::io::environment::Environment;
use crate::io::file_open;
use crate::io::{IoContext, IoError, atomic, tree};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The line by which our files are known, up to the options.
const MARKER: &str = "made by codex-manager schedule: ";

/// What can be run by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JobKind {
    /// `sync run`.
    Sync,
    /// `backup`.
    Backup,
    /// `status`.
    Status,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sync, Self::Backup, Self::Status];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Backup => "backup",
            Self::Status => "status",
        }
    }
}

/// When a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// Again and again, that many seconds apart.
    Every(u32),
    /// Once a day at this hour and minute, by the clock of the system.
    Daily(u8, u8),
}

impl Trigger {
    /// How far two runs are apart, in seconds.
    fn period_seconds(self) -> u32 {
        match self {
            Self::Every(secs) => secs,
            Self::Daily(..) => 24 * 60 * 60,
        }
    }
}

/// What was asked for when a job was installed. Kept in its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    /// What runs.
    pub job: JobKind,
    /// When.
    pub when: Trigger,
    /// Whether `sync` changes anything; else it only says what it would do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apply: bool,
    /// The configuration of `sync`, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Where programs are looked for. Kept here, because it is another one in many a shell, which
    /// does not make the job out of date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
}

/// A scheduler of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// systemd user timers.
    Systemd,
    /// launchd agents of macOS.
    Launchd,
    /// The Task Scheduler of Windows.
    Windows,
}

impl Scheduler {
    /// The one of the system that this program was built for.
    pub fn of_this_build() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd user timer",
            Self::Launchd => "launchd agent",
            Self::Windows => "Windows task",
        }
    }
}

/// Where a job runs: paths, all absolute.
#[derive(Debug, Clone)]
pub struct JobContext<'a> {
    /// Whose files are written.
    pub scheduler: Scheduler,
    /// This program.
    pub program: PathBuf,
    /// The Codex home.
    pub codex_home: PathBuf,
    /// The manager home.
    pub manager_home: PathBuf,
    /// The Codex program, where one is configured.
    pub codex_bin: Option<PathBuf>,
    /// The environment, of which some variables are carried over.
    pub env: &'a Environment,
    /// The user's number, where users have one.
    pub user_id: u32,
}

/// Why a job cannot be installed, removed or looked at.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A file of the name stands there and is not ours.
    #[error("a file of that name is there that codex-manager did not make: {}", .0.display())]
    Foreign(PathBuf),
    /// A path or variable that the scheduler's format cannot hold.
    #[error("cannot be written into a {format} ({why}): {text:?}")]
    Unwritable {
        /// The format.
        format: &'static str,
        /// Why not.
        why: &'static str,
        /// The text.
        text: String,
    },
    /// The user's own folder is not known.
    #[error("no home folder is known")]
    NoHome,
    /// A file could not be read, written or removed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A job as text: what every format is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDefinition {
    /// What it was made from.
    pub options: JobOptions,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Variables that the program is given.
    pub environment: Vec<(String, String)>,
}

impl JobDefinition {
    /// The job with these options at this context.
    ///
    /// # Errors
    /// A path is no text, or holds a character that none of the formats can hold.
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
                // Half the distance: a run that comes a little early still makes one, and one that
                // was made by hand just before is enough.
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
        // sync keeps the log that its configuration asks for.
        if options.job != JobKind::Sync {
            command.push("--log".into());
        }
        Ok(Self {
            options,
            command,
            environment,
        })
    }

    /// The line by which the file is known as ours, and read again. Fit for a comment of XML.
    fn marker(&self) -> String {
        let options = serde_json::to_string(&self.options).unwrap_or_default();
        format!("{MARKER}{}", options.replace("--", "-\\u002d"))
    }
}

/// Where a job looks for programs: the absolute folders of `PATH`, as a job starts in another folder
/// than we do. None for a Windows task, which has no variables of its own.
///
/// # Errors
/// It is no text, or holds a character that the format cannot hold.
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
        // What was split can be joined.
        Err(_) => Ok(None),
    }
}

/// `text` as every format can hold it.
fn text(text: &std::ffi::OsStr, scheduler: Scheduler) -> Result<String, ScheduleError> {
    let unwritable = |why| ScheduleError::Unwritable {
        format: scheduler.name(),
        why,
        text: text.to_string_lossy().into_owned(),
    };
    let plain = text.to_str().ok_or_else(|| unwritable("it is no UTF-8"))?;
    if plain
        .chars()
        .any(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        return Err(unwritable("it holds a control character"));
    }
    // There is no way to write these so that the Task Scheduler does not replace them.
    let is_replaced = plain.matches('%').count() > 1 || plain.contains("$(");
    if scheduler == Scheduler::Windows && is_replaced {
        return Err(unwritable("it would be taken for a variable"));
    }
    Ok(plain.to_owned())
}

/// A file that a scheduler reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFile {
    /// Where.
    pub path: PathBuf,
    /// What.
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

/// Where the files of a job are.
///
/// # Errors
/// The home folder is not known.
pub fn paths(job: JobKind, context: &JobContext<'_>) -> Result<Vec<PathBuf>, ScheduleError> {
    match context.scheduler {
        Scheduler::Systemd => systemd::paths(job, context),
        Scheduler::Launchd => launchd::paths(job, context),
        Scheduler::Windows => Ok(windows::paths(job, context)),
    }
}

/// The files of a job, in the order of [`paths`].
///
/// # Errors
/// The home folder is not known.
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

/// A command of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerCommand {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Whether it may fail: there may be nothing to undo.
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

/// What makes the scheduler take up a job whose files are there.
///
/// # Errors
/// The home folder is not known.
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

/// What makes the scheduler forget a job: before its files are removed.
pub fn disable_commands(job: JobKind, context: &JobContext<'_>) -> Vec<SchedulerCommand> {
    match context.scheduler {
        Scheduler::Systemd => systemd::disable_commands(job),
        Scheduler::Launchd => launchd::disable_commands(job, context),
        Scheduler::Windows => windows::disable_commands(job),
    }
}

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileAction {
    /// It is new.
    Create,
    /// Ours is replaced.
    Update,
    /// It is as it should be.
    Keep,
    /// Ours is removed.
    Remove,
    /// There is none.
    Absent,
}

/// A file and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedJobFile {
    /// The file; without text where it is removed.
    pub file: JobFile,
    /// What is done.
    pub action: FileAction,
}

/// Compares the files of a job with those that are there.
///
/// # Errors
/// One of that name is not ours, or cannot be read.
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

/// Finds the files of a job that are ours.
///
/// # Errors
/// One of that name is not ours, or cannot be read.
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

/// Writes and removes as planned; each file is there as a whole or not at all, readable by its
/// owner alone.
///
/// # Errors
/// One could not be written or removed.
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

/// A job as it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledJob {
    /// What it was made from.
    pub options: JobOptions,
    /// Whether its files are what they would be made now.
    pub is_current: bool,
    /// Whether the scheduler has taken it up, where the files tell.
    pub is_enabled: Option<bool>,
}

/// Looks whether a job is installed; `None` where it is not.
///
/// # Errors
/// A file of that name is not ours, or cannot be read.
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
        // Options that were edited may name another job, and a path may not be writable any more.
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
        // A link that leads nowhere is somebody's too.
        Err(_) if path.is_symlink() => Err(ScheduleError::Foreign(path.to_path_buf())),
        Err(_) => Ok(None),
    }
}

/// The options that a file of ours was made from; `None` for a file that is not ours.
fn parse_marker(bytes: &[u8]) -> Option<JobOptions> {
    let text = windows::decode(bytes).or_else(|| String::from_utf8(bytes.to_vec()).ok())?;
    let (_, rest) = text.split_once(MARKER)?;
    let line = rest.lines().next()?;
    let mut values = serde_json::Deserializer::from_str(line).into_iter();
    values.next()?.ok()
}
