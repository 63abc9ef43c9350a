//! Who uses a home, with the real Codex.

use crate::support::mock_backend::MockBackend;
use crate::support::real_codex::RealCodex;
use crate::support::sign_in::{SignIn, signed_in_home};
use codex_manager::codex::process::find_holders;
use codex_manager::io::lock;
use std::time::Duration;

#[test]
fn a_turn_that_runs_is_seen_and_then_no_more() {
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let backend = MockBackend::start();
    let folder = tempfile::tempdir().expect("a folder");
    let (home, other) = (folder.path().join("a"), folder.path().join("b"));
    signed_in_home(&home, &backend, &SignIn::alice());
    signed_in_home(&other, &backend, &SignIn::bob());
    backend.account("acct-alice").hold_turns();
    let turn = codex.spawn_exec(&home, &backend, &["hello"]);
    let alice = backend.account("acct-alice");
    assert!(alice.wait_for_held_turn(Duration::from_secs(30)));

    let holders = find_holders(&home, &[]);
    let pid = turn.native_pid().expect("a native process");
    let seen: Vec<_> = holders.iter().map(ToString::to_string).collect();
    assert_eq!(seen, [format!("codex (PID {pid}, codex process)")]);
    assert_eq!(find_holders(&other, &[]), [], "another home");

    // Its conversation is locked, which is seen even where processes are not.
    let locks = std::fs::read_dir(home.join("thread-writer-locks")).expect("locks");
    let held = locks
        .map(|entry| entry.expect("entry").path())
        .filter(|path| lock::is_held(path))
        .count();
    assert_eq!(held, 1);

    alice.release_turns();
    let _ = turn.finish(Duration::from_secs(30)).expect_success();
    assert_eq!(find_holders(&home, &[]), []);
}
