//! Asking processes to end, and waiting for it.

use std::time::Instant;

/// A process that is to end: its id, and when it was started, so that nobody is meant who got the
/// id later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// The process.
    pub pid: u32,
    /// When it was started; see [`super::started`].
    pub started: u64,
    /// Whether it is told to end (SIGTERM), or only waited for.
    pub is_told: bool,
}

/// Tells those of `endings` to end that are to be told, and waits until all of them have ended; the
/// ids of those that have not at the `deadline`.
///
/// Nobody is killed: who does not end when told may be in the middle of a write. On Windows there
/// is no way to tell a process without a window; there it is ended.
pub fn end_all(endings: &[Ending], deadline: Instant) -> Vec<u32> {
    system::end_all(endings, deadline)
}

#[cfg(target_os = "linux")]
mod system {
    use super::super::started;
    use super::{Ending, Instant};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fd::OwnedFd;
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// A process that is held by more than its id.
    struct Held {
        pid: u32,
        fd: OwnedFd,
    }

    pub(super) fn end_all(endings: &[Ending], deadline: Instant) -> Vec<u32> {
        let mut left = Vec::new();
        let mut held = Vec::new();
        for ending in endings {
            match hold(ending) {
                Hold::Ended => {}
                Hold::Held(process) => held.push(process),
                Hold::Refused => left.push(ending.pid),
            }
        }
        while !held.is_empty() {
            let wait = deadline.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                break;
            }
            let mut fds: Vec<_> = held
                .iter()
                .map(|process| PollFd::new(&process.fd, PollFlags::IN))
                .collect();
            let wait = Timespec::try_from(wait).ok();
            // Interrupted by a signal, it is looked again.
            let _ = poll(&mut fds, wait.as_ref());
            let ended: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            let mut ended = ended.into_iter();
            held.retain(|_| !ended.next().unwrap_or_default());
        }
        left.extend(held.iter().map(|process| process.pid));
        left
    }

    enum Hold {
        Ended,
        Held(Held),
        Refused,
    }

    fn hold(ending: &Ending) -> Hold {
        let id = i32::try_from(ending.pid).ok().and_then(Pid::from_raw);
        let Some(id) = id else { return Hold::Ended };
        let fd = match pidfd_open(id, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Hold::Ended,
            Err(_) => return Hold::Refused,
        };
        // Looked at after it is held: from here on the id cannot become another's.
        if started(ending.pid) != Some(ending.started) {
            return Hold::Ended;
        }
        if ending.is_told {
            match pidfd_send_signal(&fd, Signal::TERM) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Hold::Ended,
                Err(_) => return Hold::Refused,
            }
        }
        Hold::Held(Held {
            pid: ending.pid,
            fd,
        })
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::super::started;
    use super::{Ending, Instant};
    use std::time::Duration;

    /// How long a wait sleeps between two looks.
    const POLL: Duration = Duration::from_millis(50);

    pub(super) fn end_all(endings: &[Ending], deadline: Instant) -> Vec<u32> {
        let is_alive = |ending: &Ending| started(ending.pid) == Some(ending.started);
        let mut left: Vec<_> = endings.iter().copied().filter(is_alive).collect();
        for ending in left.iter().filter(|ending| ending.is_told) {
            tell(ending.pid);
        }
        while !left.is_empty() && Instant::now() < deadline {
            left.retain(is_alive);
            let wait = deadline.saturating_duration_since(Instant::now());
            if !left.is_empty() {
                std::thread::sleep(POLL.min(wait));
            }
        }
        left.iter().map(|ending| ending.pid).collect()
    }

    #[cfg(unix)]
    fn tell(pid: u32) {
        use rustix::process::{Pid, Signal, kill_process};
        if let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // What cannot be told is still there at the deadline.
            let _ = kill_process(id, Signal::TERM);
        }
    }

    #[cfg(windows)]
    fn tell(pid: u32) {
        use sysinfo::{Pid, ProcessesToUpdate, System};
        let mut system = System::new();
        let id = Pid::from_u32(pid);
        system.refresh_processes(ProcessesToUpdate::Some(&[id]), true);
        if let Some(process) = system.process(id) {
            process.kill();
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};
    use std::time::Duration;

    fn child() -> (Child, Ending) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let ending = Ending {
            pid: child.id(),
            started: started_of(&child),
            is_told: true,
        };
        (child, ending)
    }

    fn started_of(child: &Child) -> u64 {
        super::super::started(child.id()).unwrap()
    }

    #[test]
    fn one_that_is_told_ends_and_one_that_got_its_id_is_left_alone() {
        let (mut child, ending) = child();
        let another = Ending {
            started: ending.started + 1,
            ..ending
        };
        let soon = || Instant::now() + Duration::from_secs(20);
        assert_eq!(end_all(&[another], soon()), Vec::<u32>::new());
        assert_eq!(child.try_wait().unwrap(), None, "it was not meant");
        // Nobody has taken its exit status when this returns: a zombie has ended.
        assert_eq!(end_all(&[ending], soon()), Vec::<u32>::new());
        assert_eq!(super::super::started(ending.pid), None);
        child.wait().unwrap();
        assert_eq!(end_all(&[ending], soon()), Vec::<u32>::new());
    }

    #[test]
    fn one_that_is_only_waited_for_is_named_at_the_deadline() {
        let (mut child, ending) = child();
        let waited = Ending {
            is_told: false,
            ..ending
        };
        assert_eq!(end_all(&[waited], Instant::now()), [ending.pid]);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
