//! Asks processes to end, and waits for them.

use std::time::Instant;

/// A process to end. The start time distinguishes it from a later process with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndTarget {
    /// The id of the process to end.
    pub pid: u32,
    /// The start time; see [`super::start_time`].
    pub started: u64,
    /// Send SIGTERM; otherwise only wait for it.
    pub send_sigterm: bool,
}

/// Sends SIGTERM to the selected `targets` and waits until all have ended. Returns the ids of those
/// that have not by `deadline`.
///
/// No process is killed: one that does not end may be in the middle of a write. On Windows, where a
/// process without a window cannot be asked to end, it is terminated.
pub(crate) fn terminate_all(targets: &[EndTarget], deadline: Instant) -> Vec<u32> {
    system::terminate_all(targets, deadline)
}

/// Kills a process: SIGKILL on Unix. Does nothing if it has ended.
pub(crate) fn kill(pid: u32) {
    #[cfg(unix)]
    {
        use rustix::process::{Signal, kill_process};
        if let Some(id) = super::to_pid(pid) {
            let _ = kill_process(id, Signal::KILL);
        }
    }
    #[cfg(not(unix))]
    {
        use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
        let mut system = System::new();
        let id = Pid::from_u32(pid);
        let wanted = ProcessRefreshKind::nothing();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[id]), true, wanted);
        if let Some(process) = system.process(id) {
            process.kill();
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::super::{start_time, to_pid};
    use super::{EndTarget, Instant};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fd::OwnedFd;
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// A process with an open pidfd, which cannot refer to another process of the same id later.
    struct OpenProcess {
        pid: u32,
        fd: OwnedFd,
    }

    pub(super) fn terminate_all(targets: &[EndTarget], deadline: Instant) -> Vec<u32> {
        let mut left = Vec::new();
        let mut open_processes = Vec::new();
        for ending in targets {
            match open(ending) {
                OpenResult::Ended => {}
                OpenResult::Open(process) => open_processes.push(process),
                OpenResult::Refused => left.push(ending.pid),
            }
        }
        while !open_processes.is_empty() {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            let mut fds: Vec<_> = open_processes
                .iter()
                .map(|process| PollFd::new(&process.fd, PollFlags::IN))
                .collect();
            let wait = Timespec::try_from(wait).ok();
            // If a signal interrupts the call, the loop polls again.
            let _ = poll(&mut fds, wait.as_ref());
            let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut ended = ended.into_iter();
            open_processes.retain(|_| !ended.next().unwrap_or_default());
        }
        left.extend(open_processes.iter().map(|process| process.pid));
        left
    }

    enum OpenResult {
        Ended,
        Open(OpenProcess),
        Refused,
    }

    fn open(ending: &EndTarget) -> OpenResult {
        let Some(id) = to_pid(ending.pid) else {
            return OpenResult::Ended;
        };
        let fd = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return OpenResult::Ended,
            Err(_) => return OpenResult::Refused,
        };
        // Compared after the pidfd is open: from here on the id cannot become that of another process.
        if start_time(ending.pid) != Some(ending.started) {
            return OpenResult::Ended;
        }
        if ending.send_sigterm {
            match pidfd_send_signal(&fd, Signal::TERM) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return OpenResult::Ended,
                Err(_) => return OpenResult::Refused,
            }
        }
        OpenResult::Open(OpenProcess {
            pid: ending.pid,
            fd,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::super::start_time;
    use super::{EndTarget, Instant};
    use std::time::Duration;

    /// The interval at which the processes are checked.
    const POLL_INTERVAL: Duration = Duration::from_millis(50);

    pub(super) fn terminate_all(targets: &[EndTarget], deadline: Instant) -> Vec<u32> {
        let is_alive = |ending: &EndTarget| start_time(ending.pid) == Some(ending.started);
        let mut left: Vec<_> = targets.iter().copied().filter(is_alive).collect();
        for ending in left.iter().filter(|ending| ending.send_sigterm) {
            send_sigterm(ending.pid);
        }
        while !left.is_empty() && Instant::now() < deadline {
            left.retain(is_alive);
            let wait = deadline.saturating_duration_since(Instant::now());
            if !left.is_empty() {
                std::thread::sleep(POLL_INTERVAL.min(wait));
            }
        }
        left.iter().map(|ending| ending.pid).collect()
    }

    #[cfg(unix)]
    fn send_sigterm(pid: u32) {
        use rustix::process::{Signal, kill_process};
        if let Some(id) = super::super::to_pid(pid) {
            // A process that cannot be signalled is reported at the deadline.
            let _ = kill_process(id, Signal::TERM);
        }
    }

    #[cfg(not(unix))]
    use super::kill as send_sigterm;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::processes::waiting_program;
    use std::process::Child;
    use std::time::Duration;

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
