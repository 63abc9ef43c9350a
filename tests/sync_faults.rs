//! `sync run` and `sync restore`, killed at any write and on a full disk.

use crate::support::faults::{Dice, Mount, run_limited};
use crate::support::injection::{
    Fault, Point, can_inject, kill_numbers, run_ends_before_call, run_with_fault, traced,
};
use crate::support::pair::{META, Pair, ROLLOUT, RUN_OF_A, RUN_OF_B, SKILL};
use codex_manager_core::io::hash::Sha256Digest;
use std::fs;
use std::path::PathBuf;

/// The calls that create, remove and flush files.
const CALLS: [&str; 4] = ["rename", "renameat2", "fsync", "unlink"];
/// Number of calls of one kind at which a run is killed, at most.
const KILLS: usize = 14;

/// Asserts that the file exists and has one of the complete versions.
#[track_caller]
fn assert_whole(pair: &Pair, name: &str, path: &str, known: &[&str]) {
    let root = match name {
        "cloud" => pair.cloud(),
        _ => pair.home(name),
    };
    if let Ok(text) = fs::read_to_string(root.join(path)) {
        assert!(known.contains(&&*text), "{name} {path}: {text:?}");
    }
}

#[test]
fn i2_a_killed_sync_leaves_complete_files_and_continues() {
    if !can_inject() {
        return;
    }
    let longer = format!("{META}{{\"n\":1}}\n");
    for call in CALLS {
        for number in kill_numbers(KILLS) {
            let pair = Pair::new();
            pair.put("a", ROLLOUT, META);
            pair.put("a", SKILL, "one");
            pair.apply("a");
            pair.apply("b");
            pair.put("a", ROLLOUT, &longer);
            pair.put("a", SKILL, "two, longer");
            pair.apply("a");
            pair.put("b", "AGENTS.md", "of b");
            let ended = run_ends_before_call(&pair.0, &RUN_OF_B, call, number);
            for name in ["a", "b", "cloud"] {
                assert_whole(&pair, name, ROLLOUT, &[META, &longer]);
                assert_whole(&pair, name, SKILL, &["one", "two, longer"]);
                assert_whole(&pair, name, "AGENTS.md", &["of b"]);
            }
            pair.apply("b");
            pair.apply("a");
            for name in ["a", "b", "cloud"] {
                assert_eq!(pair.text(name, ROLLOUT), longer, "{call} {number}");
                assert_eq!(pair.text(name, SKILL), "two, longer", "{call} {number}");
                assert_eq!(pair.text(name, "AGENTS.md"), "of b", "{call} {number}");
            }
            if ended {
                break;
            }
        }
    }
}

#[test]
fn i2_a_killed_sync_restore_leaves_complete_files_and_can_be_repeated() {
    if !can_inject() {
        return;
    }
    for call in CALLS {
        for number in kill_numbers(KILLS) {
            let pair = Pair::new();
            let snapshot = "backups-b/b-20261101T000000Z";
            for path in [SKILL, "AGENTS.md"] {
                pair.0.write(&format!("{snapshot}/{path}"), "old");
                pair.put("b", path, "new");
            }
            let from = ["restore", "--from", "b-20261101T000000Z", "--apply"];
            let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
            let ended = run_ends_before_call(&pair.0, &[&args[..], &from].concat(), call, number);
            for path in [SKILL, "AGENTS.md"] {
                let text = pair.text("b", path);
                assert!(text == "old" || text == "new", "{call} {number}: {text:?}");
            }
            let _ = pair.run("b", &from).code(0);
            assert_eq!(pair.text("b", SKILL), "old");
            if ended {
                break;
            }
        }
    }
}

#[test]
fn i3_a_sync_into_a_full_folder_changes_no_existing_file() {
    let pair = Pair::new();
    let Some(_mount) = Mount::tmpfs(&pair.cloud(), 256) else {
        return;
    };
    pair.put("a", SKILL, "one");
    pair.apply("a");
    let large = "x".repeat(1024 * 1024);
    pair.put("a", SKILL, &large);
    let run = pair.run("a", &["run", "--apply"]);
    assert_ne!(run.code, 0, "{run}");
    assert_eq!(pair.text("cloud", SKILL), "one");
    assert_eq!(pair.text("a", SKILL), large);
    pair.put("a", SKILL, "small again");
    pair.apply("a");
    assert_eq!(pair.text("cloud", SKILL), "small again");
}

