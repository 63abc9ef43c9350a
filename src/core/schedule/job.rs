//! A job: its options, its command and its environment.

use super::error::ScheduleError;
use super::scheduler::Scheduler;
use crate::io::Environment;
use crate::io::settings::choice_name;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The beginning of the marker line. The options of the job follow it as JSON.
const MARKER: &str = "made by codex-manager schedule: ";

const DAY_SECONDS: u32 = 24 * 60 * 60;

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
    /// The command `codex-manager vault backup`, with a drill once a month.
    Vault,
    /// The command `codex-manager notify`.
    Notify,
}

impl JobKind {
    pub fn name(self) -> String {
        choice_name(&self)
    }
}

/// The times at which a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// At an interval of this many seconds.
    Every(u32),
    /// Once a day at this hour and minute of local time.
    Daily(u32, u32),
}

/// The options of a job. They are stored in the marker line of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobOptions {
    pub job: JobKind,
    pub when: Trigger,
    /// True for `sync run --apply`, false for `sync run --dry-run`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub apply: bool,
    /// True if `backup` also makes an archive whenever the version of Codex has changed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_codex_changed: bool,
    /// The absolute path of the configuration file of `sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// The `PATH` of the job. The marker line stores it, so that an installed job is not out of date just because the
    /// current shell has another `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
}

impl JobOptions {
    /// Returns the age in seconds at which the last archive is too old, even if Codex has not changed. With
    /// `if_codex_changed`, a job that runs more often than daily replaces an old archive about once a day.
    fn archive_age_seconds(&self) -> u32 {
        let interval = match self.when {
            Trigger::Every(secs) => secs,
            Trigger::Daily(..) => DAY_SECONDS,
        };
        let period = if self.if_codex_changed {
            interval.max(DAY_SECONDS)
        } else {
            interval
        };
        // Half an interval less, so that a run that starts a little early still makes an archive.
        period - interval / 2
    }
}

/// The environment of a job. All paths are absolute.
#[derive(Debug, Clone)]
pub struct JobContext<'a> {
    pub scheduler: Scheduler,
    /// The path of codex-manager.
    pub program: PathBuf,
    pub codex_home: PathBuf,
    pub manager_home: PathBuf,
    /// The configured Codex program, if any.
    pub codex_bin: Option<PathBuf>,
    /// The environment of this process. The job gets some of its variables.
    pub env: &'a Environment,
    /// The numeric id of the user, which only launchd needs.
    pub user_id: u32,
}

/// A job before it is written in the format of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDefinition {
    pub options: JobOptions,
    pub command: Vec<String>,
    /// The environment variables that the job sets. Empty for Windows, whose tasks cannot set variables.
    pub environment: Vec<(String, String)>,
}

impl JobDefinition {
    /// Builds the command and the environment of the job with these options.
    ///
    /// # Errors
    /// A path is not UTF-8, or contains a character that the scheduler's format cannot represent.
    pub fn new(options: JobOptions, context: &JobContext<'_>) -> Result<Self, ScheduleError> {
        let text = |path: &Path| to_representable_text(path.as_os_str(), context.scheduler);
        let mut command = vec![text(&context.program)?];

        // A Windows task cannot set variables, so its command names the homes.
        let environment = if context.scheduler == Scheduler::Windows {
            command.extend(["--codex-home".into(), text(&context.codex_home)?]);
            command.extend(["--manager-home".into(), text(&context.manager_home)?]);
            Vec::new()
        } else {
            list_variables(&options, context)?
        };

        if let Some(bin) = &context.codex_bin {
            command.extend(["--codex-bin".into(), text(bin)?]);
        }
        command.extend(command_words(&options, context.scheduler)?);

        Ok(Self {
            options,
            command,
            environment,
        })
    }

    pub(super) fn program_and_arguments(&self) -> (&str, &[String]) {
        let words = self.command.split_first();
        words.map_or(("", &[]), |(program, arguments)| (program, arguments))
    }

    /// Returns the marker line with the options. Escapes `--`, which XML does not allow within a comment.
    pub(super) fn format_marker_line(&self) -> String {
        let options = serde_json::to_string(&self.options).unwrap_or_default();
        format!("{MARKER}{}", options.replace("--", "-\\u002d"))
    }
}

