//! Copied homes, and homes restored beside the first one. A login that is live in one of them is never used
//! in another.

use crate::support::copy_tree;
use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::injection::{can_inject, run_ends_before_call};
use crate::support::lab::Lab;
use crate::support::profiles::{alice_and_bob, write_age_key};
use crate::support::sample::{RENEWED, alice, bob, text};
use crate::support::sign_in::{
    SignIn, api_key_auth_json, auth_json, expired_auth, read_refresh_token, unix_now, write_auth,
    write_auth_text,
};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Signs Alice in as `work`, saves Bob as `home`, and copies the Codex home to `copy`.
fn world() -> TestEnv {
    let env = alice_and_bob();
    write_auth(&env.path("copy"), &alice(0));
    env
}

fn run_in_copy(env: &TestEnv, args: &[&str]) -> Run {
    env.run([&["--codex-home", "copy"], args].concat())
}

fn note(env: &TestEnv, name: &str) -> Value {
    let path = env.manager_home().join("profiles").join(name);
    let text = fs::read_to_string(path.join("profile.json")).expect("a note");
    serde_json::from_str(&text).expect("JSON")
}

fn live(home: &Path) -> String {
    fs::read_to_string(home.join("auth.json")).expect("a login")
}

/// Asserts that Alice's login is recorded in the first home and cannot be used in another.
#[track_caller]
fn assert_first_home_has_it(env: &TestEnv) {
    let note = note(env, "work");
    assert_eq!(
        (&note["owner"], &note["live_home"]),
        (&json!("live"), &json!(env.codex_home())),
        "{note}"
    );
}

#[test]
fn a_copy_of_a_home_does_not_take_the_login_from_the_first() {
    let env = world();
    let output = run_in_copy(&env, &["profile", "save", "work"]).code(0);
    assert!(output.stderr.contains("another Codex home"), "{output}");
    assert_first_home_has_it(&env);
    let output = run_in_copy(&env, &["use", "home"]).code(0);
    assert!(
        output
            .stderr
            .contains("stays the live account of another Codex home"),
        "{output}"
    );
    assert_first_home_has_it(&env);
    let refused = run_in_copy(&env, &["use", "work"]).code(5);
    let command = "codex-manager --codex-home [ROOT]/home/.codex use ACCOUNT";
    for run in [&output, &refused] {
        assert!(run.stderr.contains(command), "{run}");
    }

    // The same after a renewal in the first home that no command has saved.
    let env = world();
    write_auth(&env.codex_home(), &alice(3));
    write_auth(&env.path("copy"), &alice(1));
    let _ = run_in_copy(&env, &["use", "home"]).code(0);
    assert_first_home_has_it(&env);

    // The same refresh token, with the access token of a later renewal.
    let env = world();
    write_auth(&env.path("copy"), &alice(3).generation(1));
    for args in [&["profile", "save", "work"][..], &["use", "home"]] {
        let output = run_in_copy(&env, args).code(0);
        assert!(output.stderr.contains("another Codex home"), "{output}");
        assert_first_home_has_it(&env);
    }
    let _ = run_in_copy(&env, &["use", "work"]).code(5);

    // A login newer than the one in the first home is not a copy of it.
    let env = world();
    write_auth(&env.path("copy"), &alice(3));
    let output = run_in_copy(&env, &["use", "home"]).code(0);
    assert!(!output.stderr.contains("another Codex home"), "{output}");
    assert_eq!(note(&env, "work")["owner"], "profile");
}

#[test]
fn an_api_key_is_used_in_several_homes() {
    let env = world();
    let key = api_key_auth_json("sk-test-0000");
    write_auth_text(&env.codex_home(), &key);
    let _ = env.run(["profile", "save", "key"]).code(0);
    let output = run_in_copy(&env, &["use", "key"]).code(0);
    assert_eq!(live(&env.path("copy")), key);
    let back = run_in_copy(&env, &["use", "home"]).code(0);
    for run in [&output, &back] {
        assert!(!run.stderr.contains("another Codex home"), "{run}");
    }
    let _ = run_in_copy(&env, &["use", "key"]).code(0);
    assert_eq!(live(&env.codex_home()), key);
}

