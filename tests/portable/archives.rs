//! `backup`, `verify`, `restore`, `prune`, `demo`.

use crate::machine::{Machine, id, rollout, text};
use std::fs;

#[test]
fn restore_recreates_deleted_files() {
    let machine = Machine::with_conversations();
    let before = machine.conversations();
    let rows = machine.rows();
    machine.succeed(&["backup", "--no-status"]);
    machine.succeed(&["verify", "--all"]);
    fs::remove_dir_all(machine.home("sessions")).unwrap();
    for name in ["config.toml", "state_5.sqlite"] {
        fs::remove_file(machine.home(name)).unwrap();
    }
    machine.write(
        "sessions/2026/11/19/rollout-2026-11-19T10-00-00-x.jsonl",
        "new\n",
    );
    machine.succeed(&["restore", "latest"]);
    assert_eq!(machine.conversations(), before);
    assert_eq!(machine.rows(), rows);
    assert_eq!(machine.read("config.toml"), "model = \"gpt-5\"\n");
}

#[test]
fn the_safety_backup_undoes_a_restore() {
    let machine = Machine::with_conversations();
    machine.succeed(&["backup", "--no-status"]);
    machine.write(&rollout(1), "{\"changed\":true}\n");
    machine.write("config.toml", "model = \"gpt-6\"\n");
    let changed = machine.conversations();
    machine.succeed(&["restore", "latest"]);
    assert_eq!(machine.read(&rollout(1)), text(1));
    let list = machine.succeed(&["list-backups", "--json"]).json();
    let archives = list["backups"].as_array().unwrap();
    let safety = archives.iter().find(|archive| archive["partial"] == true);
    let name = safety.expect("a safety backup")["archive"]
        .as_str()
        .unwrap();
    machine.succeed(&["restore", name]);
    assert_eq!(machine.conversations(), changed);
    assert_eq!(machine.read("config.toml"), "model = \"gpt-6\"\n");
}

#[test]
fn a_part_of_an_archive_is_restored_alone() {
    let machine = Machine::with_conversations();
    machine.succeed(&["backup", "--no-status"]);
    for n in 1..=3 {
        machine.write(&rollout(n), "changed\n");
    }
    machine.write("config.toml", "changed");
    machine.succeed(&["restore", "latest", "--only", "config.toml"]);
    assert_eq!(machine.read("config.toml"), "model = \"gpt-5\"\n");
    assert_eq!(machine.read(&rollout(1)), "changed\n");
    machine.succeed(&["restore", "latest", "--only", "sessions/2026/11/12"]);
    assert_eq!(machine.read(&rollout(2)), text(2));
    assert_eq!(machine.read(&rollout(1)), "changed\n");
    machine.succeed(&["restore", "latest", "--session", &id(3)]);
    assert_eq!(machine.read(&rollout(3)), text(3));
    assert_eq!(machine.read(&rollout(1)), "changed\n");
}

#[test]
fn a_merge_keeps_new_files_and_the_longer_version() {
    let machine = Machine::with_conversations();
    machine.succeed(&["backup", "--no-status"]);
    let longer = text(1) + "{\"type\":\"event_msg\"}\n";
    machine.write(&rollout(1), &longer);
    fs::remove_file(machine.home(&rollout(2))).unwrap();
    machine.write("sessions/2026/11/19/rollout-new.jsonl", "new\n");
    machine.succeed(&["restore", "latest", "--merge"]);
    assert_eq!(machine.read(&rollout(1)), longer);
    assert_eq!(machine.read(&rollout(2)), text(2));
    assert_eq!(
        machine.read("sessions/2026/11/19/rollout-new.jsonl"),
        "new\n"
    );
}

#[test]
fn a_restore_elsewhere_leaves_the_home_alone() {
    let machine = Machine::with_conversations();
    machine.succeed(&["backup", "--no-status"]);
    machine.write(&rollout(1), "changed\n");
    let target = machine.path("elsewhere");
    machine.succeed(&["restore", "latest", "--to", target.to_str().unwrap()]);
    assert_eq!(
        fs::read_to_string(target.join(rollout(1))).unwrap(),
        text(1)
    );
    assert_eq!(machine.read(&rollout(1)), "changed\n");
}

#[test]
fn a_damaged_archive_is_found_and_not_restored() {
    let machine = Machine::with_conversations();
    let made = machine.succeed(&["backup", "--no-status", "--json"]).json();
    let archive = made["path"].as_str().unwrap();
    let mut bytes = fs::read(archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x55;
    fs::write(archive, bytes).unwrap();
    assert_ne!(machine.run(&["verify", archive]).code, 0);
    machine.write("config.toml", "changed");
    assert_ne!(machine.run(&["restore", archive]).code, 0);
    assert_eq!(machine.read("config.toml"), "changed");
}

#[test]
fn prune_undo_restores_pruned_archives() {
    let machine = Machine::with_conversations();
    let names = || -> Vec<String> {
        let list = machine.succeed(&["list-backups", "--json"]).json();
        let archives = list["backups"].as_array().unwrap().iter();
        archives
            .map(|archive| archive["archive"].as_str().unwrap().to_owned())
            .collect()
    };
    for n in 1..=2 {
        machine.write("AGENTS.md", format!("{n}"));
        machine.succeed(&["backup", "--no-status"]);
    }
    let before = names();
    assert_eq!(before.len(), 2);
    machine.succeed(&["prune", "--keep-last", "1"]);
    assert_eq!(names().len(), 1);
    machine.succeed(&["prune", "--undo"]);
    assert_eq!(names(), before);
    machine.succeed(&["verify", "--all"]);
}

#[test]
fn the_demo_restores_and_syncs() {
    let machine = Machine::new();
    let demo = machine.succeed(&["demo", "--json"]).json();
    assert_eq!(demo["home_is_as_before"], true);
    assert_eq!(demo["second_home_is_equal"], true);
}
