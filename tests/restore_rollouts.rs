//! Rollouts in every form that the real Codex writes, restored under its databases.

use crate::support::lab::{Lab, messages, rollout, rollouts, rows, write_legacy};
use serde_json::json;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn zstd(file: &Path) -> PathBuf {
    let done = Command::new("zstd").args(["-q", "--rm"]).arg(file).status();
    assert!(done.expect("run zstd").success());
    file.with_extension("jsonl.zst")
}

fn relative(lab: &Lab, file: &Path) -> String {
    let below = file.strip_prefix(lab.home()).expect("below the home");
    below.to_string_lossy().into_owned()
}

#[test]
fn a_conversation_restored_alone_shows_only_turns_of_its_file() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let (id, other) = (lab.say("one"), lab.say("other"));
    let _ = lab.back_up();
    let file = relative(&lab, &rollout(&home, &id));
    for (turn, part) in [("--session", &*id), ("--only", &*file)] {
        lab.resume(&home, &id, "later");
        assert_eq!(lab.user_messages(&home, &id), ["one", "later"]);
        let config = lab.world.tree("home/.codex/config.toml");
        let _ = lab.manager(["restore", "latest", turn, part]).code(0);
        assert_eq!(messages(&rollout(&home, &id)), ["one"]);
        let shown = lab.user_messages(&home, &id);
        assert!(!shown.contains(&"later".to_owned()), "{turn}: {shown:?}");
        lab.resume(&home, &id, "instead");
        assert_eq!(lab.user_messages(&home, &id), ["one", "instead"], "{turn}");
        assert_eq!(messages(&rollout(&home, &id)), ["one", "instead"], "{turn}");
        assert_eq!(lab.user_messages(&home, &other), ["other"], "{turn}");
        assert_eq!(config, lab.world.tree("home/.codex/config.toml"));
        let _ = lab.manager(["restore", "latest", turn, part]).code(0);
    }
}

#[test]
fn a_conversation_archived_since_the_backup_is_restored_as_one_file() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    let _ = lab
        .codex
        .run(&home, &lab.backend, &["archive", &id])
        .expect_success();
    assert!(rollout(&home, &id).starts_with(home.join("archived_sessions")));

    let _ = lab.manager(["restore", "latest", "--session", &id]).code(0);
    let file = rollout(&home, &id);
    assert!(
        file.starts_with(home.join("sessions")),
        "{}",
        file.display()
    );
    assert_eq!(rows(&home), [(id.clone(), file.clone())]);
    lab.resume(&home, &id, "instead");
    assert_eq!(messages(&file), ["one", "instead"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "instead"]);
    assert_eq!(lab.listed_ids(&home), [&*id]);
}

#[test]
fn a_conversation_unarchived_since_the_backup_is_archived_again() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let codex = |word: &str| {
        let done = lab.codex.run(&home, &lab.backend, &[word, &id]);
        done.expect_success();
    };
    codex("archive");
    let _ = lab.back_up();
    codex("unarchive");
    lab.resume(&home, &id, "later");

    let _ = lab.manager(["restore", "latest"]).code(0);
    let file = rollout(&home, &id);
    assert!(
        file.starts_with(home.join("archived_sessions")),
        "{}",
        file.display()
    );
    assert_eq!(lab.listed_ids(&home), [""; 0]);
    codex("unarchive");
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);

    // The same for a restore of this conversation alone: its row in the live database says archived
    // again.
    let args = ["restore", "latest", "--session", &id];
    let _ = lab.manager(args).code(0);
    assert_eq!(rows(&home), [(id.clone(), file)]);
    assert_eq!(lab.listed_ids(&home), [""; 0]);
    codex("unarchive");
    lab.resume(&home, &id, "three");
    assert_eq!(lab.user_messages(&home, &id), ["one", "three"]);
}

#[test]
fn a_compressed_conversation_is_restored_and_can_be_resumed() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let plain = rollout(&home, &id);
    let packed = zstd(&plain);
    let _ = lab.back_up();
    // Codex unpacks it and appends to it. A restore of the archive leaves one file again.
    lab.resume(&home, &id, "later");
    assert_eq!(rollouts(&home), [plain.as_path()]);
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(rollouts(&home), [packed.as_path()]);
    let shown = lab.user_messages(&home, &id);
    assert!(!shown.contains(&"later".to_owned()), "{shown:?}");
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&plain), ["one", "two"]);

    // A restore of only this conversation replaces the plain file.
    let _ = lab.manager(["restore", "latest", "--session", &id]).code(0);
    assert_eq!(rollouts(&home), [packed.as_path()]);
    lab.resume(&home, &id, "three");
    assert_eq!(messages(&plain), ["one", "three"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "three"]);

    // Restored with `--to`, where the rows name the plain file.
    let clone = lab.world.path("clone");
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    assert_eq!(lab.listed_ids(&clone), [&*id]);
    lab.resume(&clone, &id, "four");
    assert_eq!(messages(&rollout(&clone, &id)), ["one", "four"]);
    assert_eq!(messages(&plain), ["one", "three"]);
}

