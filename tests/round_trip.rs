//! The main use: a home of the real Codex is archived, lost and restored, in place and elsewhere,
//! and its conversations can be resumed.

use crate::support::env::{Tree, assert_same_tree};
use crate::support::lab::{Lab, messages, open, rollout, rows};
use crate::support::pauses::vary;
use crate::support::sign_in::{SignIn, read_refresh_token, signed_in_home, write_auth};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Returns the part of a tree that an archive holds, with databases by name only: a snapshot has
/// the same rows, not the same bytes.
fn archived_part(tree: &Tree) -> Tree {
    let left_out = [
        "skills",
        "tmp",
        "shell_snapshots",
        "thread-writer-locks",
        "auth.lock",
        "auth.json.lock",
    ];
    let kept = tree.0.iter().filter(|(path, _)| {
        let name = path.to_string_lossy();
        !path.as_os_str().is_empty()
            && !left_out.iter().any(|top| path.starts_with(top))
            && !name.ends_with("-wal")
            && !name.ends_with("-shm")
    });
    let plain = kept.map(|(path, text)| {
        let is_database = path.extension().is_some_and(|e| e == "sqlite");
        let text = if is_database { "database" } else { text };
        (path.clone(), text.to_owned())
    });
    Tree(plain.collect())
}

#[test]
fn a_lost_home_is_restored_and_its_conversation_can_be_resumed() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    lab.world.write("home/.codex/AGENTS.md", "Be kind.\n");
    lab.world
        .write("home/.codex/skills/mine/yarn.lock", "mine\n");
    let id = lab.say("one");
    let _ = lab.manager(["backup"]).code(0);
    let before = lab.world.tree("home/.codex");
    let file = rollout(&home, &id);
    fs::remove_dir_all(&home).expect("lose the home");

    let done = lab.manager(["restore", "latest", "--json"]).code(0).json();
    assert_eq!(done["auth"], "restored");
    assert_eq!(done["safety_backup"], serde_json::Value::Null);
    let after = lab.world.tree("home/.codex");
    assert_same_tree(&archived_part(&before), &archived_part(&after));
    assert!(home.join("skills/mine/yarn.lock").exists());
    let mode = fs::metadata(&home).expect("the home").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);

    lab.resume(&home, &id, "two");
    assert_eq!(messages(&file), ["one", "two"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
    assert_eq!(lab.listed_ids(&home), [id]);
    assert_eq!(lab.backend.reused_tokens(), [""; 0]);
    assert_eq!(lab.backend.outside(), [""; 0]);
}

#[test]
fn a_restore_removes_a_later_turn_and_its_undo_restores_it() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    let other = lab.say("another conversation");
    assert_eq!(lab.user_messages(&home, &id), ["one", "later"]);

    let done = lab.manager(["restore", "latest", "--json"]).code(0).json();
    let gone: Vec<&str> = done["removed"]
        .as_array()
        .expect("removed")
        .iter()
        .map(|path| path.as_str().expect("a path"))
        .filter(|path| path.starts_with("sessions/"))
        .collect();
    assert!(gone.len() == 1 && gone[0].contains(&other), "{gone:?}");
    assert_eq!(lab.listed_ids(&home), [&*id]);
    assert_eq!(
        lab.user_messages(&home, &id),
        ["one"],
        "Codex shows only turns of the file"
    );
    lab.resume(&home, &id, "instead");
    assert_eq!(lab.user_messages(&home, &id), ["one", "instead"]);

    let safety = done["safety_backup"].as_str().expect("a safety backup");
    let _ = lab.manager(["restore", safety]).code(0);
    let mut both = [id.clone(), other.clone()];
    both.sort();
    assert_eq!(lab.listed_ids(&home), both);
    lab.resume(&home, &id, "and on");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "later", "and on"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "later", "and on"]);
    assert_eq!(lab.user_messages(&home, &other), ["another conversation"]);
}

/// Asserts that every row points to an existing file below `home`.
#[track_caller]
fn assert_rows_within(home: &Path) {
    for (id, path) in rows(home) {
        assert!(path.starts_with(home), "{id}: {}", path.display());
        assert!(path.is_file(), "{id}: {}", path.display());
    }
}

