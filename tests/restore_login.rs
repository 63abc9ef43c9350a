//! Logins that the real Codex renews between a backup and a restore.

use crate::support::env::assert_same_tree;
use crate::support::held_lock::HeldLock;
use crate::support::injection::{can_inject, run_ends_before_call};
use crate::support::lab::{Lab, messages, rollout};
use crate::support::processes;
use crate::support::profiles::folder;
use crate::support::sign_in::{
    SignIn, auth_json, expired_auth, read_refresh_token, signed_in_home, unix_now, write_auth,
    write_auth_text,
};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;
use std::process::{Child, Stdio};

const FIRST: &str = "rt.acct-alice.f1.1";
const SECOND: &str = "rt.acct-alice.f1.2";

/// Returns the notes of a restore as one text.
fn notes(document: &Value) -> String {
    document["notes"].to_string()
}

#[test]
fn a_login_that_codex_renewed_is_kept_unless_auth_is_archive() {
    let Some(lab) = Lab::signed_in(&SignIn::alice().with_expired_token()) else {
        return;
    };
    let home = lab.home();
    let _ = lab.back_up();
    let id = lab.say("renews the login");
    assert_eq!(read_refresh_token(&home), SECOND);

    let kept = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(kept["auth"], "kept-newer");
    assert_eq!(read_refresh_token(&home), SECOND);
    let _ = lab
        .manager(["restore", kept["safety_backup"].as_str().expect("a name")])
        .code(0);
    lab.resume(&home, &id, "with the renewed login");

    // `--auth archive` restores the archived login, and saves the renewed one to the profile first.
    let args = ["restore", "latest", "--auth", "archive"];
    let warned = lab.manager(args).code(0);
    assert!(warned.stderr.contains("probably spent"), "{warned}");
    assert_eq!(read_refresh_token(&home), FIRST);
    let saved = folder(&lab.world, "alice@example.com");
    assert_eq!(read_refresh_token(&saved), SECOND);
    let lost = lab
        .codex
        .exec(&home, &lab.backend, &["anyone?"])
        .expect_failure();
    assert!(lost.stderr.contains("already used"), "{lost}");

    // The restore makes the newest known login live again.
    let plan = lab.manager(["restore", "latest", "--dry-run", "--json"]);
    let plan = plan.code(0).json();
    let back = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(back["auth"], "kept-newer", "{back}");
    for document in [&plan, &back] {
        let note = "the profile has a newer login than the archive, so its login is restored";
        assert!(notes(document).contains(note), "{document}");
    }
    assert_eq!(read_refresh_token(&home), SECOND);
    let _ = lab.say("signed in again");

    // The same without any live login.
    fs::remove_file(home.join("auth.json")).expect("lose the login");
    let back = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(back["auth"], "kept-newer");
    assert_eq!(read_refresh_token(&home), SECOND);
}