#[test]
fn a_conversation_in_a_plain_and_a_compressed_file_is_backed_up_once_and_completely() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let plain = rollout(&home, &id);
    let first = fs::read(&plain).expect("the rollout");
    lab.resume(&home, &id, "two");
    let aside = lab.world.write("aside.jsonl", first);
    fs::copy(zstd(&aside), plain.with_extension("jsonl.zst")).expect("copy");
    let _ = lab.back_up();
    let _ = lab.manager(["restore", "latest", "--to", "clone"]).code(0);
    let clone = lab.world.path("clone");
    assert_eq!(messages(&rollout(&clone, &id)), ["one", "two"]);
    lab.resume(&clone, &id, "three");
    assert_eq!(lab.user_messages(&clone, &id), ["one", "two", "three"]);
}

#[test]
fn a_truncated_line_is_kept_and_the_conversation_can_be_resumed() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let file = rollout(&home, &id);
    let mut open = fs::OpenOptions::new()
        .append(true)
        .open(&file)
        .expect("open");
    open.write_all(br#"{"timestamp":"2026-11-20T06:00:00.000Z","ord"#)
        .expect("cut off");
    drop(open);
    let broken = fs::read(&file).expect("the rollout");
    let _ = lab.back_up();
    fs::remove_dir_all(&home).expect("lose the home");
    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(fs::read(&file).expect("the rollout"), broken);
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&file), ["one", "two"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
}

#[test]
fn a_conversation_backed_up_during_a_turn_can_be_resumed_after_a_restore() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let alice = lab.backend.account("acct-alice");
    alice.hold_turns();
    let args = ["exec", "resume", "--skip-git-repo-check", &id, "under way"];
    let turn = lab.codex.start(&home, &lab.backend, &args);
    assert!(alice.wait_for_held_turn(Duration::from_secs(30)));
    let _ = lab.back_up();
    alice.release_turns();
    let _ = turn.finish(Duration::from_secs(30)).expect_success();
    lab.resume(&home, &id, "later");

    let _ = lab.manager(["restore", "latest"]).code(0);
    assert_eq!(messages(&rollout(&home, &id)), ["one", "under way"]);
    lab.resume(&home, &id, "two");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "under way", "two"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "under way", "two"]);
}

#[test]
fn an_earlier_version_restored_in_place_of_a_removed_rollout_hides_no_new_turn() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.resume(&home, &id, "two");
    lab.resume(&home, &id, "three");
    fs::remove_file(rollout(&home, &id)).expect("remove");
    let restore = ["restore", "latest", "--session", &id, "--yes"];
    let _ = lab.manager(restore).code(0);
    lab.resume(&home, &id, "four");
    assert_eq!(messages(&rollout(&home, &id)), ["one", "four"]);
    assert_eq!(lab.user_messages(&home, &id), ["one", "four"]);
}

#[test]
fn codex_completes_a_projection_shorter_than_its_rollout() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.resume(&home, &id, "two");
    // The databases of the archive with the longer conversation of the home.
    let _ = lab.manager(["restore", "latest", "--merge"]).code(0);
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two"]);
    assert_eq!(
        lab.user_messages(&home, &id),
        ["one", "two"],
        "the shown turns before a resume"
    );
    lab.resume(&home, &id, "three");
    assert_eq!(lab.user_messages(&home, &id), ["one", "two", "three"]);
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two", "three"]);

    // This happens when the live projection is removed, as it is with `--to`. Here the projection
    // is older than the conversation in the same archive.
    let older = lab.world.path("older.sqlite");
    // Not by bytes, because the newest rows may be in the WAL.
    let database = rusqlite::Connection::open(home.join("thread_history_1.sqlite")).expect("open");
    let copied = database.execute("VACUUM INTO ?1", [older.to_str()]);
    let _ = copied.expect("copy");
    drop(database);
    lab.resume(&home, &id, "four");
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(home.join(format!("thread_history_1.sqlite{suffix}")));
    }
    fs::copy(&older, home.join("thread_history_1.sqlite")).expect("copy");
    let _ = lab.back_up();
    fs::remove_dir_all(&home).expect("lose the home");
    let _ = lab.manager(["restore", "latest"]).code(0);
    lab.resume(&home, &id, "five");
    assert_eq!(
        lab.user_messages(&home, &id),
        ["one", "two", "three", "four", "five"]
    );
}

