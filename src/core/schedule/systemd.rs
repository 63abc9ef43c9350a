//! Writes systemd user units: a service that runs the job, and a timer that starts it.
//!
//! See systemd.unit(5), systemd.service(5) and systemd.timer(5).

use super::error::ScheduleError;
use super::job::{JobContext, JobDefinition, JobKind, Trigger};
use super::scheduler::SchedulerCommand;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn unit_name(job: JobKind, extension: &str) -> String {
    format!("codex-manager-{}.{extension}", job.name())
}

fn unit_folder(context: &JobContext<'_>) -> Result<PathBuf, ScheduleError> {
    let config_folder = match context.env.get("XDG_CONFIG_HOME") {
        Some(folder) if Path::new(folder).is_absolute() => PathBuf::from(folder),
        _ => {
            let home = context.env.home_dir.as_ref().ok_or(ScheduleError::NoHome)?;
            home.join(".config")
        }
    };
    Ok(config_folder.join("systemd/user"))
}

/// Returns the paths of the service and the timer.
pub(super) fn unit_paths(
    job: JobKind,
    context: &JobContext<'_>,
) -> Result<Vec<PathBuf>, ScheduleError> {
    let folder = unit_folder(context)?;
    let paths = ["service", "timer"].map(|kind| folder.join(unit_name(job, kind)));
    Ok(paths.into())
}

/// Returns true if the timer is enabled, which systemd records by a link in `timers.target.wants`.
pub(super) fn is_enabled(job: JobKind, context: &JobContext<'_>) -> Result<bool, ScheduleError> {
    let wants_folder = unit_folder(context)?.join("timers.target.wants");
    let link = wants_folder.join(unit_name(job, "timer"));
    Ok(link.symlink_metadata().is_ok())
}

/// Returns the texts of the units, in the order of [`unit_paths`].
pub(super) fn render_units(definition: &JobDefinition) -> Vec<String> {
    let name = definition.options.job.name();
    let marker = definition.format_marker_line();
    let mut service = format!(
        "# {marker}\n\
         # Changes are lost when the job is installed again.\n\
         \n\
         [Unit]\n\
         Description=codex-manager {name}\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         Nice=10\n"
    );

    for (variable, value) in &definition.environment {
        let assignment = quote_word(&format!("{variable}={value}"));
        let _ = writeln!(service, "Environment={assignment}");
    }
    let _ = writeln!(service, "ExecStart={}", format_exec_start(definition));

    let trigger_lines = match definition.options.when {
        Trigger::Every(secs) => {
            format!("OnStartupSec=120\nOnUnitActiveSec={secs}\nAccuracySec=60\n")
        }
        // With `Persistent`, systemd makes up for a time that was missed while the machine was off.
        Trigger::Daily(hour, minute) => {
            format!("OnCalendar=*-*-* {hour:02}:{minute:02}:00\nPersistent=true\n")
        }
    };

    let timer = format!(
        "# {marker}\n\
         # Changes are lost when the job is installed again.\n\
         \n\
         [Unit]\n\
         Description=Timer for codex-manager {name}\n\
         \n\
         [Timer]\n\
         {trigger_lines}\
         \n\
         [Install]\n\
         WantedBy=timers.target\n"
    );

    vec![service, timer]
}

fn format_exec_start(definition: &JobDefinition) -> String {
    let (program, arguments) = definition.program_and_arguments();
    // systemd rejects a program path with one of these characters, even escaped, so a shell runs it.
    let mut words = if program.contains(['"', '\'', '\\']) {
        vec![
            quote_word("/bin/sh"),
            quote_word("-c"),
            quote_argument("exec \"$0\" \"$@\""),
            quote_argument(program),
        ]
    } else {
        // systemd does not expand `$` in the program path.
        vec![quote_word(program)]
    };

    words.extend(arguments.iter().map(|word| quote_argument(word)));
    words.join(" ")
}

/// Quotes an argument of `ExecStart=`, and escapes `$`, so that systemd expands no variable.
fn quote_argument(text: &str) -> String {
    quote_word(text).replace('$', "$$")
}

/// Puts a word into double quotes, and escapes `%`, so that systemd sees no specifier.
fn quote_word(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{escaped}\"")
}

fn systemctl(words: &[&str]) -> SchedulerCommand {
    SchedulerCommand::new(&[&["systemctl", "--user"], words].concat())
}

pub(super) fn enable_commands(job: JobKind) -> Vec<SchedulerCommand> {
    let timer = unit_name(job, "timer");
    vec![
        systemctl(&["daemon-reload"]),
        systemctl(&["enable", &timer]),
        // Without a restart a running timer keeps its old times.
        systemctl(&["restart", &timer]),
    ]
}

pub(super) fn disable_commands(job: JobKind) -> Vec<SchedulerCommand> {
    let timer = unit_name(job, "timer");
    vec![systemctl(&["disable", "--now", &timer])]
}

/// Returns the command that prints the next run of the timer as JSON.
pub fn next_run_command(job: JobKind) -> Vec<String> {
    let timer = unit_name(job, "timer");
    systemctl(&["list-timers", "--all", "--output=json", &timer]).words
}

/// Parses the output of the [`next_run_command`] command. Returns the next run in microseconds since 1970, or `None` if
/// the timer is not enabled or the output is invalid.
pub fn parse_next_run(answer: &[u8]) -> Option<i64> {
    let timers: serde_json::Value = serde_json::from_slice(answer).ok()?;
    let next = timers.pointer("/0/next")?.as_i64()?;
    (next > 0).then_some(next)
}
