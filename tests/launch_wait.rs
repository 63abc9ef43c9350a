//! Tests of `--wait` and `--then` of `launch` and `resume`, and of the exit code of a `codex exec` that reaches the
//! usage limit.

use crate::launch::codex;
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::lab::{self, Lab};
use crate::support::launched::{LIMIT, Running, launches};
use crate::support::mock_backend::Window;
use crate::support::pauses::wait_until;
use crate::support::processes;
use crate::support::profiles::{alice_and_bob, owner, profile_login};
use crate::support::sign_in::SignIn;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

/// A script that records its arguments, and cannot be asked for figures.
const RECORD: &str = r#"[ "$1" = app-server ] && exit 1
printf '<%s>' "$@" > "$HOME/args""#;

/// Holds `home` back until a time, and sets the clock unless it is `None`.
fn held(until: DateTime<Utc>, now: Option<&str>) -> TestEnv {
    let mut env = alice_and_bob();
    match now {
        Some(now) => env.set("CODEX_MANAGER_NOW", now),
        None => env.unset("CODEX_MANAGER_NOW"),
    };
    codex(&env, RECORD);
    let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
    let hold = ["cooldown", "--set", "home", "--until", &until];
    let _ = env.run(hold).code(0);
    env
}

fn args(env: &TestEnv) -> Option<String> {
    fs::read_to_string(env.path("home/args")).ok()
}

#[test]
fn wait_starts_at_once_after_the_reset_and_plans_the_wait_before_it() {
    let until = "2026-11-24T12:00:00Z".parse().unwrap();
    let mut env = held(until, Some("2026-11-24T11:59:59Z"));
    let plan = ["launch", "home", "--wait", "--dry-run", "--json"];
    let planned = env.run(plan).code(0).json();
    assert_eq!(planned["wait_until"], "2026-11-24T12:00:00+00:00");
    assert_eq!(args(&env), None);
    env.set("CODEX_MANAGER_NOW", "2026-11-24T12:00:00Z");
    let planned = env.run(plan).code(0).json();
    assert_eq!(planned["wait_until"], Value::Null);
    let _ = env
        .run(["launch", "home", "--wait", "--", "exec", "hi"])
        .code(0);
    assert_eq!(args(&env).as_deref(), Some("<exec><hi>"));
}

#[test]
fn without_wait_a_hold_does_not_delay_codex() {
    let until = "2026-11-24T12:00:00Z".parse().unwrap();
    let env = held(until, Some("2026-11-24T11:00:00Z"));
    let _ = env.run(["launch", "home", "--", "exec", "hi"]).code(0);
    assert_eq!(args(&env).as_deref(), Some("<exec><hi>"));
}

#[test]
fn ctrl_c_ends_the_wait_and_changes_nothing() {
    let until = "2026-11-24T12:00:00Z".parse().unwrap();
    let env = held(until, Some("2026-11-24T11:00:00Z"));
    let before = (env.tree("home/.codex"), profile_login(&env, "home"));
    let mut running = Running::start(&env, &["launch", "home", "--wait"]);
    wait_until("the wait", || {
        running
            .printed()
            .contains("waiting until the account is available")
    });
    processes::signal("INT", running.wrapper());
    assert_eq!(running.end(), 130, "{}", running.printed());
    assert_eq!(args(&env), None, "Codex was started");
    assert!(!env.manager_home().join("launches.jsonl").exists());
    assert_same_tree(&before.0, &env.tree("home/.codex"));
    assert_eq!(before.1, profile_login(&env, "home"));
    assert_eq!(
        (owner(&env, "home"), owner(&env, "work")),
        ("profile".into(), "live".into())
    );
}

/// A process that counted its pauses would wait for the rest of the time after it continues.
#[test]
fn a_process_suspended_over_the_reset_starts_as_soon_as_it_continues() {
    let until = Utc::now() + TimeDelta::seconds(12);
    let env = held(until, None);
    let mut running = Running::start(&env, &["launch", "home", "--wait", "--", "exec", "hi"]);
    wait_until("the wait", || {
        running
            .printed()
            .contains("waiting until the account is available")
    });
    processes::signal("STOP", running.wrapper());
    let left = until - Utc::now();
    assert!(
        left > TimeDelta::seconds(6),
        "too slow for this test: {left}"
    );
    wait_until("the reset", || Utc::now() > until);
    assert_eq!(args(&env), None, "started while it was suspended");
    let continued = Instant::now();
    processes::signal("CONT", running.wrapper());
    assert_eq!(running.end(), 0, "{}", running.printed());
    assert!(
        continued.elapsed() < Duration::from_secs(6),
        "{:?}",
        continued.elapsed()
    );
    assert_eq!(args(&env).as_deref(), Some("<exec><hi>"));
}

