//! The only place where a test sleeps: between two checks of a state whose change gives no event, and to vary the time
//! of an event. No test sleeps until something has probably happened.

use std::path::Path;
use std::time::{Duration, Instant};

/// The time limit of an event that normally takes a moment, for busy machines.
pub(crate) const EVENT_LIMIT: Duration = Duration::from_secs(300);

/// The shortest and the longest time between two checks. Without it the test would use the processor that the awaited
/// program needs.
const SHORTEST_INTERVAL: Duration = Duration::from_micros(200);
const LONGEST_INTERVAL: Duration = Duration::from_millis(50);

/// Calls `check` until it returns a value, at growing intervals. Returns `None` after `limit`.
pub(crate) fn poll<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let seen = check();
        let elapsed = begun.elapsed();
        if seen.is_some() || elapsed >= limit {
            return seen;
        }
        std::thread::sleep((elapsed / 8).clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL));
    }
}

/// Waits until `is_so`. Panics with the name of the event after [`EVENT_LIMIT`].
#[track_caller]
pub(crate) fn wait_until(event: &str, mut is_so: impl FnMut() -> bool) {
    let seen = poll(EVENT_LIMIT, || is_so().then_some(()));
    assert!(seen.is_some(), "not within {EVENT_LIMIT:?}: {event}");
}

/// Delays the next event, such as a kill, a write or another command, against concurrent ones. The assertions of the
/// test have to hold for each duration.
pub(crate) fn vary(duration: Duration) {
    std::thread::sleep(duration);
}

#[test]
fn tests_sleep_only_in_this_file() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let call = ["thread::", "sleep"].concat();
    for file in walkdir::WalkDir::new(tests).into_iter().flatten() {
        let is_this = file.path().ends_with("support/pauses.rs");
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        assert!(
            is_this || !text.contains(&call),
            "use poll(), wait_until() or vary(): {}",
            file.path().display()
        );
    }
}
