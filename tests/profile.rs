//! `profile`, `list`, `current`: logins are saved byte for byte, once, and under the right account.

use crate::support::env::{Run, TestEnv, Tree, assert_same_tree};
use crate::support::profiles::{alice_and_bob, folder, live_login, profile_login};
use crate::support::sample::{RENEWED, alice, backup, bob, sample_home, text};
use crate::support::sign_in::{SignIn, api_key_auth_json, auth_json, write_auth, write_auth_text};
use crate::support::terminal::{LINES, Terminal};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Creates a home in which Alice is signed in.
fn world() -> TestEnv {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &alice(0));
    env
}

fn save(env: &TestEnv, args: &[&str]) -> Run {
    env.run([&["profile", "save", "--json"], args].concat())
}

fn listed(env: &TestEnv) -> Vec<(String, String, bool)> {
    let output = env.run(["profile", "list", "--json"]).code(0).json();
    let profiles = output["profiles"].as_array().expect("profiles").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    profiles
        .map(|p| {
            let current = p["current"].as_bool().expect("a bool");
            (text(&p["name"]), text(&p["email"]), current)
        })
        .collect()
}

#[test]
fn save_copies_the_live_login_byte_for_byte() {
    let env = world();
    let odd = auth_json(&alice(0)).replacen('{', "{ \"new_field\": [1,\t2],", 1);
    write_auth_text(&env.codex_home(), &odd);
    let home = env.tree("home/.codex");
    let output = save(&env, &["work"]).code(0).json();
    assert_eq!(
        output,
        json!({
            "schema": 1, "command": "profile save", "profile": "work", "renamed_from": null,
            "settings": [], "outcome": "created", "email": "alice@example.com", "account_id": "acct-alice",
            "last_refresh": "2026-11-17T07:20:00+00:00", "dry_run": false,
        })
    );
    assert_eq!(profile_login(&env, "work"), odd);
    assert_same_tree(&home, &env.tree("home/.codex"));
    assert_eq!(
        listed(&env),
        [("work".into(), "alice@example.com".into(), true)]
    );
}

#[test]
fn list_and_profile_list_have_the_documented_keys() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    let expected = |command: &str| {
        json!({"schema": 1, "command": command, "profiles": [{
            "name": "work", "email": "alice@example.com", "account_id": "acct-alice",
            "current": true, "state": "unknown", "login": "ok", "windows": [], "spend_cap": null, "reset_credits": null, "session": null,
        }]})
    };
    assert_eq!(env.run(["list", "--json"]).code(0).json(), expected("list"));
    let output = env.run(["profile", "list", "--json"]).code(0).json();
    assert_eq!(output, expected("profile list"));
    insta::assert_snapshot!(env.run(["list"]).code(0), @r"
    exit 0
    --- stdout
       PROFILE  ACCOUNT            PLAN  STATE    NOTE
    *  work     alice@example.com  plus  unknown  no figures yet
    --- stderr
    ");
}

#[test]
fn current_names_the_live_account_or_the_reason_why_there_is_none() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    assert_eq!(
        env.run(["current", "--json"]).code(0).json(),
        json!({
            "schema": 1, "command": "current", "email": "alice@example.com",
            "account_id": "acct-alice", "profile": "work", "store": "file", "daemon": null,
            "processes": [], "windows": [], "spend_cap": null, "reset_credits": null, "session": null, "source": null, "observed_at": null, "problem": null,
            "folder_profile": null, "workspaces": null,
        })
    );
    let nobody = |text: Option<&str>, problem: &str| {
        match text {
            Some(text) => write_auth_text(&env.codex_home(), text),
            None => fs::remove_file(env.codex_home().join("auth.json")).expect("remove"),
        }
        let output = env.run(["current", "--json"]).code(5).json();
        assert_eq!(output["email"], Value::Null);
        let context = output["problem"].as_str().expect("a problem").to_owned();
        assert!(context.contains(problem), "{context}");
    };
    nobody(Some("{}"), "contains no login");
    nobody(Some(""), "empty");
    nobody(Some("\0\0\0"), "NUL");
    nobody(None, "not signed in");
    env.write(
        "home/.codex/config.toml",
        "cli_auth_credentials_store = \"keyring\"",
    );
    write_auth(&env.codex_home(), &alice(0));
    let output = env.run(["current", "--json"]).code(5).json();
    assert_eq!(
        (&output["email"], &output["store"]),
        (&Value::Null, &json!("keyring"))
    );
}