#[test]
fn i2_a_killed_first_sync_of_a_machine_leaves_complete_files_and_continues() {
    if !can_inject() {
        return;
    }
    let of_a = [
        (ROLLOUT, META),
        (SKILL, "one"),
        ("skills/mine/two.md", "two"),
    ];
    let of_b = ("skills/of-b/SKILL.md", "of b");
    for call in CALLS {
        for number in kill_numbers(KILLS) {
            let pair = Pair::new();
            for (path, text) in of_a {
                pair.put("a", path, text);
            }
            pair.apply("a");
            pair.put("b", of_b.0, of_b.1);
            let run = ["sync", "-c", "b.toml", "run", "--apply"];
            let args = [&["--manager-home", "manager-b"], &run[..]].concat();
            let ended = run_ends_before_call(&pair.0, &args, call, number);
            for name in ["b", "cloud"] {
                for (path, text) in of_a.into_iter().chain([of_b]) {
                    assert_whole(&pair, name, path, &[text]);
                }
            }
            for name in ["b", "a", "b"] {
                pair.apply(name);
            }
            for name in ["a", "b", "cloud"] {
                for (path, text) in of_a.into_iter().chain([of_b]) {
                    assert_eq!(pair.text(name, path), text, "{call} {number}");
                }
            }
            if ended {
                break;
            }
        }
    }
}

/// More files than are synced one by one.
const MANY: usize = 200;

fn many_files(pair: &Pair) -> Vec<String> {
    let paths: Vec<_> = (0..MANY)
        .map(|n| format!("skills/mine-{}/{n}.md", n % 7))
        .collect();
    for path in &paths {
        pair.put("a", path, &format!("the text of {path}"));
    }
    paths
}

#[test]
fn i14_many_new_files_are_durable_before_they_get_their_names() {
    if !can_inject() {
        return;
    }
    let pair = Pair::new();
    let paths = many_files(&pair);
    let calls = "trace=syncfs,fsync,fdatasync,rename,renameat2";
    let options = ["-y", "-e", calls].map(str::to_owned);
    let (output, log) = traced(&pair.0, &options, &RUN_OF_A);
    assert!(output.status.success(), "{output:?}");
    let calls: Vec<&str> = log.lines().collect();
    // The folder of the name is a descriptor.
    let is_name = |line: &&str| line.contains("rename") && line.contains(".md\"");
    let first = calls.iter().position(is_name).expect("a rename");
    let before = |call: &str| calls[..first].iter().any(|line| line.contains(call));
    assert!(before("syncfs("), "{log}");
    assert!(before("written.jsonl"), "{log}");
    let last = calls.iter().rposition(is_name).expect("a match");
    let state = |line: &&str| line.contains("sync(") && line.contains("state.jsonl");
    assert!(!calls[first..last].iter().any(state), "{log}");
    let syncs = calls.iter().filter(|line| line.contains("fsync("));
    assert!(syncs.count() < MANY / 2, "{log}");
    for path in paths {
        assert_eq!(pair.text("cloud", &path), format!("the text of {path}"));
    }
}

#[test]
fn i2_a_killed_sync_of_many_files_leaves_complete_files_and_continues() {
    if !can_inject() {
        return;
    }
    let kills = [("syncfs", 1), ("renameat2", 1), ("renameat2", 150)];
    for (call, number) in kills.into_iter().chain([("fsync", 4), ("fsync", 9)]) {
        let pair = Pair::new();
        let paths = many_files(&pair);
        assert!(
            !run_ends_before_call(&pair.0, &RUN_OF_A, call, number),
            "{call}"
        );
        for path in &paths {
            assert_whole(&pair, "cloud", path, &[&format!("the text of {path}")]);
        }
        pair.apply("a");
        pair.apply("b");
        for path in &paths {
            let text = format!("the text of {path}");
            assert_eq!(pair.text("cloud", path), text, "{call} {number}");
            assert_eq!(pair.text("b", path), text, "{call} {number}");
        }
        let temps = pair.0.tree("").0.into_keys();
        let temps = temps.filter(|path| path.to_string_lossy().contains(".codex-manager-tmp"));
        assert_eq!(temps.count(), 0, "{call} {number}");
    }
}

