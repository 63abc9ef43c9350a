//! The environment variables that set how much the tests try. CONTRIBUTING.md lists all variables of the tests.

use regex::Regex;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The seed of random tests.
pub(crate) const SEED: &str = "CODEX_MANAGER_TEST_SEED";

/// The number of random cases of a test.
const SEQUENCES: &str = "CODEX_MANAGER_SEQUENCES";

/// Returns the value of a variable.
///
/// # Panics
/// The value cannot be parsed: a run with a mistyped number would test less than was asked for.
pub(crate) fn value<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let value = text.parse().ok();
    Some(value.unwrap_or_else(|| panic!("invalid {name}: {text}")))
}

/// Returns the number of random cases of a test that has `default` without the variable.
pub(crate) fn sequences(default: u64) -> u64 {
    value(SEQUENCES).unwrap_or(default)
}

/// Returns a seed from the clock.
fn clock_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanoseconds = since.expect("after 1970").as_nanos();
    u64::try_from(nanoseconds & u128::from(u64::MAX)).expect("masked")
}

/// Returns the seed that was asked for, or one from the clock.
pub(crate) fn seed() -> u64 {
    value(SEED).unwrap_or_else(clock_seed)
}

/// Returns the seeds of a test that has `default` sequences without the variables. A seed without a number of sequences
/// is one that failed, and runs alone.
pub(crate) fn seeds(default: u64) -> Range<u64> {
    let by_hand = value(SEED);
    let first = by_hand.unwrap_or_else(|| clock_seed() >> 24);
    let count = sequences(if by_hand.is_some() { 1 } else { default });
    first..first + count
}

fn text(relative: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(relative);
    std::fs::read_to_string(path).expect("read")
}

/// Returns the matches of `pattern` in the Rust files and scripts below `folder`.
fn find_names(folder: &str, pattern: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a valid pattern");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = walkdir::WalkDir::new(root).into_iter().flatten();
    let texts = files
        .filter(|file| {
            file.path()
                .extension()
                .is_some_and(|e| e == "rs" || e == "sh")
        })
        .map(|file| std::fs::read_to_string(file.path()).expect("read"));
    texts
        .flat_map(|text| {
            let names = pattern.find_iter(&text);
            names
                .map(|name| name.as_str().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn contributing_lists_every_variable_of_the_tests_and_no_other() {
    let any = r"\b(CODEX_MANAGER_[A-Z0-9_]*[A-Z0-9]|UPDATE_DOCS|UPDATE_FIGURES)\b";
    // The program and its unit tests have no other variables that only tests set.
    let of_tests = r"\bCODEX_MANAGER_TEST[A-Z0-9_]*[A-Z0-9]\b|\bUPDATE_DOCS\b";
    let of_tests = find_names("src", of_tests);
    let ordinary = &(&find_names("src", any) | &find_names("release", any)) - &of_tests;
    let expected: BTreeSet<_> = &(&find_names("tests", any) | &of_tests) - &ordinary;
    let row = Regex::new(r"(?m)^\| `([A-Z][A-Z0-9_]*)[`=]").expect("a valid pattern");
    let guide = text("CONTRIBUTING.md");
    let listed: BTreeSet<_> = row
        .captures_iter(&guide)
        .map(|row| row[1].to_owned())
        .collect();
    assert_eq!(listed, expected);
}
