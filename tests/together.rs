//! I10: concurrent commands lose no data.

use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::pauses::{vary, wait_until};
use crate::support::processes;
use crate::support::sample::{assert_same_home, backup, put, sample_home, text};
use crate::support::sign_in::{SignIn, auth_json};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn start(env: &TestEnv, args: &[&str]) -> Child {
    env.command(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start")
}

/// Returns the exit code and standard error.
fn end(child: Child) -> (i32, String) {
    let output = child.wait_with_output().expect("wait");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), printed)
}

#[test]
fn i10_eight_backups_at_once_are_eight_archives() {
    let env = TestEnv::new();
    sample_home(&env);
    let children: Vec<_> = (0..8)
        .map(|_| start(&env, &["backup", "--no-status"]))
        .collect();
    for child in children {
        let (code, printed) = end(child);
        assert_eq!(code, 0, "{printed}");
    }
    let list = env.run(["list-backups", "--json"]).code(0).json();
    let rows = list["backups"].as_array().expect("list");
    assert_eq!(rows.len(), 8);
    assert!(rows.iter().all(|r| r["problem"].is_null()), "{list}");
    let inventory = std::fs::read(env.manager_home().join("inventory.json")).expect("read");
    let inventory: serde_json::Value = serde_json::from_slice(&inventory).expect("JSON");
    assert_eq!(inventory["archives"].as_array().expect("list").len(), 8);
    let verified = env.run(["verify", "--all", "--json"]).code(0).json();
    assert_eq!(verified["archives"].as_array().expect("list").len(), 8);
}

#[test]
fn i10_eight_accounts_recorded_concurrently_are_all_known() {
    let env = TestEnv::new();
    let homes: Vec<_> = (0..8)
        .map(|i| {
            let login = auth_json(&SignIn::new(
                &format!("acct-{i}"),
                &format!("u{i}@example.com"),
            ));
            env.write(&format!("homes/{i}/auth.json"), login);
            text(&env.path(&format!("homes/{i}")))
        })
        .collect();
    let children: Vec<_> = homes
        .iter()
        .map(|home| start(&env, &["backup", "--no-status", "--codex-home", home]))
        .collect();
    for child in children {
        let (code, printed) = end(child);
        assert_eq!(code, 0, "{printed}");
    }
    let known = env.run(["cooldown", "--json"]).code(0).json();
    assert_eq!(
        known["accounts"].as_array().expect("list").len(),
        8,
        "{known}"
    );
}

/// Creates a home whose restore takes a while, and its archive.
fn slow_restore() -> (TestEnv, String) {
    let env = TestEnv::new();
    sample_home(&env);
    for i in 0..600 {
        put(
            &env,
            format!("sessions/2026/11/17/x-{i}.txt"),
            vec![b'x'; 20_000],
        );
    }
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    (env, archive)
}

/// Starts a restore, and stops its process while the restore has a journal.
fn start_and_stop_restore(env: &TestEnv, archive: &str) -> Child {
    let journal = env.path("home/..codex.codex-manager-restore/journal.json");
    loop {
        let mut restore = start(env, &["restore", archive]);
        wait_until("the restore has a journal or has ended", || {
            journal.exists() || restore.try_wait().expect("wait").is_some()
        });
        if restore.try_wait().expect("wait").is_none() {
            processes::stop(restore.id());
        }
        if journal.exists() {
            return restore;
        }
        // It was too quick.
        processes::signal("CONT", restore.id());
        let (code, printed) = end(restore);
        assert_eq!(code, 0, "{printed}");
        put(env, "AGENTS.md", "changed");
    }
}

#[test]
fn i10_one_of_two_concurrent_restores_wins_and_the_other_reports_it() {
    let (env, archive) = slow_restore();
    // Otherwise it could end before the second one starts.
    let first = start_and_stop_restore(&env, &archive);
    let (code, printed) = end(start(&env, &["restore", &archive]));
    processes::signal("CONT", first.id());
    // The first one may have a file of the home open.
    let refusal = match code {
        3 => "the Codex home is in use by codex-manager",
        _ => "is changing the same files",
    };
    assert!([1, 3].contains(&code), "{code}: {printed}");
    assert!(printed.contains(refusal), "{printed}");
    let (code, printed) = end(first);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(
        std::fs::read_to_string(env.codex_home().join("AGENTS.md")).expect("read"),
        "be brief\n"
    );
}

#[test]
fn i10_a_backup_during_a_restore_contains_one_state_or_is_refused() {
    let (env, archive) = slow_restore();
    let (mut made, mut refused) = (0, 0);
    for i in 0..6 {
        put(&env, "AGENTS.md", format!("changed {i}"));
        let before = env.tree("home/.codex");
        let restore = start(&env, &["restore", &archive, "--no-safety-backup"]);
        vary(Duration::from_millis(i * 30));
        let run = env.run(["backup", "--no-status", "--json"]);
        let (code, printed) = end(restore);
        // The running backup may be reported as a user of the home.
        assert!(
            code == 0 || (code == 3 && printed.contains("codex-manager")),
            "{printed}"
        );
        let after = env.tree("home/.codex");
        if run.code != 0 {
            assert_eq!(run.code, 1, "{run}");
            assert!(
                run.stderr.contains("restoring") || run.stderr.contains("replaced"),
                "{run}"
            );
            refused += 1;
            continue;
        }
        made += 1;
        let name = run.json()["archive"].as_str().expect("name").to_owned();
        let to = format!("copy-{i}");
        let _ = env.run(["restore", &name, "--to", &to]).code(0);
        let copy = env.tree(&to).only(&["sessions", "AGENTS.md", "skills"]);
        let is = |tree: &crate::support::env::Tree| {
            copy.0
                .iter()
                .all(|(p, t)| t.starts_with("folder") || tree.0.get(p) == Some(t))
        };
        assert!(is(&before) || is(&after), "the copy has neither state");
    }
    println!("{made} backups created, {refused} refused");
}

#[test]
fn a_restore_is_refused_while_another_process_locks_the_login() {
    let env = TestEnv::new();
    let home = sample_home(&env);
    let archive = text(&backup(&env, &[]));
    put(&env, "AGENTS.md", "changed");
    let held = std::fs::File::open(home.join("auth.lock")).expect("open");
    held.lock().expect("lock");
    let before = env.tree("home/.codex");
    let run = env.run(["restore", &archive]).code(3);
    assert!(run.stderr.contains("auth.lock"), "{run}");
    assert_same_tree(&before, &env.tree("home/.codex"));
    drop(held);
    let _ = env.run(["restore", &archive]).code(0);
}

#[test]
fn commands_that_only_read_wait_for_no_lock() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = text(&backup(&env, &[]));
    let before = env.tree("home");
    let held = std::fs::File::open(env.manager_home().join(".lock")).expect("open");
    held.lock().expect("lock");
    for args in [
        &["recommend"][..],
        &["list-backups"],
        &["cooldown"],
        &["verify", &archive],
        &["restore", &archive, "--dry-run"],
    ] {
        let began = Instant::now();
        let _ = env.run(args);
        assert!(began.elapsed() < Duration::from_secs(60), "{args:?}");
    }
    assert_same_home(&before, &env.tree("home"));
    assert_same_tree(&before, &env.tree("home"));
}