#[test]
fn saving_an_account_under_another_name_renames_its_profile_and_keeps_the_newest_login() {
    let env = world();
    let outcome = |args: &[&str]| {
        let output = save(&env, args).code(0).json();
        (output["outcome"].clone(), output["renamed_from"].clone())
    };
    assert_eq!(outcome(&["work"]), (json!("created"), Value::Null));
    assert_eq!(outcome(&["work"]), (json!("unchanged"), Value::Null));
    write_auth(&env.codex_home(), &alice(3));
    assert_eq!(outcome(&["client"]), (json!("updated"), json!("work")));
    assert_eq!(profile_login(&env, "client"), auth_json(&alice(3)));
    assert!(!folder(&env, "work").exists());
    // An older login from a dump is added to the history, and does not replace the newer one.
    let dump = env.write("21apr_alice@example.com_auth.json", auth_json(&alice(1)));
    let dump = text(&dump);
    assert_eq!(
        outcome(&["client", "--from", &dump]),
        (json!("kept-newer"), Value::Null)
    );
    assert_eq!(profile_login(&env, "client"), auth_json(&alice(3)));
    let shown = env
        .run(["profile", "show", "client", "--json"])
        .code(0)
        .json();
    assert_eq!(shown["history"].as_array().expect("history").len(), 2);
    assert_eq!(shown["owner"], "live");
    assert_eq!(shown["newest_seen"], "2026-11-20T07:20:00+00:00");
    assert_eq!(listed(&env).len(), 1);
}

#[test]
fn i6_a_name_of_another_account_is_refused() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    write_auth(&env.codex_home(), &bob());
    let before = env.tree("");
    for name in ["work", "WORK"] {
        let refused = save(&env, &[name]).code(5);
        assert!(refused.stderr.contains("alice@example.com"), "{refused}");
    }
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn i6_a_login_of_another_account_copied_into_a_profile_is_named_and_kept_aside() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    write_auth(&env.codex_home(), &bob());
    fs::write(folder(&env, "work").join("auth.json"), auth_json(&bob())).expect("write");
    let output = env.run(["list"]).code(0);
    assert!(
        output.stderr.contains("login of bob@example.com"),
        "{output}"
    );
    write_auth(&env.codex_home(), &alice(0));
    let _ = save(&env, &["work"]).code(0);
    assert_eq!(profile_login(&env, "work"), auth_json(&alice(0)));
    let aside = fs::read_dir(folder(&env, ".unreadable"))
        .expect("list")
        .count();
    assert_eq!(aside, 1, "the foreign login was not kept");
}

#[test]
fn accounts_with_a_shared_email_or_id_are_distinguished() {
    let env = world();
    let logins = [
        ("personal", SignIn::new("acct-1", "me@x.com").user_id("u1")),
        ("team", SignIn::new("acct-2", "me@x.com").user_id("u1")),
        ("mate", SignIn::new("acct-2", "mate@x.com").user_id("u2")),
    ];
    for (name, login) in &logins {
        write_auth(&env.codex_home(), &login.clone().issued_at(RENEWED));
        let output = save(&env, &[name]).code(0).json();
        assert_eq!(output["outcome"], "created", "{name}");
    }
    for (name, login) in &logins {
        assert_eq!(
            profile_login(&env, name),
            auth_json(&login.clone().issued_at(RENEWED))
        );
    }
    assert_eq!(listed(&env).len(), 3);
}

