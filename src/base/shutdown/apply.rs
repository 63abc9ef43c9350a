//! Ends the processes that use a home.
//!
//! Codex programs get SIGTERM first, so that none of them starts the daemon again. Then Codex's own command stops the
//! daemon, and the processes that Codex started get time to end. All of this shares one time limit. Finally the home is
//! scanned again: success means that no process uses it.

use super::{ShutdownError, ShutdownPlan, ShutdownSettings, ShutdownTargets, plan_shutdown};
use crate::codex::{HomeProcess, HomeUsage, ProcessRole, Program, daemon, process};
use crate::io::processes::terminate_all;
use crate::io::{EndTarget, Environment, events, is_interrupted};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The Codex home that no process may use, and the settings for ending the processes that use it.
#[derive(Debug)]
pub struct ShutdownRequest<'a> {
    pub home: &'a Path,
    /// Folders outside the home that hold its data, such as databases.
    pub outside: &'a [PathBuf],
    /// The configured Codex program; `None` searches `PATH`.
    pub codex_bin: Option<&'a Path>,
    pub env: &'a Environment,
    pub settings: &'a ShutdownSettings,
}

impl ShutdownRequest<'_> {
    /// Finds the processes that use the home now.
    pub fn find_home_usage(&self) -> HomeUsage {
        process::inspect_home(self.home, self.outside, &self.settings.names)
    }
}

/// Waits until no process uses the home, but not longer than the grace period. Returns the processes that use the home
/// after the wait.
///
/// # Errors
/// The user pressed Ctrl-C.
pub fn wait_grace_period(request: &ShutdownRequest<'_>) -> Result<HomeUsage, ShutdownError> {
    let usage = request.find_home_usage();
    let grace_period = request.settings.grace_period;
    if usage.is_unused() || grace_period.is_zero() {
        return Ok(usage);
    }
    let no_signal = |_: &HomeProcess| false;
    signal_and_wait(&usage.processes, no_signal, Instant::now() + grace_period)?;
    Ok(request.find_home_usage())
}

/// Ends the processes in `usage`, which use the home, and checks that no process uses it any more. If `asks_user` is
/// true, calls `ask` for the user's consent to end these processes; `ask` returns `None` if there is no way to ask.
/// Returns the ended processes.
///
/// # Errors
/// Codex runs and must not be ended (exit code 3), the home is in use at the end or the daemon cannot be stopped (5),
/// or the user pressed Ctrl-C (130).
pub fn shut_down(
    request: &ShutdownRequest<'_>,
    usage: &HomeUsage,
    asks_user: bool,
    ask: impl FnOnce(&ShutdownTargets) -> Option<bool>,
) -> Result<Vec<HomeProcess>, ShutdownError> {
    for process in &usage.processes {
        events::info!(
            pid = process.pid,
            name = process.name,
            role = %process.role,
            command_line = process.command_line,
            "uses the home"
        );
    }

    let targets = match plan_shutdown(usage, request.settings, asks_user) {
        ShutdownPlan::Nothing => return Ok(Vec::new()),
        ShutdownPlan::Refuse(refusal) => return Err(ShutdownError::Refused(refusal)),
        ShutdownPlan::Terminate(targets) => targets,
        ShutdownPlan::Ask(targets) => match ask(&targets) {
            Some(true) => targets,
            Some(false) => return Err(ShutdownError::Declined(targets.processes)),
            None => return Err(ShutdownError::NoPrompter(targets.processes)),
        },
    };

    end_processes(request, &targets)
}

/// Ends the processes in `targets` and checks that no process uses the home any more. Returns the ended processes.
///
/// # Errors
/// A process uses the home at the end, the daemon cannot be stopped, or the user pressed Ctrl-C.
pub(super) fn end_processes(
    request: &ShutdownRequest<'_>,
    targets: &ShutdownTargets,
) -> Result<Vec<HomeProcess>, ShutdownError> {
    let time_limit = request.settings.terminate_timeout;
    let deadline = Instant::now() + time_limit;

    let (daemons, others): (Vec<_>, Vec<_>) = targets
        .processes
        .iter()
        .cloned()
        .partition(|process| process.role == ProcessRole::Daemon);
    // A launcher passes SIGTERM on and ends with its program, so it gets no signal of its own.
    let (clients, offspring): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|process| matches!(process.role, ProcessRole::Codex | ProcessRole::Launcher));

    // Codex gets SIGTERM before its daemon is stopped, because a running Codex would start the daemon again.
    let is_signalled = |process: &HomeProcess| process.role == ProcessRole::Codex;
    let mut remaining = signal_and_wait(&clients, is_signalled, deadline)?;
    if remaining.is_empty() {
        for process in &daemons {
            stop_daemon(request, process, deadline)?;
        }
        // The processes that Codex started end with it, and get no signal.
        let no_signal = |_: &HomeProcess| false;
        remaining = signal_and_wait(&offspring, no_signal, deadline)?;
    }

    // Another Codex may have been started in the meantime.
    if remaining.is_empty() {
        let usage = request.find_home_usage();
        remaining = usage.holders().iter().map(ToString::to_string).collect();
    }

    if remaining.is_empty() {
        events::info!(processes = targets.processes.len(), "codex was ended");
        Ok(targets.processes.clone())
    } else {
        Err(ShutdownError::NotGone {
            left: remaining,
            limit: time_limit,
        })
    }
}

fn stop_daemon(
    request: &ShutdownRequest<'_>,
    process: &HomeProcess,
    deadline: Instant,
) -> Result<(), ShutdownError> {
    // If Codex is no longer installed, the program that the daemon runs still has the command to stop it. If both are
    // missing, the error names the first one.
    let installed = Program::find(request.codex_bin, request.env);
    let program = match (installed, &process.program) {
        (Err(e), Some(daemon_program)) => {
            Program::find(Some(daemon_program), request.env).map_err(|_| e)
        }
        (installed, _) => installed,
    };
    let program = program.map_err(|source| ShutdownError::NoProgram {
        pid: process.pid,
        source,
    })?;

    let remaining_time = deadline.saturating_duration_since(Instant::now());
    daemon::stop(&program, request.home, request.env, remaining_time)
        .map(drop)
        .map_err(ShutdownError::Daemon)
}

/// Sends SIGTERM to the processes for which `gets_sigterm` returns true, and waits until all `processes` have ended.
/// Returns a text for each process that still runs at the deadline.
fn signal_and_wait(
    processes: &[HomeProcess],
    gets_sigterm: fn(&HomeProcess) -> bool,
    deadline: Instant,
) -> Result<Vec<String>, ShutdownError> {
    // Without a start time, the id may belong to a later process. So it gets no signal, and the wait ignores it.
    let targets = processes.iter().filter_map(|process| {
        Some(EndTarget {
            pid: process.pid,
            started: process.started?,
            send_sigterm: gets_sigterm(process),
        })
    });
    let running_pids = terminate_all(&targets.collect::<Vec<_>>(), deadline);
    if !running_pids.is_empty() && is_interrupted() {
        return Err(ShutdownError::Interrupted);
    }

    Ok(processes
        .iter()
        .filter(|process| running_pids.contains(&process.pid))
        .map(ToString::to_string)
        .collect())
}
