//! Conversations that the real Codex cannot open, or shows without some of their turns. Codex itself is the judge.

use crate::rewinds::rewound;
use crate::support::lab::{Lab, rollout, rollouts};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Returns the only conversation that `history check` reports as unreadable.
#[track_caller]
fn unreadable(lab: &Lab) -> Value {
    let checked = lab.manager(["history", "check", "--json"]).code(5).json();
    let all = checked["unreadable"].as_array().expect("a list").clone();
    assert_eq!(all.len(), 1, "{checked}");
    all[0].clone()
}

#[track_caller]
fn assert_turns(one: &Value, on_disk: usize, shown: usize) {
    let turns = (&one["turns_on_disk"], &one["turns_shown"]);
    assert_eq!(turns, (&json!(on_disk), &json!(shown)), "{one}");
}

/// Runs the command that a report suggests.
#[track_caller]
fn run_fix(lab: &Lab, one: &Value) {
    let fix = one["fix"].as_str().expect("a command");
    let words = fix.strip_prefix("codex-manager ").expect("a command");
    let _ = lab.manager(words.split(' ').chain(["--yes"])).code(0);
}

fn sql(home: &Path, database: &str, statement: &str) {
    let database = rusqlite::Connection::open(home.join(database)).expect("open");
    database.execute_batch(statement).expect("a change");
    database.close().expect("close");
}

fn drop_projections(home: &Path) {
    for entry in fs::read_dir(home).expect("a folder").flatten() {
        let name = entry.file_name();
        if name
            .to_string_lossy()
            .starts_with("thread_history_1.sqlite")
        {
            fs::remove_file(entry.path()).expect("remove");
        }
    }
}

#[test]
fn codex_shows_all_turns_of_a_rewound_conversation_after_a_repair() {
    for resumed in [false, true] {
        let Some(lab) = Lab::new() else { return };
        let id = rewound(&lab);
        let home = lab.home();
        drop_projections(&home);
        if resumed {
            lab.resume(&home, &id, "seven");
            assert_eq!(lab.user_messages(&home, &id), ["six", "seven"]);
        }
        let own = if resumed { 2 } else { 1 };
        let one = unreadable(&lab);
        assert_eq!((&one["id"], &one["title"]), (&json!(id), &json!("one")));
        assert_turns(&one, 2 + own, own);
        let before: Vec<_> = rollouts(&home)
            .iter()
            .map(|p| fs::read(p).unwrap())
            .collect();
        run_fix(&lab, &one);
        let after: Vec<_> = rollouts(&home)
            .iter()
            .map(|p| fs::read(p).unwrap())
            .collect();
        assert!(before == after, "rollouts are never written");
        let _ = lab.manager(["history", "check"]).code(0);
        let mut expected = vec!["one", "two", "six"];
        if resumed {
            expected.push("seven");
            assert_eq!(lab.user_messages(&home, &id), expected);
        }
        lab.resume(&home, &id, "eight");
        expected.push("eight");
        assert_eq!(lab.user_messages(&home, &id), expected);
        if resumed {
            let _ = lab.manager(["history", "undo", "--yes"]).code(0);
            let _ = lab.manager(["history", "check"]).code(5);
        }
    }
}

#[test]
fn one_repair_restores_the_list_and_the_turns_of_rewound_conversations() {
    let Some(lab) = Lab::new() else { return };
    let id = rewound(&lab);
    let home = lab.home();
    for entry in fs::read_dir(&home).expect("a folder").flatten() {
        if entry.file_name().to_string_lossy().contains(".sqlite") {
            fs::remove_file(entry.path()).expect("remove");
        }
    }
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    let _ = lab.manager(["history", "undo", "--yes"]).code(0);
    for name in ["state_5.sqlite", "thread_history_1.sqlite"] {
        assert!(!home.join(name).exists(), "{name}");
    }
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, &id, "seven");
    let expected = ["one", "two", "six", "seven"];
    assert_eq!(lab.user_messages(&home, &id), expected);
}

#[test]
fn the_suggested_fix_makes_a_conversation_readable_if_its_row_wrongly_says_legacy() {
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    lab.resume(&home, &id, "two");
    sql(
        &home,
        "state_5.sqlite",
        "UPDATE threads SET history_mode='legacy'",
    );
    let params = json!({"threadId": id, "includeTurns": true});
    let read = lab
        .codex
        .app_server_request(&home, &lab.backend, "thread/read", params);
    assert!(read.is_err(), "{read:?}");
    let one = unreadable(&lab);
    assert_turns(&one, 2, 0);
    run_fix(&lab, &one);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
}