#[test]
fn wait_for_a_cooldown_without_a_known_end_is_refused() {
    let env = alice_and_bob();
    codex(&env, RECORD);
    let text = "Account: bob@example.com (Plus)\nWeekly limit: [░░░░] 0% left\n";
    let pasted = env.write("pasted.txt", text);
    let paste = ["status", "home", "--status-file", pasted.to_str().unwrap()];
    let _ = env.run(paste).code(0);
    let run = env.run(["launch", "home", "--wait"]).code(5);
    assert!(run.stderr.contains("its end is unknown"), "{run}");
    assert_eq!(args(&env), None);
}

#[test]
fn then_needs_wait_and_a_conversation_of_exec() {
    let env = alice_and_bob();
    codex(&env, RECORD);
    for words in [&["--", "fix it"][..], &["--", "exec", "review"], &[]] {
        let launch = ["launch", "home", "--wait", "--then", "go on"];
        let run = env.run([&launch[..], words].concat()).code(4);
        assert!(run.stderr.contains("hint:"), "{run}");
    }
    let _ = env.run(["launch", "home", "--then", "go on"]).code(4);
    assert_eq!(args(&env), None);
}

/// Lets the turns of Alice end at the limit. Her figures cannot be had beforehand.
fn reach_limit(lab: &Lab, resets_at: DateTime<Utc>) {
    lab.backend.account("acct-alice").set(|alice| {
        alice.usage_limit = true;
        alice.usage_status = Some(503);
        alice.secondary = Some(Window::weekly(100.0).reset_at(resets_at.timestamp()));
    });
}

fn check_exit_code(lab: &Lab) {
    reach_limit(lab, Utc::now() + TimeDelta::hours(3));
    let exec = [
        "launch",
        "alice",
        "--",
        "exec",
        "--skip-git-repo-check",
        "hi",
    ];
    let run = lab.manager(exec).code(75);
    assert!(run.stderr.contains("hit your usage limit"), "{run}");
    assert!(
        run.stderr.contains("the quota of alice is used up until"),
        "{run}"
    );
    assert_eq!(launches(lab)[0]["exit_code"], 1, "the code of Codex");
    // The shell function `codex` passes the code of Codex on.
    lab.world.write(
        "home/.codex-manager/config.toml",
        "[folders]\n\"~\" = \"alice\"\n",
    );
    let in_folder = |words: &[&str]| {
        let mut command = lab.world.command(words);
        command.current_dir(lab.world.path("home"));
        command.output().unwrap().status.code()
    };
    let words = [&["launch", "--if-folder"], &exec[2..]].concat();
    assert_eq!(in_folder(&words), Some(1));
}

#[test]
fn exec_that_reaches_the_usage_limit_exits_with_75() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    check_exit_code(&lab);
    // Another failure is none of the limit.
    lab.backend.account("acct-alice").set(|alice| {
        alice.usage_limit = false;
        alice.force_401 = true;
    });
    let exec = [
        "launch",
        "alice",
        "--",
        "exec",
        "--skip-git-repo-check",
        "hi",
    ];
    let _ = lab.manager(exec).code(1);
}

#[test]
fn exec_of_codex_0_150_that_reaches_the_usage_limit_exits_with_75() {
    let Some(lab) = Lab::of_version("0.150.0") else {
        return;
    };
    check_exit_code(&lab);
}

#[test]
fn then_continues_the_conversation_after_the_reset() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    reach_limit(&lab, Utc::now() + TimeDelta::seconds(20));
    let launch = ["launch", "alice", "--wait", "--then", "-go on", "--"];
    let words = [&launch[..], &["exec", "--skip-git-repo-check", "hi"]].concat();
    let mut running = Running::start(&lab.world, &words);
    wait_until("the wait", || {
        running
            .printed()
            .contains("waiting until the account is available")
    });
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_limit = false);
    assert_eq!(running.end(), 0, "{}", running.printed());
    let launches = launches(&lab);
    assert_eq!(launches.len(), 2);
    assert_eq!(launches[0]["session_id"], launches[1]["session_id"]);
    let id = launches[0]["session_id"].as_str().unwrap();
    let rollout = lab::rollout(&lab.home(), id);
    assert_eq!(lab::messages(&rollout), ["hi", "-go on"]);
    let resumed = lab.manager([
        "resume",
        id,
        "--wait",
        "--then",
        "more",
        "--dry-run",
        "--json",
    ]);
    let command = resumed.code(0).json()["command_line"].clone();
    let words: Vec<_> = command.as_array().unwrap().iter().skip(1).collect();
    assert_eq!(json!(words), json!(["exec", "resume", id, "--", "more"]));
}