#[test]
fn a_newer_login_of_a_removed_profile_is_restored_instead_of_the_archived_one() {
    let Some(lab) = Lab::signed_in(&SignIn::alice().with_expired_token()) else {
        return;
    };
    let home = lab.home();
    let _ = lab.back_up();
    let _ = lab.say("renews the login");
    let _ = lab.manager(["profile", "save", "alice"]).code(0);
    write_auth(&home, &SignIn::bob());
    let _ = lab.manager(["profile", "remove", "alice", "--yes"]).code(0);
    let accounts = lab.world.run(["accounts"]).code(0);
    let undo = "codex-manager profile undo alice";
    assert!(accounts.stderr.contains(undo), "{accounts}");
    let of_alice = ["restore", "alice", "--yes", "--json"];
    let plan = lab.world.run([&of_alice[..], &["--dry-run"]].concat());
    let back = lab.manager(of_alice);
    for document in [plan.code(0).json(), back.code(0).json()] {
        assert_eq!(document["auth"], "kept-newer", "{document}");
        let note =
            "the removed profile has a newer login than the archive, so its login is restored";
        assert!(notes(&document).contains(note), "{document}");
    }
    assert_eq!(read_refresh_token(&home), SECOND);
    let _ = lab.say("still signed in");

    // The copy in the trash replaces nothing newer.
    let _ = lab.manager(["profile", "undo", "alice"]).code(0);
    let _ = lab.manager(["use", "bob@example.com"]).code(0);
    let _ = lab.manager(["use", "alice"]).code(0);
    let _ = lab.say("signed in after two switches");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn a_login_renewed_by_the_probe_of_a_backup_is_the_one_archived() {
    let Some(lab) = Lab::signed_in(&SignIn::alice().with_expired_token()) else {
        return;
    };
    let home = lab.home();
    let _ = lab.manager(["backup"]).code(0);
    assert_eq!(read_refresh_token(&home), SECOND);
    fs::remove_dir_all(&home).expect("lose the home");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(read_refresh_token(&home), SECOND);
    let _ = lab.say("still signed in");
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}

#[test]
fn another_accounts_archive_needs_yes_and_saves_the_live_login_first() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let alices = lab.say("by alice");
    let _ = lab.back_up();
    write_auth(&home, &SignIn::bob());
    let bobs = lab.say("by bob");
    let before = lab.world.tree("home/.codex");

    let refused = lab.manager(["restore", "alice"]).code(5);
    assert!(refused.stderr.contains("bob@example.com"), "{refused}");
    assert_same_tree(&before, &lab.world.tree("home/.codex"));

    // Alice's conversations with Bob's login: listed, and resumed by id.
    let skipped = lab.manager(["restore", "alice", "--auth", "skip", "--merge", "--json"]);
    assert_eq!(skipped.code(0).json()["auth"], "skipped");
    assert_eq!(read_refresh_token(&home), "rt.acct-bob.f1.1");
    lab.resume(&home, &alices, "by bob");
    assert_eq!(messages(&rollout(&home, &alices)), ["by alice", "by bob"]);
    assert_eq!(lab.user_messages(&home, &bobs), ["by bob"]);

    let done = lab
        .manager(["restore", "alice", "--yes", "--json"])
        .code(0)
        .json();
    assert_eq!(done["auth"], "restored");
    assert_eq!(read_refresh_token(&home), FIRST);
    assert_eq!(
        read_refresh_token(&folder(&lab.world, "bob@example.com")),
        "rt.acct-bob.f1.1"
    );
    assert!(
        !folder(&lab.world, "alice@example.com")
            .join("auth.json")
            .exists()
    );
    lab.resume(&home, &alices, "by alice again");
    assert_eq!(
        messages(&rollout(&home, &alices)),
        ["by alice", "by alice again"]
    );
}

#[test]
fn a_restore_on_another_machine_leaves_the_login_to_the_machine_that_has_it() {
    let Some(lab) = Lab::signed_in(&SignIn::alice().with_expired_token()) else {
        return;
    };
    let _ = lab.manager(["profile", "save", "alice"]).code(0);
    let _ = lab.back_up();
    lab.world.write("passphrase", "a long passphrase");
    let passphrase = ["--passphrase-file", "passphrase"];
    let export = ["profile", "export", "moved.age", "--with-archives"];
    let _ = lab.manager([&export[..], &passphrase].concat()).code(0);

    let new_home = lab.world.path("new/.codex");
    signed_in_home(&new_home, &lab.backend, &SignIn::alice());
    fs::remove_file(new_home.join("auth.json")).expect("a new machine is signed out");
    let homes = [
        "--codex-home",
        "new/.codex",
        "--manager-home",
        "new/manager",
    ];
    let on_new_machine = |args: &[&str]| lab.manager([&homes[..], args].concat());
    let import = ["profile", "import", "moved.age"];
    let _ = on_new_machine(&[&import[..], &passphrase].concat()).code(0);

    // The new machine does not see the home of the other one.
    let away = lab.world.path("away");
    fs::rename(lab.home(), &away).expect("rename");
    let planned = on_new_machine(&["restore", "latest", "--dry-run", "--json"]);
    let done = on_new_machine(&["restore", "latest", "--yes", "--json"]);
    for document in [planned.code(0).json(), done.code(0).json()] {
        assert_eq!(document["auth"], "skipped", "{document}");
        let notes = notes(&document);
        assert!(
            notes.contains("would end the login of alice on another machine"),
            "{notes}"
        );
        assert!(
            notes.contains("codex-manager profile login alice"),
            "{notes}"
        );
    }
    assert!(!new_home.join("auth.json").exists());
    fs::rename(&away, lab.home()).expect("rename");
    let _ = lab.say("still signed in");
    assert_eq!(read_refresh_token(&lab.home()), SECOND);

    let args = ["restore", "latest", "--yes", "--auth", "archive", "--json"];
    assert_eq!(on_new_machine(&args).code(0).json()["auth"], "restored");
    assert_eq!(read_refresh_token(&new_home), FIRST);
}