#[test]
fn an_api_key_can_be_a_profile_and_is_not_shown() {
    let env = world();
    let key = api_key_auth_json("sk-test-0000");
    write_auth_text(&env.codex_home(), &key);
    let output = save(&env, &["billed"]).code(0);
    assert!(!output.stdout.contains("sk-test"), "{output}");
    assert_eq!(profile_login(&env, "billed"), key);
    write_auth_text(&env.codex_home(), &api_key_auth_json("sk-test-1111"));
    let _ = save(&env, &["billed"]).code(5);
    assert_eq!(save(&env, &["other"]).code(0).json()["outcome"], "created");
}

#[test]
fn save_reads_a_login_from_an_archive() {
    let env = TestEnv::new();
    sample_home(&env);
    let archive = backup(&env, &[]);
    let name = text(&archive)
        .rsplit('/')
        .next()
        .expect("a name")
        .to_owned();
    fs::remove_file(env.codex_home().join("auth.json")).expect("remove");
    for from in [text(&archive), name] {
        let _ = save(&env, &["work", "--from", &from]).code(0);
        assert_eq!(profile_login(&env, "work"), auth_json(&alice(0)));
    }
}

#[test]
fn save_refuses_a_file_without_a_login_and_an_invalid_name_and_changes_nothing() {
    let env = world();
    let large = vec![b' '; 50 << 20];
    let files: [(&str, &[u8], i32, &str); 6] = [
        ("empty", b"", 5, "empty"),
        ("nul", &[0; 4096], 5, "NUL"),
        (
            "cut",
            b"{\"tokens\": {\"id_token\": \"rt.sec",
            5,
            "truncated",
        ),
        ("text", b"hello", 5, "not JSON"),
        ("none", b"{}", 5, "no login"),
        ("large", &large, 1, "too large"),
    ];
    for (name, bytes, _, _) in files {
        env.write(name, bytes);
    }
    let before = env.tree("");
    for (name, _, code, reason) in files {
        let refused = save(&env, &["work", "--from", name]).code(code);
        assert!(refused.stderr.contains(reason), "{name}: {refused}");
        assert!(refused.stderr.contains(name), "{refused}");
        assert!(!refused.stderr.contains("rt.sec"), "{refused}");
    }
    let _ = save(&env, &["work", "--from", "nowhere"]).code(1);
    for name in ["", "..", "a/b", ".trash", "a b"] {
        let _ = save(&env, &[name]).code(4);
    }
    let _ = save(&env, &["--", "-x"]).code(4);
    assert_same_tree(&before, &env.tree(""));
}

#[test]
fn save_is_refused_if_the_home_does_not_keep_its_login_in_a_file_and_names_the_setting() {
    for store in ["keyring", "auto", "ephemeral"] {
        let env = world();
        let line = format!("cli_auth_credentials_store = \"{store}\"\n");
        env.write("home/.codex/config.toml", line);
        let refused = env.run(["profile", "save", "work"]).code(5);
        assert!(
            refused
                .stderr
                .contains("set cli_auth_credentials_store = \"file\" in"),
            "{refused}"
        );
        assert!(!env.manager_home().exists());
    }
}

#[test]
fn the_last_five_logins_are_kept_and_one_unreadable_profile_hides_no_other() {
    let env = world();
    for day in 0..8 {
        write_auth(&env.codex_home(), &alice(day));
        let _ = save(&env, &["work"]).code(0);
    }
    let shown = env
        .run(["profile", "show", "work", "--json"])
        .code(0)
        .json();
    assert_eq!(shown["history"].as_array().expect("history").len(), 5);
    assert_eq!(profile_login(&env, "work"), auth_json(&alice(7)));
    write_auth(&env.codex_home(), &bob());
    let _ = save(&env, &["home"]).code(0);
    let live = folder(&env, "work").join("auth.json");
    for bytes in [Vec::new(), vec![b' '; 20 << 20]] {
        fs::write(&live, bytes).expect("write");
        assert_eq!(listed(&env).len(), 2);
    }
    fs::write(folder(&env, "work").join("profile.json"), "{").expect("write");
    assert_eq!(
        listed(&env),
        [("home".into(), "bob@example.com".into(), true)]
    );
}