#[test]
fn the_login_of_a_missing_home_is_released_only_by_force() {
    let env = world();
    fs::rename(env.codex_home(), env.path("unplugged")).expect("move the home");
    let _ = run_in_copy(&env, &["use", "home", "--force-stale"]).code(0);
    assert_first_home_has_it(&env);
    let refused = run_in_copy(&env, &["use", "work"]).code(5);
    assert!(refused.stderr.contains(".codex"), "{refused}");
    let _ = run_in_copy(&env, &["use", "work", "--force-stale"]).code(0);
    assert_eq!(note(&env, "work")["live_home"], json!(env.path("copy")));
    let _ = run_in_copy(&env, &["use", "home"]).code(0);
    let _ = run_in_copy(&env, &["use", "work"]).code(0);
}

#[test]
fn a_query_from_a_copied_home_uses_no_refresh_token_twice() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let copy = lab.world.path("copy");
    copy_tree(&lab.home(), &copy);
    let there = |args: &[&str]| lab.manager([&["--codex-home", "copy"], args].concat());
    let _ = there(&["use", "bob"]).code(0);
    // The saved login has expired, and only the first home may renew it.
    write_auth_text(&lab.home(), &expired_auth(&lab.home()));
    let kept = lab.world.manager_home().join("profiles/alice");
    write_auth_text(&kept, &expired_auth(&kept));
    let _ = there(&["status", "--all"]);
    let _ = lab.say("renews the login");
    assert_eq!(read_refresh_token(&lab.home()), "rt.acct-alice.f1.2");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn the_live_login_of_a_copied_home_is_not_used() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    let copy = lab.world.path("copy");
    copy_tree(&lab.home(), &copy);
    // Both copies have expired, and only the first home may renew the login.
    for home in [&lab.home(), &copy] {
        write_auth_text(home, &expired_auth(home));
    }
    let before = live(&copy);

    let there = |args: &[&str]| lab.manager([&["--codex-home", "copy"], args].concat());
    for args in [
        &["status"][..],
        &["status", "--all"],
        &["backup"],
        &["usage", "limits"],
    ] {
        let run = there(args);
        assert_eq!(live(&copy), before, "{args:?} {run}");
    }
    let status = there(&["status"]).code(6);
    assert!(status.stderr.contains("is a copy"), "{status}");
    for args in [&["current"][..], &["doctor"]] {
        let run = there(args);
        assert!(format!("{run}").contains("is a copy"), "{run}");
    }
    let launch = ["launch", "alice", "--", "exec", "hello"];
    let refused = there(&launch).code(5);
    assert!(refused.stderr.contains("use ACCOUNT"), "{refused}");

    let _ = lab.say("renews the login");
    assert_eq!(read_refresh_token(&lab.home()), "rt.acct-alice.f1.2");
    // The copy is older now, and Codex would renew it.
    let _ = there(&launch).code(5);
    let _ = there(&["status"]).code(6);
    assert_eq!(live(&copy), before);
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn status_queries_the_login_of_a_renamed_home_which_is_no_copy() {
    let Some(lab) = Lab::of_two(&SignIn::alice(), &SignIn::bob()) else {
        return;
    };
    fs::rename(lab.home(), lab.world.path("renamed")).expect("rename the home");
    let run = lab.manager(["--codex-home", "renamed", "status"]);
    assert!(!run.stderr.contains("is a copy"), "{run}");
    let _ = run.code(0);
    // The old path leads to the new one.
    std::os::unix::fs::symlink(lab.world.path("renamed"), lab.home()).expect("link");
    let _ = lab.manager(["--codex-home", "renamed", "status"]).code(0);
    let _ = lab.manager(["status"]).code(0);
}