#[test]
fn codex_in_a_restored_second_home_never_writes_into_the_original() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let (id, archived) = (lab.say("one"), lab.say("to be archived"));
    let _ = lab
        .codex
        .run(&home, &lab.backend, &["archive", &archived])
        .expect_success();
    let _ = lab.back_up();
    let original = lab.world.tree("home/.codex");

    let clone = lab.world.path("elsewhere/clone");
    let run = lab.manager(["restore", "latest", "--to", "elsewhere/clone", "--json"]);
    let done = run.code(0).json();
    assert_eq!(done["auth"], "restored", "{done}");
    assert_eq!(rows(&clone).len(), 2);
    assert_rows_within(&clone);
    assert_eq!(read_refresh_token(&clone), read_refresh_token(&home));

    let tail = rollout(&home, &id)
        .strip_prefix(&home)
        .expect("a path below")
        .to_path_buf();
    lab.resume(&clone, &id, "two");
    assert_eq!(messages(&clone.join(&tail)), ["one", "two"]);
    assert_eq!(lab.user_messages(&clone, &id), ["one", "two"]);
    assert_same_tree(&original, &lab.world.tree("home/.codex"));

    // The original continues independently.
    lab.resume(&home, &id, "three");
    assert_eq!(messages(&home.join(&tail)), ["one", "three"]);
    assert_eq!(messages(&clone.join(&tail)), ["one", "two"]);
    assert_rows_within(&home);
}

#[test]
fn a_home_restored_without_a_login_works_after_a_sign_in_and_without_the_original() {
    let Some(lab) = Lab::new() else { return };
    let (home, clone) = (lab.home(), lab.world.path("clone"));
    let id = lab.say("one");
    let _ = lab.back_up();
    fs::remove_dir_all(&home).expect("lose the home");
    let args = [
        "restore", "latest", "--to", "clone", "--auth", "skip", "--json",
    ];
    let done = lab.manager(args).code(0).json();
    assert_eq!(done["auth"], "skipped");
    assert!(!clone.join("auth.json").exists());
    assert!(!home.exists());

    write_auth(&clone, &SignIn::alice());
    assert_eq!(lab.listed_ids(&clone), [&*id]);
    lab.resume(&clone, &id, "two");
    assert_eq!(messages(&rollout(&clone, &id)), ["one", "two"]);
    assert_rows_within(&clone);
    assert!(!home.exists(), "files were created at the original path");
}

#[test]
fn an_archive_is_restored_on_another_machine() {
    let Some(lab) = Lab::new() else { return };
    let id = lab.say("one");
    let carried = lab.world.path("usb-stick.tar.gz");
    fs::copy(lab.back_up(), &carried).expect("copy the archive");
    fs::remove_dir_all(lab.home()).expect("remove the home");
    fs::remove_dir_all(lab.world.manager_home()).expect("remove the manager home");

    let (home, manager) = (lab.world.path("box/codex"), lab.world.path("box/manager"));
    let args = ["--codex-home", "box/codex", "--manager-home", "box/manager"];
    let there = |rest: &[&str]| lab.manager([&args[..], rest].concat());
    let done = there(&["restore", "usb-stick.tar.gz", "--json"])
        .code(0)
        .json();
    assert_eq!(done["auth"], "restored");
    assert_rows_within(&home);
    assert_eq!(lab.listed_ids(&home), [&*id]);
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two"]);
    assert!(!lab.home().exists());
    assert!(!lab.world.manager_home().exists());

    // From there, it is archived and restored in its new place.
    let _ = there(&["backup", "--no-status"]).code(0);
    let _ = there(&["restore", "latest"]).code(0);
    lab.resume(&home, &id, "three");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two", "three"]);
    assert!(manager.join("backups").is_dir());
}

