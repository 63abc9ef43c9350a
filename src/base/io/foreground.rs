//! A child process that uses the terminal interactively, without a time limit.

use super::events;
use super::progress::is_interrupted;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The interval at which the state of the child is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The time that the child gets to end by itself after Ctrl-C.
const END_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForegroundExit {
    /// The exit code; `None` if a signal ended the child.
    pub code: Option<i32>,
    /// True if the user interrupted the child or the manager.
    pub interrupted: bool,
}

/// Runs `command` with the standard input and error of the manager. The child's standard output
/// goes to standard error, because standard output is reserved for the result.
///
/// On Ctrl-C, which reaches the child too, the child gets [`END_TIMEOUT`] to end by itself. Then
/// `end_descendants` is called to end the processes that the child started, and the child is killed.
///
/// # Errors
/// The command cannot be started, or its end cannot be awaited.
pub(crate) fn run(command: &mut Command, end_descendants: impl Fn()) -> io::Result<ForegroundExit> {
    let mut child = command.stdout(Stdio::from(io::stderr())).spawn()?;
    events::debug!("started {}", command.get_program().to_string_lossy());
    let mut interrupted_at: Option<Instant> = None;

    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ForegroundExit {
                code: status.code(),
                interrupted: interrupted_at.is_some() || is_interrupted(),
            });
        }

        match interrupted_at {
            None if is_interrupted() => interrupted_at = Some(Instant::now()),
            Some(at) if at.elapsed() >= END_TIMEOUT => {
                end_descendants();
                let _ = child.kill();
                // Waits here, so that `end_descendants`, which searches the table of processes, runs only once.
                let _ = child.wait();
            }
            _ => {}
        }

        std::thread::sleep(POLL_INTERVAL);
    }
}