#[test]
fn a_profile_is_renamed_unless_the_new_name_is_in_use_or_invalid() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    write_auth(&env.codex_home(), &bob());
    let _ = save(&env, &["home"]).code(0);
    let _ = env.run(["profile", "rename", "work", "home"]).code(5);
    let _ = env.run(["profile", "rename", "nobody", "x"]).code(1);
    let _ = env.run(["profile", "rename", "work", "a/b"]).code(4);
    let output = env
        .run(["profile", "rename", "WORK", "client", "--json"])
        .code(0)
        .json();
    assert_eq!(
        (&output["profile"], &output["renamed_from"]),
        (&json!("client"), &json!("work"))
    );
    assert_eq!(profile_login(&env, "client"), auth_json(&alice(0)));
    let known = env.run(["cooldown", "--json"]).code(0).json();
    let names: Vec<_> = known["accounts"]
        .as_array()
        .expect("accounts")
        .iter()
        .map(|a| a["profile"].as_str().unwrap_or_default())
        .collect();
    assert!(
        names.contains(&"client") && !names.contains(&"work"),
        "{names:?}"
    );
}

#[test]
fn a_removed_profile_stays_in_the_trash_until_a_confirmed_purge() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    write_auth(&env.codex_home(), &bob());
    let removed = env
        .run(["profile", "remove", "work", "--yes", "--json"])
        .code(0)
        .json();
    assert_eq!(listed(&env), []);
    let trash = removed["trash"]
        .as_str()
        .expect("a place")
        .replace("[ROOT]/", "");
    let login = format!("{trash}/auth.json");
    let back = save(&env, &["work", "--from", &login]).code(0).json();
    assert_eq!(back["outcome"], "created");
    let before = env.tree("");
    let _ = env.run(["profile", "remove", "work", "--purge"]).code(5);
    let _ = env.run(["profile", "remove", "nobody"]).code(1);
    assert_same_tree(&before, &env.tree(""));
    // The copies in a trash that cannot be listed are not left behind silently.
    let profiles = env.manager_home().join("profiles");
    fs::rename(profiles.join(".trash"), profiles.join("away")).expect("rename");
    fs::write(profiles.join(".trash"), "no folder").expect("write");
    let purge = ["profile", "remove", "work", "--purge", "--yes"];
    let failed = env.run(purge).code(1);
    assert!(failed.stderr.contains(".trash"), "{failed}");
    fs::remove_file(profiles.join(".trash")).expect("remove");
    fs::rename(profiles.join("away"), profiles.join(".trash")).expect("rename");
    assert_same_tree(&before, &env.tree(""));
    let gone = env
        .run(["profile", "remove", "work", "--purge", "--yes", "--json"])
        .code(0)
        .json();
    assert_eq!(gone["purged"], 2);
    let left: Vec<_> = env
        .tree("home/.codex-manager/profiles")
        .0
        .into_keys()
        .filter(|p| p.ends_with("auth.json"))
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn i11_a_dry_run_of_profile_commands_writes_nothing() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    write_auth(&env.codex_home(), &alice(2));
    let before: Tree = env.tree("");
    for args in [
        &["save", "work"][..],
        &["save", "client"],
        &["rename", "work", "client"],
        &["remove", "work"],
        &["remove", "work", "--purge"],
    ] {
        let args = [&["profile"], args, &["--dry-run"]].concat();
        let _ = env.run(&args).code(0);
        assert_same_tree(&before, &env.tree(""));
    }
    let fresh = world();
    let before = fresh.tree("");
    let _ = fresh.run(["profile", "save", "work", "--dry-run"]).code(0);
    assert_same_tree(&before, &fresh.tree(""));
}

