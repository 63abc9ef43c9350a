//! Imports of exports whose logins were renewed later: no refresh token is used twice.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::lab::Lab;
use crate::support::profiles::write_age_key;
use crate::support::sample::{RENEWED, alice, bob, text};
use crate::support::sign_in::{
    SignIn, api_key_auth_json, auth_json, expired_auth, read_refresh_token, signed_out_home,
    write_auth, write_auth_text,
};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Creates a machine without profiles on which Carol is signed in.
fn machine() -> TestEnv {
    let env = TestEnv::new();
    write_auth(&env.codex_home(), &carol());
    env
}

fn carol() -> SignIn {
    SignIn::new("acct-carol", "carol@example.com").issued_at(RENEWED)
}

/// Creates a machine with this login in the profile `work`, and exports it.
fn exported(login: &SignIn) -> (TestEnv, PathBuf) {
    let env = machine();
    write_auth(&env.codex_home(), login);
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &carol());
    let file = export(&env, "first.age");
    (env, file)
}

fn export(env: &TestEnv, name: &str) -> PathBuf {
    let key = write_age_key(env);
    let args = ["profile", "export", name, "--with-logins", "--recipient"];
    let _ = env.run([&args[..], &[&key]].concat()).code(0);
    env.path(name)
}

fn import(env: &TestEnv, file: &Path) -> Run {
    write_age_key(env);
    let file = text(file);
    let args = ["profile", "import", &file, "--identity", "key.txt"];
    env.run([&args[..], &["--json"]].concat())
}

/// Returns the outcome for the only profile.
fn outcome(output: &Run) -> Value {
    output.json()["profiles"][0]["login"].clone()
}

fn kept(env: &TestEnv) -> Option<String> {
    fs::read_to_string(folder(env).join("auth.json")).ok()
}

fn folder(env: &TestEnv) -> PathBuf {
    env.manager_home().join("profiles/work")
}

/// Returns the logins in the history of the profile.
fn history(env: &TestEnv) -> Vec<String> {
    let entries = fs::read_dir(folder(env).join("history"));
    let files = entries.into_iter().flatten().flatten();
    files
        .map(|entry| fs::read_to_string(entry.path()).expect("read"))
        .collect()
}

/// Saves the live login, and signs Carol in again.
fn save(env: &TestEnv, login: &SignIn) {
    write_auth(&env.codex_home(), login);
    let _ = env.run(["profile", "save", "work"]).code(0);
    write_auth(&env.codex_home(), &carol());
}

#[test]
fn i5_an_outdated_export_uses_no_refresh_token_twice() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let key = write_age_key(&lab.world);
    let out = ["profile", "export", "out.age", "--with-logins"];
    // Alice is signed in and stays signed in.
    let _ = lab
        .manager([&out[..], &["--recipient", &key]].concat())
        .code(6);
    let other = lab.world.path("other");
    signed_out_home(&other, &lab.backend);
    let there = |args: &[&str]| {
        let place = ["--codex-home", "other", "--manager-home", "other-manager"];
        lab.manager([&place[..], args].concat())
    };
    let take = || {
        let import = ["profile", "import", "out.age", "--identity", "key.txt"];
        let output = there(&[&import[..], &["--json"]].concat()).code(0).json();
        let mut profiles = output["profiles"].as_array().expect("profiles").iter();
        let bob = profiles.find(|p| p["name"] == "bob").expect("bob");
        bob["login"].clone()
    };
    assert_eq!(take(), "new");
    let _ = there(&["use", "bob"]).code(0);
    write_auth_text(&other, &expired_auth(&other));
    let _ = lab.say_in(&other, "renews the login");
    assert_eq!(read_refresh_token(&other), "rt.acct-bob.f1.2");

    // The manager of this machine has not recorded the renewed login.
    let _ = take();
    assert_eq!(read_refresh_token(&other), "rt.acct-bob.f1.2");
    let _ = there(&["profile", "save", "bob"]).code(0);
    assert_eq!(take(), "older");
    // The same if the home is signed out.
    fs::remove_file(other.join("auth.json")).expect("lose the login");
    assert_eq!(take(), "older");
    let _ = there(&["use", "bob"]).code(0);
    write_auth_text(&other, &expired_auth(&other));
    let _ = lab.say_in(&other, "still signed in");
    // The login moved away from this machine, so another one may use it.
    let refused = lab.manager(["use", "bob"]).code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn i5_a_replaced_login_is_not_imported_even_if_the_logins_have_no_times() {
    // Both logins have no time, so their order is unknown.
    let undated = |generation| {
        let login = alice(0).generation(generation);
        login.last_refresh(None)
    };
    let (first, file) = exported(&undated(1));
    let other = machine();
    assert_eq!(outcome(&import(&other, &file).code(0)), "new");
    save(&other, &undated(2));
    assert_eq!(outcome(&import(&other, &file).code(0)), "older");
    assert_eq!(kept(&other), Some(auth_json(&undated(2))));
    // The same after the newer login was lost.
    fs::remove_file(folder(&other).join("auth.json")).expect("lose the login");
    assert_eq!(outcome(&import(&other, &file).code(0)), "older");
    assert_eq!(kept(&other), None);
    let _ = other.run(["use", "work"]).code(5);

    // The fingerprint travels with the next export to the machine that the login came from.
    save(&other, &undated(2));
    let next = export(&other, "next.age");
    assert_eq!(outcome(&import(&first, &next).code(0)), "newer");
    assert_eq!(kept(&first), Some(auth_json(&undated(2))));
    let _ = first.run(["use", "work"]).code(0);
    write_auth(&first.codex_home(), &carol());
    assert_eq!(outcome(&import(&first, &file).code(0)), "older");
    assert_eq!(kept(&first), Some(auth_json(&undated(2))));
}

