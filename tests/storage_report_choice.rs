//! `storage` on a terminal offers to run a command that it suggests.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::sample_home;
use crate::support::terminal::{LINES, Terminal};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const SIZE: (u16, u16) = (120, LINES);
const QUESTION: &str = "run one of these now";

/// A home with a cache, which one of the suggested commands removes.
fn home_with_a_cache() -> TestEnv {
    let env = TestEnv::new();
    sample_home(&env);
    env.write("home/.codex/tmp/cache.bin", vec![0; 100_000]);
    env
}

#[test]
fn a_chosen_suggestion_runs_and_enter_runs_nothing() {
    let env = home_with_a_cache();
    let before = env.tree("home/.codex");
    for (key, code) in [("\r", 0), ("\x03", 130)] {
        let mut terminal = Terminal::start(&mut env.command(["storage"]));
        let is_open = |picture: &str| picture.contains("> nothing now");
        terminal.wait_until(SIZE, LIMIT, is_open);
        terminal.type_keys(key);
        assert_eq!(terminal.end().code(), Some(code), "{}", terminal.text());
        assert_same_tree(&before, &env.tree("home/.codex"));
    }
    let mut terminal = Terminal::start(&mut env.command(["storage"]));
    terminal.wait_for(QUESTION, LIMIT);
    terminal.type_keys("rm -rf tmp");
    let is_chosen = |picture: &str| picture.contains("> rm -rf ");
    terminal.wait_until(SIZE, LIMIT, is_chosen);
    terminal.type_keys("\r");
    assert!(terminal.end().success(), "{}", terminal.text());
    assert!(!env.codex_home().join("tmp").exists());
    // Other files are unchanged.
    assert!(env.codex_home().join("sessions").is_dir());
}

#[test]
fn without_a_terminal_no_question_is_asked() {
    let env = home_with_a_cache();
    let before = env.tree("home");
    for args in [&["storage"][..], &["storage", "--json"]] {
        let run = env.run(args).code(0);
        assert!(!run.stderr.contains(QUESTION), "{run}");
    }
    let mut command = env.command(["storage"]);
    let mut terminal = Terminal::watch(&mut command, 80);
    assert!(terminal.end().success());
    assert!(!terminal.text().contains(QUESTION), "{}", terminal.text());
    assert_same_tree(&before, &env.tree("home"));
}