#[test]
fn restore_login_warns_of_an_older_login_and_is_reversible() {
    let env = world();
    for day in 0..3 {
        write_auth(&env.codex_home(), &alice(day));
        let _ = save(&env, &["work"]).code(0);
    }
    let restore_login =
        |args: &[&str]| env.run([&["profile", "restore-login", "work"], args].concat());
    let live = restore_login(&[]).code(5);
    assert!(live.stderr.contains("live in a Codex home"), "{live}");
    write_auth(&env.codex_home(), &bob());
    let before = env.tree("");
    let _ = restore_login(&["--dry-run"]).code(0);
    let unknown = restore_login(&["nothing"]).code(1);
    assert!(unknown.stderr.contains("available: 2026"), "{unknown}");
    assert_same_tree(&before, &env.tree(""));
    let output = restore_login(&[]).code(0);
    assert!(output.stderr.contains("probably invalid"), "{output}");
    assert_ne!(profile_login(&env, "work"), auth_json(&alice(2)));
    let refused = env.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("--force-stale"), "{refused}");
    // The newest login is in the history, and can be restored by its file name.
    let history = folder(&env, "work").join("history");
    let newest = fs::read_dir(&history)
        .expect("list")
        .flatten()
        .find(|entry| {
            fs::read_to_string(entry.path()).is_ok_and(|text| text == auth_json(&alice(2)))
        });
    let newest = newest
        .expect("the newest login")
        .file_name()
        .into_string()
        .expect("text");
    let output = restore_login(&[&newest]).code(0);
    assert!(!output.stderr.contains("spent"), "{output}");
    assert_eq!(profile_login(&env, "work"), auth_json(&alice(2)));
    let _ = env.run(["use", "work"]).code(0);
}

#[test]
fn purge_needs_yes_and_names_each_account_that_would_lose_logins() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    write_auth(&env.codex_home(), &bob());
    let _ = save(&env, &["work"]).code(0);
    let stored = || {
        let mut tree = env.tree("home/.codex-manager/profiles");
        // The first command that locks creates these files.
        tree.0
            .retain(|path, _| !path.to_string_lossy().contains(".probes"));
        tree
    };
    let before = stored();
    let refused = env.run(["profile", "remove", "work", "--purge"]).code(5);
    assert!(refused.stderr.contains("alice@example.com"), "{refused}");
    assert_same_tree(&before, &stored());
    let would = env
        .run(["profile", "remove", "work", "--purge", "--dry-run"])
        .code(0);
    assert!(
        would
            .stdout
            .contains("logins of alice@example.com, bob@example.com"),
        "{would}"
    );
    let purge = ["profile", "remove", "work", "--purge", "--yes"];
    let _ = env.run(purge).code(0);
}

#[test]
fn i5_a_stale_login_saved_from_the_trash_stays_stale() {
    let env = world();
    for day in [0, 3] {
        write_auth(&env.codex_home(), &alice(day));
        let _ = save(&env, &["work"]).code(0);
    }
    write_auth(&env.codex_home(), &bob());
    let _ = env.run(["profile", "restore-login", "work"]).code(0);
    let stale = env.run(["use", "work"]).code(5);
    assert!(stale.stderr.contains("--force-stale"), "{stale}");
    let removed = env
        .run(["profile", "remove", "work", "--yes", "--json"])
        .code(0);
    let removed = removed.json();
    let trash = removed["trash"].as_str().expect("a place");
    let login = format!("{}/auth.json", trash.replace("[ROOT]/", ""));
    let _ = save(&env, &["again", "--from", &login]).code(0);
    let stale = env.run(["use", "again"]).code(5);
    assert!(stale.stderr.contains("--force-stale"), "{stale}");
}

#[test]
fn the_email_of_another_account_is_refused_as_a_name() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    write_auth(&env.codex_home(), &bob());
    let _ = save(&env, &["home"]).code(0);
    let before = env.tree("");
    for refused in [
        save(&env, &["Alice@example.com"]),
        save(&env, &["alice@example.com", "--dry-run"]),
        env.run(["profile", "rename", "home", "alice@Example.com"]),
    ] {
        let refused = refused.code(5);
        assert!(refused.stderr.contains("email of another"), "{refused}");
    }
    assert_same_tree(&before, &env.tree(""));
    let _ = env
        .run(["profile", "rename", "work", "alice@example.com"])
        .code(0);
}