#[test]
fn a_truncated_rollout_is_readable_after_a_repair() {
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    let path = rollout(&home, &id);
    let older = fs::read(&path).unwrap();
    lab.resume(&home, &id, "two");
    fs::write(&path, older).unwrap();
    let one = unreadable(&lab);
    // Codex still shows the turn that the rollout lost. No archive has it.
    assert_turns(&one, 1, 2);
    run_fix(&lab, &one);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, &id, "three");
    assert_eq!(lab.user_messages(&home, &id), ["one", "three"]);
}

#[test]
fn a_longer_version_with_other_lines_is_readable_after_a_repair() {
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    let path = rollout(&home, &id);
    let older = fs::read(&path).unwrap();
    let long = "two ".repeat(5000);
    lab.resume(&home, &id, long.trim());
    let longer = fs::read(&path).unwrap();
    fs::write(&path, older).unwrap();
    let _ = lab.manager(["history", "repair", "--yes"]).code(0);
    lab.resume(&home, &id, "three");
    assert!(fs::read(&path).unwrap().len() < longer.len());
    // Another program brings the other version back.
    fs::write(&path, longer).unwrap();
    let one = unreadable(&lab);
    assert_turns(&one, 2, 2);
    run_fix(&lab, &one);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, &id, "four");
    let shown = lab.user_messages(&home, &id);
    assert_eq!(shown, ["one", long.trim(), "four"]);
}

#[test]
fn a_shortened_rollout_is_repairable_once_its_loss_is_accepted() {
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    let path = rollout(&home, &id);
    let older = fs::read(&path).unwrap();
    lab.turns(&home, &id, &["two", "three"]);
    lab.back_up();
    fs::write(&path, older).unwrap();
    lab.resume(&home, &id, "four");
    let fix = unreadable(&lab)["fix"].clone();
    let fix = fix.as_str().expect("a command");
    assert!(fix.starts_with("codex-manager restore "), "{fix}");
    let accept = ["history", "losses", "--accept", &id];
    let _ = lab.manager(accept).code(0);
    let one = unreadable(&lab);
    assert_eq!(one["fix"], "codex-manager history repair");
    run_fix(&lab, &one);
    let _ = lab.manager(["history", "check"]).code(0);
    lab.resume(&home, &id, "five");
    assert_eq!(lab.user_messages(&home, &id), ["one", "four", "five"]);
}

#[test]
fn an_archive_that_lacks_turns_before_the_rewind_is_not_suggested() {
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    lab.back_up();
    lab.turns(&home, &id, &["two", "three"]);
    let first = rollout(&home, &id);
    lab.edit(&home, &id, 2, "four");
    fs::remove_file(first).unwrap();
    assert_eq!(unreadable(&lab)["fix"], Value::Null);
}

#[test]
fn turns_lost_from_a_rollout_are_restored_from_a_compressed_copy_in_an_archive() {
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    let path = rollout(&home, &id);
    let older = fs::read(&path).unwrap();
    lab.resume(&home, &id, "two");
    let _ = lab.manager(["storage", "shrink", "--session", &id]).code(0);
    lab.back_up();
    let _ = lab.manager(["storage", "expand", "--session", &id]).code(0);
    assert!(fs::read(&path).unwrap().starts_with(&older));
    fs::write(&path, older).unwrap();
    let one = unreadable(&lab);
    run_fix(&lab, &one);
    let _ = lab.manager(["history", "check"]).code(0);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
}

#[test]
fn a_missing_rollout_is_restored_from_the_archive_that_is_named() {
    let Some(lab) = Lab::new() else { return };
    let (id, home) = (rewound(&lab), lab.home());
    let first = rollouts(&home).remove(0);
    let reason = |one: &Value| one["reason"].as_str().expect("text").to_owned();
    let kept = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    let without = unreadable(&lab);
    assert_eq!(without["fix"], Value::Null, "no archive has it");
    fs::write(&first, &kept).unwrap();
    lab.back_up();
    for is_shortened in [false, true] {
        fs::remove_file(&first).unwrap();
        if is_shortened {
            let end = kept.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            fs::write(&first, &kept[..end]).unwrap();
        }
        let one = unreadable(&lab);
        assert!(reason(&one).contains(&id), "{one}");
        run_fix(&lab, &one);
        let _ = lab.manager(["history", "repair", "--yes"]).code(0);
        let _ = lab.manager(["history", "check"]).code(0);
    }
    lab.resume(&home, &id, "seven");
    assert_eq!(
        lab.user_messages(&home, &id),
        ["one", "two", "six", "seven"]
    );
}