#[test]
fn restoring_the_login_of_another_machine_warns_that_it_may_still_be_in_use_there() {
    let Some(lab) = Lab::signed_in(&SignIn::alice()) else {
        return;
    };
    let archive = lab.back_up();
    // The new machine does not see the home of the other one.
    fs::rename(lab.home(), lab.world.path("away")).expect("rename");
    let new_home = lab.world.path("new/.codex");
    signed_in_home(&new_home, &lab.backend, &SignIn::alice());
    fs::remove_file(new_home.join("auth.json")).expect("a new machine is signed out");
    let archive = archive.to_str().expect("text");
    let restore = |more: &[&str]| {
        let (home, manager) = ("new/.codex", "new/manager");
        let args = ["--codex-home", home, "--manager-home", manager];
        let args = [&args[..], &["restore", archive, "--yes"], more].concat();
        lab.manager(args).code(0)
    };
    let warning = "if another machine still uses it";
    // This machine made the archive.
    let run = lab.manager(["restore", archive, "--yes"]).code(0);
    assert!(run.stdout.contains("login: from the archive"), "{run}");
    assert!(!run.stderr.contains(warning), "{run}");
    fs::rename(lab.home(), lab.world.path("restored")).expect("rename");
    for more in [&["--dry-run"][..], &[]] {
        let run = restore(more);
        assert!(run.stdout.contains("login: from the archive"), "{run}");
        assert!(run.stderr.contains(warning), "{run}");
        assert!(run.stderr.contains("profile login NAME"), "{run}");
    }

    // A login that was live here is the machine's own.
    let save = [
        "--codex-home",
        "new/.codex",
        "--manager-home",
        "new/manager",
    ];
    let _ = lab.manager([&save[..], &["profile", "save", "mine"]].concat());
    fs::remove_file(new_home.join("auth.json")).expect("lose the login");
    fs::remove_file(lab.world.path("new/manager/profiles/mine/auth.json")).expect("lose it");
    let run = restore(&[]);
    assert!(run.stdout.contains("login: from the archive"), "{run}");
    assert!(!run.stderr.contains(warning), "{run}");
}

#[test]
fn an_archive_of_another_home_does_not_take_the_login_of_that_home() {
    let Some(lab) = Lab::signed_in(&SignIn::alice().issued_at(unix_now() - 2 * 86_400)) else {
        return;
    };
    let work_home = lab.world.path("work");
    let expired = SignIn::alice().family("f2").with_expired_token();
    signed_in_home(&work_home, &lab.backend, &expired);
    let backup = ["--codex-home", "work", "backup", "--no-status", "--json"];
    let archive = lab.manager(backup).code(0).json()["archive"].clone();
    let restore = [
        "restore",
        archive.as_str().expect("a name"),
        "--yes",
        "--json",
    ];

    for with_login in [true, false] {
        if !with_login {
            fs::remove_file(lab.home().join("auth.json")).expect("sign out");
        }
        let planned = lab.manager([&restore[..], &["--dry-run"]].concat());
        let done = lab.manager(restore);
        for document in [planned.code(0).json(), done.code(0).json()] {
            assert_eq!(document["auth"], "skipped", "{document}");
            let notes = notes(&document);
            assert!(
                notes.contains("is signed in to another Codex home: [ROOT]/work"),
                "{notes}"
            );
        }
        assert_eq!(lab.home().join("auth.json").exists(), with_login);
    }
    let _ = lab.say_in(&work_home, "still signed in");
    assert_eq!(read_refresh_token(&work_home), "rt.acct-alice.f2.2");

    let args = [&restore[..], &["--auth", "archive"]].concat();
    assert_eq!(lab.manager(args).code(0).json()["auth"], "restored");
    assert_eq!(read_refresh_token(&lab.home()), "rt.acct-alice.f2.1");
}