#[test]
fn i5_a_moved_login_comes_back_only_with_the_export_that_took_it() {
    let (_first, file) = exported(&alice(0));
    let mut other = machine();
    let _ = import(&other, &file).code(0);
    other.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    // The same login moves to a third machine, where it may be in use.
    let next = export(&other, "next.age");
    let before = other.tree("home/.codex-manager/profiles/work");
    let output = import(&other, &file).code(0);
    assert_eq!(outcome(&output), "unclear", "{output}");
    assert_same_tree(&before, &other.tree("home/.codex-manager/profiles/work"));
    let refused = other.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
    let for_people = other.run(["profile", "import", &text(&file), "--identity", "key.txt"]);
    let for_people = for_people.code(0);
    assert!(
        for_people.stdout.contains("kept the local login"),
        "{for_people}"
    );
    assert!(
        for_people.stderr.contains("profile login work"),
        "{for_people}"
    );
    let dry_run = [
        "profile",
        "import",
        &text(&next),
        "--identity",
        "key.txt",
        "-n",
    ];
    let shown = other.run(dry_run).code(0);
    assert!(shown.stdout.contains("takes its login back"), "{shown}");
    assert!(!shown.stdout.contains("nothing to import"), "{shown}");
    assert_eq!(outcome(&import(&other, &next).code(0)), "returned");
    assert_eq!(outcome(&import(&other, &next).code(0)), "same");
    let _ = other.run(["use", "work"]).code(0);
}

#[test]
fn i5_an_import_of_a_login_of_unclear_age_keeps_the_local_login() {
    let (_first, file) = exported(&alice(0));
    let other = machine();
    save(&other, &alice(0).family("another"));
    let output = import(&other, &file).code(0);
    assert_eq!(outcome(&output), "unclear");
    assert_eq!(kept(&other), Some(auth_json(&alice(0).family("another"))));
    assert_eq!(history(&other), [auth_json(&alice(0))]);
    let once = other.tree("home/.codex-manager/profiles/work");
    let _ = import(&other, &file).code(0);
    assert_same_tree(&once, &other.tree("home/.codex-manager/profiles/work"));
    // profile.json is lost, and with it the record that the login moved.
    let (first, file) = exported(&alice(0));
    first.write("home/.codex-manager/profiles/work/profile.json", "{");
    assert_eq!(outcome(&import(&first, &file).code(0)), "unclear");
    let refused = first.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("damaged"), "{refused}");
}

#[test]
fn i5_an_older_login_is_not_imported_after_the_removal_of_its_profile() {
    let (_first, file) = exported(&alice(0));
    for removal in [&["--yes"][..], &["--purge", "--yes"]] {
        let other = machine();
        let _ = import(&other, &file).code(0);
        save(&other, &alice(3));
        let _ = other
            .run([&["profile", "remove", "work"], removal].concat())
            .code(0);
        let output = import(&other, &file).code(0);
        assert_eq!(kept(&other), None);
        if removal.contains(&"--purge") {
            assert_eq!(outcome(&output), "older");
            assert_eq!(history(&other), [auth_json(&alice(0))]);
            let refused = other.run(["use", "work"]).code(5);
            assert!(refused.stderr.contains("profile save"), "{refused}");
        } else {
            assert_eq!(outcome(&output), "in-trash");
            assert_eq!(history(&other), [""; 0]);
        }
        // A newer login is imported as usual.
        save(&other, &alice(4));
        let _ = other.run(["use", "work"]).code(0);
        let notes = other.tree("home/.codex-manager/profiles").0;
        for path in notes.into_keys().filter(|p| p.ends_with(".deleted.json")) {
            let path = other.manager_home().join("profiles").join(path);
            let note = fs::read_to_string(path).expect("read");
            assert!(!note.contains("alice@") && !note.contains("rt."), "{note}");
        }
    }
}

