//! Concurrent launches with the real Codex: of several accounts, of one account, and beside other
//! commands.

#![allow(
    clippy::unnecessary_debug_formatting,
    reason = "TOML quotes as Rust does"
)]

use crate::support::env::{Tree, assert_same_tree};
use crate::support::lab::{Lab, creator, messages, rollout, rows};
use crate::support::launched::{
    EXEC, Running, isolated_homes, isolated_logins, lab_of_three, launches, registry, turns,
};
use crate::support::pauses::wait_until;
use crate::support::sign_in::{SignIn, auth_json, read_refresh_token};
use crate::support::write_program;
use codex_manager_core::codex::process::find_codex;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn isolated(account: &str) -> [&str; 3] {
    ["launch", account, "--isolated"]
}

/// Returns the isolated home with a login; panics unless there is exactly one.
#[track_caller]
fn only_isolated_home(lab: &Lab) -> PathBuf {
    let logins = isolated_logins(&lab.world.manager_home());
    let [login] = &logins[..] else {
        panic!("{logins:?}");
    };
    login.parent().expect("a home").to_path_buf()
}

/// Returns all files except for locks, logs and the times of folders.
fn stable_files(lab: &Lab) -> Tree {
    let mut tree = lab.world.tree("home");
    tree.0.retain(|path, text| {
        path.extension().is_none_or(|e| e != "lock")
            && path.file_name().is_none_or(|n| n != ".lock")
            && !path.starts_with(".codex-manager/logs")
            // A running Codex writes here at any time.
            && !path.iter().any(|part| part == "shell_snapshots")
            && !text.starts_with("folder")
    });
    tree
}

#[test]
fn three_accounts_run_concurrently_in_separate_conversations() {
    let Some(lab) = lab_of_three() else { return };
    lab.backend.forget_requests();
    let mut running = [
        Running::start_held(&lab, "acct-bob", &isolated("bob")),
        Running::start_held(&lab, "acct-carol", &isolated("carol")),
        Running::start_held(&lab, "acct-alice", &["launch", "alice"]),
    ];
    let accounts = ["acct-bob", "acct-carol", "acct-alice"];
    assert_eq!(turns(&lab), accounts);
    let listed = launches(&lab);
    assert_eq!(listed.len(), 3, "{listed:?}");
    assert!(
        listed.iter().all(|row| row["state"] == "running"),
        "{listed:?}"
    );
    assert!(
        listed.iter().all(|row| row["warning"].is_null()),
        "{listed:?}"
    );
    for account in accounts {
        lab.backend.account(account).release_turns();
    }
    for launch in &mut running {
        assert_eq!(launch.end(), 0, "{}", launch.printed());
    }
    let listed = launches(&lab);
    assert_eq!(listed.len(), 3, "{listed:?}");
    for (row, account) in listed.iter().rev().zip(accounts) {
        assert_eq!(row["state"], "bound", "{row}");
        assert_eq!(row["account_id"], account, "{row}");
        let id = row["session_id"].as_str().expect("an id");
        let file = rollout(&lab.home(), id);
        assert_eq!(lab.path_in(&row["rollout_path"]), file);
        assert_eq!(creator(&file), account);
        assert!(rows(&lab.home()).contains(&(id.to_owned(), file.clone())));
        lab.resume(&lab.home(), id, "go on");
        assert_eq!(messages(&file), ["hello", "go on"]);
    }
    let homes = isolated_homes(&lab.world.manager_home());
    assert_eq!(homes.len(), 2);
    for home in homes {
        let entries = fs::read_dir(&home).expect("list").flatten();
        let names: Vec<_> = entries
            .map(|e| e.file_name().into_string().expect("text"))
            .collect();
        assert!(
            !names.iter().any(|name| name.contains(".sqlite")),
            "{names:?}"
        );
        assert!(!names.contains(&"auth.json".to_owned()), "{names:?}");
        let locks = fs::read_link(home.join("thread-writer-locks")).expect("a link");
        assert_eq!(
            locks,
            lab.home()
                .join("thread-writer-locks")
                .canonicalize()
                .expect("canonicalize")
        );
    }
}

