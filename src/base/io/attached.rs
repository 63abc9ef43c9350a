//! A child process that takes over the terminal, as if a shell had started it directly.
//!
//! It stays in the manager's process group, so signals of the terminal reach both. The child
//! handles Ctrl-C and Ctrl-\; SIGTERM and SIGHUP sent to the manager alone are passed on. When the
//! child is stopped, the manager stops too, so that the shell sees a stopped job and `fg` continues
//! both.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

static RUNNING: AtomicBool = AtomicBool::new(false);

/// Returns true while a child has the terminal, so that nothing else may write to it.
pub fn is_running() -> bool {
    RUNNING.load(Ordering::SeqCst)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedExit {
    Code(u8),
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no signals"))]
    Signal(i32),
}

impl AttachedExit {
    /// Returns the exit code that a shell reports: 128 + signal number for a signal.
    pub fn to_exit_code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

#[cfg(unix)]
mod system {
    use super::{AttachedExit, Command, Ordering, RUNNING, io};
    use crate::io::{events, processes, progress};
    use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, waitpid};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    use signal_hook::iterator::{Handle, Signals};
    use std::thread::JoinHandle;

    /// A child that uses the terminal. It keeps running after a drop.
    #[derive(Debug)]
    pub struct Attached {
        pid: Pid,
        signals: Handle,
        forwarder: JoinHandle<()>,
    }

    impl Attached {
        /// Starts `command` with the streams of this process. From now on terminal signals do not end
        /// this process.
        ///
        /// # Errors
        /// The program cannot be started.
        pub fn start(command: &mut Command) -> io::Result<Self> {
            // Handled before the child exists, because a Ctrl-C that ends this process would orphan the child.
            let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
            progress::hand_over_signals();
            let handle = signals.handle();

            let child = command.spawn()?;
            events::debug!("started {}", command.get_program().to_string_lossy());
            RUNNING.store(true, Ordering::SeqCst);

            let pid = processes::to_pid(child.id());
            let pid = pid.ok_or_else(|| io::Error::other("no process id"))?;

            let forwarder = std::thread::Builder::new().spawn(move || {
                for signal in signals.forever() {
                    let signal = match signal {
                        SIGTERM => Signal::TERM,
                        SIGHUP => Signal::HUP,
                        // The terminal has sent Ctrl-C and Ctrl-\ to the child already.
                        _ => continue,
                    };
                    let _ = kill_process(pid, signal);
                }
            })?;

            Ok(Self {
                pid,
                signals: handle,
                forwarder,
            })
        }

        pub fn id(&self) -> u32 {
            self.pid.as_raw_nonzero().get().unsigned_abs()
        }

        /// Waits for the end of the child.
        ///
        /// # Errors
        /// The system does not know the child.
        pub fn wait(self) -> io::Result<AttachedExit> {
            let exit = loop {
                match waitpid(Some(self.pid), WaitOptions::UNTRACED) {
                    Ok(Some((_, status))) if status.stopped() => self.stop_with_child(),
                    Ok(Some((_, status))) => break exit_from_status(status),
                    Ok(None) | Err(rustix::io::Errno::INTR) => {}
                    Err(e) => return Err(e.into()),
                }
            };

            RUNNING.store(false, Ordering::SeqCst);
            // Later signals must not be passed on, because another process may get the id of the child.
            self.signals.close();
            let _ = self.forwarder.join();
            Ok(exit)
        }

        /// Stops this process as well, unless the whole group was stopped and already continues.
        fn stop_with_child(&self) {
            if !processes::is_stopped(self.id()) {
                return;
            }
            // Execution continues after this line when the shell sends SIGCONT.
            let _ = kill_process(getpid(), Signal::STOP);
            let _ = kill_process(self.pid, Signal::CONT);
        }
    }

    fn exit_from_status(status: WaitStatus) -> AttachedExit {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => AttachedExit::Code(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, Some(signal)) => AttachedExit::Signal(signal),
            // Not reached: the caller handles the only other status, that of a stopped child.
            (None, None) => AttachedExit::Code(u8::MAX),
        }
    }

    /// Ends this process by the signal that ended the child, so that a shell sees the same. Returns
    /// if that is not possible.
    pub fn end_by_signal(signal: i32) {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }

    /// Replaces this process by `command`. Returns only the error.
    pub fn replace_this_process(command: &mut Command) -> io::Error {
        use std::os::unix::process::CommandExt;
        command.exec()
    }
}

#[cfg(not(unix))]
mod system {
    use super::{AttachedExit, Command, Ordering, RUNNING, io};
    use crate::io::progress;
    use std::process::Child;

    /// A child that has the console.
    #[derive(Debug)]
    pub struct Attached(Child);

    impl Attached {
        /// Starts `command` with the streams of this process.
        ///
        /// # Errors
        /// The program cannot be started.
        pub fn start(command: &mut Command) -> io::Result<Self> {
            // Ctrl-C goes to the whole console group; the handler keeps this process alive for the child.
            progress::hand_over_signals();
            let child = command.spawn()?;
            RUNNING.store(true, Ordering::SeqCst);
            Ok(Self(child))
        }

        pub fn id(&self) -> u32 {
            self.0.id()
        }

        /// Waits for the end of the child.
        ///
        /// # Errors
        /// The system does not know the child.
        pub fn wait(mut self) -> io::Result<AttachedExit> {
            let wait_result = self.0.wait();
            RUNNING.store(false, Ordering::SeqCst);
            let code = wait_result?.code().unwrap_or(1);
            Ok(AttachedExit::Code(u8::try_from(code).unwrap_or(u8::MAX)))
        }
    }

    /// Does nothing, because this system has no signals.
    pub fn end_by_signal(_signal: i32) {}

    /// Runs `command` to its end and exits with its code. Returns only the error.
    pub fn replace_this_process(command: &mut Command) -> io::Error {
        progress::hand_over_signals();
        match command.status() {
            #[allow(clippy::exit, reason = "stands in for the process that was replaced")]
            Ok(status) => std::process::exit(status.code().unwrap_or(1)),
            Err(e) => e,
        }
    }
}

pub use system::{Attached, end_by_signal, replace_this_process};
