//! Deletions with `delete_policy = "propagate"`, also in killed runs.

use crate::support::injection::{can_inject, kill_numbers, run_ends_before_call};
use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions};
use std::fs;

/// Number of calls of one kind at which a run is killed, at most.
const KILLS: usize = 12;
const PROPAGATE: &str = "[sync]\ndelete_policy = \"propagate\"\n";

/// Creates machines that propagate deletions and have `count` equal skills.
fn propagating(names: &[&str], count: usize) -> Pair {
    let pair = Pair::new();
    for name in names {
        pair.configure(name, PROPAGATE);
    }
    for n in 0..count {
        pair.put("a", &skill(n), "one");
    }
    for _ in 0..2 {
        for name in names {
            pair.apply(name);
        }
    }
    pair
}

fn skill(n: usize) -> String {
    format!("skills/s/{n}")
}

fn run_of(name: &str, more: &[&'static str]) -> Vec<String> {
    let manager = format!("manager-{name}");
    let config = format!("{name}.toml");
    let args = ["--manager-home", &manager, "sync", "-c", &config];
    let args = args.iter().chain(&["run", "--apply"]).chain(more);
    args.map(|arg| (*arg).to_owned()).collect()
}

fn has_file(pair: &Pair, name: &str, n: usize) -> bool {
    let root = if name == "cloud" {
        pair.cloud()
    } else {
        pair.home(name)
    };
    root.join(skill(n)).exists()
}

#[test]
fn i2_a_few_deletions_of_a_killed_run_are_completed() {
    if !can_inject() {
        return;
    }
    // The result is the same whichever machine syncs first.
    for names in [["a", "b"], ["b", "a"]] {
        for call in ["unlink", "fsync"] {
            for number in kill_numbers(KILLS) {
                let pair = propagating(&["a", "b"], 40);
                for n in 0..3 {
                    fs::remove_file(pair.home("a").join(skill(n))).unwrap();
                }
                let args = run_of("a", &[]);
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let ended = run_ends_before_call(&pair.0, &args, call, number);
                for name in names.iter().chain(&names) {
                    pair.apply(name);
                }
                for name in ["a", "b", "cloud"] {
                    for n in 0..3 {
                        assert!(!has_file(&pair, name, n), "{call} {number} {name} {n}");
                    }
                    assert!(has_file(&pair, name, 3), "{call} {number} {name}");
                }
                if ended {
                    break;
                }
            }
        }
    }
}

#[test]
fn i2_many_confirmed_deletions_of_a_killed_run_are_completed() {
    if !can_inject() {
        return;
    }
    for number in [2, 12, 25] {
        let pair = propagating(&["a", "b"], 60);
        for n in 0..30 {
            fs::remove_file(pair.home("a").join(skill(n))).unwrap();
        }
        let args = run_of("a", &["--delete-many"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        assert!(
            !run_ends_before_call(&pair.0, &args, "unlink", number),
            "{number}"
        );
        let is_gone = |n: &usize| !has_file(&pair, "cloud", *n);
        let gone = (0..30).filter(is_gone).count();
        assert!((1..30).contains(&gone), "{number}: {gone}");
        // No machine treats the folder as unmounted, and no file comes back.
        let _ = pair.run("b", &["run", "--apply", "--delete-many"]).code(0);
        pair.apply("a");
        let _ = pair.run("b", &["run", "--apply", "--delete-many"]).code(0);
        for n in 0..60 {
            for name in ["a", "b", "cloud"] {
                assert_eq!(has_file(&pair, name, n), n >= 30, "{number} {name} {n}");
            }
        }
        for name in ["a", "b"] {
            assert_eq!(actions(&pair.apply(name)), [""; 0], "{number}");
        }
    }
}

#[test]
fn files_gone_from_both_sides_are_deleted_everywhere_unless_many() {
    let pair = propagating(&["a", "b"], 40);
    let remove = |n: usize| {
        for root in [pair.home("a"), pair.cloud()] {
            fs::remove_file(root.join(skill(n))).unwrap();
        }
    };
    remove(7);
    pair.apply("a");
    assert_eq!(
        actions(&pair.apply("b")),
        [format!("delete-local {}", skill(7))]
    );
    for n in 20..26 {
        remove(n);
    }
    pair.apply("a");
    assert_eq!(pair.apply("b")["summary"]["copy-to-cloud"], 6);
}

#[test]
fn with_few_files_only_deletions_of_more_than_half_are_held_back() {
    for (files, deleted, held) in [
        (12, 2, 0),
        (12, 5, 0),
        (12, 6, 6),
        (4, 2, 0),
        (3, 2, 2),
        (1, 1, 0),
    ] {
        let pair = propagating(&["a", "b"], files);
        for n in 0..deleted {
            fs::remove_file(pair.home("a").join(skill(n))).unwrap();
        }
        let label = format!("{deleted} of {files}");
        let code = if held > 0 { 6 } else { 0 };
        let json = pair
            .run("a", &["run", "--apply", "--json"])
            .code(code)
            .json();
        assert_eq!(json["skipped"].as_array().unwrap().len(), held, "{label}");
        for n in 0..deleted {
            assert_eq!(has_file(&pair, "cloud", n), held > 0, "{label}");
        }
    }
}

#[test]
fn i2_a_recreated_file_cancels_its_deletion_even_if_the_run_is_killed() {
    if !can_inject() {
        return;
    }
    let gone = skill(7);
    for call in ["fsync", "renameat2", "rename"] {
        for number in kill_numbers(KILLS) {
            let pair = propagating(&["a", "b", "c"], 12);
            fs::remove_file(pair.home("b").join(&gone)).unwrap();
            for name in ["b", "a", "c"] {
                pair.apply(name);
                assert!(!pair.home(name).join(&gone).exists(), "{name}");
            }
            pair.put("c", &gone, "one");
            let args = run_of("c", &[]);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let ended = run_ends_before_call(&pair.0, &args, call, number);
            pair.apply("c");
            pair.apply("a");
            // `b` is off, and the file is missing in the cloud folder for a while.
            fs::remove_file(pair.cloud().join(&gone)).unwrap();
            let expected = [format!("copy-to-cloud {gone}")];
            assert_eq!(actions(&pair.apply("a")), expected, "{call} {number}");
            if ended {
                break;
            }
        }
    }
}

#[test]
fn a_plan_shows_the_size_of_what_it_deletes() {
    let pair = propagating(&["a", "b"], 40);
    fs::remove_file(pair.home("a").join(skill(0))).unwrap();
    let args = [
        "--manager-home",
        "manager-a",
        "sync",
        "-c",
        "a.toml",
        "plan",
    ];
    let run = pair.0.run(args).code(0);
    let row = run.stdout.lines().find(|line| line.contains(&skill(0)));
    let row = row.unwrap_or_else(|| panic!("no row: {run}"));
    assert!(
        row.contains("delete-cloud") && row.contains(" 3 B "),
        "{row}"
    );
}

#[test]
fn a_deletion_does_not_apply_to_the_older_version_of_a_machine_that_is_behind() {
    for [deleting, other] in [["a", "b"], ["b", "a"]] {
        let pair = propagating(&["a", "b"], 12);
        pair.sync(&[(ROLLOUT, META)]);
        // `b` is behind: it does not get the second version.
        pair.put("a", ROLLOUT, &format!("{META}{{\"n\":1}}\n"));
        pair.apply("a");
        fs::remove_file(pair.home("a").join(ROLLOUT)).unwrap();
        pair.apply("a");
        assert!(!pair.cloud().join(ROLLOUT).exists());
        let json = pair.apply("b");
        assert_eq!(actions(&json), [format!("copy-to-cloud {ROLLOUT}")]);
        pair.apply("a");
        assert_eq!(pair.text("a", ROLLOUT), META);
        // Deleted again, it is deleted everywhere, and no machine waits for the second version.
        fs::remove_file(pair.home(deleting).join(ROLLOUT)).unwrap();
        for name in [deleting, other, deleting, other] {
            pair.apply(name);
        }
        for root in [pair.home("a"), pair.home("b"), pair.cloud()] {
            assert!(!root.join(ROLLOUT).exists(), "{deleting}");
        }
    }
}

#[test]
fn a_conversation_that_gets_an_excluded_name_is_not_deleted() {
    let name = ROLLOUT.rsplit('/').next().unwrap();
    let archived = format!("archived_sessions/{name}");
    let packed = format!("{ROLLOUT}.zst");
    for (glob, moved) in [
        ("*.zst", &packed),
        ("archived_sessions/*", &archived),
        ("archived_sessions", &archived),
    ] {
        for policy in ["propagate", "never"] {
            let pair = Pair::new();
            pair.configure(
                "a",
                &format!("[sync]\ndelete_policy = \"{policy}\"\n[filters]\nexclude_globs = [\"{glob}\"]\n"),
            );
            pair.configure("b", PROPAGATE);
            pair.sync(&[(ROLLOUT, META), (SKILL, "one")]);
            fs::remove_file(pair.home("a").join(ROLLOUT)).unwrap();
            let moved = pair.put("a", moved, META);
            if glob == "*.zst" {
                fs::write(&moved, zstd::encode_all(META.as_bytes(), 1).unwrap()).unwrap();
            }
            for name in ["a", "b", "a"] {
                let label = format!("{glob} {policy} {name}");
                assert_eq!(actions(&pair.apply(name)), [""; 0], "{label}");
            }
            assert_eq!(pair.text("b", ROLLOUT), META);
            // Turns of the other machine arrive.
            let longer = format!("{META}{{\"n\":1}}\n");
            pair.put("b", ROLLOUT, &longer);
            pair.apply("b");
            pair.apply("a");
            assert_eq!(pair.text("a", ROLLOUT), longer, "{glob} {policy}");
            assert!(moved.exists());
        }
    }
}