#[test]
fn a_conversation_written_in_an_isolated_home_is_locked_in_the_real_one() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let row = launches(&lab).remove(0);
    let id = row["session_id"].as_str().expect("a bound conversation");
    let args = ["exec", "resume", "--skip-git-repo-check", id, "go on"];
    let refused = lab
        .codex
        .run(&lab.home(), &lab.backend, &args)
        .expect_failure();
    assert!(refused.stderr.contains("active writer"), "{refused}");
    lab.backend.account("acct-bob").release_turns();
    running.wait_for_all();
    assert_eq!(messages(&rollout(&lab.home(), id)), ["hello"]);
}

#[test]
fn current_names_the_account_of_a_codex_in_an_isolated_home() {
    let Some(lab) = lab_of_three() else { return };
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let current = lab.manager(["current", "--json"]).code(0).json();
    let processes = current["processes"].as_array().expect("a list");
    let is_launched = |process: &&Value| process["pid"] == running.codex();
    let process = processes.iter().find(is_launched).expect("the Codex");
    assert_eq!(process["email"], "bob@example.com", "{current}");
    assert_eq!(process["profile"], "bob", "{current}");
    assert_eq!(process["current"], false, "{current}");
    assert_eq!(process["isolated"], true, "{current}");
    let printed = lab.manager(["current"]).code(0);
    assert!(printed.stdout.contains("): bob, isolated"), "{printed}");
    lab.backend.account("acct-bob").release_turns();
    running.wait_for_all();
}

#[test]
fn a_second_launch_joins_the_isolated_home_and_the_last_one_returns_the_login() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let mut first = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let home = only_isolated_home(&lab);
    let renewed = read_refresh_token(&home);
    assert_ne!(renewed, SignIn::bob().refresh_token());
    let args = [&isolated("bob")[..], &EXEC].concat();
    let mut second = Running::start(&lab.world, &args);
    let is_second = |all: &[crate::support::mock_backend::Request]| {
        let turn = |r: &&crate::support::mock_backend::Request| r.path.ends_with("/responses");
        all.iter().filter(turn).count() == 2
    };
    assert!(
        lab.backend
            .wait_for(crate::support::launched::LIMIT, is_second)
    );
    assert_eq!(only_isolated_home(&lab), home);
    // For a moment after a fork, a child of Codex has its name too.
    wait_until("two programs of Codex run", || {
        let found = find_codex(&home);
        found.iter().filter(|h| h.name == "codex").count() == 2
    });
    // The first launch ends; the login stays for the other one.
    crate::support::processes::signal("KILL", first.codex());
    let _ = first.end();
    assert_eq!(only_isolated_home(&lab), home);
    let refused = lab.manager(["launch", "bob", "--", "exec", "x"]).code(3);
    assert!(
        refused.stderr.contains("launch bob --isolated"),
        "{refused}"
    );
    lab.backend.account("acct-bob").release_turns();
    assert_eq!(second.end(), 0, "{}", second.printed());
    assert_eq!(
        isolated_logins(&lab.world.manager_home()),
        Vec::<PathBuf>::new()
    );
    let profile = lab.world.manager_home().join("profiles/bob");
    assert_eq!(read_refresh_token(&profile), renewed);
    let states: Vec<_> = launches(&lab)
        .iter()
        .map(|row| row["state"].clone())
        .collect();
    assert_eq!(states, ["bound", "bound"]);
    assert_eq!(turns(&lab), ["acct-bob", "acct-bob"]);
    let _ = lab.manager(["use", "bob"]).code(0);
    assert_eq!(lab.backend.reused_tokens(), Vec::<String>::new());
}

#[test]
fn concurrent_launches_of_one_profile_share_its_isolated_home() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let args = [&isolated("bob")[..], &EXEC].concat();
    for _ in 0..5 {
        let mut all: Vec<_> = (0..3).map(|_| Running::start(&lab.world, &args)).collect();
        for launch in &mut all {
            assert_eq!(launch.end(), 0, "{}", launch.printed());
        }
        assert_eq!(
            isolated_logins(&lab.world.manager_home()),
            Vec::<PathBuf>::new()
        );
    }
    let listed = launches(&lab);
    assert_eq!(listed.len(), 15);
    let mut sessions: Vec<_> = listed
        .iter()
        .map(|row| row["session_id"].to_string())
        .collect();
    sessions.sort();
    sessions.dedup();
    assert_eq!(
        sessions.len(),
        15,
        "each launch has its own conversation: {listed:?}"
    );
}