#[test]
fn a_name_given_by_codex_survives_and_finds_the_conversation() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    // By name, Codex searches only conversations of the working folder.
    let project = lab.world.path("project");
    fs::create_dir(&project).expect("a project");
    let there = |args: &[&str]| {
        let args = [&["exec"], args].concat();
        let run = lab.codex.start_with(&home, &lab.backend, &args, |command| {
            command.current_dir(&project);
        });
        let done = run.finish(Duration::from_secs(30)).expect_success();
        done.session_id().expect("a session id").to_owned()
    };
    let id = there(&["--skip-git-repo-check", "one"]);
    let mut server = lab.codex.app_server(&home, &lab.backend);
    let named = serde_json::json!({"threadId": id, "name": "the plan"});
    server
        .request("thread/name/set", named)
        .expect("set the name");
    drop(server);
    let _ = lab.back_up();
    lab.resume(&home, &id, "later");
    let _ = lab
        .manager(["restore", "latest", "--session", "the plan"])
        .code(0);
    assert_eq!(messages(&rollout(&home, &id)), ["one"]);
    fs::remove_dir_all(&home).expect("lose the home");
    let _ = lab.manager(["restore", "latest"]).code(0);
    let again = there(&["resume", "--skip-git-repo-check", "the plan", "two"]);
    assert_eq!(again, id);
    assert_eq!(messages(&rollout(&home, &id)), ["one", "two"]);
}

#[test]
fn a_merge_keeps_the_goals_of_conversations_that_stay() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let set_goal = |id: &str, objective: &str| {
        let goal = serde_json::json!({"threadId": id, "objective": objective, "status": "paused"});
        let set = lab
            .codex
            .app_server_request(&home, &lab.backend, "thread/goal/set", goal);
        set.expect("set the goal");
    };
    let read_goal = |id: &str| {
        let params = serde_json::json!({"threadId": id});
        let answer = lab
            .codex
            .app_server_request(&home, &lab.backend, "thread/goal/get", params);
        answer.expect("an answer")["goal"]["objective"].clone()
    };
    let (same, changed, lost) = (lab.say("one"), lab.say("two"), lab.say("three"));
    set_goal(&changed, "the archived goal");
    set_goal(&lost, "the goal of the lost one");
    let _ = lab.back_up();
    lab.resume(&home, &changed, "later");
    set_goal(&changed, "the live goal");
    set_goal(&same, "a goal since the backup");
    let new = lab.say("four");
    set_goal(&new, "a new goal");
    let deleted = lab
        .codex
        .run(&home, &lab.backend, &["delete", "--force", &lost]);
    let _ = deleted.expect_success();

    let _ = lab
        .manager(["restore", "latest", "--merge", "--yes"])
        .code(0);
    assert_eq!(read_goal(&same), "a goal since the backup");
    assert_eq!(read_goal(&changed), "the live goal");
    assert_eq!(read_goal(&new), "a new goal");
    assert_eq!(read_goal(&lost), "the goal of the lost one");
}

/// Makes a fork of a conversation with a turn of its own; returns its id.
fn fork(lab: &Lab, id: &str, prompt: &str) -> String {
    let params = json!({"threadId": id});
    let forked = lab
        .codex
        .app_server_request(&lab.home(), &lab.backend, "thread/fork", params)
        .expect("a fork");
    let fork = forked["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(&lab.home(), &fork, prompt);
    fork
}

#[test]
fn a_partial_restore_that_would_remove_lines_that_a_fork_continues_is_refused() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let file = relative(&lab, &rollout(&home, &id));
    let archive = lab.back_up();
    let archive = archive.to_str().expect("a path");
    let refuse = |selection: &[&str], continuing: &str| {
        for more in [&["--dry-run"][..], &["--yes"]] {
            let args = [&["restore", archive], selection, more].concat();
            let refused = lab.manager(args).code(5);
            assert!(refused.stderr.contains(continuing), "{}", refused.stderr);
        }
    };

    // A fork of the archived state does not hinder.
    let early = fork(&lab, &id, "of the early fork");
    lab.resume(&home, &id, "two");
    let session = ["restore", archive, "--session", &id, "--yes"];
    let _ = lab.manager(session).code(0);
    lab.resume(&home, &id, "three");
    assert_eq!(
        lab.user_messages(&home, &early),
        ["one", "of the early fork"]
    );
    let late = fork(&lab, &id, "of the late fork");
    for selection in [
        ["--session", &*id],
        ["--only", "sessions"],
        ["--only", &*file],
    ] {
        refuse(&selection, &late);
    }
    assert_eq!(messages(&rollout(&home, &id)), ["one", "three"]);

    // It needs the lines also when it comes back from the trash.
    let _ = lab.manager(["storage", "trash", &late, "--yes"]).code(0);
    refuse(&["--session", &id], &late);
    let _ = lab.manager(["storage", "undelete", &late]).code(0);
    lab.resume(&home, &late, "again");
    assert_eq!(
        lab.user_messages(&home, &late),
        ["one", "three", "of the late fork", "again"]
    );

    // A restore of the whole archive removes the forks.
    let _ = lab.manager(["restore", archive, "--yes"]).code(0);
    assert_eq!(lab.listed_ids(&home), [&*id]);
}