#[test]
fn a_profile_of_a_newer_version_hides_no_other_and_is_unchanged() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    for (name, login) in [
        ("home", bob()),
        ("third", SignIn::new("acct-carol", "carol@example.com")),
    ] {
        write_auth(&env.codex_home(), &login.issued_at(RENEWED));
        let _ = save(&env, &[name]).code(0);
    }
    let note = folder(&env, "work").join("profile.json");
    let newer = fs::read_to_string(&note).expect("read");
    let newer = newer.replacen("\"schema\": 1", "\"schema\": 99", 1);
    fs::write(&note, &newer).expect("write");
    let untouched = env.tree("home/.codex-manager/profiles/work");
    let output = env.run(["list"]).code(6);
    assert!(output.stdout.contains("bob@example.com"), "{output}");
    assert!(
        output.stderr.contains("profile work") && output.stderr.contains("newer codex-manager"),
        "{output}"
    );
    let _ = env.run(["current"]).code(0);
    let _ = env.run(["use", "home"]).code(0);
    for refused in [
        env.run(["use", "work"]),
        env.run(["use", "work", "--dry-run"]),
    ] {
        let refused = refused.code(5);
        assert!(refused.stderr.contains("newer codex-manager"), "{refused}");
    }
    // The account of this profile is live, so its login cannot be saved and stays live.
    write_auth(&env.codex_home(), &alice(2));
    for args in [&["use", "third"][..], &["profile", "save", "other"]] {
        let refused = env.run(args).code(5);
        assert!(refused.stderr.contains("newer codex-manager"), "{refused}");
    }
    let live = fs::read_to_string(env.codex_home().join("auth.json")).expect("a login");
    assert_eq!(live, auth_json(&alice(2)));
    let output = env
        .run(["profile", "export", "out.export", "--json"])
        .code(6);
    let left = output.json()["left"].clone();
    assert_eq!(left.as_array().expect("a list").len(), 1, "{output}");
    assert_eq!(left[0]["name"], "work", "{output}");
    for known in [
        env.run(["cooldown", "--json"]),
        env.run(["recommend", "--json"]),
    ] {
        let known = known.code(0).json();
        let all = known.get("accounts").or(known.get("candidates"));
        let mut all = all.and_then(Value::as_array).expect("accounts").iter();
        let home = |a: &&Value| a["email"] == "bob@example.com";
        assert_eq!(
            all.clone().find(home).expect("bob")["login"],
            "ok",
            "{known}"
        );
        // The login is ok because it is live; the profile is not readable.
        assert!(all.all(|a| a["profile"] != "work" || a["login"] == "ok"));
    }
    assert_same_tree(&untouched, &env.tree("home/.codex-manager/profiles/work"));
    assert!(!folder(&env, "alice@example.com").exists());
}

#[test]
fn save_from_a_file_without_a_login_suggests_list_backups() {
    let env = TestEnv::new();
    env.write("junk.json", "not json");
    for file in ["junk.json", "missing.json"] {
        let run = env.run(["profile", "save", "work", "--from", file]);
        assert!(run.stderr.contains("codex-manager list-backups"), "{run}");
        assert!(!run.stderr.contains("profile login"), "{run}");
    }
}