#[test]
fn a_dry_run_of_a_restore_shows_the_login_that_the_restore_makes_live() {
    let Some(lab) = Lab::new() else { return };
    let _ = lab.say("one");
    let _ = lab.back_up();
    // The login is the same, a newer one, missing.
    let cases = [
        (
            Some(1),
            "restored",
            "login: unchanged, the same as in the archive",
        ),
        (
            Some(2),
            "kept-newer",
            "login: a newer one instead of the archive's",
        ),
        (None, "restored", "login: from the archive"),
    ];
    for (generation, auth, line) in cases {
        let live = lab.home().join("auth.json");
        match generation {
            Some(2) => write_auth(
                &lab.home(),
                &SignIn::alice().generation(2).issued_at(unix_now() + 60),
            ),
            Some(_) => {}
            None => fs::remove_file(&live).expect("sign out"),
        }
        let restore = ["restore", "latest", "--yes"];
        let planned = lab.manager([&restore[..], &["--dry-run", "--json"]].concat());
        let planned = planned.code(0).json();
        let shown = lab.manager([&restore[..], &["--dry-run"]].concat()).code(0);
        let backup = live.exists().then(|| fs::read(&live).expect("the login"));
        let run = lab.manager(restore).code(0);
        match backup {
            Some(bytes) => fs::write(&live, bytes).expect("write"),
            None => fs::remove_file(&live).expect("sign out"),
        }
        let done = lab
            .manager([&restore[..], &["--json"]].concat())
            .code(0)
            .json();
        assert_eq!(planned["auth"], auth, "{planned}");
        for key in ["auth", "files", "bytes"] {
            assert_eq!(planned[key], done[key], "{key} of {generation:?}");
        }
        assert!(run.stdout.contains(line), "{run}");
        assert!(shown.stdout.contains(line), "{shown}");
    }
    let copy = ["restore", "latest", "--to", "copy", "--auth", "skip"];
    let copied = lab.manager(copy).code(0);
    assert!(copied.stdout.contains("login: none"), "{copied}");
}

/// Starts a command and waits until it is blocked on the lock of Codex's login.
fn spawn_blocked_on_login_lock(lab: &Lab, args: &[&str]) -> Child {
    let mut command = lab.world.command(args);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("start codex-manager");
    processes::wait_for_open_file(child.id(), &lab.home().join("auth.lock"));
    child
}

#[test]
fn a_backup_and_a_restore_wait_while_codex_renews_the_login() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let _ = lab.say("one");
    let _ = lab.back_up();
    // Locked through a name outside of the home, like a Codex that this machine cannot see. A Codex
    // that has the file open in the home blocks a restore anyway.
    let alias = lab.world.path("alias.lock");
    fs::hard_link(home.join("auth.lock"), &alias).expect("hard link");
    for (generation, args) in [
        (2, &["backup", "--no-status", "--json"][..]),
        (3, &["restore", "latest", "--json"][..]),
    ] {
        let held = HeldLock::exclusive(&alias);
        let child = spawn_blocked_on_login_lock(&lab, args);
        assert!(processes::alive(child.id()), "{args:?} did not wait");
        let renewed = SignIn::alice()
            .generation(generation)
            .issued_at(unix_now() + 60);
        write_auth(&home, &renewed);
        drop(held);
        let done = child.wait_with_output().expect("wait");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        assert_eq!(read_refresh_token(&home), renewed.refresh_token());
    }
    // The backup that waited has the second login.
    let _ = lab.manager(["restore", "latest", "--to", "there"]).code(0);
    assert_eq!(read_refresh_token(&lab.world.path("there")), SECOND);
}