#[test]
fn commands_that_would_take_an_isolated_login_are_refused() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let archive = lab.back_up();
    let archive = archive.to_str().expect("text");
    let cloud = lab.world.path("cloud");
    fs::create_dir(&cloud).expect("folder");
    let config = format!(
        "[identity]\nmachine_id = \"a\"\n[paths]\ncloud_root_dir = {cloud:?}\nlocal_state_dir = {:?}\n\
         backup_dir = {:?}\n[process_detection]\ngrace_period_seconds = 0\n",
        lab.home(),
        lab.world.path("backups"),
    );
    lab.world.write("a.toml", config);
    let sync = ["sync", "-c", "a.toml", "run", "--apply"];
    let ending = [&sync[..], &["--auto-terminate-without-confirmation"]].concat();
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let pid = format!("PID {}", running.codex());
    let before = stable_files(&lab);
    for args in [
        &["use", "bob"][..],
        &["use", "bob", "--dry-run"],
        &["launch", "bob", "--", "exec", "x"],
        &["restore", archive, "--yes"],
        &["profile", "restore-login", "bob"],
        &sync,
        &ending,
    ] {
        let refused = lab.manager(args).code(3);
        assert!(refused.stderr.contains(&pid), "{args:?} {refused}");
        assert_same_tree(&before, &stable_files(&lab));
    }
    assert!(fs::read_dir(&cloud).expect("list").next().is_none());
    lab.backend.account("acct-bob").release_turns();
    assert_eq!(running.end(), 0, "{}", running.printed());
}

#[test]
fn a_profile_that_runs_isolated_is_renamed_but_neither_probed_nor_exported_with_its_login() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let home = only_isolated_home(&lab);
    // A login that a running Codex uses is not probed.
    lab.backend.forget_requests();
    let status = lab.manager(["status", "--all", "--json"]).code(6);
    assert!(status.stderr.contains("isolated home"), "{status}");
    let asked = lab.backend.requests().into_iter();
    let asked = asked.filter(|r| r.account_id.as_deref() == Some("acct-bob"));
    assert_eq!(asked.count(), 0);
    let export = lab.world.path("export.tar.age");
    let passphrase = lab.world.write("passphrase", "correct horse battery");
    let args = [
        "profile",
        "export",
        export.to_str().expect("text"),
        "--with-logins",
        "--passphrase-file",
        passphrase.to_str().expect("text"),
        "--json",
    ];
    let exported = lab.manager(args).code(6);
    let left = exported.json()["left"].to_string();
    assert!(left.contains("bob"), "{exported}");
    let _ = lab.manager(["profile", "rename", "bob", "work"]).code(0);
    assert_eq!(only_isolated_home(&lab), home);
    lab.backend.account("acct-bob").release_turns();
    assert_eq!(running.end(), 0, "{}", running.printed());
    assert_eq!(
        isolated_logins(&lab.world.manager_home()),
        Vec::<PathBuf>::new()
    );
    let _ = lab.manager(["use", "work"]).code(0);
    lab.say("still there");
}

#[test]
fn a_profile_whose_account_runs_isolated_is_not_removed() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob().with_expired_token()) else {
        return;
    };
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let home = only_isolated_home(&lab);
    let renewed = read_refresh_token(&home);
    let pid = format!("PID {}", running.codex());
    let before = stable_files(&lab);
    for more in [&[][..], &["--dry-run"], &["--purge", "--yes"]] {
        let args = [&["profile", "remove", "bob"][..], more].concat();
        let refused = lab.manager(args).code(3);
        assert!(refused.stderr.contains(&pid), "{refused}");
        assert_same_tree(&before, &stable_files(&lab));
    }
    // The login of a killed launch is released first.
    running.kill_wrapper();
    lab.backend.account("acct-bob").release_turns();
    running.wait_for_all();
    let removed = lab
        .manager(["profile", "remove", "bob", "--yes", "--json"])
        .code(0);
    let trash = lab.path_in(&removed.json()["trash"]);
    assert_eq!(read_refresh_token(&trash), renewed);
    assert_eq!(
        isolated_logins(&lab.world.manager_home()),
        Vec::<PathBuf>::new()
    );
}

