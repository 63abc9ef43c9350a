//! Sync through the vault after damage of the state.

use crate::support::pair::{META, ROLLOUT, SKILL};
use crate::sync_vault::{HasError as _, Machines};
use std::fs;
use std::path::PathBuf;

/// Returns the state folder of `a`.
fn state_folder(machines: &Machines) -> PathBuf {
    let folders = fs::read_dir(machines.0.path("manager-a/sync")).unwrap();
    let mut folders = folders.map(|folder| folder.unwrap().path());
    folders
        .find(|folder| folder.join("state.jsonl").exists())
        .unwrap()
}

#[test]
fn a_damaged_state_of_sync_is_kept_as_a_copy_and_the_next_run_compares_by_content() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", ROLLOUT, META);
    machines.put("a", SKILL, "text 0");
    machines.apply("a");
    machines.apply("b");
    let state = state_folder(&machines).join("state.jsonl");
    let in_a_line = fs::read_to_string(&state).unwrap().replace("skills/", "\0");
    let copies = ["", "-2", "-3"];
    for (n, damaged) in ["", "garbage\n", &*in_a_line].into_iter().enumerate() {
        fs::write(&state, damaged).unwrap();
        let copy = state.with_file_name(format!("state.jsonl.damaged{}", copies[n]));
        let words = "files that its readable part does not list are compared by content";
        machines.sync("a", &["plan"]).code(0).has_error(words);
        assert!(!copy.exists());
        machines
            .sync("a", &["run", "--apply"])
            .code(0)
            .has_error(words);
        assert_eq!(fs::read_to_string(copy).unwrap(), damaged);
        let newer = format!("text {}", n + 1);
        machines.put("a", SKILL, &newer);
        machines.apply("a");
        machines.apply("b");
        assert_eq!(machines.text("b", SKILL), newer);
        assert_eq!(machines.text("b", ROLLOUT), META);
    }
}
