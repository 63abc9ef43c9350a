//! The owner of a login after kills, removed profiles, and incomplete or old records.

use crate::support::env::TestEnv;
use crate::support::faults::Dice;
use crate::support::injection::{Fault, can_inject, points, run_with_fault, sample};
use crate::support::lab::Lab;
use crate::support::pauses::EVENT_LIMIT;
use crate::support::profiles::{alice_and_bob, folder, shown, write_age_key};
use crate::support::sample::{RENEWED, alice, bob};
use crate::support::sign_in::{SignIn, auth_json, read_refresh_token, unix_now, write_auth};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const LIMIT: Duration = EVENT_LIMIT;

fn profile_json(env: &TestEnv, name: &str) -> PathBuf {
    folder(env, name).join("profile.json")
}

/// Edits the `profile.json` of a profile.
fn edit_profile_json(env: &TestEnv, name: &str, change: impl FnOnce(&mut Value)) {
    let path = profile_json(env, name);
    let text = fs::read_to_string(&path).expect("a note");
    let mut note: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut note);
    fs::write(&path, note.to_string()).expect("write");
}

#[test]
fn i2_a_switch_killed_at_any_point_never_duplicates_a_login() {
    if !can_inject() {
        return;
    }
    // Another home has Alice's login, and Alice has no profile yet.
    let begin = || {
        let env = TestEnv::new();
        write_auth(&env.codex_home(), &bob());
        let _ = env.run(["profile", "save", "home"]).code(0);
        let carol = SignIn::new("acct-carol", "carol@example.com").issued_at(RENEWED);
        write_auth(&env.codex_home(), &carol);
        write_auth(&env.path("other"), &alice(0));
        env
    };
    let away = ["--codex-home", "other", "use", "home"];
    let mut dice = Dice::new();
    let all = points(&begin(), &away);
    let has_alice = |env: &TestEnv| {
        let live = fs::read_to_string(env.path("other/auth.json")).expect("a login");
        live == auth_json(&alice(0))
    };
    let mut kills = 0;
    for point in sample(&all, &mut dice) {
        let env = begin();
        let _ = run_with_fault(&env, &away, &point, Fault::Killed);
        if has_alice(&env) {
            kills += 1;
            let done = env.run(["use", "alice@example.com"]);
            assert_ne!(
                done.code, 0,
                "{point:?}: the login is live in two homes\n{done}"
            );
        }
        // A second run completes the switch.
        let _ = env.run(away).code(0);
        let _ = env.run(["use", "alice@example.com"]).code(0);
    }
    assert!(kills > 0, "no run was killed while it had the login");
}

#[test]
fn i5_a_saved_live_login_without_profile_is_refused_only_if_it_is_outdated() {
    let env = alice_and_bob();
    write_auth(&env.codex_home(), &alice(3));
    let _ = env.run(["profile", "save", "work"]).code(0);
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    // The user restored an older copy by hand.
    write_auth(&env.codex_home(), &alice(0));
    let output = env.run(["use", "home", "--json"]).code(0).json();
    assert_eq!(output["saved_back"]["outcome"], "created", "{output}");
    assert_eq!(output["saved_back"]["profile"], "alice@example.com");
    let refused = env.run(["use", "alice@example.com"]).code(5);
    assert!(
        refused.stderr.contains("older than the newest"),
        "{refused}"
    );

    // The login that was removed with the profile can still be used.
    let env = alice_and_bob();
    let _ = env.run(["profile", "remove", "work", "--yes"]).code(0);
    let _ = env.run(["use", "home"]).code(0);
    let _ = env.run(["use", "alice@example.com"]).code(0);
}

#[test]
fn a_moved_login_stays_moved_despite_an_older_live_login() {
    let env = alice_and_bob();
    let _ = env.run(["use", "home"]).code(0);
    let key = write_age_key(&env);
    let export = ["profile", "export", "out.age", "--with-logins"];
    // The live login of Bob is not exported.
    let _ = env
        .run([&export[..], &["--recipient", &key]].concat())
        .code(6);
    write_auth(
        &env.codex_home(),
        &SignIn::alice().issued_at(RENEWED - 86_400),
    );
    let output = env.run(["use", "home", "--json"]).code(0).json();
    assert_eq!(output["saved_back"]["outcome"], "kept-newer", "{output}");
    assert_eq!(shown(&env, "work")["owner"], "moved");
    let refused = env.run(["use", "work"]).code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
}

