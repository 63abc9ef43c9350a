//! Codex's lists and projections after a sync with the real Codex: turns whose rollouts arrive in several runs, names on a
//! machine where Codex starts later, and conversations that another machine deleted.

use crate::rewinds::{newest, resumed};
use crate::support::lab::{rollout, rows};
use crate::support::restic;
use crate::support::two_machines::TwoMachines;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

/// Creates a fork of a conversation on machine `a` with one turn of its own; returns its id.
fn fork(two: &TwoMachines, id: &str) -> String {
    let (lab, a) = (&two.lab, two.lab.home());
    let fork = lab
        .codex
        .app_server_request(&a, &lab.backend, "thread/fork", json!({"threadId": id}))
        .expect("a fork");
    let fork = fork["thread"]["id"].as_str().expect("an id").to_owned();
    lab.resume(&a, &fork, "of the fork");
    fork
}

/// Checks the lists of machine `b`.
#[track_caller]
fn assert_consistent(two: &TwoMachines) {
    let home = two.b.to_string_lossy().into_owned();
    let check = ["--codex-home", &*home, "history", "check"];
    let _ = two.lab.manager(check).code(0);
}

/// Returns the path of the first rollout of a conversation in the cloud folder.
fn base_in_cloud(two: &TwoMachines, id: &str) -> PathBuf {
    let base = rollout(&two.lab.home(), id);
    let below = base.strip_prefix(two.lab.home()).expect("below the home");
    two.lab.world.path("cloud").join(below)
}

#[test]
fn a_rewind_that_arrives_before_the_last_lines_of_its_base_hides_no_turn() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    lab.say_in(b, "at home on b");
    let id = lab.say("one");
    let base = base_in_cloud(&two, &id);
    two.sync(&["a", "b"]);
    assert_eq!(resumed(lab, b, &id), ["one"]);
    let early = fs::read(&base).unwrap();
    lab.turns(&a, &id, &["two", "three"]);
    lab.edit(&a, &id, 2, "four");
    two.sync(&["a"]);
    let complete = fs::read(&base).unwrap();
    fs::write(&base, early).unwrap();
    let _ = two.run_sync("b", &["run", "--apply"]);
    assert!(newest(b, &id).exists());
    fs::write(&base, complete).unwrap();
    two.sync(&["b"]);
    assert_eq!(resumed(lab, b, &id), ["one", "two", "four"]);
    assert_consistent(&two);
}

#[test]
fn a_fork_shows_its_earlier_turns_if_its_base_arrives_in_a_later_run() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    lab.say_in(b, "at home on b");
    let id = lab.say("one");
    let base = base_in_cloud(&two, &id);
    lab.resume(&a, &id, "two");
    let fork = fork(&two, &id);
    two.sync(&["a"]);
    let late = lab.world.path("late");
    fs::rename(&base, &late).unwrap();
    let _ = two.run_sync("b", &["run", "--apply"]);
    rollout(b, &fork);
    fs::rename(&late, &base).unwrap();
    two.sync(&["b"]);
    assert_eq!(resumed(lab, b, &fork), ["one", "two", "of the fork"]);
    assert_consistent(&two);
}

#[test]
fn a_fork_shows_its_earlier_turns_after_its_base_was_replaced() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    lab.say_in(b, "at home on b");
    let id = lab.say("one");
    let fork = fork(&two, &id);
    two.configure("[conflict]\npolicy = \"manual\"\n");
    two.sync(&["a", "b"]);
    assert_eq!(resumed(lab, b, &fork), ["one", "of the fork"]);
    lab.resume(&a, &id, "on a");
    lab.resume(b, &id, "on b");
    two.sync(&["a"]);
    let _ = two.run_sync("b", &["run", "--apply"]).code(2);
    let _ = two
        .run_sync("b", &["resolve", &id, "--keep", "cloud"])
        .code(0);
    assert_eq!(lab.user_messages(b, &fork), ["one", "of the fork"]);
    assert_eq!(resumed(lab, b, &id), ["one", "on a"]);
    assert_consistent(&two);
}

#[test]
fn a_removed_conversation_that_comes_back_in_another_version_hides_no_turn() {
    for is_trashed in [false, true] {
        let Some(two) = TwoMachines::new() else {
            return;
        };
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        let id = lab.say("one");
        two.sync(&["a", "b"]);
        lab.resume(&a, &id, "of a");
        lab.resume(b, &id, "of b");
        two.sync(&["b"]);
        if is_trashed {
            lab.resume(&a, &id, "left");
            let trash = ["--manager-home", "manager-a", "storage", "trash", &id, "-y"];
            let _ = lab.manager(trash).code(0);
        } else {
            fs::remove_file(rollout(&a, &id)).unwrap();
        }
        two.sync(&["a"]);
        assert_eq!(resumed(lab, &a, &id), ["one", "of b"], "{is_trashed}");
        lab.resume(&a, &id, "more");
        assert_eq!(lab.user_messages(&a, &id), ["one", "of b", "more"]);
        let _ = lab.manager(["history", "check"]).code(0);
    }
}

#[test]
fn names_are_listed_on_a_machine_where_codex_starts_after_the_sync() {
    for is_vault in [false, true] {
        let Some(mut two) = TwoMachines::new() else {
            return;
        };
        if is_vault {
            if restic::program().is_none() {
                return;
            }
            let repository = two.lab.world.path("vault");
            restic::new_repository(&repository);
            two.use_vault(&repository.to_string_lossy());
        }
        let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
        let id = lab.say("one");
        let params = json!({"threadId": id, "name": "the plan"});
        lab.codex
            .app_server_request(&a, &lab.backend, "thread/name/set", params)
            .expect("set the name");
        two.sync(&["a", "b", "b"]);
        assert_eq!(lab.listed_ids(b), [&*id]);
        let listed_name = || {
            let params = json!({"threadId": id});
            let read = lab
                .codex
                .app_server_request(b, &lab.backend, "thread/read", params);
            read.expect("a thread")["thread"]["name"].clone()
        };
        assert_eq!(listed_name(), json!(null));
        two.sync(&["b"]);
        assert_eq!(listed_name(), json!("the plan"));
        let run = two.run_sync("b", &["run", "--apply"]).code(0);
        assert!(!run.stderr.contains("renamed"), "{}", run.stderr);
    }
}

#[test]
fn a_conversation_that_another_machine_deleted_leaves_codexs_list() {
    let Some(two) = TwoMachines::new() else {
        return;
    };
    two.configure("[sync]\ndelete_policy = \"propagate\"\n");
    let (lab, a, b) = (&two.lab, two.lab.home(), &two.b);
    let own = lab.say_in(b, "at home on b");
    let [kept, id] = ["kept", "deleted"].map(|prompt| lab.say(prompt));
    two.sync(&["a", "b", "a"]);
    lab.resume(b, &id, "on b");
    two.sync(&["b", "a"]);
    lab.codex
        .run(&a, &lab.backend, &["delete", "--force", &id])
        .expect_success();
    two.sync(&["a"]);
    let run = two.run_sync("b", &["run", "--apply"]).code(0);
    let expected = "removed from Codex's index: 1 conversation";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    let mut ids = [own, kept];
    ids.sort();
    assert_eq!(lab.listed_ids(b), ids);
    assert_eq!(rows(b).len(), 2);
    assert_consistent(&two);
    let projections = crate::support::lab::open(&b.join("thread_history_1.sqlite"));
    let sql = "SELECT count(*) FROM thread_turns WHERE thread_id=?1";
    let turns: i64 = projections.query_row(sql, [&id], |row| row.get(0)).unwrap();
    assert_eq!(turns, 0);
}