#[test]
fn many_files_are_copied_though_the_disk_cannot_be_flushed_as_a_whole() {
    if !can_inject() {
        return;
    }
    let pair = Pair::new();
    let paths = many_files(&pair);
    let point = Point {
        call: "syncfs".into(),
        number: 1,
    };
    let output = run_with_fault(&pair.0, &RUN_OF_A, &point, Fault::FromThenOn("EIO"));
    assert!(output.expect("reached").status.success());
    for path in paths {
        assert_eq!(pair.text("cloud", &path), format!("the text of {path}"));
    }
}

#[test]
fn i3_a_folder_that_fills_up_contains_only_complete_files() {
    let pair = Pair::new();
    let Some(_mount) = Mount::tmpfs(&pair.cloud(), 256) else {
        return;
    };
    let large = "x".repeat(60 * 1024);
    let paths = ["1", "2", "3", "4", "5", "6"].map(|n| format!("skills/mine/{n}.md"));
    for path in &paths {
        pair.put("a", path, &large);
    }
    let run = pair.run("a", &["run", "--apply"]);
    assert_ne!(run.code, 0, "{run}");
    for entry in fs::read_dir(pair.cloud().join("skills/mine")).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::read_to_string(&path).unwrap(), large, "{path:?}");
    }
    for path in &paths {
        pair.put("a", path, "small");
    }
    pair.apply("a");
    for path in &paths {
        assert_eq!(pair.text("cloud", path), "small");
    }
}

#[test]
fn i3_a_sync_restore_onto_a_full_disk_leaves_complete_files_and_names_the_snapshot() {
    let (small, large) = ("small", "x".repeat(150 * 1024));
    for target in ["local", "cloud"] {
        let pair = Pair::new();
        let full = if target == "local" {
            pair.home("b")
        } else {
            pair.cloud()
        };
        let Some(_mount) = Mount::tmpfs(&full, 256) else {
            return;
        };
        let name = if target == "local" { "b" } else { "cloud" };
        let paths = ["skills/mine/1.md", "skills/mine/2.md", "skills/mine/3.md"];
        for path in paths {
            pair.put(name, path, small);
            pair.0
                .write(&format!("backups-b/b-20261101T000000Z/{path}"), &large);
        }
        let args = [
            "restore",
            "--from",
            "b-20261101T000000Z",
            "--target",
            target,
            "--apply",
        ];
        let run = pair.run("b", &args).code(1);
        assert!(run.stderr.contains("restored 1 of 3 files"), "{run}");
        let texts = paths.map(|path| pair.text(name, path));
        assert_eq!(texts, [&*large, small, small], "{run}");
        let (_, kept) = run.stderr.split_once("the replaced files are in ").unwrap();
        let kept = kept.split_whitespace().next().unwrap();
        let undo = ["restore", "--from", kept, "--target", target, "--apply"];
        let _ = pair.run("b", &undo).code(0);
        assert_eq!(paths.map(|path| pair.text(name, path)), [small; 3]);
        let left = fs::read_dir(full.join("skills/mine")).unwrap().count();
        assert_eq!(left, 3);
    }
}

#[test]
fn a_sync_works_on_file_systems_without_renameat2_noreplace() {
    if !can_inject() {
        return;
    }
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let archived = format!(
        "archived_sessions/{}",
        ROLLOUT.rsplit('/').next().expect("a name")
    );
    let target = pair.put("a", &archived, "");
    fs::rename(pair.home("a").join(ROLLOUT), target).expect("move to the archive");
    pair.put("a", SKILL, "one");
    pair.apply("a");
    let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml", "run"];
    let args = [&args[..], &["--apply"]].concat();
    let point = Point {
        call: "renameat2".into(),
        number: 1,
    };
    let run = run_with_fault(&pair.0, &args, &point, Fault::FromThenOn("EINVAL"));
    assert!(run.expect("a rename").status.success());
    assert_eq!(pair.text("b", SKILL), "one");
    assert_eq!(pair.text("b", &archived), META);
    assert!(!pair.home("b").join(ROLLOUT).exists());
}

