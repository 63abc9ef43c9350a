//! `sync forget NAME`: removes no change that only the snapshots of the named machine have.

use crate::support::pair::{META, ROLLOUT, SKILL};
use crate::sync_vault::{HasError as _, Machines};
use std::fs;

/// Runs `sync forget a` on `b`, which must be refused and change nothing, also as a dry run.
#[track_caller]
fn refuses_to_forget_a(machines: &Machines) {
    let before = machines.tree();
    for last in ["--yes", "--dry-run"] {
        machines
            .sync("b", &["forget", "a", last])
            .code(5)
            .has_error("has not merged all changes of a")
            .has_error("sync run --apply")
            .has_error("sync resolve")
            .has_error("restic forget ");
    }
    assert_eq!(machines.tree().0, before.0);
}

#[test]
fn a_machine_with_changes_that_are_not_merged_is_not_forgotten() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", ROLLOUT, META);
    machines.apply("a");
    machines.apply("b");
    let of_a = format!("{META}{{\"n\":\"a\"}}\n");
    machines.put("a", ROLLOUT, &of_a);
    machines.apply("a");
    refuses_to_forget_a(&machines);

    machines.put("b", ROLLOUT, &format!("{META}{{\"n\":\"of b\"}}\n"));
    machines.sync("b", &["run", "--apply"]).code(2);
    refuses_to_forget_a(&machines);
    machines
        .sync("b", &["resolve", ROLLOUT, "--keep", "cloud"])
        .code(0);
    machines.apply("b");
    machines.sync("b", &["forget", "a", "--yes"]).code(0);
    assert_eq!(machines.text("b", ROLLOUT), of_a);
}

#[test]
fn a_renamed_machine_is_forgotten_as_a_whole_under_its_present_name() {
    let Some(machines) = Machines::new() else {
        return;
    };
    machines.put("a", SKILL, "one");
    machines.apply("a");
    let settings = fs::read_to_string(machines.0.path("a.toml")).unwrap();
    let renamed = settings.replace("machine_id = \"a\"", "machine_id = \"desk\"");
    machines.0.write("a.toml", renamed);
    machines.put("a", SKILL, "the second");
    machines.apply("a");
    machines.apply("b");
    assert_eq!(machines.snapshots(), 3);
    let run = machines.sync("b", &["forget", "a", "--yes"]).code(1);
    run.has_error("no machine with this name");
    assert_eq!(machines.snapshots(), 3);
    for (last, left) in [("--dry-run", 3), ("--yes", 1)] {
        let run = machines.sync("b", &["forget", "desk", last, "--json"]);
        assert_eq!(run.code(0).json()["removed"], 2);
        assert_eq!(machines.snapshots(), left);
    }
}
