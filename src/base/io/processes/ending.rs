//! Asks processes to end, and waits for them.

use crate::io::progress::is_interrupted;
use std::time::{Duration, Instant};

/// A process to end. The start time distinguishes it from a later process with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTarget {
    pub pid: u32,
    /// The start time; see [`super::start_time`].
    pub started: u64,
    /// If true, send SIGTERM to the process; if false, only wait for its end.
    pub send_sigterm: bool,
}

/// The interval at which the processes are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Sends SIGTERM to the `targets` that ask for it, and waits until all targets have ended, until `deadline`, or until
/// the user interrupts. Returns the ids of the processes that still run.
///
/// A process that does not end is not killed, because it may be in the middle of a write. On Windows, a process
/// without a window cannot be asked to end, so it is terminated.
pub(crate) fn terminate_all(targets: &[EndTarget], deadline: Instant) -> Vec<u32> {
    let is_alive = |target: &EndTarget| super::start_time(target.pid) == Some(target.started);
    let mut running = targets.to_vec();
    running.retain(|target| {
        // Checked just before the signal, so that the signal cannot reach a later process with the same id.
        let runs = is_alive(target);
        if runs && target.send_sigterm {
            terminate(target.pid);
        }
        runs
    });

    while !running.is_empty() && Instant::now() < deadline && !is_interrupted() {
        running.retain(is_alive);
        let wait = deadline.saturating_duration_since(Instant::now());
        if !running.is_empty() {
            std::thread::sleep(POLL_INTERVAL.min(wait));
        }
    }

    running.iter().map(|target| target.pid).collect()
}

#[cfg(unix)]
fn terminate(pid: u32) {
    // A process that cannot be signalled is reported at the deadline.
    send_signal(pid, rustix::process::Signal::TERM);
}

#[cfg(unix)]
fn send_signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(id) = super::to_pid(pid) {
        let _ = rustix::process::kill_process(id, signal);
    }
}

#[cfg(not(unix))]
use self::kill as terminate;

/// Kills a process: SIGKILL on Unix. Does nothing if it has ended.
pub fn kill(pid: u32) {
    #[cfg(unix)]
    send_signal(pid, rustix::process::Signal::KILL);
    #[cfg(not(unix))]
    super::table::read_one(pid, sysinfo::Process::kill);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::processes::waiting_program;
    use std::process::Child;

    fn child() -> (Child, EndTarget) {
        let child = waiting_program().spawn().unwrap();
        let ending = EndTarget {
            pid: child.id(),
            started: started_of(&child),
            send_sigterm: true,
        };
        (child, ending)
    }

    fn started_of(child: &Child) -> u64 {
        super::super::start_time(child.id()).unwrap()
    }

    #[test]
    fn a_signalled_process_ends_and_a_reused_id_gets_no_signal() {
        let (mut child, ending) = child();
        let another = EndTarget {
            started: ending.started + 1,
            ..ending
        };
        let soon = || Instant::now() + Duration::from_secs(20);
        assert_eq!(terminate_all(&[another], soon()), Vec::<u32>::new());
        assert_eq!(child.try_wait().unwrap(), None, "it was not meant");
        // Nobody has taken its exit status when this returns: a zombie has ended.
        assert_eq!(terminate_all(&[ending], soon()), Vec::<u32>::new());
        assert_eq!(super::super::start_time(ending.pid), None);
        child.wait().unwrap();
        assert_eq!(terminate_all(&[ending], soon()), Vec::<u32>::new());
    }

    #[test]
    fn terminate_all_returns_running_processes_at_the_deadline() {
        let (mut child, ending) = child();
        let waited = EndTarget {
            send_sigterm: false,
            ..ending
        };
        assert_eq!(terminate_all(&[waited], Instant::now()), [ending.pid]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
