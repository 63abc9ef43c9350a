//! Decisions about versions of conversations: their scope and duration. A decision drops no other version.

use crate::support::injection::{can_inject, ended_before_call};
use crate::support::pair::{ID, META, Pair, ROLLOUT};
use std::fs;
use std::path::Path;

/// Number of calls of one kind at which a decision is killed, at most.
const KILLS: usize = 12;
const NO_BACKUP: &str = "[backup]\nbackup_before_overwrite = false\n";

fn line(n: &str) -> String {
    format!("{{\"n\":\"{n}\"}}\n")
}

/// Returns all texts below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(texts(&path));
        } else {
            found.extend(fs::read_to_string(&path));
        }
    }
    found
}

fn forks(pair: &Pair) -> Vec<String> {
    let mut all = texts(&pair.cloud().join(".codex-manager/forks"));
    all.sort();
    all
}

#[test]
fn a_third_version_needs_its_own_decision() {
    for keep in ["local", "cloud", "both"] {
        let pair = Pair::synced(&[(ROLLOUT, META)]);
        pair.configure("c", NO_BACKUP);
        pair.apply("c");
        let text = |n| format!("{META}{}", line(n));
        for name in ["a", "b", "c"] {
            pair.put(name, ROLLOUT, &text(name));
        }
        pair.apply("a");
        // The version of `c` arrived as a conflict file of its client.
        let copy = ROLLOUT.replace(".jsonl", ".sync-conflict-20261118-101010-ABCDEF7.jsonl");
        let copy = pair.put("cloud", &copy, &text("c"));
        let _ = pair.run("b", &["run", "--apply"]).code(2);
        let run = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
        let kept = match keep {
            "both" => "kept both versions of ".to_owned(),
            one => format!("kept the {one} version of "),
        };
        assert!(run.stdout.starts_with(&kept), "{run}");
        assert_eq!(forks(&pair), [text("c")], "{keep}");
        fs::remove_file(copy).unwrap();
        pair.configure(
            "c",
            &format!("{NO_BACKUP}[conflict]\npolicy = \"prefer_cloud\"\n"),
        );
        for name in ["b", "c", "b"] {
            pair.apply(name);
        }
        let winner = if keep == "cloud" { "a" } else { "b" };
        assert_eq!(pair.text("c", ROLLOUT), text(winner), "{keep}");
        assert!(
            forks(&pair).contains(&text("c")),
            "{keep}: {:?}",
            forks(&pair)
        );
    }
}

#[test]
fn a_piped_plan_has_whole_paths() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    let run = pair.run("a", &["plan"]).code(0);
    let row = format!("copy-to-cloud  {ROLLOUT}  ");
    assert!(
        run.stdout.lines().any(|line| line.starts_with(&row)),
        "{run}"
    );
}

#[test]
fn a_restored_version_survives_earlier_decisions() {
    let pair = Pair::new();
    let policy = |name| format!("{NO_BACKUP}[conflict]\npolicy = \"{name}\"\n");
    pair.configure("b", &policy("prefer_local"));
    let [of_a, of_b] = pair.diverge();
    pair.apply("b");
    pair.apply("a");
    assert_eq!(forks(&pair), [&*of_a]);
    let decided = pair.run("b", &["resolve", ID, "--keep", "local", "--json"]);
    let snapshot = decided.code(0).json()["snapshot"]
        .as_str()
        .unwrap()
        .to_owned();
    pair.apply("b");
    // `a` publishes the decision too from now on.
    pair.apply("a");
    assert_eq!(forks(&pair), [""; 0]);
    let back = [
        "restore", "--from", &snapshot, "--target", "local", "--apply",
    ];
    let _ = pair.run("b", &back).code(0);
    assert_eq!(pair.text("b", ROLLOUT), of_a);
    pair.put("a", ROLLOUT, &format!("{of_b}{}", line("more")));
    pair.apply("a");
    pair.configure("b", &policy("prefer_cloud"));
    pair.apply("b");
    assert_eq!(forks(&pair), [&*of_a]);
    // `a` does not remove it again. After a further decision, it is removed everywhere.
    for name in ["a", "b"] {
        assert_eq!(pair.apply(name)["forks"].as_array().unwrap().len(), 1);
    }
    let _ = pair.run("a", &["resolve", ID, "--keep", "local"]).code(0);
    for name in ["a", "b", "a"] {
        assert_eq!(pair.apply(name)["forks"].as_array().unwrap().len(), 0);
    }
    assert_eq!(forks(&pair), [""; 0]);
}

#[test]
fn i2_a_killed_keep_both_drops_no_version() {
    if !can_inject() {
        return;
    }
    for call in ["fsync", "rename", "unlink"] {
        for number in 1..=KILLS {
            let pair = Pair::new();
            pair.configure("b", NO_BACKUP);
            let [mine, other] = pair.diverge();
            let _ = pair.run("b", &["resolve", ID, "--keep", "local"]).code(0);
            pair.apply("b");
            pair.apply("a");
            // The user restores the file by hand, and both versions continue.
            pair.put("a", ROLLOUT, &mine);
            pair.apply("a");
            pair.put("b", ROLLOUT, &format!("{other}{}", line("more")));
            let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
            let both = ["resolve", ROLLOUT, "--keep", "both"];
            let ended = ended_before_call(&pair.0, &[&args[..], &both].concat(), call, number);
            for name in ["b", "a", "b"] {
                let _ = pair.run(name, &["run", "--apply"]);
            }
            let all = [pair.cloud(), pair.home("b"), pair.0.path("manager-b")];
            let all: Vec<String> = all.iter().flat_map(|folder| texts(folder)).collect();
            let lines = line("a");
            assert!(
                all.iter().any(|text| text.ends_with(&lines)),
                "{call} {number}: {all:?}"
            );
            if ended {
                break;
            }
        }
    }
}

#[test]
fn i2_a_killed_keep_fork_leaves_the_conversation_undecided() {
    if !can_inject() {
        return;
    }
    for call in ["fsync", "rename"] {
        for number in 1..=2 * KILLS {
            let pair = Pair::new();
            for name in ["a", "b"] {
                pair.configure(
                    name,
                    &format!("{NO_BACKUP}[conflict]\npolicy = \"prefer_local\"\n"),
                );
            }
            let [_, living] = pair.diverge();
            pair.apply("b");
            pair.apply("a");
            let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
            let fork = ["resolve", ID, "--keep", "fork"];
            let ended = ended_before_call(&pair.0, &[&args[..], &fork].concat(), call, number);
            if ended || pair.text("b", ROLLOUT) != living {
                break;
            }
            pair.apply("b");
            // On the other machine, another version replaces it.
            pair.put("a", ROLLOUT, &format!("{META}{}", line("else")));
            pair.apply("a");
            assert!(forks(&pair).contains(&living), "{call} {number}");
        }
    }
}