#[test]
fn one_conversation_or_all_are_merged_into_the_home_of_another_machine() {
    let Some(lab) = Lab::new() else { return };
    let (id, second) = (lab.say("one"), lab.say("second"));
    let carried = lab.world.path("usb-stick.tar.gz");
    fs::copy(lab.back_up(), &carried).expect("copy the archive");
    fs::remove_dir_all(lab.home()).expect("remove the home");
    let home = lab.world.path("box/codex");
    signed_in_home(&home, &lab.backend, &SignIn::alice());
    let own = lab.say_in(&home, "own");
    let mut server = lab.codex.app_server(&home, &lab.backend);
    let named = serde_json::json!({"threadId": own, "name": "my own"});
    server
        .request("thread/name/set", named)
        .expect("set the name");
    drop(server);
    let name_of_own = || -> Option<String> {
        open(&home.join("state_5.sqlite"))
            .query_row("SELECT name FROM threads WHERE id=?1", [&own], |row| {
                row.get(0)
            })
            .expect("a row")
    };
    let restore = |rest: &[&str]| {
        let args = ["--codex-home", "box/codex", "restore", "usb-stick.tar.gz"];
        let _ = lab.manager([&args[..], rest].concat()).code(0);
    };
    let sorted = |ids: &[&String]| {
        let mut ids: Vec<String> = ids.iter().map(|id| (*id).clone()).collect();
        ids.sort();
        ids
    };

    restore(&["--session", &id]);
    assert_eq!(lab.listed_ids(&home), sorted(&[&id, &own]));
    lab.resume(&home, &id, "two");
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
    assert_eq!(name_of_own().as_deref(), Some("my own"));

    restore(&["--merge"]);
    assert_eq!(lab.listed_ids(&home), sorted(&[&id, &second, &own]));
    assert_rows_within(&home);
    assert_eq!(name_of_own().as_deref(), Some("my own"));
    for (id, output) in [
        (&id, &["one", "two"][..]),
        (&second, &["second"]),
        (&own, &["own"]),
    ] {
        assert_eq!(
            lab.user_messages(&home, id),
            output,
            "the turns before a resume"
        );
        lab.resume(&home, id, "on");
        assert_eq!(lab.user_messages(&home, id), [output, &["on"]].concat());
    }
}

#[test]
fn a_restore_killed_at_any_moment_leaves_the_old_home_or_the_new_one() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    let keep = lab.back_up();
    let (file, old) = (rollout(&home, &id), ["one", "later"]);
    let archive = lab.manager(["list-backups", "--json"]).code(0).json();
    let names: Vec<String> = archive["backups"]
        .as_array()
        .expect("archives")
        .iter()
        .map(|a| a["archive"].as_str().expect("a name").to_owned())
        .collect();
    let first = names
        .iter()
        .find(|name| Some(name.as_str()) != keep.file_name().and_then(|n| n.to_str()))
        .expect("the first archive");
    let mut olds = 0;
    for milliseconds in (0..130).step_by(10) {
        let mut command = lab.world.command(["restore", first]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut restore = command.spawn().expect("start codex-manager");
        vary(Duration::from_millis(milliseconds));
        let _ = restore.kill();
        let _ = restore.wait();
        // Any command finishes or undoes it, even one that only reads.
        let _ = lab.manager(["list-backups"]).code(0);
        let left: Vec<_> = fs::read_dir(home.parent().expect("a parent folder"))
            .expect("list")
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| name != ".codex" && name != ".codex-manager")
            .collect();
        assert!(left.is_empty(), "after {milliseconds} ms: {left:?}");
        assert_rows_within(&home);
        let state = messages(&file);
        if state == old {
            olds += 1;
        } else {
            assert_eq!(state, ["one"], "after {milliseconds} ms");
            let _ = lab.manager(["restore".as_ref(), keep.as_os_str()]).code(0);
            assert_eq!(messages(&file), old);
        }
        assert_eq!(read_refresh_token(&home), "rt.acct-alice.f1.1");
    }
    assert!(olds > 0, "no restore was killed in time");
    assert_eq!(lab.user_messages(&home, &id), old);
    lab.resume(&home, &id, "and on");
    assert_eq!(lab.user_messages(&home, &id), ["one", "later", "and on"]);
}
