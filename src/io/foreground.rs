//! A child process that has the terminal: a person talks to it, and it takes as long as they do.

use super::progress::is_interrupted;
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a wait sleeps between two looks at the child.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a child that was told to stop as well may take to end by itself.
const SIGNAL_GRACE: Duration = Duration::from_secs(2);

/// How such a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForegroundExit {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// The user stopped it, or us.
    pub interrupted: bool,
}

/// Runs `command` to its end with our standard input and error. What it says on standard output
/// goes to standard error: ours is for the answer alone.
///
/// When we are asked to stop meanwhile, the child gets a moment to end by itself (Ctrl-C reaches it,
/// too); then `stop` is called, which ends what it may have started, and the child is killed.
///
/// # Errors
/// It cannot be started.
pub fn run(command: &mut Command, stop: impl Fn()) -> io::Result<ForegroundExit> {
    let mut child = command.stdout(Stdio::from(io::stderr())).spawn()?;
    let mut told: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(ForegroundExit {
                code: status.code(),
                interrupted: told.is_some() || is_interrupted(),
            });
        }
        match told {
            None if is_interrupted() => told = Some(Instant::now()),
            Some(since) if since.elapsed() >= SIGNAL_GRACE => {
                stop();
                let _ = child.kill();
            }
            _ => {}
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
