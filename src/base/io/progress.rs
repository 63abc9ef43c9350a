//! Progress reporting and cancellation for long operations.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub trait Progress: Sync {
    /// Adds to the total number of bytes. Each phase of an operation adds its bytes once it knows them.
    fn expect_bytes(&self, bytes: u64);
    /// Adds to the number of processed bytes.
    fn add_bytes(&self, bytes: u64);
}

#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn expect_bytes(&self, _bytes: u64) {}
    fn add_bytes(&self, _bytes: u64) {}
}

/// A reader that reports the bytes that it reads, and fails after Ctrl-C.
pub struct ReportingReader<'a, R> {
    pub reader: R,
    pub progress: &'a dyn Progress,
}

impl<R: io::Read> io::Read for ReportingReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if is_interrupted() {
            // Not `Interrupted`: `io::copy` and others repeat a read that fails with that.
            return Err(io::Error::other("interrupted"));
        }
        let n = self.reader.read(buffer)?;
        self.progress.add_bytes(n as u64);
        Ok(n)
    }
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static WAITING_FOR_INPUT: AtomicBool = AtomicBool::new(false);
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

/// Requests all long operations of this process to stop at the next safe point (Ctrl-C).
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Fails with [`io::ErrorKind::Interrupted`] if the user asked to stop.
pub fn check_interrupt() -> io::Result<()> {
    if is_interrupted() {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

/// The wait after which a command reports that it waits for another process.
const REPORT_AFTER: Duration = Duration::from_secs(1);

type WaitCallback = Box<dyn Fn(&str) + Send + Sync>;
static ON_WAIT: OnceLock<WaitCallback> = OnceLock::new();
static REPORTED_WAITS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Sets the callback of [`report_wait`], which gets what this process waits for. Only the first call has an effect.
pub fn set_wait_callback(callback: impl Fn(&str) + Send + Sync + 'static) {
    // Every caller sets the same callback.
    let _ = ON_WAIT.set(Box::new(callback));
}

/// Reports what this process waits for. Each text is reported once per process.
pub fn report_wait(awaited: &str) {
    let Some(callback) = ON_WAIT.get() else {
        return;
    };
    let mut reported_waits = REPORTED_WAITS
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    // Several threads may wait for different things, each in a loop.
    if reported_waits.insert(awaited.to_owned()) {
        callback(awaited);
    }
}

/// Like [`report_wait`], if the wait that began at `start` is a long one.
pub fn report_wait_since(start: Instant, describe_awaited: impl FnOnce() -> String) {
    if start.elapsed() >= REPORT_AFTER {
        report_wait(&describe_awaited());
    }
}

/// Runs `read`, which may block on user input. Ctrl-C ends the process at once during the call: no
/// operation is under way, and the read would not return on a signal.
pub fn block_on_input<T>(read: impl FnOnce() -> T) -> T {
    WAITING_FOR_INPUT.store(true, Ordering::SeqCst);
    let result = read();
    WAITING_FOR_INPUT.store(false, Ordering::SeqCst);
    result
}

/// Lets a child that takes over the terminal handle all signals.
pub(crate) fn hand_over_signals() {
    HANDED_OVER.store(true, Ordering::SeqCst);
}

/// Handles all signals again after the child of [`hand_over_signals`] has ended.
pub fn take_back_signals() {
    HANDED_OVER.store(false, Ordering::SeqCst);
}

/// Returns true between [`hand_over_signals`] and [`take_back_signals`].
pub fn are_signals_handed_over() -> bool {
    HANDED_OVER.load(Ordering::SeqCst)
}

/// Returns true if Ctrl-C should end the process at once: it waits for input, or this is the second
/// Ctrl-C.
pub fn should_end_at_once() -> bool {
    WAITING_FOR_INPUT.load(Ordering::SeqCst) || is_interrupted()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_wait_is_reported_once() {
        let reported = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&reported);
        set_wait_callback(move |what| seen.lock().unwrap().push(what.to_owned()));
        for what in ["lock a", "lock a", "lock b", "lock a"] {
            report_wait(what);
        }
        let mut reported = reported.lock().unwrap().clone();
        // Other tests of this process may wait too.
        reported.retain(|what| ["lock a", "lock b"].contains(&what.as_str()));
        assert_eq!(reported, ["lock a", "lock b"]);
    }
}