#[test]
fn a_leased_login_is_refused_until_it_is_released() {
    let env = alice_and_bob();
    edit_profile_json(&env, "home", |note| note["owner"] = json!("probe"));
    let refused = env.run(["use", "home"]).code(5);
    assert!(
        refused.stderr.contains("in use by a status query")
            && refused.stderr.contains("codex-manager status --all"),
        "{refused}"
    );
    // `status` cannot ask Codex, but it still takes the login back.
    let _ = env.run(["status", "--all"]).code(6);
    let _ = env.run(["use", "home"]).code(0);
}

#[test]
fn status_of_all_names_a_login_that_may_be_in_a_keyring() {
    let env = alice_and_bob();
    let _ = env.run(["--codex-home", "other", "use", "home"]).code(0);
    fs::remove_file(env.path("other/auth.json")).expect("into the keyring");
    env.write(
        "other/config.toml",
        "cli_auth_credentials_store = \"keyring\"\n",
    );
    let output = env.run(["status", "--all"]).code(6);
    let context = format!("{output}");
    assert!(context.contains("cli_auth_credentials_store"), "{output}");
    assert_eq!(shown(&env, "home")["owner"], "profile");
    let note = fs::read_to_string(profile_json(&env, "home")).expect("a note");
    assert!(note.contains("\"live\""), "{note}");
}

#[test]
fn use_does_not_replace_an_older_live_login_while_codex_renews_it() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home();
    // The profile has a newer login. The live login has expired, and Codex is renewing it.
    let newer = SignIn::alice().family("f2").issued_at(unix_now() - 500);
    write_auth(&home, &newer);
    let _ = lab.manager(["profile", "save", "alice"]).code(0);
    write_auth(&home, &SignIn::alice().with_expired_token());
    let alice = lab.backend.account("acct-alice");
    alice.set(|account| account.refresh_delay_ms = 1_500);
    let running = lab.codex.spawn_exec(&home, &lab.backend, &["hello"]);
    assert!(lab.backend.wait_for_refresh(LIMIT, "rt.acct-alice.f1.1"));
    let done = lab.manager(["use", "alice", "--json"]).code(0).json();
    assert_eq!(done["changed"], false, "{done}");
    let _ = running.finish(LIMIT);
    assert_eq!(read_refresh_token(&home), "rt.acct-alice.f1.2");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn restore_login_takes_the_newest_of_the_history() {
    let env = alice_and_bob();
    for day in [2, 3] {
        write_auth(&env.codex_home(), &alice(day));
        let _ = env.run(["profile", "save", "work"]).code(0);
    }
    // The oldest login is added to the history last.
    env.write("old.json", auth_json(&alice(1)));
    let _ = env
        .run(["profile", "save", "work", "--from", "old.json"])
        .code(0);
    let _ = env.run(["use", "home"]).code(0);
    let output = env.run(["profile", "restore-login", "work"]).code(0);
    assert!(output.stdout.contains("signed in or renewed"), "{output}");
    let kept = env.manager_home().join("profiles/work/auth.json");
    let kept = fs::read_to_string(kept).expect("a login");
    assert_eq!(kept, auth_json(&alice(2)));
}

#[test]
fn an_unusable_profile_is_never_shown_as_available() {
    let login = |env: &TestEnv, args: &[&str]| {
        let output = env.run(args);
        let all = output.json();
        let all = all.get("accounts").or(all.get("candidates")).cloned();
        let all = all.expect("accounts");
        let mut all = all.as_array().expect("accounts").iter();
        let bob = all.find(|a| a["email"] == "bob@example.com");
        bob.expect("bob")["login"].clone()
    };
    for what in ["damaged", "newer", "no login"] {
        let env = alice_and_bob();
        assert_eq!(login(&env, &["recommend", "--json"]), "ok");
        // No command has read the profile since then.
        let note = profile_json(&env, "home");
        match what {
            "damaged" => fs::write(note, "{").expect("write"),
            "newer" => edit_profile_json(&env, "home", |note| {
                note["schema"] = json!(99);
            }),
            _ => fs::write(note.with_file_name("auth.json"), "{}").expect("write"),
        }
        for args in [&["recommend", "--json"][..], &["cooldown", "--json"]] {
            assert_eq!(login(&env, args), "unknown", "{what} {args:?}");
        }
        let named = env.run(["recommend", "--format", "{label} {login}"]);
        assert!(!named.stdout.contains("home ok"), "{what} {named}");
        // The same after a command has recorded the state of the profile.
        let _ = env.run(["profile", "rename", "work", "job"]).code(0);
        assert_eq!(login(&env, &["recommend", "--json"]), "unknown", "{what}");
        let refused = env.run(["recommend", "--use"]);
        assert!(!refused.stdout.contains("switched to home"), "{refused}");
    }
}
