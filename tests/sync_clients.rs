//! Files that cloud clients create beside those of the user, and files that they remove during a run.

use crate::support::injection::{can_inject, traced};
use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions};
use std::fs;

#[test]
fn rclone_copies_of_conversations_and_prompts_are_merged_and_those_of_skills_reported() {
    let line = |n: u8| format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"{n}\"}}\n");
    let pair = Pair::synced(&[(ROLLOUT, META), (SKILL, "one"), ("history.jsonl", &line(1))]);
    pair.apply("a");
    pair.put("cloud", "history.jsonl..path1", &(line(1) + &line(2)));
    pair.put("cloud", "history.conflict1.jsonl", &(line(1) + &line(3)));
    let copy = ROLLOUT.replace(".jsonl", ".jsonl.path2");
    pair.put("cloud", &copy, &format!("{META}{{\"n\":1}}\n"));
    for copy in ["SKILL.conflict2.md", "SKILL.md..path1", "SKILL.laptop1.md"] {
        pair.put("cloud", &format!("skills/mine/{copy}"), "theirs");
    }
    for name in ["a", "b", "a"] {
        let json = pair.apply(name);
        assert_eq!(json["notes"].as_array().unwrap().len(), 3, "{json}");
    }
    for name in ["a", "b"] {
        assert_eq!(
            pair.text(name, "history.jsonl"),
            line(1) + &line(2) + &line(3)
        );
        assert_eq!(pair.text(name, ROLLOUT), format!("{META}{{\"n\":1}}\n"));
        assert_eq!(pair.text(name, SKILL), "one");
        assert_eq!(
            fs::read_dir(pair.home(name).join("skills/mine"))
                .unwrap()
                .count(),
            1
        );
    }
}

#[test]
fn unison_temp_files_are_ignored() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    let temp = "skills/.unison.other.2b7c1f.unison.tmp";
    pair.put("cloud", &format!("{temp}/SKILL.md"), "half of a folder");
    pair.put(
        "cloud",
        ".unison.history.jsonl.2b7c1f.unison.tmp",
        "{\"ts\":1}\n",
    );
    pair.configure("c", "[targets]\ninclude_roots = []\n");
    pair.apply("c");
    assert_eq!(pair.text("c", SKILL), "one");
    assert_eq!(
        fs::read_dir(pair.home("c").join("skills")).unwrap().count(),
        1
    );
    assert_eq!(fs::read_dir(pair.home("c")).unwrap().count(), 1);
}

#[test]
fn a_file_removed_during_a_run_is_reported_with_the_reason() {
    if !can_inject() {
        return;
    }
    // The file is listed, and removed before the plan, the copy or the merge opens it.
    let history = "history.jsonl";
    for (path, older, newer) in [
        (SKILL, "one", "two, and more"),
        (ROLLOUT, META, &*format!("{META}{{\"n\":1}}\n")),
        (history, "{\"ts\":1}\n", "{\"ts\":1}\n{\"ts\":3}\n"),
    ] {
        for side in ["a", "cloud"] {
            let pair = Pair::synced(&[(path, older)]);
            pair.put("b", path, newer);
            pair.apply("b");
            if path == history || side == "a" {
                pair.put("a", path, &format!("{older}{{\"ts\":2}}\n"));
            }
            pair.put("a", "skills/other/SKILL.md", "other");
            let root = if side == "a" {
                pair.home("a")
            } else {
                pair.cloud()
            };
            let full = root.join(path).to_string_lossy().into_owned();
            let options = [
                "-P",
                &full,
                "-e",
                "trace=openat,openat2",
                "-e",
                "inject=openat,openat2:error=ENOENT",
            ];
            let options = options.map(str::to_owned);
            let args = [
                "--manager-home",
                "manager-a",
                "sync",
                "-c",
                "a.toml",
                "run",
                "--apply",
            ];
            let (output, log) = traced(&pair.0, &options, &args);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let label = format!("{side} {path}: {stderr}");
            assert!(log.contains("INJECTED"), "{label}");
            assert_eq!(output.status.code(), Some(6), "{label}");
            assert!(!stderr.contains("os error"), "{label}");
            let printed = stderr
                .lines()
                .find(|line| line.contains(path))
                .expect(&label);
            assert!(printed.contains("removed"), "{label}");
            // The rest is synced.
            assert_eq!(pair.text("cloud", "skills/other/SKILL.md"), "other");
            assert_eq!(actions(&pair.apply("b")).len(), 1, "{label}");
        }
    }
}
