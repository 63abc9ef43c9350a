//! Questions on a terminal: Ctrl-C reports that nothing was changed, and a narrow terminal breaks no word.

use crate::cooldown::{entry, write_cooldown};
use crate::history_rebuild::home_of;
use crate::prune::archives;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::sample::put;
use crate::support::sign_in::{SignIn, write_auth};
use crate::support::terminal::Terminal;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// The way in which a question is cancelled.
#[derive(Debug, Clone, Copy)]
enum Cancel {
    /// A key, read as a character.
    ControlC,
    Signal(&'static str),
}

/// Runs a command until it asks `question`, cancels it, and checks exit code, message and files.
#[track_caller]
fn assert_cancelled(env: &TestEnv, args: &[&str], question: &str) {
    // A question reads a line, so the terminal sends a signal. A password is read key by key.
    let is_secret = question.contains("pass");
    let cancel = if is_secret {
        Cancel::ControlC
    } else {
        Cancel::Signal("INT")
    };
    assert_cancelled_by(cancel, env, args, question);
}

#[track_caller]
fn assert_cancelled_by(cancel: Cancel, env: &TestEnv, args: &[&str], question: &str) {
    let before = env.tree("home");
    for columns in ["120", "40"] {
        let mut terminal = Terminal::start(env.command(args).env("COLUMNS", columns));
        let last_word = question.rsplit(' ').next().unwrap_or_default();
        terminal.wait_for(&format!("{last_word} "), LIMIT);
        let asked = terminal
            .text()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(asked.contains(question), "{args:?}: {asked}");
        let width: usize = columns.parse().unwrap();
        for line in terminal.text().replace('\r', "").lines() {
            // A path may exceed the width.
            let is_word = !line.trim().contains(' ');
            assert!(is_word || line.chars().count() <= width, "{line}");
        }
        match cancel {
            Cancel::ControlC => terminal.type_keys("\x03"),
            Cancel::Signal(name) => terminal.signal(name),
        }
        assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
        let text = terminal.text().replace('\r', "");
        let end = "\nerror: cancelled\n\nhint: nothing was changed\n";
        assert!(text.ends_with(end), "{args:?}: {text}");
        assert!(terminal.is_cooked());
        assert_same_tree(&before, &env.tree("home"));
    }
}

#[test]
fn control_c_at_a_question_reports_that_nothing_was_changed() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z"]);
    put(&env, "notes.txt", "changed");
    assert_cancelled(&env, &["restore", "latest"], "~/.codex? [y/N]");
    let _ = env.run(["prune", "--keep-last", "1"]).code(0);
    let empty = &["prune", "--empty-trash"];
    assert_cancelled(&env, empty, "permanently? [y/N]");
    let _ = env.run(["profile", "save", "work"]).code(0);
    let remove = &["profile", "remove", "work"];
    assert_cancelled(&env, remove, "move the profile work to the trash? [y/N]");
    write_auth(&env.codex_home(), &SignIn::new("acct-b", "b@example.com"));
    let purge = &["profile", "remove", "work", "--purge"];
    assert_cancelled(&env, purge, "This may be the only copy [y/N]");
    let mut exhausted = entry("alice@example.com", 100.0, "2026-11-24T15:55:00Z");
    exhausted["profile"] = "work".into();
    write_cooldown(&env, &[exhausted]);
    assert_cancelled(&env, &["use", "work"], "switch anyway? [y/N]");
    let export = &["profile", "export", "--with-logins", "all.cmx"];
    assert_cancelled(&env, export, "passphrase:");
    let init = &["sync", "init"];
    assert_cancelled(&env, init, "such as ~/Dropbox/codex:");
}

#[test]
fn a_signal_at_a_passphrase_turns_echo_on_again() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-19T10:00:00Z"]);
    let _ = env.run(["profile", "save", "work"]).code(0);
    let export = &["profile", "export", "--with-logins", "all.cmx"];
    for name in ["TERM", "HUP", "INT"] {
        assert_cancelled_by(Cancel::Signal(name), &env, export, "passphrase:");
    }
}

#[test]
fn control_c_before_prompts_are_removed_reports_that_nothing_was_changed() {
    let env = home_of(103);
    let question = "remove 3 prompts from history.jsonl? [y/N]";
    assert_cancelled(&env, &["history", "rebuild"], question);
}