#[test]
fn a_live_login_newer_than_the_imported_one_is_saved_in_the_profile() {
    let (_first, file) = exported(&alice(0));
    let other = machine();
    write_auth(&other.codex_home(), &alice(3));
    let output = import(&other, &file).code(0);
    assert_eq!(outcome(&output), "older", "{output}");
    assert_eq!(kept(&other), Some(auth_json(&alice(3))));
    assert_eq!(history(&other), [auth_json(&alice(0))]);
    let live = fs::read_to_string(other.codex_home().join("auth.json"));
    assert_eq!(live.expect("read"), auth_json(&alice(3)));
}

#[test]
fn a_local_profile_of_a_newer_version_is_skipped_and_reported() {
    let env = machine();
    for (name, login) in [("work", alice(0)), ("home", bob())] {
        write_auth(&env.codex_home(), &login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    write_auth(&env.codex_home(), &carol());
    let file = export(&env, "out.age");
    let other = machine();
    save(&other, &alice(0));
    let note = folder(&other).join("profile.json");
    let newer = fs::read_to_string(&note).expect("read");
    let newer = newer.replacen("\"schema\": 1", "\"schema\": 99", 1);
    fs::write(&note, newer).expect("write");
    let before = other.tree("home/.codex-manager/profiles/work");
    let output = import(&other, &file).code(6);
    assert_eq!(output.json()["left"][0]["name"], "work", "{output}");
    assert_eq!(output.json()["profiles"][0]["name"], "home", "{output}");
    assert_same_tree(&before, &other.tree("home/.codex-manager/profiles/work"));
    let _ = other.run(["use", "home"]).code(0);
}

#[test]
fn i5_a_moved_login_does_not_come_back_from_the_trash() {
    let env = machine();
    save(&env, &alice(0));
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    write_auth(&env.codex_home(), &alice(0));
    let _ = env.run(["profile", "save", "later"]).code(0);
    write_auth(&env.codex_home(), &carol());
    let file = export(&env, "moved.age");
    let _ = env.run(["profile", "remove", "later", "--yes"]).code(0);
    let _ = env.run(["profile", "undo", "work"]).code(0);
    let refused = env.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
    let _ = import(&env, &file).code(0);
    assert_eq!(kept(&env), Some(auth_json(&alice(0))));
}

#[test]
fn i5_a_damaged_profile_stays_damaged_when_it_is_put_back() {
    let env = machine();
    save(&env, &alice(0));
    let _ = export(&env, "moved.age");
    fs::write(folder(&env).join("profile.json"), "{").expect("write");
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    let _ = env.run(["profile", "undo", "work"]).code(0);
    let refused = env.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("damaged"), "{refused}");
}

#[test]
fn an_import_of_the_newest_login_replaces_an_older_saved_one() {
    let env = machine();
    save(&env, &alice(3));
    let file = export(&env, "newest.age");
    let purge = ["profile", "remove", "work", "--purge", "--yes"];
    let _ = env.run(purge).code(0);
    save(&env, &alice(0));
    assert_eq!(outcome(&import(&env, &file).code(0)), "newer");
    assert_eq!(kept(&env), Some(auth_json(&alice(3))));
}

#[test]
fn i5_a_login_older_than_the_newest_one_is_not_exported() {
    let env = machine();
    save(&env, &alice(0));
    save(&env, &alice(1));
    let _ = env.run(["profile", "restore-login", "work"]).code(0);
    let key = write_age_key(&env);
    let args = [
        "profile",
        "export",
        "out.age",
        "--with-logins",
        "--recipient",
    ];
    let exported = env.run([&args[..], &[&key]].concat()).code(6);
    assert!(
        exported.stderr.contains("older than the newest"),
        "{exported}"
    );
    assert_eq!(kept(&env), Some(auth_json(&alice(0))));
}

#[test]
fn i5_an_import_without_logins_does_not_forget_a_removed_login() {
    let first = machine();
    save(&first, &alice(0));
    let key = write_age_key(&first);
    let args = ["profile", "export", "plain.age", "--recipient", &key];
    let _ = first.run(args).code(0);
    let other = machine();
    save(&other, &alice(3));
    let purge = ["profile", "remove", "work", "--purge", "--yes"];
    let _ = other.run(purge).code(0);
    let _ = import(&other, &first.path("plain.age")).code(0);
    let old = other.path("old.json");
    fs::write(&old, auth_json(&alice(0))).expect("write");
    let from = ["profile", "save", "work", "--from", &text(&old)];
    let _ = other.run(from).code(0);
    let refused = other.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("--force-stale"), "{refused}");
}

#[test]
fn an_api_key_that_was_saved_in_several_layouts_is_exported() {
    let env = machine();
    let key = api_key_auth_json("sk-test-0000");
    for layout in [key.clone(), format!(" {key}"), key] {
        write_auth_text(&env.codex_home(), &layout);
        let _ = env.run(["profile", "save", "key"]).code(0);
    }
    write_auth(&env.codex_home(), &carol());
    let _ = export(&env, "key.age");
}
