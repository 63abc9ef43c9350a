//! `history check`, `repair`, `undo`, `rebuild`.

use crate::machine::{Machine, id, prompt, rollout};
use rusqlite::Connection;
use std::fs;

#[test]
fn wrong_paths_are_repaired_and_the_repair_is_undone() {
    let machine = Machine::with_conversations();
    machine.succeed(&["history", "check"]);
    let before = machine.rows();
    let database = Connection::open(machine.home("state_5.sqlite")).unwrap();
    let wrong = machine.home("sessions/elsewhere.jsonl");
    let update = "UPDATE threads SET rollout_path = ?1 WHERE id = ?2";
    database
        .execute(update, (wrong.to_str().unwrap(), id(1)))
        .unwrap();
    database
        .execute("DELETE FROM threads WHERE id = ?1", [id(2)])
        .unwrap();
    database.close().unwrap();
    let damaged = machine.rows();
    assert_ne!(machine.run(&["history", "check"]).code, 0);
    machine.succeed(&["history", "repair"]);
    // The exact spelling: Codex opens what the row contains.
    assert_eq!(machine.rows(), before);
    machine.succeed(&["history", "check"]);
    machine.succeed(&["history", "undo"]);
    assert_eq!(machine.rows(), damaged);
}

#[test]
fn a_lost_prompt_history_is_rebuilt_from_the_conversations() {
    let machine = Machine::with_conversations();
    fs::remove_file(machine.home("history.jsonl")).unwrap();
    machine.succeed(&["history", "rebuild"]);
    let prompts = machine.read("history.jsonl");
    for n in 1..=3 {
        assert!(prompts.contains(&prompt(n)), "{prompts}");
    }
    assert!(machine.home(&rollout(1)).exists());
}
