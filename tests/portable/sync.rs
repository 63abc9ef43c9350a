//! `sync` between two machines through a folder.

use crate::machine::{Machine, rollout, set_modified, text};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

fn init(machine: &Machine, cloud: &Path) {
    machine.succeed(&["sync", "init", "--cloud", cloud.to_str().expect("UTF-8")]);
}

fn run(machine: &Machine) {
    machine.succeed(&["sync", "run", "--apply"]);
}

/// Appends a line to a conversation, now.
fn continue_conversation(machine: &Machine, n: u32, line: &str) -> String {
    let longer = machine.read(&rollout(n)) + line + "\n";
    let path = machine.write(&rollout(n), &longer);
    set_modified(&path, SystemTime::now());
    longer
}

/// Creates two machines with the conversations of the first, and their folder.
fn pair() -> (Machine, Machine, tempfile::TempDir) {
    let cloud = tempfile::tempdir().expect("a folder");
    let (one, two) = (Machine::with_conversations(), Machine::new());
    for machine in [&one, &two] {
        init(machine, cloud.path());
        run(machine);
    }
    (one, two, cloud)
}

#[test]
fn conversations_are_synced_to_the_other_machine_and_back() {
    let (one, two, _cloud) = pair();
    assert_eq!(two.conversations(), one.conversations());
    assert_eq!(two.read("skills/review/SKILL.md"), "# Review\n");
    assert!(!two.home("auth.json").exists(), "logins are never synced");
    let longer = continue_conversation(&two, 1, r#"{"type":"event_msg"}"#);
    run(&two);
    run(&one);
    assert_eq!(one.read(&rollout(1)), longer);
    assert_eq!(one.read(&rollout(2)), text(2));
}

#[test]
fn compressed_conversations_are_synced() {
    let (one, two, _cloud) = pair();
    for machine in [&one, &two] {
        machine.install_codex();
    }
    one.succeed(&[
        "storage",
        "shrink",
        "--min-size",
        "1B",
        "--older-than",
        "1s",
    ]);
    continue_conversation(&two, 3, r#"{"type":"event_msg"}"#);
    run(&two);
    run(&one);
    run(&two);
    two.succeed(&["find", "parser"]);
    one.succeed(&["storage", "expand"]);
    assert_eq!(one.read(&rollout(1)), text(1));
}

#[test]
fn a_conversation_that_changed_on_both_machines_waits_for_a_decision() {
    let (one, two, _cloud) = pair();
    let first = continue_conversation(&one, 1, r#"{"type":"one"}"#);
    let second = continue_conversation(&two, 1, r#"{"type":"two"}"#);
    run(&one);
    let conflict = two.run(&["sync", "run", "--apply"]);
    assert_ne!(conflict.code, 0, "{}", conflict.stdout);
    assert_eq!(one.read(&rollout(1)), first);
    assert_eq!(two.read(&rollout(1)), second);
}

#[test]
fn an_overwritten_file_is_restored_from_its_snapshot() {
    let (one, two, _cloud) = pair();
    one.write("skills/review/SKILL.md", "# Changed\n");
    run(&one);
    let sync = two.succeed(&["sync", "run", "--apply", "--json"]).json();
    assert_eq!(two.read("skills/review/SKILL.md"), "# Changed\n");
    let snapshot = sync["snapshot"].as_str().expect("a snapshot");
    two.succeed(&["sync", "restore", "--from", snapshot, "--apply"]);
    assert_eq!(two.read("skills/review/SKILL.md"), "# Review\n");
    assert!(fs::metadata(two.home(&rollout(1))).is_ok());
}
