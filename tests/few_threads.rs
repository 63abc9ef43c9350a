//! Systems that refuse more threads (`ulimit -u`, container limits).

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::injection::{can_inject, traced};
use crate::support::pair::{Pair, RUN_OF_A, SKILL};
use crate::support::sample::{FIRST, put, rollout, sample_home};

#[test]
fn backup_verify_and_restore_succeed_if_the_system_refuses_more_threads() {
    if !can_inject() {
        return;
    }
    // The first, second or third start of a thread fails, and all later ones.
    for first in [1, 2, 3] {
        let env = TestEnv::new();
        let home = sample_home(&env);
        put(&env, "skills/large.bin", vec![7; 9 << 20]);
        let without = |args: &[&str]| {
            let how = format!("inject=clone3,clone:error=EAGAIN:when={first}+");
            let options = ["-e", "trace=clone3,clone", "-e", &how].map(str::to_owned);
            let (output, log) = traced(&env, &options, args);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}\n{log}");
            assert!(log.contains("INJECTED"), "{args:?}: {log}");
        };
        without(&["backup", "--no-status"]);
        without(&["verify", "latest"]);
        let there = env.path("there");
        without(&["restore", "latest", "--to", there.to_str().expect("UTF-8")]);
        assert_same_tree(
            &env.tree("home/.codex").only(&["skills", "sessions"]),
            &env.tree("there").only(&["skills", "sessions"]),
        );
        std::fs::remove_file(home.join(rollout(FIRST))).expect("remove");
        without(&["restore", "latest"]);
        assert!(home.join(rollout(FIRST)).exists());
    }
}

#[test]
fn a_sync_succeeds_if_the_system_refuses_all_further_threads() {
    if !can_inject() {
        return;
    }
    let pair = Pair::new();
    pair.put("a", SKILL, "text");
    let none = ["-e", "trace=clone3,clone", "-e"].map(str::to_owned);
    let none = [&none[..], &["inject=clone3,clone:error=EAGAIN".into()]].concat();
    let (output, log) = traced(&pair.0, &none, &RUN_OF_A);
    assert_eq!(output.status.code(), Some(0), "{output:?}\n{log}");
    assert!(log.contains("INJECTED"), "{log}");
    pair.apply("b");
    assert_eq!(pair.text("b", SKILL), "text");
}