#[test]
fn a_restore_is_refused_while_a_process_has_the_login_lock_of_the_home_open() {
    let Some(lab) = Lab::new() else { return };
    let _ = lab.say("one");
    let _ = lab.back_up();
    let before = lab.world.tree("home/.codex");
    let held = HeldLock::exclusive(&lab.home().join("auth.lock"));
    let busy = lab.manager(["restore", "latest"]).code(3);
    let pid = format!("(PID {}, holds auth.lock open)", std::process::id());
    assert!(busy.stderr.contains(&pid), "{busy}");
    drop(held);
    assert_same_tree(&before, &lab.world.tree("home/.codex"));
}

fn link_count(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("a file").nlink()
}

#[test]
fn a_restore_unlinks_a_hard_linked_login_so_that_codex_can_renew_it() {
    let Some(lab) = Lab::signed_in(&SignIn::alice().with_expired_token()) else {
        return;
    };
    let (home, store) = (lab.home(), lab.world.path("store.json"));
    let live = home.join("auth.json");
    let _ = lab.back_up();
    fs::hard_link(&live, &store).expect("hard link");

    // Kept or replaced, the live login has one hard link.
    let kept = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(kept["auth"], "restored");
    assert_eq!((link_count(&live), link_count(&store)), (1, 1));
    let _ = lab.say("renews the login");
    assert_eq!(read_refresh_token(&home), SECOND);

    fs::remove_file(&store).expect("remove");
    fs::hard_link(&live, &store).expect("hard link");
    let _ = lab
        .manager(["restore", "latest", "--auth", "archive"])
        .code(0);
    assert_eq!((link_count(&live), link_count(&store)), (1, 1));
    assert_eq!(read_refresh_token(&home), FIRST);
    let text = fs::read_to_string(&store).expect("the other name");
    assert!(text.contains(SECOND), "the other hard link was changed");
}

#[test]
fn a_restore_keeps_a_newer_symlinked_login_and_auth_archive_replaces_only_the_link() {
    let Some(lab) = Lab::new() else { return };
    let (home, store) = (lab.home(), lab.world.path("home/store.json"));
    let live = home.join("auth.json");
    let _ = lab.back_up();
    let newer = SignIn::alice().generation(2).issued_at(unix_now() + 60);
    fs::write(&store, auth_json(&newer)).expect("write");
    fs::remove_file(&live).expect("remove");
    symlink("../store.json", &live).expect("link");

    // The newer login behind the link is kept, and stays a link.
    let kept = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(kept["auth"], "kept-newer");
    assert!(live.is_symlink());
    assert_eq!(read_refresh_token(&home), SECOND);

    let _ = lab
        .manager(["restore", "latest", "--auth", "archive"])
        .code(0);
    assert!(!live.is_symlink());
    assert_eq!(
        (read_refresh_token(&home), link_count(&live)),
        (FIRST.to_owned(), 1)
    );
    assert_eq!(
        fs::read_to_string(&store).expect("the target"),
        auth_json(&newer)
    );
}

#[test]
fn i5_a_login_renewed_after_a_restore_was_killed_survives_its_recovery() {
    if !can_inject() {
        return;
    }
    let Some(lab) = Lab::signed_in(&SignIn::alice().with_expired_token()) else {
        return;
    };
    let home = lab.home();
    let _ = lab.back_up();
    let restore = ["restore", "latest", "--yes", "--no-safety-backup"];
    for number in 1..20 {
        // The journal is written; the exchange is not reached.
        if run_ends_before_call(&lab.world, &restore, "renameat2", number) {
            assert!(number > 1, "the restore ended before the exchange");
            break;
        }
        // Codex is used before the next command.
        write_auth_text(&home, &expired_auth(&home));
        let id = lab.say("renews the login");
        let renewed = read_refresh_token(&home);
        let _ = lab.manager(["recommend"]);
        assert_eq!(read_refresh_token(&home), renewed, "killed at {number}");
        lab.resume(&home, &id, "and is used again");
    }
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
}
