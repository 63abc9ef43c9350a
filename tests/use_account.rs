//! `use` loses no login, never restores an older one, and reports only switches that happened.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::{Dice, run_ends_before_kill};
use crate::support::held_lock::HeldLock;
use crate::support::injection::{can_inject, traced};
use crate::support::lab::Lab;
use crate::support::pauses::{EVENT_LIMIT, poll};
use crate::support::processes::wait_for_open_file;
use crate::support::profiles::{alice_and_bob, live_login, owner, profile_login};
use crate::support::sample::{alice, bob};
use crate::support::sign_in::{
    SignIn, api_key_auth_json, auth_json, read_refresh_token, write_auth, write_auth_text,
};
use crate::support::terminal::{LINES, Terminal};
use codex_manager_core::io::processes;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn switch(env: &TestEnv, args: &[&str]) -> Run {
    env.run([&["use", "--json"], args].concat())
}

/// Records the weekly quota of Bob, whose profile is `home`.
fn record_bob(env: &TestEnv, used: f64) {
    let path = env.manager_home().join("cooldown.json");
    let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let bobs = document["accounts"].as_array_mut().expect("accounts");
    let bobs = bobs.iter_mut().find(|a| a["email"] == "bob@example.com");
    let seen = crate::cooldown::entry("bob@example.com", used, "2026-11-24T15:55:00Z");
    bobs.expect("Bob")["observation"] = seen["observation"].clone();
    fs::write(&path, document.to_string()).unwrap();
}

#[test]
fn the_quota_of_the_new_account_is_shown_after_a_switch() {
    let env = alice_and_bob();
    record_bob(&env, 75.0);
    let run = env.run(["use", "home"]).code(0);
    assert!(
        run.stdout
            .contains("██░░░░░░  25 % left, resets Tue 24 Nov 15:55"),
        "{run}"
    );
    assert!(!run.stderr.contains("cooldown"), "{run}");
}

#[test]
fn a_switch_to_an_exhausted_account_warns_and_asks_on_a_terminal() {
    let env = alice_and_bob();
    record_bob(&env, 100.0);
    let warning = "home is in cooldown until Tue 24 Nov 15:55, in 4 d 3 h";
    let before = env.tree("home/.codex");
    let dry = env.run(["use", "home", "--dry-run"]).code(0);
    assert!(dry.stderr.contains(warning), "{dry}");
    let mut terminal = Terminal::start(&mut env.command(["use", "home"]));
    terminal.wait_for("switch anyway? [y/N]", Duration::from_secs(60));
    assert!(terminal.text().contains(warning), "{}", terminal.text());
    terminal.type_keys("n\n");
    assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
    assert_same_tree(&before, &env.tree("home/.codex"));
    // Without a terminal it warns and switches.
    let run = env.run(["use", "home"]).code(0);
    assert!(run.stderr.contains(warning), "{run}");
    assert_eq!(live_login(&env), auth_json(&bob()));
}

#[test]
fn the_choice_of_accounts_shows_the_quota_left_as_a_number() {
    let env = alice_and_bob();
    record_bob(&env, 75.0);
    let mut terminal = Terminal::start(&mut env.command(["use"]));
    let is_shown = |picture: &str| picture.contains("enter choose");
    let picture = terminal.wait_until((120, LINES), Duration::from_secs(60), is_shown);
    assert!(picture.contains(" 25 %  bob@"), "{picture}");
    terminal.type_keys("\x03");
    assert_eq!(terminal.end().code(), Some(130), "{}", terminal.text());
}

#[test]
fn no_question_is_asked_about_a_switch_that_would_be_refused() {
    let env = alice_and_bob();
    let other = env.path("other");
    let other = other.to_str().expect("text");
    let _ = env.run(["use", "home", "--codex-home", other]).code(0);
    record_bob(&env, 100.0);
    let mut terminal = Terminal::start(&mut env.command(["use", "home"]));
    assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
    let text = terminal.text();
    assert!(text.contains("is live in another Codex home"), "{text}");
    assert!(!text.contains("switch anyway?"), "{text}");
}