#[test]
fn a_run_that_fails_names_the_snapshot_of_what_it_overwrote() {
    let pair = Pair::new();
    let Some(_mount) = Mount::tmpfs(&pair.cloud(), 256) else {
        return;
    };
    pair.put("a", SKILL, "one");
    pair.apply("a");
    pair.put("a", SKILL, "two, newer");
    let large = "x".repeat(60 * 1024);
    for n in 0..6 {
        pair.put("a", &format!("skills/z/{n}.md"), &large);
    }
    let run = pair.run("a", &["run", "--apply", "--json"]).code(1);
    let snapshot = run.json()["snapshot"]
        .as_str()
        .expect("a snapshot")
        .to_owned();
    let label = format!("sync restore --from {snapshot} --apply");
    assert!(run.stderr.contains(&label), "{run}");
    let logs = fs::read_dir(pair.0.path("manager-a/logs")).unwrap();
    let log: String = logs
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert!(log.contains(&snapshot), "{log}");
    // The snapshot contains the former content.
    let back = ["restore", "--from", &snapshot, "--dry-run", "--json"];
    assert_eq!(pair.run("a", &back).code(0).json()["files"][0], SKILL);
}

#[test]
fn i3_a_run_that_cannot_write_its_snapshot_changes_nothing_and_names_the_folder_and_the_limit() {
    let prompt = "prompts/one.md";
    for compression in ["none", "zip"] {
        let pair = Pair::new();
        // What cannot be compressed needs as much room in both forms.
        let mut dice = Dice::seeded(1);
        let large: String = dice
            .bytes(3 << 20)
            .iter()
            .map(|byte| char::from(byte & 0x7f))
            .collect();
        pair.sync(&[(SKILL, &large), (prompt, "one")]);
        pair.configure("b", &format!("[backup]\ncompression = \"{compression}\"\n"));
        pair.put("a", SKILL, "two");
        pair.put("a", prompt, "two");
        pair.apply("a");
        let limit = "trap '' XFSZ; ulimit -f 1024";
        let output = run_limited(&pair.0, limit, &RUN_OF_B);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("backups-b") && stderr.contains("ulimit -f"),
            "{stderr}"
        );
        assert_eq!(pair.text("b", SKILL), large);
        assert_eq!(pair.text("b", prompt), "one");
        pair.apply("b");
        assert_eq!([SKILL, prompt].map(|path| pair.text("b", path)), ["two"; 2]);
    }
}

fn find_ledger_of_a(pair: &Pair) -> PathBuf {
    let replicas = fs::read_dir(pair.0.path("manager-a/sync")).unwrap();
    let mut ledgers = replicas.map(|replica| replica.unwrap().path().join("written.jsonl"));
    ledgers.find(|path| path.is_file()).expect("a ledger")
}

#[test]
fn a_plan_with_a_changed_file_fails_if_the_ledger_cannot_be_read() {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let ledger = find_ledger_of_a(&pair);
    fs::remove_file(&ledger).unwrap();
    fs::create_dir(&ledger).unwrap();
    let _ = pair.run("a", &["plan"]).code(0);
    pair.put("b", "AGENTS.md", "new");
    pair.apply("b");
    let run = pair.run("a", &["plan"]).code(1);
    assert!(run.stderr.contains("written.jsonl"), "{run}");
}

#[test]
fn a_file_that_a_killed_run_recorded_and_the_user_deleted_is_not_published() {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let ledger = find_ledger_of_a(&pair);
    // A killed run leaves this line and no file in the cloud folder; then the user deleted the local file.
    let entry = serde_json::json!({
        "size": 3, "mtime_ns": 1_795_000_000_000_000_000_i64, "digest": Sha256Digest::of(b"one"),
    });
    let line = serde_json::json!({ "file": [SKILL, entry] });
    let lines = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, format!("{lines}{line}\n")).unwrap();
    pair.put("a", "AGENTS.md", "new");
    pair.apply("a");
    let json = pair.apply("b");
    assert_eq!(json["waiting"], serde_json::json!([]), "{json}");
    assert_eq!(pair.text("b", "AGENTS.md"), "new");
    // The line stays, and attests the file if it arrives after all.
    assert!(fs::read_to_string(&ledger).unwrap().contains(SKILL));
}
