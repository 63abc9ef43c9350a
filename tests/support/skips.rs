//! Counts the tests that a machine cannot run, so that none passes silently.

use super::tool_install::E2E_VARIABLE;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

static SKIPPED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Notes that a test is skipped for want of `what`, and prints the number of skipped tests so far. The last of these
/// lines is that of the whole run. The harness hides the output of tests that pass, but not what is written to stderr
/// itself.
///
/// # Panics
/// [`E2E_VARIABLE`] is `require`.
pub(crate) fn skip(what: &str, reason: &str) {
    let required = std::env::var_os(E2E_VARIABLE).is_some_and(|value| value == "require");
    assert!(!required, "{what} is required: {reason}");
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    *skipped.entry(what.to_owned()).or_default() += 1;
    let sum: usize = skipped.values().sum();
    let each: Vec<_> = skipped
        .iter()
        .map(|(what, n)| format!("{what} {n}"))
        .collect();
    let line = format!("SKIPPED {sum}: {}\n", each.join(", "));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[test]
fn skipped_tests_are_reported_only_in_this_file() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let report = ["println!(\"SKIPPED", "println!(\"skipped"].map(str::to_owned);
    for file in walkdir::WalkDir::new(tests).into_iter().flatten() {
        let is_this = file.path().ends_with("support/skips.rs");
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        let found = report.iter().any(|report| text.contains(report));
        assert!(is_this || !found, "use skip(): {}", file.path().display());
    }
}