#[test]
fn the_live_login_is_saved_and_the_other_goes_live_byte_for_byte() {
    let env = alice_and_bob();
    // Codex has renewed the login, with a field that codex-manager does not know.
    let renewed = auth_json(&alice(1)).replacen('{', "{\"new\": 1,", 1);
    write_auth_text(&env.codex_home(), &renewed);
    let printed = switch(&env, &["home"]).code(0).json();
    assert_eq!(
        printed,
        json!({
            "schema": 1, "command": "use", "from": "work", "to": "home",
            "from_email": "alice@example.com", "to_email": "bob@example.com",
            "saved_back": {"profile": "work", "outcome": "updated"},
            "daemon": "none", "still_running": [], "changed": true, "dry_run": false,
        })
    );
    assert_eq!(live_login(&env), auth_json(&bob()));
    assert_eq!(profile_login(&env, "work"), renewed);
    let path = env.codex_home().join("auth.json");
    assert_eq!(path.metadata().expect("stat").mode() & 0o7777, 0o600);
    assert_eq!(
        (owner(&env, "home"), owner(&env, "work")),
        ("live".to_owned(), "profile".to_owned())
    );
    let known = env.run(["cooldown", "--json"]).code(0).json();
    let bobs = known["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .find(|a| a["email"] == "bob@example.com")
        .expect("bob")
        .clone();
    assert_eq!(bobs["last_used_at"], "2026-11-20T12:00:00+00:00");
    assert_eq!(bobs["profile"], "home");
}

/// Codex is often started without codex-manager, so the list of conversations says when an account was used.
#[test]
fn the_last_conversation_of_an_account_is_its_last_use() {
    let env = alice_and_bob();
    let threads = "CREATE TABLE threads(id TEXT, rollout_path TEXT, creator_account_id TEXT, updated_at INTEGER);";
    let second = |text: &str| {
        chrono::DateTime::parse_from_rfc3339(text)
            .unwrap()
            .timestamp()
    };
    let row = |account: &str, at: &str| {
        format!(
            "INSERT INTO threads VALUES('{account}{at}', '/a', '{account}', {});",
            second(at)
        )
    };
    let rows = [
        row("acct-alice", "2026-11-18T09:00:00Z"),
        row("acct-alice", "2026-11-19T09:00:00Z"),
        row("acct-bob", "2026-11-19T20:00:00Z"),
    ];
    let database = rusqlite::Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    database
        .execute_batch(&(threads.to_owned() + &rows.concat()))
        .unwrap();
    drop(database);
    let _ = env.run(["use", "home"]).code(0);
    let known = env.run(["cooldown", "--json"]).code(0).json();
    let accounts = known["accounts"].as_array().expect("accounts");
    let alice = accounts.iter().find(|a| a["email"] == "alice@example.com");
    assert_eq!(
        alice.expect("alice")["last_used_at"],
        "2026-11-19T09:00:00+00:00"
    );
}

#[test]
fn use_notes_hidden_conversations_and_how_to_resume_them() {
    let env = alice_and_bob();
    let database = rusqlite::Connection::open(env.codex_home().join("state_5.sqlite")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE threads(id TEXT PRIMARY KEY, rollout_path TEXT NOT NULL, title TEXT, creator_account_id TEXT);
             INSERT INTO threads VALUES('a', '/a', 'of alice', 'acct-alice'), ('b', '/b', 'of bob', 'acct-bob'),
             ('c', '/c', 'old', NULL);",
        )
        .unwrap();
    drop(database);
    insta::assert_snapshot!(env.run(["use", "bob"]).code(0), @r#"
    exit 0
    --- stdout
    switched to home (bob@example.com)
      the profile work already has the login of alice@example.com
    --- stderr
    its quota is not known yet; query it:
        codex-manager status
    codex resume now hides 1 conversation of work: "of alice"; continue it with:
        codex-manager resume
    "#);
    let again = env.run(["use", "bob"]).code(0);
    assert_eq!(
        again.stdout,
        "home is already the live account; no login was changed\n"
    );
    assert_eq!(again.stderr, "");
}

#[test]
fn use_dash_switches_back_and_forth() {
    let env = alice_and_bob();
    let none = switch(&env, &["-"]).code(1);
    assert!(
        none.stderr.contains("there is no previous account"),
        "{none}"
    );
    let _ = switch(&env, &["home"]).code(0);
    for expected in ["work", "home", "work"] {
        assert_eq!(switch(&env, &["-"]).code(0).json()["to"], expected);
    }
    assert_eq!(live_login(&env), auth_json(&alice(0)));
}

#[test]
fn use_of_the_live_account_changes_nothing() {
    let env = alice_and_bob();
    let before = env.tree("");
    let printed = switch(&env, &["work"]).code(0).json();
    assert_eq!(
        (&printed["changed"], &printed["saved_back"]),
        (&json!(false), &Value::Null)
    );
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn recommend_use_takes_the_best_account_with_a_saved_login() {
    let env = alice_and_bob();
    // The best account, never used, is known from a legacy file only.
    let old = SignIn::new("acct-old", "old@example.com");
    env.write("dumps/21apr_old@example.com_auth.json", auth_json(&old));
    fs::File::open(env.path("dumps/21apr_old@example.com_auth.json"))
        .and_then(|dump| dump.set_modified(std::time::UNIX_EPOCH))
        .expect("mtime");
    let _ = env.run(["normalize", "dumps"]).code(0);
    // A hold sets Alice's account to exhausted.
    let held = ["cooldown", "--set", "work", "--until", "+3d"];
    let _ = env.run(held).code(0);
    let before = env.tree("");
    let printed = env
        .run(["recommend", "--use", "--dry-run", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&printed["command"], &printed["to"]),
        (&json!("use"), &json!("home"))
    );
    assert_same_tree(&before, &env.tree(""));
    // `use` prints the reason if it does not choose the account that `recommend` names.
    assert_eq!(
        env.run(["recommend", "--format", "{email}"]).code(0).stdout,
        "old@example.com\n"
    );
    let planned = env.run(["recommend", "--use", "--dry-run"]).code(0);
    let reason = "old@example.com ranks first, but its login is in an archive";
    assert!(planned.stderr.contains(reason), "{planned}");
    let refused = env.run(["recommend", "--use", "--ready-only"]).code(5);
    let lacking = "no account with a saved login can be recommended";
    assert!(refused.stderr.contains(lacking), "{refused}");
    let printed = env.run(["recommend", "--use", "--json"]).code(0).json();
    assert_eq!(
        (&printed["to"], &printed["changed"]),
        (&json!("home"), &json!(true))
    );
    assert_eq!(live_login(&env), auth_json(&bob()));
    let again = env.run(["recommend", "--use", "--json"]).code(0).json();
    assert_eq!(again["changed"], false);
    let empty = TestEnv::new();
    let _ = empty.run(["recommend", "--use"]).code(5);
}

#[test]
fn i11_a_dry_run_prints_the_plan_and_writes_nothing() {
    let env = alice_and_bob();
    write_auth(&env.codex_home(), &alice(1));
    let before = env.tree("");
    let printed = switch(&env, &["home", "--dry-run"]).code(0).json();
    assert_eq!(
        printed["saved_back"],
        json!({"profile": "work", "outcome": "updated"})
    );
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn a_refused_switch_changes_nothing() {
    let env = alice_and_bob();
    let before = env.tree("");
    for (args, code, reason) in [
        (&["nobody"][..], 1, "no account or profile named"),
        (&[], 4, "which account"),
        (&["-"], 1, "no previous account"),
    ] {
        let refused = switch(&env, args).code(code);
        assert!(refused.stderr.contains(reason), "{refused}");
        assert_same_tree(&before, &env.tree(""));
    }
    // An account that is known from records only.
    let env = alice_and_bob();
    env.write(
        "dumps/21apr_old@example.com_auth.json",
        auth_json(&SignIn::new("acct-old", "old@example.com")),
    );
    let _ = env.run(["normalize", "dumps"]).code(0);
    let before = env.tree("");
    let refused = switch(&env, &["old"]).code(5);
    assert!(
        refused
            .stderr
            .contains("no profile has a login of old@example.com"),
        "{refused}"
    );
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn i5_a_login_older_than_the_newest_seen_needs_force() {
    let env = alice_and_bob();
    let _ = switch(&env, &["home"]).code(0);
    let _ = switch(&env, &["work"]).code(0);
    // The user copied an old login into the profile.
    let path = env.manager_home().join("profiles/home/auth.json");
    let older = SignIn::bob().issued_at(1_794_000_000);
    fs::write(&path, auth_json(&older)).expect("write");
    let before = env.tree("");
    let refused = switch(&env, &["home"]).code(5);
    assert!(refused.stderr.contains("--force-stale"), "{refused}");
    assert_same_tree(&before, &env.tree(""));
    let forced = switch(&env, &["home", "--force-stale"]).code(0);
    assert!(forced.stderr.contains("probably invalid"), "{forced}");
    assert_eq!(live_login(&env), auth_json(&older));
}

#[test]
fn the_live_account_gets_a_profile_and_an_unreadable_auth_json_is_kept() {
    let env = alice_and_bob();
    let carol = auth_json(&SignIn::new("acct-carol", "carol@example.com"));
    write_auth_text(&env.codex_home(), &carol);
    let printed = switch(&env, &["home"]).code(0).json();
    assert_eq!(
        printed["saved_back"],
        json!({"profile": "carol@example.com", "outcome": "created"})
    );
    assert_eq!(profile_login(&env, "carol@example.com"), carol);
    let key = api_key_auth_json("sk-test-0000");
    write_auth_text(&env.codex_home(), &key);
    let saved = switch(&env, &["home"]).code(0).json()["saved_back"]["profile"].clone();
    assert_eq!(profile_login(&env, saved.as_str().expect("a profile")), key);
    let folder = env.manager_home().join("profiles/.unreadable");
    for (text, kept_files) in [("", 1), ("\0\0\0\0", 2), ("{\"tok", 3), ("{}", 4)] {
        write_auth_text(&env.codex_home(), text);
        let printed = switch(&env, &["home"]).code(0);
        assert!(printed.stderr.contains("a copy is kept"), "{printed}");
        let names: Vec<_> = fs::read_dir(&folder).expect("list").flatten().collect();
        assert_eq!(names.len(), kept_files);
        assert!(
            names
                .iter()
                .any(|n| fs::read(n.path()).expect("read") == text.as_bytes())
        );
        assert_eq!(live_login(&env), auth_json(&bob()));
    }
    fs::remove_file(env.codex_home().join("auth.json")).expect("remove");
    let printed = switch(&env, &["work"]).code(0);
    assert!(
        printed.stderr.contains("there was no auth.json"),
        "{printed}"
    );
    assert_eq!(live_login(&env), auth_json(&alice(0)));
    write_auth_text(&env.codex_home(), &" ".repeat(50 << 20));
    let before = env.tree("");
    let refused = switch(&env, &["home"]).code(1);
    assert!(refused.stderr.contains("too large"), "{refused}");
    let mut after = env.tree("");
    after.0.retain(|path, _| {
        path.extension().is_none_or(|e| e != "lock") || before.0.contains_key(path)
    });
    assert_same_tree(&before, &after);
}

#[test]
fn a_link_in_place_of_auth_json_is_replaced_and_its_target_unchanged() {
    for hard in [false, true] {
        let env = alice_and_bob();
        let path = env.codex_home().join("auth.json");
        let store = env.write("store.json", auth_json(&alice(1)));
        fs::remove_file(&path).expect("remove");
        if hard {
            fs::hard_link(&store, &path).expect("link");
        } else {
            symlink(&store, &path).expect("link");
        }
        let printed = switch(&env, &["home"]).code(0);
        assert_eq!(
            printed.stderr.contains("was a symbolic link"),
            !hard,
            "{printed}"
        );
        assert!(!path.is_symlink() && path.metadata().expect("stat").nlink() == 1);
        assert_eq!(
            fs::read_to_string(&store).expect("read"),
            auth_json(&alice(1))
        );
        assert_eq!(
            (live_login(&env), profile_login(&env, "work")),
            (auth_json(&bob()), auth_json(&alice(1)))
        );
    }
}

#[test]
fn i6_similar_accounts_are_distinguished() {
    // One email in two workspaces, and two users of one workspace.
    let env = TestEnv::new();
    let alike = [
        (
            "personal",
            SignIn::new("acct-me", "me@example.com").user_id("user-me"),
        ),
        (
            "team",
            SignIn::new("acct-team", "me@example.com").user_id("user-me"),
        ),
        (
            "colleague",
            SignIn::new("acct-team", "you@example.com").user_id("user-you"),
        ),
    ]
    .map(|(name, who)| (name, who.issued_at(1_794_900_000).family(name)));
    for (name, who) in &alike {
        write_auth(&env.codex_home(), who);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    for round in 0..6_usize {
        let (name, who) = &alike[round % 3];
        let _ = switch(&env, &[name]).code(0);
        assert_eq!(live_login(&env), auth_json(who), "{name}");
        for (name, who) in &alike {
            assert_eq!(profile_login(&env, name), auth_json(who), "{name}");
        }
    }
    let unclear = switch(&env, &["me@example.com"]).code(1);
    assert!(
        unclear.stderr.contains("personal") && unclear.stderr.contains("team"),
        "{unclear}"
    );
}

#[test]
fn an_api_key_is_switched_to_and_from_and_said_to_have_no_quota() {
    let env = alice_and_bob();
    let key = api_key_auth_json("sk-test-0000");
    write_auth_text(&env.codex_home(), &key);
    let _ = env.run(["profile", "save", "key"]).code(0);
    let printed = env.run(["use", "home"]).code(0);
    assert!(!printed.stderr.contains("picker"), "{printed}");
    let printed = env.run(["use", "key"]).code(0);
    assert_eq!(
        (live_login(&env), profile_login(&env, "home")),
        (key, auth_json(&bob()))
    );

    // All commands say that the key has no quota, instead of advising a query.
    let sentence = "an API key is billed by use and has no quota windows";
    assert_eq!(printed.stderr, format!("{sentence}\n"));
    let window = env.run(["usage", "--window"]);
    assert_eq!(window.stderr, format!("{sentence}\n"));
    let table = env.run(["accounts"]).code(0).stdout;
    let row = table
        .lines()
        .find(|line| line.contains("key"))
        .expect("a row");
    assert!(row.contains("billed by use"), "{table}");
}

#[test]
fn a_keyring_home_is_refused_with_the_setting_to_change() {
    let env = alice_and_bob();
    env.write(
        "home/.codex/config.toml",
        "cli_auth_credentials_store = \"auto\"\n",
    );
    let before = env.tree("");
    let refused = switch(&env, &["home"]).code(5);
    assert!(
        refused
            .stderr
            .contains(r#"cli_auth_credentials_store = \"file\""#),
        "{refused}"
    );
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn a_login_live_in_another_home_is_refused() {
    let env = alice_and_bob();
    let other = env.path("other");
    let other = other.to_str().expect("text");
    let refused = env.run(["use", "work", "--codex-home", other]).code(5);
    assert!(refused.stderr.contains(".codex"), "{refused}");
    let _ = env.run(["use", "home", "--codex-home", other]).code(0);
    let _ = switch(&env, &["home"]).code(5);
    let _ = switch(&env, &["work"]).code(0);
}

#[test]
fn an_older_login_in_a_second_home_leaves_the_owner_in_the_first() {
    let env = alice_and_bob();
    let other = env.path("other");
    write_auth(&other, &alice(-1));
    let other = other.to_str().expect("text");
    let _ = env.run(["use", "home", "--codex-home", other]).code(0);
    let path = env.manager_home().join("profiles/work/profile.json");
    let note = fs::read_to_string(path).expect("a note");
    let note: Value = serde_json::from_str(&note).expect("JSON");
    assert_eq!(note["owner"], "live");
    assert_eq!(note["live_home"], json!(env.codex_home()));
    let refused = env.run(["use", "work", "--codex-home", other]).code(5);
    assert!(refused.stderr.contains(".codex"), "{refused}");
}

#[test]
fn a_switch_killed_right_after_the_login_goes_live_has_recorded_where_it_is_live() {
    if !can_inject() {
        return;
    }
    let env = alice_and_bob();
    // Both profiles get a login and a record of it.
    let _ = switch(&env, &["home"]).code(0);
    let _ = switch(&env, &["work"]).code(0);
    let home = env.codex_home().canonicalize().expect("canonicalize");
    let options = [
        "-P".to_owned(),
        home.to_str().expect("text").to_owned(),
        "-e".into(),
        "trace=fsync".into(),
        "-e".into(),
        "inject=fsync:signal=KILL".into(),
    ];
    let (output, log) = traced(&env, &options, &["use", "home"]);
    assert!(!output.status.success(), "{log}");
    assert_eq!(
        live_login(&env),
        auth_json(&bob()),
        "killed after the rename"
    );
    let path = env.manager_home().join("profiles/home/profile.json");
    let note = fs::read_to_string(path).expect("a note");
    let note: Value = serde_json::from_str(&note).expect("JSON");
    assert_eq!(
        (&note["owner"], &note["live_home"]),
        (&json!("live"), &json!(home))
    );
}

#[test]
fn a_login_with_a_damaged_profile_json_is_refused_until_it_is_saved_again() {
    let env = alice_and_bob();
    for damaged in ["", "{\"schema\": 1, \"owner\": \"mo"] {
        let path = env.manager_home().join("profiles/home/profile.json");
        fs::write(&path, damaged).expect("write");
        let refused = switch(&env, &["home"]).code(5);
        assert!(refused.stderr.contains("profile save home"), "{refused}");
        let _ = env.run(["use", "home", "--force-stale"]).code(5);
        let asked = env.run(["status", "--account", "home"]).code(6);
        assert!(asked.stderr.contains("profile.json"), "{asked}");
        let shown = env
            .run(["profile", "show", "home", "--json"])
            .code(0)
            .json();
        assert_eq!(shown["login"], "unknown");
        let problem = shown["problem"].as_str().expect("a problem");
        assert!(problem.contains("profile.json"), "{problem}");
        let login = env.manager_home().join("profiles/home/auth.json");
        let login = login.to_str().expect("text");
        let _ = env
            .run(["profile", "save", "home", "--from", login])
            .code(0);
    }
    let _ = switch(&env, &["home"]).code(0);
}

#[test]
fn an_older_live_login_is_replaced_by_that_of_its_profile() {
    let env = alice_and_bob();
    write_auth(&env.codex_home(), &alice(-1));
    let printed = switch(&env, &["work"]).code(0).json();
    assert_eq!(
        (&printed["changed"], &printed["saved_back"]["outcome"]),
        (&json!(true), &json!("kept-newer"))
    );
    assert_eq!(live_login(&env), auth_json(&alice(0)));
    assert_eq!(owner(&env, "work"), "live");
    let none = switch(&env, &["-"]).code(1);
    assert!(
        none.stderr.contains("there is no previous account"),
        "{none}"
    );
    let _ = switch(&env, &["home"]).code(0);
}

/// Reads the standard error of a command until it says that it waits for something with this name.
fn assert_reports_wait(child: &mut std::process::Child, name: &str) {
    let mut printed = String::new();
    let mut lines = BufReader::new(child.stderr.as_mut().expect("piped"));
    while !(printed.contains("waiting for") && printed.contains(name)) {
        let read = lines.read_line(&mut printed).expect("a line");
        assert_ne!(read, 0, "{printed}");
    }
}

#[test]
fn use_waits_for_codexs_login_lock() {
    let env = alice_and_bob();
    let held = HeldLock::exclusive(&env.codex_home().join("auth.json.lock"));
    let child = env
        .command(["use", "home", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn();
    let mut child = child.expect("start");
    wait_for_open_file(child.id(), &env.codex_home().join("auth.json.lock"));
    assert_reports_wait(&mut child, "auth.json.lock");
    assert_eq!(
        live_login(&env),
        auth_json(&alice(0)),
        "the switch did not wait"
    );
    // The switch saves the login that Codex writes before it releases the lock.
    write_auth(&env.codex_home(), &alice(2));
    drop(held);
    assert!(child.wait_with_output().expect("wait").status.success());
    assert_eq!(
        (live_login(&env), profile_login(&env, "work")),
        (auth_json(&bob()), auth_json(&alice(2)))
    );
}

#[test]
fn i2_a_killed_switch_leaves_the_old_or_the_new_login_and_loses_none() {
    let mut dice = Dice::new();
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &bob());
    let _ = env.run(["profile", "save", "home"]).code(0);
    write_auth(&env.codex_home(), &alice(0));
    let began = Instant::now();
    let _ = switch(&env, &["home"]).code(0);
    let whole = u64::try_from(began.elapsed().as_micros()).expect("short");
    let mut logins = [alice(0), bob()];
    for round in 1..60 {
        // Codex renews the live login. Then the user switches to the other account.
        let is_alice = live_login(&env).contains(&alice(0).account_id);
        let now = &mut logins[usize::from(!is_alice)];
        *now = now
            .clone()
            .generation(round + 1)
            .issued_at(now.issued_at + 60);
        write_auth(&env.codex_home(), now);
        let to = if is_alice { "bob" } else { "alice" };
        let _ = run_ends_before_kill(
            &env,
            &["use", to],
            Duration::from_micros(dice.below(whole * 11 / 10)),
        );
        let [a, b] = &logins;
        let text = live_login(&env);
        assert!(
            text == auth_json(a) || text == auth_json(b),
            "round {round}: a partial login"
        );
        // The newest login of each account is live or in its profile.
        for login in [a, b] {
            let profiles = env.tree("home/.codex-manager/profiles").0;
            let found = profiles
                .keys()
                .filter(|p| p.ends_with("auth.json"))
                .any(|p| {
                    let path = env.manager_home().join("profiles").join(p);
                    fs::read_to_string(path).is_ok_and(|text| text == auth_json(login))
                });
            assert!(
                found || text == auth_json(login),
                "round {round}: {} is lost",
                login.email
            );
        }
        assert_eq!(
            env.run(["list", "--json"]).code(0).json()["profiles"]
                .as_array()
                .expect("list")
                .len(),
            2
        );
    }
}

#[test]
fn use_refuses_until_the_daemon_is_stopped() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home();
    let daemon = lab.codex.start_daemon(&home, &lab.backend);
    let pid = daemon.pid().expect("a daemon");
    let before = lab.world.tree("home/.codex-manager");
    let refused = lab.manager(["use", "bob"]).code(3);
    assert!(refused.stderr.contains(&format!("PID {pid}")), "{refused}");
    assert!(refused.stderr.contains("--stop-daemon"), "{refused}");
    assert_eq!(read_refresh_token(&home), SignIn::alice().refresh_token());
    assert_same_tree(&before, &lab.world.tree("home/.codex-manager"));
    let current = lab.manager(["current", "--json"]).code(0).json();
    assert_eq!(current["daemon"]["pid"], pid);

    let done = lab
        .manager(["use", "bob", "--stop-daemon", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&done["daemon"], &done["changed"]),
        (&json!("stopped"), &json!(true))
    );
    let who = lab
        .codex
        .app_server_request(&home, &lab.backend, "account/read", json!({}));
    assert_eq!(
        who.expect("an account")["account"]["email"],
        "bob@example.com"
    );
    lab.backend.forget_requests();
    let _ = lab.say("as bob");
    let turns = lab.backend.requests_to("/responses");
    assert!(!turns.is_empty());
    assert!(
        turns
            .iter()
            .all(|r| r.account_id.as_deref() == Some("acct-bob")),
        "{turns:?}"
    );
}

#[test]
fn running_programs_are_named_and_a_renewal_is_awaited() {
    let Some(lab) = Lab::of_two(&SignIn::alice().with_expired_token(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home();
    // A running Codex renews the login first. Then the backend holds its turn.
    lab.backend.account("acct-alice").hold_turns();
    let running = lab.codex.spawn_exec(&home, &lab.backend, &["wait"]);
    let pid = poll(EVENT_LIMIT, || running.native_pid());
    let pid = pid.expect("a running Codex");
    let done = lab.manager(["use", "bob", "--json"]).code(0).json();
    assert_eq!(done["still_running"][0]["pid"], pid, "{done}");
    let kept: PathBuf = lab.world.manager_home().join("profiles/alice");
    assert_eq!(
        read_refresh_token(&kept),
        "rt.acct-alice.f1.2",
        "the renewed login"
    );
    lab.backend.account("acct-alice").release_turns();
    running.kill();
    let _ = lab.manager(["use", "-"]).code(0);
    let _ = lab.say("as alice");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn use_says_that_it_waits_for_a_codex_that_may_renew_the_login() {
    // Codex renews five minutes before the end, so this one renews nothing.
    let due = SignIn::alice().ttl_seconds(350);
    let Some(lab) = Lab::of_two(&due, &SignIn::bob()) else {
        return;
    };
    lab.backend.account("acct-alice").hold_turns();
    let running = lab.codex.spawn_exec(&lab.home(), &lab.backend, &["wait"]);
    let pid = poll(EVENT_LIMIT, || running.native_pid()).expect("a running Codex");
    let mut command = lab.world.command(["use", "bob"]);
    let child = command.stderr(std::process::Stdio::piped()).spawn();
    let mut child = child.expect("start");
    assert_reports_wait(&mut child, &pid.to_string());
    lab.backend.account("acct-alice").release_turns();
    running.kill();
    assert!(child.wait().expect("wait").success());
}

#[test]
fn after_codex_logout_the_hints_do_not_promise_that_the_login_works() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let logout = lab.codex.run(&lab.home(), &lab.backend, &["logout"]);
    let _ = logout.expect_success();
    assert_eq!(lab.backend.revocations(), [SignIn::alice().refresh_token()]);
    for args in [["current"], ["status"]] {
        let run = lab.manager(args);
        assert!(
            run.stderr.contains("unless codex logout has ended it"),
            "{run}"
        );
    }
    let switched = lab.manager(["use", "bob"]).code(0);
    let advice = "codex-manager profile login alice";
    assert!(switched.stderr.contains(advice), "{switched}");
    let _ = lab.manager(["use", "-"]);
    let again = lab.manager(["use", "bob"]).code(0);
    assert!(!again.stderr.contains("logout"), "{again}");
}

#[test]
fn after_a_second_logout_only_the_account_that_was_live_is_named() {
    let env = alice_and_bob();
    write_auth(
        &env.codex_home(),
        &SignIn::new("carol", "carol@example.com"),
    );
    let _ = env.run(["profile", "save", "carol"]).code(0);
    let _ = switch(&env, &["work"]).code(0);
    for (next, ended) in [("home", "work"), ("carol", "home"), ("work", "carol")] {
        fs::remove_file(env.codex_home().join("auth.json")).expect("remove");
        let run = switch(&env, &[next]).code(0);
        let named = format!("ended the login of {ended}:");
        assert!(run.stderr.contains(&named), "{run}");
    }
    let owners = ["home", "carol", "work"].map(|name| owner(&env, name));
    assert_eq!(owners, ["profile", "profile", "live"]);
}

#[test]
fn hints_to_sign_in_suggest_profile_login() {
    let env = alice_and_bob();
    let _ = switch(&env, &["home"]).code(0);
    write_auth(&env.codex_home(), &alice(3));
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &bob());
    write_auth_text(
        &env.manager_home().join("profiles/work"),
        &auth_json(&alice(1)),
    );
    let stale = env.run(["use", "work"]).code(5);
    assert!(
        stale.stderr.contains("codex-manager profile login work"),
        "{stale}"
    );
    let forced = env.run(["use", "work", "--force-stale"]).code(0);
    assert!(
        forced.stderr.contains("codex-manager profile login work"),
        "{forced}"
    );
}

#[test]
fn use_dash_switches_back_in_the_given_home() {
    let env = alice_and_bob();
    let named = |id: &str| SignIn::new(id, &format!("{id}@example.com"));
    for who in ["carol", "dave"] {
        write_auth(&env.codex_home(), &named(who));
        let _ = env.run(["profile", "save", who]).code(0);
    }
    write_auth(&env.codex_home(), &alice(0));
    let other = env.path("other-home");
    fs::create_dir(&other).expect("folder");
    write_auth(&other, &named("carol"));
    let other = other.to_str().expect("text");
    let in_other = |account| env.run(["--codex-home", other, "use", account, "--json"]);
    let _ = switch(&env, &["home"]).code(0);
    let _ = in_other("dave").code(0);
    assert_eq!(switch(&env, &["-"]).code(0).json()["to"], "work");
    assert_eq!(in_other("-").code(0).json()["to"], "carol");
    let third = env.path("third-home");
    let third = third.to_str().expect("text");
    let none = env
        .run(["--codex-home", third, "use", "-", "--json"])
        .code(1);
    assert!(
        none.stderr.contains("there is no previous account"),
        "{none}"
    );
}

#[test]
fn a_dry_run_under_a_daemon_exits_like_the_switch() {
    let env = alice_and_bob();
    let pid = std::process::id();
    let started = processes::start_time(pid).expect("a start");
    let note = json!({"pid": pid, "processIdentity": {"startTicks": started}}).to_string();
    env.write("home/.codex/app-server-daemon/daemon.pid", note);
    let before = env.tree("");
    let real = env.run(["use", "home"]).code(3);
    let would = env.run(["use", "home", "--dry-run"]).code(3);
    assert_eq!(format!("{real}"), format!("{would}"));
    assert!(!would.stdout.contains("would switch"), "{would}");
    let stopping = ["use", "home", "--dry-run", "--stop-daemon"];
    let would = env.run(stopping).code(0);
    assert!(would.stdout.contains("would stop"), "{would}");
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn a_dry_run_and_a_switch_print_the_same_about_a_saved_login() {
    let env = alice_and_bob();
    let planned = env.run(["use", "home", "--dry-run"]).code(0);
    let done = env.run(["use", "home"]).code(0);
    for run in [&planned, &done] {
        let says = run
            .stdout
            .contains("the profile work already has the login of");
        assert!(says, "{run}");
    }
}