/// Signs Bob in instead, and moves Alice's login into an export.
#[track_caller]
fn move_away(env: &TestEnv) {
    write_auth(&env.codex_home(), &bob());
    let key = write_age_key(env);
    let export = ["profile", "export", "out.age", "--with-logins"];
    let _ = env.run([&export[..], &["--recipient", &key]].concat());
    assert_eq!(note(env, "work")["owner"], "moved");
}

/// Creates an archive of the first home.
fn archive(env: &TestEnv) -> String {
    let done = env.run(["backup", "--no-status", "--json"]).code(0).json();
    let path = done["path"].as_str().expect("a path").to_owned();
    text(&env.path(path.strip_prefix("[ROOT]/").expect("below the root")))
}

#[test]
fn a_restore_without_auth_archive_leaves_out_a_login_that_another_home_uses() {
    for only in [&[][..], &["--only", "auth.json"]] {
        for is_lost in [false, true] {
            let env = world();
            let archive = archive(&env);
            write_auth(&env.path("copy"), &bob());
            if is_lost {
                fs::rename(env.codex_home(), env.path("unplugged")).expect("move the home");
            }
            let restore = [&["restore", archive.as_str(), "--yes"], only].concat();
            let output = run_in_copy(&env, &restore).code(0);
            assert!(output.stderr.contains("another Codex home"), "{output}");
            assert_eq!(live(&env.path("copy")), auth_json(&bob()));
            assert_first_home_has_it(&env);
            // With `--auth archive` the archived login is restored.
            let _ = run_in_copy(&env, &[&restore[..], &["--auth", "archive"]].concat()).code(0);
            assert_eq!(live(&env.path("copy")), auth_json(&alice(0)));
        }
    }
}

#[test]
fn i2_another_home_cannot_use_the_login_of_a_restore_that_is_killed_while_it_removes_the_old_home()
{
    if !can_inject() {
        return;
    }
    let mut exchanged = 0;
    for number in 1.. {
        let env = world();
        let archive = archive(&env);
        let _ = env.run(["use", "home"]).code(0);
        fs::remove_file(env.path("copy/auth.json")).expect("sign out");
        let restore = ["--codex-home", "copy", "restore", &archive, "--yes"];
        let is_complete = run_ends_before_call(&env, &restore, "unlinkat", number);
        let is_in_copy = env.path("copy/auth.json").exists();
        let used = env
            .run(["use", "work"])
            .code(if is_in_copy { 5 } else { 0 });
        if is_in_copy {
            exchanged += 1;
            assert!(used.stderr.contains("another Codex home"), "{used}");
        }
        if is_complete {
            break;
        }
    }
    assert!(exchanged > 1, "the old home was removed by another call");
}

#[test]
fn a_home_that_was_restored_beside_the_first_does_not_own_its_login() {
    let env = world();
    let archive = archive(&env);
    let _ = env.run(["restore", &archive, "--to", "new"]).code(0);
    let _ = env.run(["--codex-home", "new", "use", "home"]).code(0);
    assert_first_home_has_it(&env);
    let _ = env.run(["--codex-home", "new", "use", "work"]).code(5);
}

#[test]
fn a_restore_that_makes_no_login_live_leaves_the_recorded_owner_unchanged() {
    let env = world();
    let archive = archive(&env);
    write_auth(&env.codex_home(), &alice(3));
    let _ = env.run(["use", "home"]).code(0);
    let before = note(&env, "work");
    let _ = env.run(["restore", &archive, "--to", "new"]).code(0);
    let _ = run_in_copy(&env, &["restore", &archive, "--auth", "skip", "--yes"]).code(0);
    let only = ["restore", &archive, "--only", "config.toml", "--yes"];
    let _ = run_in_copy(&env, &only);
    assert_eq!(note(&env, "work"), before);
    let _ = env.run(["use", "work"]).code(0);
    assert_eq!(live(&env.codex_home()), auth_json(&alice(3)));
}