fn list_variables(
    options: &JobOptions,
    context: &JobContext<'_>,
) -> Result<Vec<(String, String)>, ScheduleError> {
    let text = |value: &OsStr| to_representable_text(value, context.scheduler);
    let mut variables = vec![
        ("CODEX_HOME".into(), text(context.codex_home.as_ref())?),
        (
            "CODEX_MANAGER_HOME".into(),
            text(context.manager_home.as_ref())?,
        ),
    ];

    // Codex reads this variable if its config.toml names no folder for databases. Without the variable, a job would
    // back up other databases than those in use.
    if let Some(folder) = context.env.get("CODEX_SQLITE_HOME") {
        let folder = context.env.absolute(Path::new(folder));
        variables.push(("CODEX_SQLITE_HOME".into(), text(folder.as_ref())?));
    }

    if let Some(folders) = &options.search_path {
        variables.push(("PATH".into(), text(folders.as_ref())?));
    }

    // Schedulers start jobs without TZ, and names of archives contain local times.
    if let Some(zone) = context.env.get("TZ") {
        variables.push(("TZ".into(), text(zone)?));
    }
    Ok(variables)
}

/// Returns the subcommand that a job runs, with its flags.
fn command_words(options: &JobOptions, scheduler: Scheduler) -> Result<Vec<String>, ScheduleError> {
    let to_words =
        |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let mut words = match options.job {
        JobKind::Sync => {
            let mut words = to_words(&["sync", "run"]);
            if let Some(config) = &options.config {
                let config = to_representable_text(config.as_os_str(), scheduler)?;
                words.extend(["--config".into(), config]);
            }
            let mode = if options.apply {
                "--apply"
            } else {
                "--dry-run"
            };
            words.push(mode.into());
            // The configuration file of sync decides whether a sync writes a log.
            return Ok(words);
        }

        JobKind::Backup => {
            // An archive that the user made recently is enough.
            let minutes = (options.archive_age_seconds() / 60).max(1);
            let mut words = to_words(&["backup", "--if-older", &format!("{minutes}min")]);
            if options.if_codex_changed {
                words.push("--if-codex-changed".into());
            }
            words
        }

        JobKind::Status => to_words(&["status"]),
        JobKind::Notify => to_words(&["notify"]),
        JobKind::Vault => to_words(&["vault", "backup", "--drill-if-older", "30d"]),
    };
    words.extend(["--quiet".into(), "--log".into()]);
    Ok(words)
}

/// Returns the `PATH` of a job: the absolute folders of the current `PATH`. Relative folders are dropped,
/// because a job runs in another current folder. `None` if there is no `PATH`, and for a Windows task, which cannot set
/// variables.
///
/// # Errors
/// A folder is not UTF-8, or contains a character that the scheduler's format cannot represent.
pub fn search_path(
    env: &Environment,
    scheduler: Scheduler,
) -> Result<Option<String>, ScheduleError> {
    if env.get("PATH").is_none() || scheduler == Scheduler::Windows {
        return Ok(None);
    }
    // The folders come from splitting, so they can be joined.
    let folders = std::env::join_paths(env.program_folders()).ok();
    let folders = folders.map(|folders| to_representable_text(&folders, scheduler));
    folders.transpose()
}

/// Converts `text` to UTF-8, and checks that the scheduler's format can represent it.
fn to_representable_text(text: &OsStr, scheduler: Scheduler) -> Result<String, ScheduleError> {
    let unwritable = |reason| ScheduleError::Unwritable {
        reason,
        text: text.to_string_lossy().into_owned(),
    };

    let plain = text.to_str().ok_or_else(|| unwritable("it is not UTF-8"))?;
    let is_unrepresentable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    if plain.contains(is_unrepresentable) {
        return Err(unwritable(
            "it has a control character, or U+FFFE or U+FFFF",
        ));
    }

    // The Task Scheduler expands `%NAME%` and `$(NAME)`, and there is no way to escape them.
    let would_be_expanded = plain.matches('%').count() > 1 || plain.contains("$(");
    if scheduler == Scheduler::Windows && would_be_expanded {
        return Err(unwritable("Windows would expand it as a variable"));
    }
    Ok(plain.to_owned())
}

/// Parses the options in the marker line of `text`. Returns `None` if there is no valid marker line.
pub(super) fn parse_marker_line(text: &str) -> Option<JobOptions> {
    let (_, after_marker) = text.split_once(MARKER)?;
    let line = after_marker.lines().next()?;
    // The end of the XML comment may follow in the same line.
    let mut values = serde_json::Deserializer::from_str(line).into_iter();
    values.next()?.ok()
}
