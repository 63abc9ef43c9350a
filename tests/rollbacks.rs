//! Turns that the user took back with a Codex that leaves them in the rollout (`thread_rolled_back`).

use crate::old_codex::start_conversation;
use crate::support::conversations::{Conversation, assistant, id, user, write};
use crate::support::env::TestEnv;
use crate::support::lab::{Lab, rollout};
use crate::support::real_codex::RealCodex;
use serde_json::{Value, json};
use std::fs;

fn rollback(turns: u32) -> Value {
    json!({"timestamp": "2026-11-20T06:00:04.000Z", "type": "event_msg",
           "payload": {"type": "thread_rolled_back", "num_turns": turns}})
}

/// Returns a conversation of the turns apples, plums, pears, of which the user took the last two back and asked for
/// cherries.
fn sample() -> Conversation {
    let mut made = Conversation::new(1, 60, "apples", "Seven apples.");
    made.lines.extend([
        user("plums"),
        assistant("Nine plums."),
        user("pears"),
        assistant("No pears."),
        rollback(1),
        rollback(1),
        user("cherries"),
        assistant("Ten cherries."),
    ]);
    made
}

fn turns_found(env: &TestEnv, words: &[&str]) -> Vec<u64> {
    let run = env.run([&["find", "--json"], words].concat());
    let hits = run.json()["hits"].as_array().unwrap().clone();
    hits.iter()
        .map(|hit| hit["turn"].as_u64().unwrap())
        .collect()
}

#[test]
fn rolled_back_turns_are_neither_shown_nor_found() {
    let env = TestEnv::new();
    let made = sample();
    let mut begun = made.clone();
    // The index reads on after the rollbacks, or from the beginning.
    for lines in [4, 6, 7, made.lines.len()] {
        begun.lines = made.lines[..lines].to_vec();
        write(&env, &begun);
        let _ = env.run(["find", "apples"]).code(0);
    }
    for fresh in [false, true] {
        if fresh {
            let _ = env.run(["sessions", "index", "--rebuild"]).code(0);
        }
        for exact in [&[][..], &["--exact"]] {
            let found = |word| turns_found(&env, &[&[word], exact].concat());
            assert_eq!(found("apples").first(), Some(&1));
            assert_eq!(found("cherries").first(), Some(&2));
            assert!(found("plums").is_empty() && found("pears").is_empty());
        }
    }
    let shown = env.run(["show", &id(1)]).code(0).stdout;
    assert!(shown.contains("Seven apples."), "{shown}");
    assert!(
        shown.contains("## Turn 2") && shown.contains("Ten cherries."),
        "{shown}"
    );
    assert!(
        !shown.contains("plums") && !shown.contains("pears"),
        "{shown}"
    );
}

#[test]
fn a_migration_that_drops_rolled_back_turns_is_no_loss() {
    let Some(lab) = Lab::of_version("0.98.0") else {
        return;
    };
    let Some(codex) = RealCodex::get() else {
        return;
    };
    let home = lab.home();
    let id = start_conversation(&lab, "one");
    lab.resume(&home, &id, "taken-back");
    let path = rollout(&home, &id);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{}\n", rollback(1))).unwrap();
    lab.resume(&home, &id, "three");
    let before = shown_texts(&lab, &id);
    lab.back_up();
    let migrated = codex.run(&home, &lab.backend, &["migrate-rollouts", "--apply"]);
    let _ = migrated.expect_success();
    let text = fs::read_to_string(rollout(&home, &id)).unwrap();
    assert!(!text.contains("taken-back"), "Codex drops them: {text}");
    let _ = lab.manager(["history", "losses"]).code(0);
    let backup = lab.manager(["backup", "--no-status", "--json"]).code(0);
    assert_eq!(backup.json()["losses"], json!([]));
    assert_eq!(shown_texts(&lab, &id), before);
}

/// Returns the messages of a conversation as `show` has them.
fn shown_texts(lab: &Lab, id: &str) -> Vec<String> {
    let shown = lab.manager(["show", id, "--json"]).code(0).json();
    let turns = shown["turns"].as_array().unwrap().iter();
    let texts = turns.map(|turn| turn["text"].as_str().unwrap_or_default().to_owned());
    texts.collect()
}