#[test]
fn a_restore_without_a_live_login_reports_no_newer_one() {
    let env = world();
    let archive = archive(&env);
    fs::remove_file(env.codex_home().join("auth.json")).expect("lose the login");
    let output = env.run(["restore", &archive, "--yes"]).code(0);
    assert_eq!(live(&env.codex_home()), auth_json(&alice(0)));
    assert!(!output.stderr.contains("newer"), "{output}");
}

#[test]
fn i5_a_restore_leaves_out_a_moved_or_spent_login_of_a_removed_profile() {
    for removal in [&["--yes"][..], &["--purge", "--yes"]] {
        let remove = [&["profile", "remove", "work"], removal].concat();
        // The login has moved away.
        let env = world();
        let archive = archive(&env);
        move_away(&env);
        let _ = env.run(&remove).code(0);
        let output = env.run(["restore", &archive, "--yes"]).code(0);
        assert!(output.stderr.contains("another machine"), "{output}");
        assert_eq!(live(&env.codex_home()), auth_json(&bob()));

        // The login is spent.
        let env = world();
        let archive = self::archive(&env);
        write_auth(&env.codex_home(), &alice(3));
        let _ = env.run(["profile", "save", "work"]).code(0);
        let _ = env.run(["use", "home"]).code(0);
        let _ = env.run(&remove).code(0);
        let output = env.run(["restore", &archive, "--yes"]).code(0);
        if removal.contains(&"--purge") {
            assert!(output.stderr.contains("probably spent"), "{output}");
        } else {
            // The trash has the renewed login.
            assert!(output.stderr.contains("the removed profile has a newer"));
            assert_eq!(live(&env.codex_home()), auth_json(&alice(3)));
        }
    }
}

#[test]
fn i5_a_login_dated_in_the_future_is_replaced_by_its_renewal() {
    let env = world();
    let ahead = alice(1).last_refresh(Some(RENEWED + 90 * 86_400));
    write_auth(&env.codex_home(), &ahead);
    let output = env.run(["profile", "save", "work"]).code(0);
    assert!(!output.stdout.contains("renewed in"), "{output}");
    let archive = archive(&env);
    // Renewed after the clock was set.
    write_auth(&env.codex_home(), &alice(2));
    let output = env.run(["use", "home", "--json"]).code(0).json();
    assert_eq!(output["saved_back"]["outcome"], "updated", "{output}");
    let _ = env.run(["use", "work"]).code(0);
    assert_eq!(live(&env.codex_home()), auth_json(&alice(2)));
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert_eq!(live(&env.codex_home()), auth_json(&alice(2)));

    // An older login is reported as added to the history, not as the login of the profile.
    write_auth(&env.codex_home(), &alice(0));
    let output = env.run(["use", "home"]).code(0);
    assert!(output.stdout.contains("added to its history"), "{output}");
    assert!(!output.stdout.contains("is kept in"), "{output}");
}

#[test]
fn i5_a_login_renewed_while_the_clock_was_behind_is_the_newer_one() {
    let env = world();
    write_auth(&env.codex_home(), &alice(0));
    let _ = env.run(["profile", "save", "work"]).code(0);
    let behind = alice(1).last_refresh(Some(RENEWED - 90 * 86_400));
    write_auth(&env.codex_home(), &behind);
    let output = env.run(["use", "home", "--json"]).code(0).json();
    assert_eq!(output["saved_back"]["outcome"], "updated", "{output}");
    let _ = env.run(["use", "work"]).code(0);
    assert_eq!(live(&env.codex_home()), auth_json(&behind));
}