#[test]
fn undo_restores_a_removed_profile_unless_its_account_has_a_profile_again() {
    let env = TestEnv::new();
    for (name, who) in [("work", SignIn::alice()), ("home", SignIn::bob())] {
        write_auth(&env.codex_home(), &who);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    let profiles = env.manager_home().join("profiles");
    let login = fs::read(profiles.join("work/auth.json")).unwrap();
    let run = env.run(["profile", "remove", "work", "--yes"]).code(0);
    assert!(
        run.stderr
            .contains("undo with:\n    codex-manager profile undo work"),
        "{run}"
    );
    let before = env.tree("");
    let _ = env.run(["profile", "undo", "--dry-run"]).code(0);
    assert_same_tree(&before, &env.tree(""));
    let _ = env.run(["profile", "undo"]).code(0);
    assert_eq!(fs::read(profiles.join("work/auth.json")).unwrap(), login);
    let list = env.run(["list", "--json"]).code(0).json();
    assert_eq!(list["profiles"].as_array().unwrap().len(), 2);
    let run = env.run(["profile", "undo"]).code(1);
    assert!(run.stderr.contains("there is no removed profile"), "{run}");
    // A newer profile of the account stays.
    let _ = env.run(["profile", "remove", "home", "--yes"]).code(0);
    let _ = env.run(["profile", "save", "again"]).code(0);
    let run = env.run(["profile", "undo", "home"]).code(5);
    assert!(
        run.stderr.contains("has the profile again already"),
        "{run}"
    );
}

#[test]
fn commands_that_name_a_removed_profile_suggest_its_undo() {
    let env = alice_and_bob();
    for name in ["home", "work"] {
        let _ = env.run(["profile", "remove", name, "--yes"]).code(0);
        let undo = format!("codex-manager profile undo {name}");
        for args in [&["use"][..], &["status", "--account"], &["profile", "show"]] {
            let run = env.run([args, &[name]].concat());
            assert_ne!(run.code, 0, "{run}");
            assert!(run.stderr.contains(&undo), "{args:?} {run}");
        }
    }
    // The account is known by its email.
    let run = env.run(["use", "bob@example.com"]).code(5);
    assert!(
        run.stderr.contains("codex-manager profile undo home"),
        "{run}"
    );
}

#[test]
fn undo_is_suggested_only_if_it_puts_the_wanted_profile_back() {
    let env = alice_and_bob();
    let undo = "codex-manager profile undo";
    let _ = env.run(["use", "home"]).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    let _ = env.run(["profile", "rename", "home", "works"]).code(0);
    let run = env.run(["profile", "show", "work"]).code(1);
    for hint in [&format!("{undo} work"), "works", "profile list"] {
        assert!(run.stderr.contains(hint), "{run}");
    }

    // A profile of another account has the name, or had it later.
    let _ = env.run(["profile", "rename", "works", "work"]).code(0);
    let of_alice = ["use", "alice@example.com"];
    let run = env.run(of_alice).code(5);
    assert!(!run.stderr.contains(undo), "{run}");
    write_auth(
        &env.codex_home(),
        &SignIn::new("carol", "carol@example.com"),
    );
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    let run = env.run(of_alice).code(5);
    assert!(!run.stderr.contains(undo), "{run}");

    // The account has a profile with another name.
    write_auth(&env.codex_home(), &bob());
    let _ = env.run(["profile", "save", "again"]).code(0);
    for args in [&["profile", "show"][..], &["status", "--account"]] {
        let run = env.run([args, &["work"]].concat());
        assert_ne!(run.code, 0, "{run}");
        assert!(!run.stderr.contains(undo), "{run}");
    }
}

#[test]
fn i5_an_undo_refused_by_another_profile_of_the_account_advises_to_keep_the_newer_login() {
    let env = alice_and_bob();
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    // Codex renews the live login.
    write_auth(&env.codex_home(), &alice(2));
    let _ = env.run(["use", "home"]).code(0);
    let undo = ["profile", "undo", "work"];
    let rename = ["profile", "rename", "alice@example.com", "work"];
    let refused = env.run(undo).code(5);
    assert!(refused.stderr.contains(&rename.join(" ")), "{refused}");
    assert!(!refused.stderr.contains("profile remove"), "{refused}");
    let _ = env.run(rename).code(0);
    let refused = env.run(undo).code(5);
    assert!(refused.stderr.contains("is not needed"), "{refused}");
    let _ = env.run(["use", "work"]).code(0);
    assert_eq!(live_login(&env), auth_json(&alice(2)));

    // The second profile has the older login.
    let _ = env.run(["use", "home"]).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    write_auth(&env.codex_home(), &alice(0));
    let _ = env.run(["use", "home"]).code(0);
    let remove = ["profile", "remove", "alice@example.com"];
    let refused = env.run(undo).code(5);
    assert!(refused.stderr.contains(&remove.join(" ")), "{refused}");
    let _ = env.run([&remove[..], &["--yes"]].concat()).code(0);
    let _ = env.run(undo).code(0);
    let _ = env.run(["use", "work"]).code(0);
    assert_eq!(live_login(&env), auth_json(&alice(2)));
}

#[test]
fn remove_asks_on_a_terminal() {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &SignIn::alice());
    let _ = env.run(["profile", "save", "work"]).code(0);
    let before = env.tree("home/.codex-manager/profiles/work");
    let remove = ["profile", "remove", "work"];
    let limit = std::time::Duration::from_secs(60);
    let mut terminal = Terminal::start(&mut env.command(remove));
    terminal.wait_for("move the profile work to the trash? [y/N]", limit);
    terminal.type_keys("n\n");
    assert_eq!(terminal.end().code(), Some(5), "{}", terminal.text());
    assert_same_tree(&before, &env.tree("home/.codex-manager/profiles/work"));
    let mut terminal = Terminal::start(&mut env.command(remove));
    terminal.wait_for("[y/N]", limit);
    terminal.type_keys("y\n");
    assert!(terminal.end().success(), "{}", terminal.text());
    // The command that undoes the removal is alone on its line.
    let left = terminal.picture(120, LINES);
    let is_alone = |line: &str| line.trim() == "codex-manager profile undo work";
    assert!(left.lines().any(is_alone), "{left}");
}

