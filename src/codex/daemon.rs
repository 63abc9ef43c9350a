//! The background app-server that Codex's terminal interface leaves behind for its home.
//!
//! It keeps the account it was started with, whatever stands in auth.json later: replacing that file
//! under a live daemon switches nothing. Codex notes it in `app-server-daemon/daemon.pid`:
//! `{"pid","processIdentity":{"bootId","startTicks"},…}` (0.169). A process id comes back, so it
//! counts only together with the time at which that process was started.

use super::program::Program;
use super::redaction::printable;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::file_open;
use crate::io::processes;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the daemon may take to disappear after it was told to.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A daemon that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// When it was started, in clock ticks since the machine was.
    start_ticks: Option<u64>,
}

/// Why the daemon was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Codex could not be started.
    #[error("cannot run: {}", .0.display())]
    NotStarted(std::path::PathBuf, #[source] std::io::Error),
    /// The daemon is still there. The text is safe to print.
    #[error("the background daemon (PID {pid}) is still running{}", answer_suffix(.answer))]
    StillRunning {
        /// Its process.
        pid: u32,
        /// What Codex said about it.
        answer: String,
    },
}

fn answer_suffix(answer: &str) -> String {
    if answer.is_empty() {
        String::new()
    } else {
        format!("; codex says: {answer}")
    }
}

/// The daemon of `home`, if it is alive.
///
/// Where the start of a process cannot be asked for (other than Linux), that there is a process of
/// that id is taken as proof.
pub fn find(home: &Path) -> Option<Daemon> {
    let bytes = file_open::read(home.join("app-server-daemon/daemon.pid")).ok()?;
    let note: Value = serde_json::from_slice(&bytes).ok()?;
    let pid = note.get("pid")?.as_u64()?;
    let identity = note.get("processIdentity");
    let daemon = Daemon {
        pid: u32::try_from(pid).ok().filter(|pid| *pid > 0)?,
        start_ticks: identity
            .and_then(|i| i.get("startTicks"))
            .and_then(Value::as_u64),
    };
    let boot = identity
        .and_then(|i| i.get("bootId"))
        .and_then(Value::as_str);
    (is_this_boot(boot) && daemon.is_alive()).then_some(daemon)
}

/// Stops the daemon of `home` by Codex's own command and makes sure that it is gone. Turns that it
/// is running are cut off.
///
/// `false` where there was none; then nothing is started. The timeout is for everything.
///
/// # Errors
/// Codex could not be run, or the daemon is still there at the timeout.
pub fn stop(
    program: &Program,
    home: &Path,
    env: &Environment,
    timeout: Duration,
) -> Result<bool, DaemonError> {
    let end = Instant::now() + timeout;
    let Some(daemon) = find(home) else {
        return Ok(false);
    };
    let mut command = program.command(home, env);
    command.args(["app-server", "daemon", "stop"]);
    let mut child = ChildGroup::spawn(&mut command)
        .map_err(|e| DaemonError::NotStarted(program.path().to_path_buf(), e))?;
    child.close_input();
    // The answer is the last line; an installation notice may come before it.
    let mut answer = Vec::new();
    while let ChildOutput::Line(line) = child.read_line(end) {
        answer = line;
    }
    child.finish(end);
    while daemon.is_alive() && Instant::now() < end {
        std::thread::sleep(EXIT_POLL_INTERVAL);
    }
    // Another client may have started the next one already.
    match find(home).or_else(|| daemon.is_alive().then_some(daemon)) {
        None => Ok(true),
        Some(left) => Err(DaemonError::StillRunning {
            pid: left.pid,
            answer: answer_text(&answer, &child.stderr()),
        }),
    }
}

fn answer_text(answer: &[u8], stderr: &str) -> String {
    let status = serde_json::from_slice::<Value>(answer)
        .ok()
        .and_then(|answer| Some(answer.get("status")?.as_str()?.to_owned()));
    printable(&status.unwrap_or_else(|| stderr.lines().last().unwrap_or_default().to_owned()))
}

impl Daemon {
    fn is_alive(&self) -> bool {
        let started = processes::started(self.pid);
        // Elsewhere Codex notes the start in another unit than the system tells it.
        started.is_some() && (!cfg!(target_os = "linux") || started == self.start_ticks)
    }
}

#[cfg(target_os = "linux")]
fn is_this_boot(noted: Option<&str>) -> bool {
    let current = file_open::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    match (noted, current) {
        (Some(noted), Some(current)) => noted.trim() == current.trim(),
        _ => true,
    }
}

#[cfg(not(target_os = "linux"))]
fn is_this_boot(_noted: Option<&str>) -> bool {
    true
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;

    fn ticks_of(pid: u32) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.to_owned();
        fields.split_whitespace().nth(19).unwrap().parse().unwrap()
    }

    fn home_with(note: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("app-server-daemon")).unwrap();
        let path = home.path().join("app-server-daemon/daemon.pid");
        crate::io::atomic::write(&path, note.as_bytes()).unwrap();
        home
    }

    #[test]
    fn a_daemon_is_alive_only_with_its_pid_and_its_start() {
        let pid = std::process::id();
        let ticks = ticks_of(pid);
        let note = |pid: u32, ticks: u64| {
            format!(r#"{{"pid":{pid},"processIdentity":{{"startTicks":{ticks}}}}}"#)
        };
        let found = |note: &str| find(home_with(note).path()).map(|daemon| daemon.pid);
        assert_eq!(found(&note(pid, ticks)), Some(pid));
        assert_eq!(found(&note(pid, ticks + 1)), None, "the id came back");
        assert_eq!(found(&note(u32::MAX, ticks)), None);
        assert_eq!(found(&format!(r#"{{"pid":{pid}}}"#)), None);
        let other_boot =
            format!(r#"{{"pid":{pid},"processIdentity":{{"bootId":"x","startTicks":{ticks}}}}}"#);
        assert_eq!(found(&other_boot), None);
        for damaged in [
            "",
            "{",
            "[]",
            r#"{"pid":"1"}"#,
            r#"{"pid":-1}"#,
            r#"{"pid":0}"#,
        ] {
            assert_eq!(found(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn where_no_daemon_is_nothing_is_started() {
        let home = tempfile::tempdir().unwrap();
        let env = Environment::default();
        let program = Program::find(Some(Path::new("/bin/false")), &env).unwrap();
        assert!(!stop(&program, home.path(), &env, Duration::from_secs(1)).unwrap());
    }
}