#[test]
fn turns_of_a_migrated_subagent_are_restored_from_an_earlier_archive_which_prune_keeps() {
    const CHILD: &str = "01a00000-0000-7000-8000-000000000001";
    let Some(lab) = Lab::new() else { return };
    let (home, id) = (lab.home(), lab.say("one"));
    lab.resume(&home, &id, "two");
    let parent = rollout(&home, &id);
    let text = fs::read_to_string(&parent).unwrap();
    let lines = text
        .lines()
        .map(|line| old_form(serde_json::from_str(line).unwrap(), &id, CHILD));
    let lines: Vec<_> = lines.map(|line| line.to_string()).collect();
    let child = parent.with_file_name(format!("rollout-2026-11-22T20-00-00-{CHILD}.jsonl"));
    fs::write(&child, lines.join("\n") + "\n").unwrap();
    assert_eq!(lab.user_messages(&home, CHILD), ["one", "two"]);
    lab.back_up();
    let migrate = ["migrate-rollouts", "--apply"];
    let _ = lab
        .codex
        .run(&home, &lab.backend, &migrate)
        .expect_success();
    assert_eq!(lab.user_messages(&home, CHILD), Vec::<String>::new());
    lab.back_up();
    let pruned = lab.manager(["prune", "--keep-last", "1", "--json"]).code(0);
    let kept = pruned.json()["keep"][1]["reason"].clone();
    assert_eq!(
        kept,
        "has turns of the conversation 01a00000 that Codex hides"
    );
    let one = unreadable(&lab);
    assert_eq!(one["id"], CHILD);
    assert_turns(&one, 2, 0);
    run_fix(&lab, &one);
    assert_eq!(lab.user_messages(&home, CHILD), ["one", "two"]);
}

/// Converts a line to that of a subagent of an older Codex.
fn old_form(mut line: Value, parent: &str, child: &str) -> Value {
    let _ = line.as_object_mut().expect("an object").remove("ordinal");
    let payload = &mut line["payload"];
    if payload["cli_version"].is_string() {
        let meta = payload.as_object_mut().expect("an object");
        for key in [
            "history_mode",
            "account_scoped",
            "creator_user_id",
            "creator_account_id",
            "session_id",
        ] {
            let _ = meta.remove(key);
        }
        payload["id"] = child.into();
        payload["thread_source"] = "subagent".into();
        payload["source"] = json!({"subagent": {"thread_spawn":
            {"parent_thread_id": parent, "depth": 1}}});
    }
    let item = payload["item"].clone();
    let text = &item["content"][0]["text"];
    match item["type"].as_str() {
        Some("UserMessage") => {
            *payload = json!({"type": "user_message", "message": text, "kind": "plain"});
        }
        Some("AgentMessage") => *payload = json!({"type": "agent_message", "message": text}),
        _ => {}
    }
    line
}

#[test]
fn a_rollout_whose_last_record_lacks_its_ordinal_is_reported_and_keeps_its_turns() {
    let Some(lab) = Lab::new() else { return };
    let home = lab.home();
    let id = lab.say("one");
    lab.resume(&home, &id, "two");
    let path = rollout(&home, &id);
    let text = fs::read_to_string(&path).unwrap();
    let (others, last) = text.trim_end().rsplit_once('\n').unwrap();
    let mut last: Value = serde_json::from_str(last).unwrap();
    last.as_object_mut().unwrap().remove("ordinal").unwrap();
    fs::write(&path, format!("{others}\n{last}\n")).unwrap();

    let one = unreadable(&lab);
    assert_turns(&one, 2, 2);
    assert_eq!(one["fix"], Value::Null, "{one}");
    let refused = lab.codex.exec_resume(&home, &lab.backend, &id, "three");
    let _ = refused.expect_failure();
    // A repair would drop the turns that Codex still shows.
    let _ = lab.manager(["history", "repair"]).code(6);
    assert_eq!(lab.user_messages(&home, &id), ["one", "two"]);
}
