//! How long work tells how far it is and learns that it should stop, without knowing who watches.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Told about bytes as they are done.
pub trait Progress: Sync {
    /// How many bytes the whole work has, once that is known.
    fn expect_bytes(&self, total: u64);
    /// That many more bytes are done.
    fn add_bytes(&self, bytes: u64);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn expect_bytes(&self, _total: u64) {}
    fn add_bytes(&self, _bytes: u64) {}
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static WAITING_FOR_INPUT: AtomicBool = AtomicBool::new(false);

/// Asks all long work of this process to stop at the next safe place (Ctrl-C).
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Whether the user asked to stop.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

type WaitCallback = Box<dyn Fn() + Send + Sync>;
static ON_WAIT: OnceLock<WaitCallback> = OnceLock::new();
static WAIT_REPORTED: AtomicBool = AtomicBool::new(false);

/// Says how the user learns that this process waits for another; the first call counts.
pub fn on_wait(tell: impl Fn() + Send + Sync + 'static) {
    // A second one says the same.
    let _ = ON_WAIT.set(Box::new(tell));
}

/// Tells the user that this process waits for another, once.
pub fn report_wait() {
    if let Some(tell) = ON_WAIT.get()
        && !WAIT_REPORTED.swap(true, Ordering::Relaxed)
    {
        tell();
    }
}

/// Does what may wait for a person, such as reading standard input: nothing of ours is under way,
/// and the system will not end the wait for a signal.
pub fn waiting_for_input<T>(read: impl FnOnce() -> T) -> T {
    WAITING_FOR_INPUT.store(true, Ordering::SeqCst);
    let result = read();
    WAITING_FOR_INPUT.store(false, Ordering::SeqCst);
    result
}

/// Whether to end at once when asked to stop: a person is waited for, or it was asked before.
pub fn ends_at_once() -> bool {
    WAITING_FOR_INPUT.load(Ordering::SeqCst) || is_interrupted()
}
