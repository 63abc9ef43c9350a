//! The identity of machines in the cloud folder, and the state of the last sync: machines restored from a
//! backup or cloned, damaged states, and configurations with fewer roots than before.

use crate::support::copy_tree;
use crate::support::env::Run;
use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

const OF_A: [&str; 2] = ["codex-a", "manager-a"];

/// Copies the home and the manager home of machine `a`.
fn copy_machine(pair: &Pair) {
    for folder in OF_A {
        let (from, to) = (pair.0.path(folder), pair.0.path(&format!("kept-{folder}")));
        copy_tree(&from, &to);
    }
}

/// Swaps machine `a` with its copy.
fn swap_with_copy(pair: &Pair) {
    for folder in OF_A {
        let (now, kept) = (pair.0.path(folder), pair.0.path(&format!("kept-{folder}")));
        let aside = pair.0.path("aside");
        fs::rename(&now, &aside).unwrap();
        fs::rename(&kept, &now).unwrap();
        fs::rename(&aside, &kept).unwrap();
    }
}

fn manifests_of(pair: &Pair, name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(pair.cloud().join(".codex-manager/machines")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let begins = format!("{name}-");
    paths.retain(|path| {
        path.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(&begins)
    });
    paths
}

fn warned(json: &Value) -> Vec<&str> {
    let warnings = json["warnings"].as_array().unwrap().iter();
    warnings.map(|w| w["reason"].as_str().unwrap()).collect()
}

fn run(pair: &Pair, name: &str) -> Run {
    pair.run(name, &["run", "--apply", "--json"])
}

/// Creates machines `a` and `b` that know each other and share a skill.
fn synced_machines() -> Pair {
    let pair = Pair::new();
    pair.put("a", SKILL, "one");
    for name in ["a", "b", "a", "b"] {
        pair.apply(name);
    }
    pair
}

#[test]
fn a_machine_restored_from_a_backup_accepts_its_later_files() {
    for torn in [false, true] {
        let pair = synced_machines();
        copy_machine(&pair);
        pair.put("a", SKILL, "two, longer");
        pair.put("a", ROLLOUT, META);
        pair.apply("a");
        swap_with_copy(&pair);
        let word = manifests_of(&pair, "a").remove(0);
        let whole = fs::read(&word).unwrap();
        if torn {
            fs::write(&word, &whole[..whole.len() / 2]).unwrap();
            let json = run(&pair, "a").code(6).json();
            assert_eq!(warned(&json).len(), 1, "{json}");
            assert_eq!(fs::read(&word).unwrap(), whole[..whole.len() / 2]);
            fs::write(&word, &whole).unwrap();
        }
        let json = pair.apply("a");
        let copied = [
            format!("copy-to-local {ROLLOUT}"),
            format!("copy-to-local {SKILL}"),
        ];
        assert_eq!(actions(&json), copied);
        assert_eq!(warned(&json).len(), usize::from(!torn), "{json}");
        let again = pair.apply("a");
        assert!(
            actions(&again).is_empty() && warned(&again).is_empty(),
            "{again}"
        );
        pair.configure("c", "");
        for name in ["c", "b", "a"] {
            pair.apply(name);
            assert_eq!(pair.text(name, SKILL), "two, longer");
            assert_eq!(pair.text(name, ROLLOUT), META);
        }
    }
}

#[test]
fn a_single_restored_machine_does_not_wait_for_its_former_manifest() {
    for damaged in [false, true] {
        let pair = Pair::new();
        pair.put("a", SKILL, "one");
        pair.apply("a");
        copy_machine(&pair);
        pair.put("a", SKILL, "two, longer");
        pair.apply("a");
        if damaged {
            fs::write(state_of(&pair, "a"), "\0").unwrap();
        } else {
            swap_with_copy(&pair);
        }
        assert_eq!(warned(&pair.apply("a")).len(), 1);
        assert_eq!(manifests_of(&pair, "a").len(), 2);
        // Another program writes to the cloud folder. It has no manifest.
        pair.put("cloud", SKILL, "three, of a tool");
        assert_eq!(
            actions(&pair.apply("a")),
            [format!("copy-to-local {SKILL}")]
        );
    }
}

#[test]
fn a_cloned_machine_gets_its_own_manifest() {
    let pair = synced_machines();
    copy_machine(&pair);
    pair.put("a", "skills/s/first", "of the first");
    pair.apply("a");
    swap_with_copy(&pair);
    pair.put("a", "skills/s/second", "of the second");
    let json = pair.apply("a");
    assert!(
        warned(&json)[0].starts_with("was written by a clone of this machine"),
        "{json}"
    );
    assert_eq!(manifests_of(&pair, "a").len(), 2);
    // Later runs of each machine write its own manifest.
    for round in 0..2 {
        swap_with_copy(&pair);
        pair.put("a", &format!("skills/s/{round}"), &round.to_string());
        let json = pair.apply("a");
        assert_eq!(warned(&json), [] as [&str; 0], "{round}");
        pair.apply("b");
    }
    assert_eq!(manifests_of(&pair, "a").len(), 2);
    for name in ["first", "second", "0", "1"] {
        let path = format!("skills/s/{name}");
        assert_eq!(pair.text("a", &path), pair.text("b", &path));
    }
    let json = pair.run("a", &["preflight", "--json"]).code(0).json();
    assert!(!json.to_string().contains("copy of this machine"), "{json}");
}

#[test]
fn no_entry_of_a_manifest_with_two_writers_is_lost() {
    let pair = synced_machines();
    copy_machine(&pair);
    let word = manifests_of(&pair, "a").remove(0);
    let before = fs::read(&word).unwrap();
    pair.put("a", "skills/s/first", "of the first");
    pair.apply("a");
    // The manifest of the first machine has not arrived at the second one.
    let first = fs::read(&word).unwrap();
    fs::write(&word, before).unwrap();
    fs::remove_file(pair.cloud().join("skills/s/first")).unwrap();
    swap_with_copy(&pair);
    pair.put("a", "skills/s/second", "of the second");
    pair.apply("a");
    // The cloud client renames one of the two manifests to a conflict name.
    fs::write(
        word.with_extension("sync-conflict-20261118-101010-ABCDEF7.jsonl"),
        first,
    )
    .unwrap();
    pair.put("cloud", "skills/s/first", "of the first");
    for name in ["b", "a"] {
        pair.apply(name);
        assert_eq!(pair.text(name, "skills/s/first"), "of the first");
        assert_eq!(pair.text(name, "skills/s/second"), "of the second");
    }
    // The machine whose manifest was renamed notices it.
    swap_with_copy(&pair);
    assert_eq!(warned(&pair.apply("a")).len(), 1);
    assert_eq!(manifests_of(&pair, "a").len(), 3);
}

fn state_of(pair: &Pair, name: &str) -> PathBuf {
    let entries = fs::read_dir(pair.0.path(&format!("manager-{name}/sync"))).unwrap();
    let folder = entries.map(|entry| entry.unwrap().path()).next();
    folder.unwrap().join("state.jsonl")
}

#[test]
fn a_damaged_state_is_reported_and_mtimes_do_not_decide() {
    for all in [true, false] {
        let pair = Pair::new();
        pair.configure("a", "[sync]\ncompare = \"mtime\"\n");
        let files = ["skills/s/1", "skills/s/2", "skills/s/3"];
        for file in files {
            pair.put("a", file, "one");
        }
        for name in ["a", "b", "a"] {
            pair.apply(name);
        }
        for file in &files[..2] {
            set_mtime(&pair.put("b", file, "an older one"), 1_600_000_000);
        }
        pair.apply("b");
        let state = state_of(&pair, "a");
        let text = fs::read_to_string(&state).unwrap();
        let damaged = if all {
            text.replacen('{', "\0", 1)
        } else {
            text.replace("[\"skills/s/1\"", "[\"\0")
                .replace("[\"skills/s/2\"", "[\"\0")
        };
        fs::write(&state, &damaged).unwrap();
        let before = pair.tree();
        let run = pair.run("a", &["plan", "--json"]).code(2);
        let json = run.json();
        assert_eq!(json["conflicts"].as_array().unwrap().len(), 2, "{run}");
        let damage = if all {
            "cannot be read"
        } else {
            "has unreadable lines"
        };
        assert!(warned(&json)[0].contains(damage), "{run}");
        let checks = pair.run("a", &["preflight"]).code(0);
        assert!(checks.stdout.contains(damage), "{checks}");
        assert!(pair.tree() == before);
        // Deciding one conflict does not decide the others.
        let _ = pair
            .run("a", &["resolve", files[0], "--keep", "local"])
            .code(0);
        assert_eq!(
            fs::read_to_string(state.with_extension("jsonl.damaged")).unwrap(),
            damaged
        );
        let json = pair.run("a", &["run", "--apply", "--json"]).code(2).json();
        assert_eq!(json["conflicts"][0]["path"], files[1], "{json}");
        let _ = pair
            .run("a", &["resolve", files[1], "--keep", "cloud"])
            .code(0);
        let json = pair.apply("a");
        assert!(
            actions(&json).is_empty() && warned(&json).is_empty(),
            "{json}"
        );
        assert_eq!(pair.text("cloud", files[0]), "one");
        assert_eq!(pair.text("a", files[1]), "an older one");
        // With a complete state, the configuration decides again.
        set_mtime(&pair.put("a", "skills/s/4", "old"), 1_600_000_000);
        pair.put("b", "skills/s/4", "newer");
        pair.apply("b");
        assert_eq!(actions(&pair.apply("a")), ["copy-to-local skills/s/4"]);
    }
}

#[test]
fn an_unmounted_folder_is_refused_even_with_a_damaged_state() {
    let pair = Pair::new();
    pair.put("a", SKILL, "one");
    pair.apply("a");
    fs::write(state_of(&pair, "a"), "\0\0").unwrap();
    fs::rename(pair.cloud(), pair.0.path("elsewhere")).unwrap();
    fs::create_dir(pair.cloud()).unwrap();
    let before = pair.tree();
    let refused = pair.run("a", &["run", "--apply"]).code(5);
    assert!(
        refused.stderr.contains("state of the last sync is damaged"),
        "{refused}"
    );
    assert!(pair.tree() == before);
    let _ = pair.run("a", &["run", "--apply", "--refill"]).code(0);
    assert_eq!(pair.text("cloud", SKILL), "one");
}

#[test]
fn files_of_a_root_removed_from_the_configuration_stay_and_keep_their_state() {
    let pair = Pair::new();
    let all = "[targets]\ninclude_roots = [\"sessions\", \"skills\"]\n";
    pair.configure("a", all);
    for n in 0..30 {
        pair.put("a", &format!("skills/s/{n}"), "one");
    }
    pair.put("a", ROLLOUT, META);
    pair.apply("a");
    pair.configure("a", "[targets]\ninclude_roots = [\"sessions\"]\n");
    let before = (pair.0.tree("codex-a"), pair.0.tree("cloud/skills"));
    let json = pair.apply("a");
    assert_eq!(
        json["notes"][0]["reason"],
        "30 files are no longer synced; both sides stay as they are"
    );
    assert!(actions(&json).is_empty() && warned(&json).is_empty());
    assert!(before == (pair.0.tree("codex-a"), pair.0.tree("cloud/skills")));
    let run = pair.run("a", &["run", "--apply"]).code(0);
    assert!(!run.stderr.contains("no longer synced"), "{run}");
    // A missing local file was not a deletion.
    fs::remove_file(pair.home("a").join("skills/s/1")).unwrap();
    pair.put("cloud", "skills/s/2", "two of there");
    pair.put("a", "skills/s/3", "two of here");
    pair.apply("a");
    pair.configure(
        "a",
        &format!("{all}[sync]\ndelete_policy = \"propagate\"\n"),
    );
    let expected = [
        "copy-to-local skills/s/1",
        "copy-to-local skills/s/2",
        "copy-to-cloud skills/s/3",
    ];
    assert_eq!(actions(&pair.apply("a")), expected);
}

#[test]
fn an_old_manifest_that_reappears_does_not_count_as_another_machine() {
    let pair = Pair::new();
    pair.put("a", SKILL, "0");
    pair.apply("a");
    let own = manifests_of(&pair, "a").remove(0);
    let of_old = fs::read(&own).unwrap();
    for n in 1..12 {
        pair.put("a", SKILL, &format!("{n}"));
        pair.apply("a");
    }
    let newest = fs::read(&own).unwrap();
    fs::write(&own, of_old).unwrap();
    assert_eq!(warned(&pair.apply("a")).len(), 1);
    fs::write(&own, newest).unwrap();
    pair.apply("a");
    // No other machine exists that could attest it.
    pair.put("cloud", "skills/by-hand/SKILL.md", "by hand\n");
    pair.apply("a");
    assert_eq!(pair.text("a", "skills/by-hand/SKILL.md"), "by hand\n");
}

#[test]
fn an_edit_replaced_by_that_of_a_cloned_machine_is_in_the_snapshot() {
    let pair = synced_machines();
    copy_machine(&pair);
    let day = pair.copy_cloud();
    pair.put("a", SKILL, "of the original");
    pair.apply("a");
    // The clone does not know the original's later changes, and counts its own under the same name.
    pair.restore_cloud(&day);
    swap_with_copy(&pair);
    for text in ["of the copy", "of the copy, again"] {
        pair.put("a", SKILL, text);
        pair.apply("a");
    }
    swap_with_copy(&pair);
    let json = run(&pair, "a").code(0).json();
    assert_eq!(warned(&json).len(), 1, "{json}");
    let snapshot = json["snapshot"].as_str().expect("a snapshot");
    assert_eq!(pair.text("a", SKILL), "of the copy, again");
    let args = [
        "restore", "--from", snapshot, "--target", "local", "--apply",
    ];
    let _ = pair.run("a", &args).code(0);
    assert_eq!(pair.text("a", SKILL), "of the original");
}
