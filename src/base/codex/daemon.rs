//! Finds and stops the background daemon: the app-server that Codex's terminal interface leaves
//! running for its home.
//!
//! The daemon keeps the account it was started with. Replacing auth.json while the daemon runs switches
//! nothing. Codex records the daemon in `app-server-daemon/daemon.pid`:
//! `{"pid","processIdentity":{"bootId","startTicks"},…}` (Codex 0.169). The system reuses process ids, so the
//! id counts only together with the start time of the process.

use super::program::Program;
use super::redaction::printable;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::io::environment::Environment;
use crate::io::{clock, file_open, prefix_unless_empty, processes};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// The interval at which [`stop`] checks whether the daemon has ended.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The inaccuracy of a process's start time and of an mtime on a coarse file system.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::seconds(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Daemon {
    pub pid: u32,
    /// The start time in clock ticks since boot.
    start_ticks: Option<u64>,
    /// The mtime of the pid file. An mtime that is out of range counts as the latest time, so that the daemon is found.
    pid_file_written_at: DateTime<Utc>,
}

/// The reason why the daemon was not stopped.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error("cannot run: {}", .0.display())]
    NotStarted(std::path::PathBuf, #[source] std::io::Error),
    /// The daemon still runs after Codex's own stop command.
    #[error("the background daemon (PID {pid}) is still running{}", prefix_unless_empty("; codex answered: ", .answer))]
    StillRunning {
        pid: u32,
        /// The status that Codex's stop command printed, else the last line of its standard error; may be empty. Safe
        /// to print.
        answer: String,
    },
}

/// Finds the running daemon of `home`; `None` if it has no valid pid file, or the process named there has ended.
///
/// Systems other than Linux do not show the start time in Codex's unit. On them, a process with the recorded
/// id counts as the daemon if it was started before the file was written.
pub fn find(home: &Path) -> Option<Daemon> {
    let path = home.join("app-server-daemon/daemon.pid");
    let bytes = file_open::read(&path).ok()?;
    let pid_file: Value = serde_json::from_slice(&bytes).ok()?;
    let pid = pid_file.get("pid")?.as_u64()?;

    let daemon = Daemon {
        pid: u32::try_from(pid).ok().filter(|pid| *pid > 0)?,
        start_ticks: pid_file["processIdentity"]["startTicks"].as_u64(),
        pid_file_written_at: clock::from_file_time(path.metadata().ok()?.modified().ok()?)
            .unwrap_or(DateTime::<Utc>::MAX_UTC),
    };

    let recorded_boot_id = pid_file["processIdentity"]["bootId"].as_str();
    // After a restart of the machine the same id and start time can belong to another process.
    (may_be_this_boot(recorded_boot_id) && daemon.is_alive()).then_some(daemon)
}

/// Stops the daemon of `home` with Codex's own command, and checks that it has ended. Running turns are
/// cut off.
///
/// Returns `false` without starting Codex if there is no daemon. `timeout` limits the whole operation.
///
/// # Errors
/// Codex cannot be run, or the daemon still runs at the end of the time limit.
pub fn stop(
    program: &Program,
    home: &Path,
    env: &Environment,
    timeout: Duration,
) -> Result<bool, DaemonError> {
    let deadline = Instant::now() + timeout;
    let Some(daemon) = find(home) else {
        return Ok(false);
    };

    let mut command = program.command(home, env);
    command.args(["app-server", "daemon", "stop"]);
    let mut child = ChildGroup::spawn(&mut command)
        .map_err(|e| DaemonError::NotStarted(program.path().to_path_buf(), e))?;
    child.close_input();

    // The answer is the last line; Codex may print an installation notice before it.
    let mut last_line = Vec::new();
    while let ChildOutput::Line(line) = child.read_line(deadline) {
        last_line = line;
    }

    child.finish(deadline);
    while daemon.is_alive() && Instant::now() < deadline {
        std::thread::sleep(EXIT_POLL_INTERVAL);
    }

    // Another Codex may have started a new daemon already.
    match find(home).or_else(|| daemon.is_alive().then_some(daemon)) {
        None => Ok(true),
        Some(running) => Err(DaemonError::StillRunning {
            pid: running.pid,
            answer: format_stop_answer(&last_line, &child.stderr()),
        }),
    }
}

fn format_stop_answer(last_line: &[u8], stderr: &str) -> String {
    let status = serde_json::from_slice::<Value>(last_line)
        .ok()
        .and_then(|answer| Some(answer.get("status")?.as_str()?.to_owned()));
    printable(&status.unwrap_or_else(|| stderr.lines().last().unwrap_or_default().to_owned()))
}

impl Daemon {
    fn is_alive(&self) -> bool {
        if cfg!(target_os = "linux") {
            let started = processes::start_time(self.pid);
            return started.is_some() && started == self.start_ticks;
        }
        // A process that is younger than the file got a reused id.
        processes::started_at(self.pid)
            .is_some_and(|at| at - CLOCK_TOLERANCE <= self.pid_file_written_at)
    }
}

/// Returns false if `recorded_id` is known to be the id of an earlier boot. Only Linux has ids of boots, and Codex may
/// have recorded no id.
fn may_be_this_boot(recorded_id: Option<&str>) -> bool {
    let current_id = file_open::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    let both_ids = recorded_id.zip(current_id);
    // Without both ids, only the start time identifies the daemon.
    both_ids.is_none_or(|(recorded, current)| recorded.trim() == current.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
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

    #[cfg(not(target_os = "linux"))]
    #[test]
    fn a_process_that_started_after_the_pid_file_is_no_daemon() {
        let pid = std::process::id();
        let home = home_with(&format!(r#"{{"pid":{pid}}}"#));
        assert_eq!(find(home.path()).map(|daemon| daemon.pid), Some(pid));
        let path = home.path().join("app-server-daemon/daemon.pid");
        let file = std::fs::File::options().write(true).open(path).unwrap();
        let earlier = std::time::SystemTime::now() - Duration::from_secs(3600);
        file.set_modified(earlier).unwrap();
        assert_eq!(find(home.path()), None, "the id was reused");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_daemon_is_identified_by_pid_and_start_time() {
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

    #[cfg(unix)]
    #[test]
    fn stop_starts_nothing_without_a_daemon() {
        let home = tempfile::tempdir().unwrap();
        let env = Environment::default();
        let program = Program::find(Some(Path::new("/bin/false")), &env).unwrap();
        assert!(!stop(&program, home.path(), &env, Duration::from_secs(1)).unwrap());
    }
}
