//! systemd user units: a service that runs the job, and a timer that starts it.
//!
//! The format is that of systemd.unit(5), systemd.service(5) and systemd.timer(5).

use super::{Entry, Job, Place, ScheduleError, Step, When};
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn unit(job: Job, kind: &str) -> String {
    format!("codex-manager-{}.{kind}", job.name())
}

fn folder(place: &Place<'_>) -> Result<PathBuf, ScheduleError> {
    let config = match place.env.get("XDG_CONFIG_HOME") {
        Some(folder) if Path::new(folder).is_absolute() => PathBuf::from(folder),
        _ => place
            .env
            .home_dir
            .as_ref()
            .ok_or(ScheduleError::NoHome)?
            .join(".config"),
    };
    Ok(config.join("systemd/user"))
}

pub(super) fn paths(job: Job, place: &Place<'_>) -> Result<Vec<PathBuf>, ScheduleError> {
    let folder = folder(place)?;
    Ok(["service", "timer"]
        .map(|kind| folder.join(unit(job, kind)))
        .into())
}

/// Whether the timer is wanted by the user's session.
pub(super) fn is_enabled(job: Job, place: &Place<'_>) -> Result<bool, ScheduleError> {
    let link = folder(place)?
        .join("timers.target.wants")
        .join(unit(job, "timer"));
    Ok(link.symlink_metadata().is_ok())
}

pub(super) fn render(entry: &Entry) -> Vec<String> {
    let name = entry.options.job.name();
    let marker = entry.marker();
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
    for (variable, value) in &entry.environment {
        let _ = writeln!(
            service,
            "Environment={}",
            quoted(&format!("{variable}={value}"))
        );
    }
    let _ = writeln!(service, "ExecStart={}", exec_start(&entry.command));
    let when = match entry.options.when {
        When::Every(secs) => format!("OnStartupSec=120\nOnUnitActiveSec={secs}\nAccuracySec=60\n"),
        When::Daily(hour, minute) => {
            format!("OnCalendar=*-*-* {hour:02}:{minute:02}:00\nPersistent=true\n")
        }
    };
    let timer = format!(
        "# {marker}\n\
         # Changes are lost when the job is installed again.\n\
         \n\
         [Unit]\n\
         Description=codex-manager {name}, by time\n\
         \n\
         [Timer]\n\
         {when}\
         \n\
         [Install]\n\
         WantedBy=timers.target\n"
    );
    vec![service, timer]
}

/// The command as the line `ExecStart=` wants it.
fn exec_start(command: &[String]) -> String {
    let (program, arguments) = command.split_first().map_or(("", &[][..]), |(p, a)| (p, a));
    let mut words = Vec::new();
    // systemd takes no program whose path holds one of these, however it is written.
    if program.contains(['"', '\'', '\\']) {
        words.extend([
            quoted("/bin/sh"),
            quoted("-c"),
            argument("exec \"$0\" \"$@\""),
        ]);
        words.push(argument(program));
    } else {
        // In the path itself a dollar stands for nothing.
        words.push(quoted(program));
    }
    words.extend(arguments.iter().map(|word| argument(word)));
    words.join(" ")
}

/// An argument: a dollar would be a variable.
fn argument(text: &str) -> String {
    quoted(text).replace('$', "$$")
}

/// In double quotes; a percent sign would be a specifier.
fn quoted(text: &str) -> String {
    let escaped = text
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%");
    format!("\"{escaped}\"")
}

pub(super) fn enabling(job: Job) -> Vec<Step> {
    let timer = unit(job, "timer");
    vec![
        Step::new(&["systemctl", "--user", "daemon-reload"]),
        Step::new(&["systemctl", "--user", "enable", &timer]),
        // One that runs already keeps its old times otherwise.
        Step::new(&["systemctl", "--user", "restart", &timer]),
    ]
}

pub(super) fn disabling(job: Job) -> Vec<Step> {
    let timer = unit(job, "timer");
    vec![Step::new(&[
        "systemctl",
        "--user",
        "disable",
        "--now",
        &timer,
    ])]
}

/// The command that tells when the timer runs next, as JSON.
pub fn asking_next(job: Job) -> Vec<String> {
    let timer = unit(job, "timer");
    let words = [
        "systemctl",
        "--user",
        "list-timers",
        "--all",
        "--output=json",
        &timer,
    ];
    words.map(str::to_owned).into()
}

/// When the timer runs next, in microseconds since 1970, of the answer to [`asking_next`].
pub fn parse_next(answer: &[u8]) -> Option<i64> {
    let timers: serde_json::Value = serde_json::from_slice(answer).ok()?;
    timers
        .get(0)?
        .get("next")?
        .as_i64()
        .filter(|next| *next > 0)
}
