//! `history undo` after Codex has changed conversations. A change has no other trace than the row and the rollout.

use crate::history_check::{Home, id};
use crate::support::lab::{Lab, open, write_legacy};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;

/// Returns the conversations that an undo has kept, sorted.
#[track_caller]
fn kept(undone: &Value) -> Vec<&str> {
    let ids = undone["still_listed"].as_array().expect("a list");
    let mut ids: Vec<_> = ids.iter().map(|id| id.as_str().expect("an id")).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn an_undo_keeps_rows_that_differ_from_those_of_the_repair() {
    let home = Home::new();
    home.sql(&format!(
        "DELETE FROM threads WHERE id='{}'; UPDATE threads SET rollout_path='x'",
        id(2)
    ));
    let _ = home.run(&["repair"]).code(0);
    let from = PathBuf::from(home.row(1, "rollout_path"));
    let archived = home.path("archived_sessions");
    fs::create_dir_all(&archived).unwrap();
    let to = archived.join(from.file_name().unwrap());
    fs::rename(&from, &to).unwrap();
    home.sql(&format!(
        "UPDATE threads SET rollout_path='{}', archived=1 WHERE id='{}';
         UPDATE threads SET name='later' WHERE id='{}'",
        to.display(),
        id(1),
        id(2)
    ));

    let undone = home.run(&["undo", "--json"]).code(0).json();
    assert_eq!(kept(&undone), [id(1), id(2)]);
    assert_eq!(home.row(1, "rollout_path"), to.to_str().unwrap());
    assert_eq!(home.row(1, "archived"), "1");
    assert_eq!(home.row(2, "name"), "later");
    assert_eq!(home.row(3, "rollout_path"), "x");
}

/// Codex 0.171 archives, migrates and renames.
#[test]
fn codex_opens_conversations_that_it_archived_or_migrated_between_repair_and_undo() {
    const LEGACY: &str = "01a10000-0000-7000-8000-000000000000";
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    // Before the first turn, in which Codex creates its list.
    let _ = write_legacy(&home, LEGACY, "old", "");
    let [lost, moved, whole, renamed] =
        ["lost", "moved", "whole", "renamed"].map(|prompt| lab.say(prompt));
    let database = rusqlite::Connection::open(home.join("state_5.sqlite")).unwrap();
    let damage = format!(
        "DELETE FROM threads WHERE id='{lost}';
         UPDATE threads SET rollout_path='/elsewhere/r.jsonl' WHERE id='{moved}'"
    );
    database.execute_batch(&damage).unwrap();
    database.close().unwrap();
    let _ = lab.manager(["history", "repair"]).code(0);

    let codex = |args: &[&str]| {
        let _ = lab.codex.run(&home, &lab.backend, args).expect_success();
    };
    for id in [&lost, &moved, &whole] {
        codex(&["archive", id]);
    }
    codex(&["migrate-rollouts", "--apply", "--thread", LEGACY]);
    let params = json!({"threadId": renamed, "name": "a name"});
    lab.codex
        .app_server_request(&home, &lab.backend, "thread/name/set", params)
        .expect("set the name");

    let undone = lab.manager(["history", "undo", "--json"]).code(0).json();
    let mut expected = [LEGACY, &lost, &moved, &whole, &renamed];
    expected.sort_unstable();
    assert_eq!(kept(&undone), expected);
    let _ = lab.manager(["history", "check"]).code(0);
    let name: String = open(&home.join("state_5.sqlite"))
        .query_row("SELECT name FROM threads WHERE id=?1", [&renamed], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(name, "a name");

    for id in [&lost, &moved, &whole] {
        codex(&["unarchive", id]);
    }
    let prompts = [
        (LEGACY, "old"),
        (&*lost, "lost"),
        (&*moved, "moved"),
        (&*whole, "whole"),
    ];
    for (id, prompt) in prompts {
        let _ = lab.resume(&home, id, "and on");
        assert_eq!(lab.user_messages(&home, id), [prompt, "and on"]);
    }
}