#[test]
fn i5_a_profile_that_is_put_back_does_not_forget_a_newer_login() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    write_auth(&env.codex_home(), &alice(2));
    let _ = save(&env, &["later"]).code(0);
    write_auth(&env.codex_home(), &bob());
    let _ = env.run(["profile", "remove", "later", "--yes"]).code(0);
    let undone = env.run(["profile", "undo", "work", "--json"]).code(0);
    assert_eq!(undone.json()["is_stale"], true);
    let advice = "probably invalid; sign in again:\n    codex-manager profile login work";
    assert!(undone.stderr.contains(advice), "{undone}");
    let refused = env.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("--force-stale"), "{refused}");
}

#[test]
fn i6_logins_of_another_account_in_a_profile_are_kept_under_names_of_their_own() {
    let env = world();
    let _ = save(&env, &["work"]).code(0);
    for generation in [1, 2] {
        let foreign = auth_json(&bob().generation(generation));
        fs::write(folder(&env, "work").join("auth.json"), foreign).expect("write");
        let _ = save(&env, &["work"]).code(0);
    }
    let kept = env.manager_home().join("profiles/.unreadable");
    assert_eq!(fs::read_dir(kept).expect("list").count(), 2);
}

#[test]
fn a_change_that_cannot_be_recorded_is_reported_as_done() {
    let env = alice_and_bob();
    let newer = "{\"schema\": 99}";
    fs::write(env.manager_home().join("profiles/.switch.json"), newer).expect("write");
    let switched = env.run(["use", "home"]).code(6);
    assert!(switched.stderr.contains("switched, but"), "{switched}");
    let live = fs::read_to_string(env.codex_home().join("auth.json"));
    assert_eq!(live.expect("read"), auth_json(&bob()));
    fs::write(env.manager_home().join("cooldown.json"), newer).expect("write");
    let renamed = env.run(["profile", "rename", "work", "acme"]).code(6);
    assert!(renamed.stderr.contains("done, but"), "{renamed}");
    assert_eq!(profile_login(&env, "acme"), auth_json(&alice(0)));
}