#[test]
fn restore_only_refuses_to_remove_lines_that_a_rewind_continues_and_session_removes_the_rewind() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    let _ = lab.back_up();
    lab.turns(&home, &id, &["two", "three"]);
    lab.edit(&home, &id, 2, "edited");
    let only = ["restore", "latest", "--only", "sessions", "--yes"];
    let refused = lab.manager(only).code(5);
    assert!(refused.stderr.contains(&id), "{}", refused.stderr);
    lab.resume(&home, &id, "last");
    assert_eq!(
        lab.user_messages(&home, &id),
        ["one", "two", "edited", "last"]
    );
    // A restore of the conversation removes its rewind.
    let _ = lab
        .manager(["restore", "latest", "--session", &id, "--yes"])
        .code(0);
    assert_eq!(messages(&rollout(&home, &id)), ["one"]);
}

#[test]
fn no_undo_and_no_restored_database_shows_turns_that_a_restore_removed() {
    for is_undo in [true, false] {
        let Some(lab) = Lab::new() else { return };
        let home = lab.home();
        let (id, other) = (lab.say("one"), lab.say("other"));
        let older = fs::read(rollout(&home, &other)).expect("the rollout");
        let old_archive = lab.back_up();
        lab.resume(&home, &id, "two");
        let new_archive = lab.back_up();
        lab.resume(&home, &other, "lost");
        fs::write(rollout(&home, &other), older).expect("write");
        // Its snapshot has the projection with the second turn.
        let _ = lab.manager(["history", "repair", "--yes"]).code(0);

        let [old, new] = [&old_archive, &new_archive].map(|path| path.to_str().expect("a path"));
        let _ = lab
            .manager(["restore", old, "--session", &id, "--yes"])
            .code(0);
        let args: &[&str] = if is_undo {
            &["history", "undo", "--yes"]
        } else {
            &["restore", new, "--only", "thread_history_1.sqlite", "--yes"]
        };
        let _ = lab.manager(args).code(0);
        lab.resume(&home, &id, "three");
        assert_eq!(lab.user_messages(&home, &id), ["one", "three"], "{args:?}");
        // The undone repair has dropped the projection from which Codex shows the lost turn.
        let shown = lab.user_messages(&home, &other);
        assert_eq!(shown.contains(&"lost".to_owned()), is_undo, "{shown:?}");
    }
}

#[test]
fn a_merge_keeps_the_migrated_version_of_a_conversation() {
    const ID: &str = "01a00000-0000-7000-8000-000000000001";
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let path = write_legacy(&home, ID, "old", "");
    let other = lab.say("other");
    let _ = lab.back_up();
    let legacy = fs::read(&path).expect("the rollout");
    let migrate = ["migrate-rollouts", "--apply"];
    let done = lab.codex.run(&home, &lab.backend, &migrate);
    let _ = done.expect_success();
    let migrated = fs::read(&path).expect("the rollout");
    assert_ne!(migrated, legacy);
    let _ = lab
        .manager(["restore", "latest", "--merge", "--yes"])
        .code(0);
    assert_eq!(fs::read(&path).expect("the rollout"), migrated);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, ID, "new");
    assert_eq!(lab.user_messages(&home, ID), ["old", "new"]);
    assert_eq!(lab.user_messages(&home, &other), ["other"]);
}

#[test]
fn the_undo_of_a_partial_restore_shows_the_newest_rollout_of_a_rewind() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let (id, other) = (lab.say("one"), lab.say("other"));
    lab.resume(&home, &id, "two");
    let _ = lab.back_up();
    lab.edit(&home, &id, 1, "edited");
    let archived = serde_json::json!({"threadId": other});
    let answer = lab
        .codex
        .app_server_request(&home, &lab.backend, "thread/archive", archived);
    answer.expect("archived");
    let only = ["restore", "latest", "--only", "sessions", "--yes", "--json"];
    let report = lab.manager(only).code(0).json();
    let safety_backup = report["safety_backup"].as_str().expect("a path");
    let _ = lab.manager(["restore", safety_backup, "--yes"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "edited"]);
}
