//! `current` and `list` show the account of each running program, and read no conversation.

use crate::support::env::{PROGRAM, TestEnv};
use crate::support::lab::Lab;
use crate::support::mock_backend::Account;
use crate::support::sample::{alice, bob, sample_home};
use crate::support::sign_in::{SignIn, rfc3339, unix_now, write_auth};
use crate::support::skips::skip;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// Records a switch from Alice to Bob at this time.
pub(crate) fn note_switch(env: &TestEnv, at: i64, before: Option<i64>) {
    let who = |name: &str| {
        json!({"email": format!("{name}@example.com"), "account_id": format!("acct-{name}"),
               "user_id": format!("user-{name}"), "kind": "chatgpt"})
    };
    let home = env.codex_home().canonicalize().expect("a home");
    let switch = json!({"previous": who("alice"), "current": who("bob"),
                        "at": rfc3339(at), "before": before.map(rfc3339)});
    let note = json!({"schema": 1, "homes": {home.to_str().expect("UTF-8"): switch}});
    env.write(
        "home/.codex-manager/profiles/.switch.json",
        note.to_string(),
    );
}

fn current(env: &TestEnv) -> Value {
    env.run(["current", "--json"]).code(0).json()
}

#[test]
fn a_running_codex_is_listed_with_the_account_at_its_start() {
    let Some(lab) = Lab::signed_in(&SignIn::bob()) else {
        return;
    };
    let env = &lab.world;
    lab.backend.account("acct-bob").hold_turns();
    let running = lab.codex.spawn_exec(&lab.home(), &lab.backend, &["hello"]);
    assert!(
        lab.backend
            .account("acct-bob")
            .wait_for_held_turn(Duration::from_secs(60))
    );
    let email = || current(env)["processes"][0]["email"].clone();
    let now = unix_now();
    // A switch after the start of the process, two switches after it, and a switch long before it.
    note_switch(env, now + 60, None);
    assert_eq!(email(), "alice@example.com");
    let printed = env.run(["current"]).code(0);
    assert!(
        printed.stdout.contains(": still alice@example.com"),
        "{printed}"
    );
    note_switch(env, now + 60, Some(now + 30));
    assert_eq!(email(), Value::Null);
    note_switch(env, now - 600, None);
    assert_eq!(email(), "bob@example.com");
    assert_eq!(current(env)["processes"][0]["current"], true);
    // A record of another home has no effect.
    let path = env.manager_home().join("profiles/.switch.json");
    let mut note: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let homes = note["homes"].as_object_mut().expect("an object");
    let switch = homes.values().next().expect("a switch").clone();
    note["homes"] = json!({"/elsewhere": switch});
    fs::write(&path, note.to_string()).expect("write");
    assert_ne!(email(), "alice@example.com");
    running.kill();
}

#[test]
fn a_switch_records_its_time_for_running_programs() {
    let env = TestEnv::new();
    for (name, login) in [("work", alice(0)), ("home", bob())] {
        write_auth(&env.codex_home(), &login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    let home = env.codex_home().canonicalize().expect("a home");
    let note = || -> Value {
        let path = env.manager_home().join("profiles/.switch.json");
        let file: Value = serde_json::from_slice(&fs::read(path).expect("a note")).expect("JSON");
        file["homes"][home.to_str().expect("UTF-8")].clone()
    };
    let _ = env.run(["use", "work"]).code(0);
    assert_eq!(note()["previous"]["email"], "bob@example.com");
    assert_eq!(note()["before"], Value::Null);
    let first = note()["at"].clone();
    let _ = env.run(["use", "home"]).code(0);
    assert_eq!(note()["before"], first);
}

#[test]
fn current_and_list_read_no_conversation() {
    let env = TestEnv::new();
    sample_home(&env);
    let _ = env.run(["profile", "save", "work"]).code(0);
    for args in [
        &["current", "--json"][..],
        &["list", "--json"],
        &["profile", "list"],
    ] {
        let log = env.path("strace.log");
        let traced = env
            .other_program("strace")
            .args(["-f", "-e", "trace=%file,getdents64", "-o"])
            .arg(&log)
            .arg(PROGRAM)
            .args(args)
            .output();
        let output = match traced {
            Ok(output) => output,
            Err(e) => return skip("strace", &e.to_string()),
        };
        assert!(output.status.success(), "{output:?}");
        let log = fs::read_to_string(&log).expect("the log");
        assert!(log.contains("auth.json"), "the log has no calls");
        // Only paths in arguments count. Targets of links of other processes appear in results.
        let home = env.path("home");
        let home = home.to_str().expect("text");
        let looked: Vec<_> = log
            .lines()
            .filter(|line| {
                let asked = line.split('"').nth(1).unwrap_or_default();
                let below = ["/sessions", "/archived_sessions", ".sqlite", "/backups"];
                // Root looks at the owner of the folder.
                let is_look = asked.ends_with("/.codex-manager/backups");
                asked.starts_with(home) && !is_look && below.iter().any(|name| asked.contains(name))
            })
            .collect();
        assert_eq!(looked, Vec::<&str>::new(), "{args:?}");
    }
}

#[test]
fn refresh_queries_codex_and_shows_source_and_age() {
    let Some(lab) = Lab::new() else { return };
    let before = lab.manager(["current", "--json"]).code(0).json();
    assert_eq!(before["windows"], json!([]));
    assert_eq!(before["source"], Value::Null);
    for command in ["current", "list"] {
        lab.backend.forget_requests();
        let _ = lab.manager([command, "--refresh"]).code(0);
        assert_eq!(lab.backend.requests_to("/wham/usage").len(), 1, "{command}");
    }
    lab.backend.forget_requests();
    let view = lab.manager(["current", "--json"]).code(0).json();
    assert_eq!(view["source"], "live");
    assert_eq!(view["windows"][1]["used_percent"], 91.0);
    assert!(view["observed_at"].is_string());
    let printed = lab.manager(["current"]).code(0);
    assert!(
        printed.stdout.contains("source: live, recorded "),
        "{printed}"
    );
    assert_eq!(lab.backend.requests(), []);
    lab.backend.account("acct-alice").set(|a: &mut Account| {
        a.usage_status = Some(503);
    });
    let printed = lab.manager(["current", "--refresh"]).code(6);
    assert!(printed.stderr.contains("no live figure"), "{printed}");
    assert!(printed.stdout.contains("9 % left"), "{printed}");
}
