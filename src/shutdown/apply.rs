//! Ending those who use a home.
//!
//! Codex programs are told first, so that none of them starts the daemon again; then the daemon, by
//! Codex's own command; then what they started is waited for. One time limit holds for all of it.
//! At the end everything is looked at again: only a home that nobody uses counts.

use super::{
    ConfirmationRequest, ShutdownError, ShutdownPlan, ShutdownSettings, ShutdownTargets, TargetOs,
    must_ask, plan,
};
use crate::codex::daemon;
use crate::codex::process::{self, HomeProcess, Role, Seen};
use crate::codex::program::Program;
use crate::io::environment::Environment;
use crate::io::events;
use crate::io::processes::{EndTarget, terminate_all};
use crate::io::progress::is_interrupted;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long is waited before it is looked whether the user wants to stop.
const INTERRUPT_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Whose home is to be free, and by what means.
#[derive(Debug)]
pub struct ShutdownRequest<'a> {
    /// The Codex home.
    pub home: &'a Path,
    /// The folders elsewhere that hold its data.
    pub outside: &'a [PathBuf],
    /// The Codex program, where it is configured.
    pub codex_bin: Option<&'a Path>,
    /// The environment that Codex is run in.
    pub env: &'a Environment,
    /// How.
    pub settings: &'a ShutdownSettings,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Who was ended.
    pub ended: Vec<HomeProcess>,
}

impl ShutdownRequest<'_> {
    /// Looks who uses the home.
    pub fn scan(&self) -> Seen {
        process::look(self.home, self.outside, &self.settings.names)
    }
}

/// Waits until nobody uses the home, at most for the grace period; who is there then.
///
/// # Errors
/// The user stopped us.
pub fn wait_grace_period(request: &ShutdownRequest<'_>, seen: Seen) -> Result<Seen, ShutdownError> {
    let grace = request.settings.grace_period;
    if seen.is_nobody() || grace.is_zero() {
        return Ok(seen);
    }
    wait(&seen.processes, |_| false, Instant::now() + grace)?;
    Ok(request.scan())
}

/// Who is told what is seen, and asked whether to go on.
pub trait Prompter {
    /// These use the home.
    fn show(&mut self, seen: &Seen);
    /// Whether these may be ended; `None` where nobody can be asked.
    fn ask(&mut self, targets: &ShutdownTargets) -> Option<bool>;
}

/// Sees to it that nobody uses the home: waits for the grace period, plans, asks where that is due,
/// and ends who is there.
///
/// # Errors
/// Codex is running and is not ended (exit code 3), or was told to end and did not in time (5).
pub fn shut_down(
    request: &ShutdownRequest<'_>,
    wish: ConfirmationRequest,
    prompter: &mut dyn Prompter,
) -> Result<ShutdownReport, ShutdownError> {
    let seen = wait_grace_period(request, request.scan())?;
    prompter.show(&seen);
    for process in &seen.processes {
        events::info!(
            pid = process.pid,
            name = process.name,
            role = %process.role,
            command_line = process.command_line,
            "uses the home"
        );
    }
    let asks = must_ask(request.settings, wish, TargetOs::of_this_build());
    let targets = match plan(&seen, request.settings, asks) {
        ShutdownPlan::Nothing => return Ok(ShutdownReport { ended: Vec::new() }),
        ShutdownPlan::Refuse(refusal) => return Err(ShutdownError::Refused(refusal)),
        ShutdownPlan::Terminate(targets) => targets,
        ShutdownPlan::Ask(targets) => match prompter.ask(&targets) {
            Some(true) => targets,
            Some(false) => return Err(ShutdownError::Declined(targets.processes)),
            None => return Err(ShutdownError::NoPrompter(targets.processes)),
        },
    };
    apply(request, &targets)
}

/// Ends those who are to be ended and makes sure that nobody uses the home any more.
///
/// # Errors
/// Somebody is left when the time is over, the daemon cannot be stopped, or the user stopped us.
pub fn apply(
    request: &ShutdownRequest<'_>,
    targets: &ShutdownTargets,
) -> Result<ShutdownReport, ShutdownError> {
    let limit = request.settings.terminate_timeout;
    let deadline = Instant::now() + limit;
    let (daemons, others): (Vec<_>, Vec<_>) = targets
        .processes
        .iter()
        .cloned()
        .partition(|process| process.role == Role::Daemon);
    // A launcher hands on what it is told, and ends with its program: it is waited for.
    let (clients, offspring): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|process| matches!(process.role, Role::Codex | Role::Launcher));
    let not_gone = |left: Vec<String>| ShutdownError::NotGone { left, limit };
    let left = wait(&clients, |process| process.role == Role::Codex, deadline)?;
    if !left.is_empty() {
        return Err(not_gone(left));
    }
    for process in &daemons {
        stop(request, process, deadline)?;
    }
    let left = wait(&offspring, |_| false, deadline)?;
    if !left.is_empty() {
        return Err(not_gone(left));
    }
    let seen = request.scan();
    if seen.is_nobody() {
        events::info!(processes = targets.processes.len(), "codex was ended");
        Ok(ShutdownReport {
            ended: targets.processes.clone(),
        })
    } else {
        Err(not_gone(
            seen.holders().iter().map(ToString::to_string).collect(),
        ))
    }
}

fn stop(
    request: &ShutdownRequest<'_>,
    process: &HomeProcess,
    deadline: Instant,
) -> Result<(), ShutdownError> {
    // Where no Codex is installed any more, the daemon's own program knows the command too.
    let program = Program::find(request.codex_bin, request.env)
        .or_else(|e| match &process.program {
            Some(own) => Program::find(Some(own), request.env).map_err(|_| e),
            None => Err(e),
        })
        .map_err(|source| ShutdownError::NoProgram {
            pid: process.pid,
            source,
        })?;
    let left = deadline.saturating_duration_since(Instant::now());
    daemon::stop(&program, request.home, request.env, left)
        .map(|_| ())
        .map_err(ShutdownError::Daemon)
}

/// Tells and waits; who is left at the deadline, each as a line.
fn wait(
    processes: &[HomeProcess],
    send_sigterm: fn(&HomeProcess) -> bool,
    deadline: Instant,
) -> Result<Vec<String>, ShutdownError> {
    let end_targets = |told: bool| -> Vec<EndTarget> {
        let with_start = processes.iter().filter_map(|process| {
            Some(EndTarget {
                pid: process.pid,
                started: process.started?,
                send_sigterm: told && send_sigterm(process),
            })
        });
        with_start.collect()
    };
    // They are told once; what follows only waits.
    let mut left = terminate_all(&end_targets(true), Instant::now());
    while !left.is_empty() && Instant::now() < deadline {
        if is_interrupted() {
            return Err(ShutdownError::Interrupted);
        }
        let slice = deadline.min(Instant::now() + INTERRUPT_POLL_INTERVAL);
        left = terminate_all(&end_targets(false), slice);
    }
    Ok(processes
        .iter()
        .filter(|process| left.contains(&process.pid))
        .map(ToString::to_string)
        .collect())
}