#[test]
fn a_daemon_of_an_isolated_home_keeps_the_login_until_it_is_stopped() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    let home = only_isolated_home(&lab);
    let daemon = lab.codex.start_daemon(&home, &lab.backend);
    let pid = daemon.pid().expect("a daemon");
    lab.backend.account("acct-bob").release_turns();
    assert_eq!(running.end(), 0, "{}", running.printed());
    assert_eq!(only_isolated_home(&lab), home);
    let refused = lab.manager(["use", "bob"]).code(3);
    assert!(
        refused
            .stderr
            .contains(&format!("PID {pid}, background daemon")),
        "{refused}"
    );
    let hint = refused.stderr.replace('\n', " ");
    assert!(hint.contains("codex app-server daemon stop"), "{refused}");
    // A second launch there creates no second owner.
    let args = [&isolated("bob")[..], &EXEC].concat();
    let mut again = Running::start(&lab.world, &args);
    assert_eq!(again.end(), 0, "{}", again.printed());
    let _ = daemon.control("stop").expect("stop");
    let _ = lab.manager(["use", "bob"]).code(0);
    assert_eq!(
        isolated_logins(&lab.world.manager_home()),
        Vec::<PathBuf>::new()
    );
    lab.say("still there");
}

#[test]
fn resume_of_a_launch_that_was_recorded_without_ids_uses_the_same_isolated_home() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let args = [&isolated("bob")[..], &EXEC].concat();
    let _ = lab.manager(args).code(0);
    let row = launches(&lab).remove(0);
    // An old record, of a login without ids.
    let path = lab.world.manager_home().join("launches.jsonl");
    let known = r#","account_id":"acct-bob","user_id":"user-bob""#;
    let text = registry(&lab);
    assert!(text.contains(known), "{text}");
    fs::write(&path, text.replace(known, "")).expect("write");
    let id = row["session_id"].as_str().expect("an id");
    let go_on = ["--", "exec", "--skip-git-repo-check", "go on"];
    let _ = lab
        .manager([&["resume", id, "--isolated"][..], &go_on].concat())
        .code(0);
    let homes = isolated_homes(&lab.world.manager_home());
    assert_eq!(homes.len(), 1, "{homes:?}");
    assert_eq!(messages(&rollout(&lab.home(), id)), ["hello", "go on"]);
    assert_eq!(launches(&lab)[0]["session_id"], id);
}

#[test]
fn a_conversation_of_another_account_is_not_bound_to_the_launch() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    // The user signs in to another account before Codex reads the login.
    let other = lab.world.write("bob.json", auth_json(&SignIn::bob()));
    let script = format!(
        "#!/bin/sh\ncp {} $CODEX_HOME/auth.json\nexec {} \"$@\"\n",
        other.display(),
        lab.codex.program().display()
    );
    let program = lab.world.path("bin/swapped");
    write_program(&program, &script);
    let program = program.to_str().expect("text");
    lab.backend.forget_requests();
    let args = [&["launch", "alice", "--codex-bin", program][..], &EXEC].concat();
    let ran = lab.manager(args).code(0);
    assert!(ran.stderr.contains("another account started"), "{ran}");
    assert_eq!(turns(&lab), ["acct-bob"]);
    let row = launches(&lab).remove(0);
    assert_eq!(row["state"], "unbound", "{row}");
    assert!(row["session_id"].is_null(), "{row}");
    let warning = row["warning"].as_str().expect("a reason");
    assert!(warning.contains("acct-bob"), "{row}");
}

#[test]
fn an_isolated_launch_works_before_the_first_codex_run_in_the_home() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let args = [&isolated("bob")[..], &EXEC].concat();
    let _ = lab.manager(&args).code(0);
    // Codex writes its own skills and settings to each home.
    lab.say("hello");
    let _ = lab.manager(&args).code(0);
    let isolated = isolated_homes(&lab.world.manager_home()).remove(0);
    for shared in ["skills", "rules", "config.toml", "sessions"] {
        assert!(isolated.join(shared).is_symlink(), "{shared}");
    }
}

#[test]
fn commands_inside_an_isolated_home_do_not_switch_its_account() {
    let Some(mut lab) = lab_of_three() else {
        return;
    };
    let mut running = Running::start_held(&lab, "acct-bob", &isolated("bob"));
    lab.world.set("CODEX_HOME", only_isolated_home(&lab));
    let before = stable_files(&lab);
    for args in [
        &["use", "carol"][..],
        &["launch", "carol", "--", "exec", "x"],
    ] {
        let refused = lab.manager(args).code(5);
        assert!(refused.stderr.contains("--codex-home"), "{refused}");
        assert_same_tree(&before, &stable_files(&lab));
    }
    lab.backend.account("acct-bob").release_turns();
    assert_eq!(running.end(), 0, "{}", running.printed());
}
