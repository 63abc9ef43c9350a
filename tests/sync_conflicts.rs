//! Reports and effects of conflicts, by `conflict.policy`.

use crate::support::env::assert_same_tree;
use crate::support::pair::{ID, META, Pair, ROLLOUT, SKILL, actions};

fn policy(name: &str) -> String {
    format!("[conflict]\npolicy = \"{name}\"\n")
}

#[test]
fn a_run_reports_the_conflict_copies_that_it_creates() {
    for (name, winner) in [
        ("prefer_local", "the version of this machine wins"),
        ("prefer_cloud", "the version in the cloud folder wins"),
        ("prefer_newer_mtime", " wins"),
    ] {
        for is_planned in [true, false] {
            let pair = Pair::new();
            pair.configure("b", &policy(name));
            pair.diverge();
            if name == "prefer_newer_mtime" {
                crate::support::pair::set_mtime(&pair.home("b").join(ROLLOUT), 1_895_000_000);
            }
            let args = if is_planned {
                &["plan", "--json"][..]
            } else {
                &["run", "--apply", "--json"]
            };
            let run = pair.run("b", args).code(0);
            let json = run.json();
            assert_eq!(json["conflicts"][0]["path"], ROLLOUT, "{run}");
            let reason = json["conflicts"][0]["reason"].as_str().unwrap();
            assert!(reason.contains(winner), "{reason}");
            assert!(
                reason.ends_with("the other one is kept until you decide"),
                "{reason}"
            );
            assert_eq!(json["summary"]["conflicts"], 1);
            let fork = json["forks"][0]
                .as_str()
                .expect("a conflict copy")
                .to_owned();
            for expected in [&fork, "conflict: ", " sync resolve"] {
                assert!(run.stderr.contains(expected), "{expected}: {run}");
            }
            if !is_planned {
                let log: String = std::fs::read_dir(pair.0.path("manager-b/logs"))
                    .unwrap()
                    .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
                    .collect();
                assert!(log.contains("] conflict "), "{log}");
                // The next run treats it as an existing conflict copy, not as a new conflict.
                let json = pair.apply("b");
                assert_eq!(json["conflicts"].as_array().unwrap().len(), 0, "{json}");
                assert_eq!(json["forks"][0], *fork);
            }
        }
    }
}

#[test]
fn a_conflict_decided_by_policy_is_reported() {
    for (backup, expected) in [("true", "is in the snapshot"), ("false", "is overwritten")] {
        let pair = Pair::new();
        let more = policy("prefer_local");
        pair.configure(
            "b",
            &format!("{more}[backup]\nbackup_before_overwrite = {backup}\n"),
        );
        pair.sync(&[(SKILL, "one")]);
        pair.put("a", SKILL, "of a");
        pair.put("b", SKILL, "of b");
        pair.apply("a");
        let run = pair.run("b", &["run", "--apply", "--json"]).code(0);
        let reason = run.json()["conflicts"][0]["reason"].to_string();
        assert!(reason.contains(expected), "{run}");
        assert!(
            run.stderr.contains(&format!("conflict: {SKILL}: ")),
            "{run}"
        );
        assert_eq!(pair.text("cloud", SKILL), "of b");
    }
}

#[test]
fn a_conflict_stops_the_run_only_with_manual_abort() {
    for name in ["manual", "manual_abort"] {
        let pair = Pair::new();
        pair.configure("b", &policy(name));
        let [mine, other] = pair.diverge();
        pair.put("b", SKILL, "new");
        pair.put("a", "skills/of-a/SKILL.md", "new");
        pair.apply("a");
        let before = pair.tree();
        let run = pair.run("b", &["run", "--apply", "--json"]).code(2);
        let json = run.json();
        assert_eq!(json["conflicts"][0]["path"], ROLLOUT);
        assert_eq!(pair.text("cloud", ROLLOUT), mine);
        assert_eq!(pair.text("b", ROLLOUT), other);
        if name == "manual_abort" {
            assert_eq!(actions(&json), [""; 0]);
            assert!(run.stderr.contains("nothing was changed"), "{run}");
            assert!(
                run.stderr.contains("conflict.policy = \\\"manual\\\""),
                "{run}"
            );
            assert_same_tree(&before, &pair.tree());
            continue;
        }
        let expected = [
            "copy-to-local skills/of-a/SKILL.md".to_owned(),
            format!("copy-to-cloud {SKILL}"),
        ];
        let mut done = actions(&json);
        done.sort();
        done.reverse();
        assert_eq!(done, expected);
        assert!(run.stderr.contains("unchanged on both sides"), "{run}");
        assert_eq!(pair.text("cloud", SKILL), "new");
        // The conflict is reported until it is decided. Then the file is synced.
        let json = pair.run("b", &["run", "--apply", "--json"]).code(2).json();
        assert_eq!(actions(&json), [""; 0]);
        let _ = pair.run("b", &["resolve", ID, "--keep", "local"]).code(0);
        assert_eq!(json["conflicts"].as_array().unwrap().len(), 1);
        for name in ["b", "a"] {
            pair.apply(name);
        }
        assert_eq!(pair.text("a", ROLLOUT), other);
    }
}

#[test]
fn init_writes_the_manual_policy_and_without_a_policy_a_conflict_stops_the_run() {
    let pair = Pair::new();
    let cloud = pair.cloud().to_string_lossy().into_owned();
    let output = pair.0.path("new.toml").to_string_lossy().into_owned();
    let args = ["sync", "init", "--cloud", &*cloud, "--output", &*output];
    let _ = pair.0.run(args).code(0);
    let text = std::fs::read_to_string(&output).unwrap();
    assert!(text.contains("\npolicy = \"manual\"\n"), "{text}");
    // A configuration of codexSync without the key stops the run.
    pair.diverge();
    pair.put("b", SKILL, "new");
    let _ = pair.run("b", &["run", "--apply"]).code(2);
    assert!(!pair.cloud().join(SKILL).exists());
    assert!(META.len() < pair.text("b", ROLLOUT).len());
}