/// A reset that has just passed by the clock of this machine, and not by that of the server.
#[test]
fn then_tries_again_if_the_clock_of_the_server_is_behind() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    reach_limit(&lab, Utc::now());
    let launch = ["launch", "alice", "--wait", "--then", "go on", "--"];
    let words = [&launch[..], &["exec", "--skip-git-repo-check", "hi"]].concat();
    let mut running = Running::start(&lab.world, &words);
    wait_until("the wait", || {
        running
            .printed()
            .contains("waiting until the account is available")
    });
    lab.backend
        .account("acct-alice")
        .set(|alice| alice.usage_limit = false);
    assert_eq!(running.end(), 0, "{}", running.printed());
    assert_eq!(launches(&lab).len(), 2);
}

#[test]
fn ctrl_c_ends_the_wait_before_a_continuation() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    reach_limit(&lab, Utc::now() + TimeDelta::hours(3));
    let launch = ["launch", "alice", "--wait", "--then", "go on", "--"];
    let words = [&launch[..], &["exec", "--skip-git-repo-check", "hi"]].concat();
    let mut running = Running::start(&lab.world, &words);
    wait_until("the wait", || {
        running
            .printed()
            .contains("waiting until the account is available")
    });
    processes::signal("INT", running.wrapper());
    assert_eq!(running.end(), 130, "{}", running.printed());
    assert_eq!(launches(&lab).len(), 1);
}

/// Another machine used the account meanwhile, or the server moved the reset.
#[test]
fn wait_asks_again_when_the_reset_has_moved() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let used_up = |resets_at: DateTime<Utc>| {
        lab.backend.account("acct-bob").set(|bob| {
            bob.secondary = Some(Window::weekly(100.0).reset_at(resets_at.timestamp()));
        });
    };
    used_up(Utc::now() + TimeDelta::seconds(15));
    let exec = ["exec", "--skip-git-repo-check", "hi"];
    let words = [&["launch", "bob", "--wait", "--"][..], &exec].concat();
    let mut running = Running::start(&lab.world, &words);
    let waits = |running: &Running| {
        running
            .printed()
            .matches("waiting until the account is available")
            .count()
    };
    wait_until("the wait", || waits(&running) == 1);
    let moved = Utc::now() + TimeDelta::seconds(40);
    used_up(moved);
    wait_until("the second wait", || waits(&running) == 2);
    assert_eq!(running.end(), 0, "{}", running.printed());
    let turns = launches(&lab);
    let started = turns[0]["started_at"].as_str().expect("a time");
    let started = DateTime::parse_from_rfc3339(started).expect("a time");
    assert!(
        started >= moved - TimeDelta::seconds(1),
        "{started} {moved}"
    );
}

#[test]
fn wait_asks_codex_for_the_reset() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let resets_at = Utc::now() + TimeDelta::seconds(15);
    lab.backend.account("acct-bob").set(|bob| {
        bob.usage_limit = true;
        bob.secondary = Some(Window::weekly(100.0).reset_at(resets_at.timestamp()));
    });
    let exec = [
        "launch",
        "bob",
        "--wait",
        "--",
        "exec",
        "--skip-git-repo-check",
        "hi",
    ];
    let mut running = Running::start(&lab.world, &exec);
    wait_until("the wait", || {
        running
            .printed()
            .contains("waiting until the account is available")
    });
    lab.backend
        .account("acct-bob")
        .set(|bob| bob.usage_limit = false);
    assert_eq!(running.end(), 0, "{}", running.printed());
    assert!(
        Utc::now() >= resets_at - TimeDelta::seconds(1),
        "{}",
        running.printed()
    );
    assert!(lab.backend.wait_for(LIMIT, |all| {
        all.iter().any(|r| r.path.ends_with("/responses"))
    }));
}