#[test]
fn i5_a_clock_ahead_during_a_renewal_loses_no_login() {
    let Some(lab) = Lab::of_two(&SignIn::alice().with_expired_token(), &SignIn::bob()) else {
        return;
    };
    let home = lab.home();
    let ahead = SignIn::alice()
        .with_expired_token()
        .last_refresh(Some(unix_now() + 86_400));
    write_auth(&home, &ahead);
    let _ = lab.manager(["profile", "save", "alice"]).code(0);
    let _ = lab.say("renews the login");
    let _ = lab.manager(["use", "bob"]).code(0);
    let _ = lab.manager(["use", "alice"]).code(0);
    assert_eq!(read_refresh_token(&home), "rt.acct-alice.f1.2");
    write_auth_text(&home, &expired_auth(&home));
    let _ = lab.say("renews it again");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn i5_a_copy_of_a_moved_login_does_not_become_its_owner() {
    let env = world();
    let archive = archive(&env);
    move_away(&env);
    fs::remove_dir_all(env.path("copy")).expect("remove");
    let refused = env
        .run(["profile", "save", "work", "--from", &archive])
        .code(5);
    assert!(refused.stderr.contains("another machine"), "{refused}");
    assert_eq!(note(&env, "work")["owner"], "moved");
    // A login that was live for a while does not become the owner either.
    write_auth(&env.path("copy"), &alice(0));
    let _ = run_in_copy(&env, &["profile", "save", "work"]).code(5);
    let _ = run_in_copy(&env, &["use", "home"]);
    assert_eq!(note(&env, "work")["owner"], "moved");
    // Saving the profile's own file is an explicit decision of the user.
    let own = text(&env.manager_home().join("profiles/work/auth.json"));
    let _ = env.run(["profile", "save", "work", "--from", &own]).code(0);
    assert_eq!(note(&env, "work")["owner"], "profile");
}

#[test]
fn i5_a_live_copy_of_the_moved_login_of_a_removed_profile_does_not_become_its_owner() {
    for removal in [&["--yes"][..], &["--purge", "--yes"]] {
        let env = world();
        move_away(&env);
        let remove = [&["profile", "remove", "work"], removal].concat();
        let _ = env.run(&remove).code(0);
        write_auth(&env.codex_home(), &alice(0));
        let _ = env.run(["use", "home"]).code(0);
        let refused = env.run(["use", "alice@example.com"]).code(5);
        assert!(refused.stderr.contains("another machine"), "{refused}");

        // A new sign-in works here.
        write_auth(&env.codex_home(), &alice(1));
        let _ = env.run(["use", "home"]).code(0);
        let _ = env.run(["use", "alice@example.com"]).code(0);
    }
}

#[test]
fn i5_no_login_of_the_history_takes_the_place_of_a_moved_one() {
    let env = world();
    write_auth(&env.codex_home(), &alice(1));
    let _ = env.run(["profile", "save", "work"]).code(0);
    move_away(&env);
    env.write("copy.json", auth_json(&alice(1)));
    let save = ["profile", "save", "work", "--from", "copy.json"];
    let before = env.tree("home/.codex-manager/profiles/work");
    for args in [&["profile", "restore-login", "work"][..], &save] {
        let refused = env.run(args).code(5);
        assert!(refused.stderr.contains("another machine"), "{refused}");
    }
    assert_same_tree(&before, &env.tree("home/.codex-manager/profiles/work"));
}

#[test]
fn i6_an_ambiguous_login_is_assigned_to_no_account() {
    let env = TestEnv::new();
    let team = SignIn::new("acct-team", "alice@example.com").issued_at(RENEWED);
    let team = team.user_id("user-alice");
    let own = alice(0).user_id("user-alice");
    for (name, login) in [("team", &team), ("own", &own)] {
        write_auth(&env.codex_home(), login);
        let _ = env.run(["profile", "save", name]).code(0);
    }
    write_auth(&env.codex_home(), &bob());
    let _ = env.run(["profile", "save", "home"]).code(0);
    let mut unnamed = SignIn::new("", "alice@example.com").issued_at(RENEWED + 86_400);
    unnamed = unnamed.user_id("user-alice");
    write_auth(&env.codex_home(), &unnamed);
    let before = env.tree("home/.codex-manager/profiles");
    for args in [&["profile", "save", "own"][..], &["use", "home"]] {
        let refused = env.run(args).code(5);
        assert!(refused.stderr.contains("own, team"), "{refused}");
    }
    assert_same_tree(&before, &env.tree("home/.codex-manager/profiles"));
    assert_eq!(live(&env.codex_home()), auth_json(&unnamed));
}
