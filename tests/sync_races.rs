//! Changes between the plan of a sync and its application.

use crate::support::injection::{can_inject, run_stopped_at};
use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions};
use codex_manager_core::io::environment::Environment;
use codex_manager_core::sync::apply::{self, ApplyError, ApplyReport, ApplyRequest};
use codex_manager_core::sync::config::{ConfigContext, SyncConfig};
use codex_manager_core::sync::plan::{self, PlanRequest};
use codex_manager_core::sync::state::Replica;
use std::fs;
use std::path::Path;

/// Plans for `a`, calls `meanwhile`, and applies the plan; calls `often` before each file change.
fn apply_after(pair: &Pair, meanwhile: impl FnOnce(), often: impl Fn()) -> ApplyReport {
    try_after(pair, meanwhile, often).unwrap()
}

/// Like [`apply_after`], but returns an error of the run.
fn try_after(
    pair: &Pair,
    meanwhile: impl FnOnce(),
    often: impl Fn(),
) -> Result<ApplyReport, ApplyError> {
    let manager = pair.0.path("manager-a");
    let around = ConfigContext {
        env: &Environment::default(),
        codex_home: &pair.home("a"),
        manager_home: &manager,
    };
    let config = SyncConfig::read(&pair.0.path("a.toml"), &around).unwrap();
    let replica = Replica::of(&manager, &config.local, &config.cloud);
    let (plan, state) = plan::plan(&PlanRequest::new(&config, &replica)).unwrap();
    meanwhile();
    let work = ApplyRequest {
        config: &config,
        replica: &replica,
        keep_going: &|| {
            often();
            true
        },
        progress: &codex_manager_core::io::progress::Silent,
        now: chrono::DateTime::from_timestamp(1_795_100_000, 0).unwrap(),
    };
    apply::apply(&plan, state, &work).map_err(|error| match error {
        // The overwritten files are in the snapshot.
        ApplyError::Stopped { cause, .. } => *cause,
        error => error,
    })
}

fn line(n: u8) -> String {
    format!("{{\"session_id\":\"x\",\"ts\":{n},\"text\":\"the prompt of {n}\"}}\n")
}

#[test]
fn a_file_truncated_before_the_merge_is_not_merged() {
    for cut in ["a", "cloud"] {
        let pair = Pair::synced(&[("history.jsonl", &line(1))]);
        pair.put("b", "history.jsonl", &(line(1) + &line(3)));
        pair.apply("b");
        pair.put("a", "history.jsonl", &(line(1) + &line(2)));
        let torn = &(line(1) + &line(2))[..line(1).len() + 9];
        let other = if cut == "a" { "cloud" } else { "a" };
        let before = pair.text(other, "history.jsonl");
        let whole = pair.text(cut, "history.jsonl");
        let meanwhile = || {
            pair.put(cut, "history.jsonl", torn);
        };
        let report = apply_after(&pair, meanwhile, || {});
        assert_eq!(report.done, [0; 0]);
        assert_eq!(report.skipped.len(), 1, "{report:?}");
        assert_eq!(pair.text(other, "history.jsonl"), before, "{cut}");
        pair.put(cut, "history.jsonl", &whole);
        pair.apply("a");
        for side in ["a", "cloud"] {
            assert_eq!(
                pair.text(side, "history.jsonl"),
                line(1) + &line(2) + &line(3)
            );
        }
    }
}

#[test]
fn a_conversation_truncated_before_the_copy_is_not_copied() {
    let longer = format!("{META}{{\"n\":1}}\n");
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    pair.put("b", ROLLOUT, &longer);
    pair.apply("b");
    let meanwhile = || {
        pair.put("cloud", ROLLOUT, &longer[..longer.len() - 3]);
    };
    let report = apply_after(&pair, meanwhile, || {});
    assert_eq!(report.skipped.len(), 1, "{report:?}");
    assert_eq!(pair.text("a", ROLLOUT), META);
    pair.put("cloud", ROLLOUT, &longer);
    pair.apply("a");
    assert_eq!(pair.text("a", ROLLOUT), longer);
}

#[test]
fn a_file_that_the_client_replaces_right_after_a_copy_counts_as_changed() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    pair.apply("a");
    pair.put("a", SKILL, "two, of a");
    let place = pair.cloud().join(SKILL);
    let client = || {
        if fs::read_to_string(&place).unwrap() == "two, of a" {
            fs::write(&place, "three, of the client").unwrap();
        }
    };
    let report = apply_after(&pair, || {}, client);
    assert_eq!(report.done, [0]);
    // No machine attests the file, so sync does not use it and reports it.
    let run = pair.run("a", &["run", "--apply", "--json"]).code(6);
    assert_eq!(run.json()["waiting"][0]["path"], SKILL);
    assert_eq!(actions(&run.json()), [""; 0]);
}

#[test]
fn nothing_is_written_after_the_cloud_folder_was_unmounted() {
    for is_left_empty in [false, true] {
        let pair = Pair::synced(&[(SKILL, "one")]);
        pair.put("a", ROLLOUT, META);
        let elsewhere = pair.0.path("elsewhere");
        let unmount = || {
            fs::rename(pair.cloud(), &elsewhere).unwrap();
            if is_left_empty {
                fs::create_dir(pair.cloud()).unwrap();
            }
        };
        let refused = try_after(&pair, unmount, || {}).unwrap_err();
        assert!(matches!(refused, ApplyError::Cloud(_)), "{refused}");
        assert_eq!(pair.cloud().exists(), is_left_empty);
        if is_left_empty {
            fs::remove_dir(pair.cloud()).unwrap();
        }
        fs::rename(&elsewhere, pair.cloud()).unwrap();
        pair.apply("a");
        assert_eq!(pair.text("cloud", ROLLOUT), META);
    }
}

#[test]
fn files_delivered_during_a_step_are_seen_by_the_next_run() {
    let text = format!("{META}{{\"n\":0}}\n");
    let longer = format!("{text}{{\"n\":1}}\n");
    let archived = format!("archived_sessions/{}", ROLLOUT.rsplit('/').next().unwrap());
    for (action, place) in [
        ("move-local", &*archived),
        ("remove-duplicate", ROLLOUT),
        ("keep-fork", ROLLOUT),
    ] {
        let pair = Pair::synced(&[(ROLLOUT, &text)]);
        pair.apply("a");
        match action {
            "move-local" => {
                fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
                pair.put("b", &archived, &text);
                pair.apply("b");
            }
            "remove-duplicate" => {
                let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
                let path = pair.home("a").join(format!("{ROLLOUT}.zst"));
                fs::write(path, packed).unwrap();
            }
            _ => {
                let copy = ROLLOUT.replace(".jsonl", " (Bob's conflicted copy 2026-11-18).jsonl");
                pair.put("cloud", &copy, &format!("{META}{{\"n\":\"of a copy\"}}\n"));
            }
        }
        let planned = pair.run("a", &["plan", "--json"]).code(0).json();
        assert_eq!(planned["actions"][0]["action"], action, "{planned}");
        let meanwhile = || {
            pair.put("b", place, &longer);
            pair.apply("b");
        };
        let report = apply_after(&pair, meanwhile, || {});
        assert_eq!(report.done, [0], "{action}: {report:?}");
        pair.apply("a");
        assert_eq!(pair.text("a", place), longer, "{action}");
    }
}

#[test]
fn nothing_is_written_if_the_cloud_folder_is_unmounted_during_a_run() {
    for is_amid in [false, true] {
        let pair = Pair::synced(&[(SKILL, "one")]);
        pair.put("a", SKILL, "two, longer");
        pair.put("a", "skills/mine/more.md", "more");
        let elsewhere = pair.0.path("elsewhere");
        let unmount = || {
            if !elsewhere.exists() {
                fs::rename(pair.cloud(), &elsewhere).unwrap();
                fs::create_dir(pair.cloud()).unwrap();
            }
        };
        let refused = if is_amid {
            try_after(&pair, || {}, unmount)
        } else {
            try_after(&pair, unmount, || {})
        };
        let refused = refused.unwrap_err();
        assert!(matches!(refused, ApplyError::Cloud(_)), "{refused}");
        assert_eq!(fs::read_dir(pair.cloud()).unwrap().count(), 0, "{is_amid}");
        fs::remove_dir(pair.cloud()).unwrap();
        fs::rename(&elsewhere, pair.cloud()).unwrap();
        pair.apply("a");
        assert_eq!(pair.text("cloud", SKILL), "two, longer");
        assert_eq!(pair.text("cloud", "skills/mine/more.md"), "more");
    }
}

#[test]
fn files_that_cannot_be_backed_up_are_left_and_the_rest_is_synced() {
    let skill = |n: u8| format!("skills/s{n}.md");
    for compression in ["none", "zip"] {
        for comes_back in [false, true] {
            let pair = Pair::new();
            pair.configure("a", &format!("[backup]\ncompression = \"{compression}\"\n"));
            for n in 1..=3 {
                pair.put("a", &skill(n), "one");
            }
            pair.apply("a");
            for n in 1..=3 {
                pair.put("a", &skill(n), "edited");
            }
            pair.put("a", "AGENTS.md", "new");
            let (place, aside) = (pair.cloud().join(skill(2)), pair.0.path("aside"));
            let meanwhile = || {
                fs::rename(&place, &aside).unwrap();
                if !comes_back {
                    fs::create_dir(&place).unwrap();
                }
            };
            // During the snapshot.
            let often = || {
                if comes_back && !place.exists() {
                    fs::rename(&aside, &place).unwrap();
                }
            };
            let report = apply_after(&pair, meanwhile, often);
            assert_eq!(report.done.len(), 3, "{compression}: {report:?}");
            assert_eq!(report.skipped.len(), 1, "{compression}: {report:?}");
            let why = &report.skipped[0].1;
            let expected = if comes_back {
                "removed in the meantime"
            } else {
                "cannot be backed up"
            };
            assert!(why.contains(expected), "{why}");
            if comes_back {
                assert_eq!(pair.text("cloud", &skill(2)), "one");
            }
            for (name, text) in [
                (&*skill(1), "edited"),
                (&*skill(3), "edited"),
                ("AGENTS.md", "new"),
            ] {
                assert_eq!(pair.text("cloud", name), text, "{compression}");
            }
            // The snapshot matches its list and can be restored.
            let back = ["restore", "--target", "cloud", "--apply", "--json"];
            let json = pair.run("a", &back).code(0).json();
            assert_eq!(json["files"].as_array().unwrap().len(), 2, "{json}");
            assert_eq!(pair.text("cloud", &skill(1)), "one");
        }
    }
}

#[test]
fn a_cloud_folder_that_disappears_is_not_created_again() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    pair.put("a", SKILL, "two, longer");
    let elsewhere = pair.0.path("elsewhere");
    let unmount = || {
        if fs::read_to_string(pair.cloud().join(SKILL)).is_ok_and(|text| text != "one") {
            fs::rename(pair.cloud(), &elsewhere).unwrap();
        }
    };
    let refused = try_after(&pair, || {}, unmount).unwrap_err();
    assert!(matches!(refused, ApplyError::Cloud(_)), "{refused}");
    assert!(!pair.cloud().exists());
    fs::rename(&elsewhere, pair.cloud()).unwrap();
    pair.apply("a");
    pair.apply("b");
    assert_eq!(pair.text("b", SKILL), "two, longer");
}

/// Number of calls at which a run is stopped, at most.
const STOPS: usize = 16;

#[test]
fn a_file_that_the_client_replaces_during_the_flush_is_kept() {
    if !can_inject() {
        return;
    }
    let of_client = "three, of the client";
    for number in 1..=STOPS {
        let pair = Pair::synced(&[(SKILL, "one")]);
        pair.put("a", SKILL, "two, longer");
        let args = ["--manager-home", "manager-a", "sync", "-c", "a.toml"];
        let args = [&args[..], &["run", "--apply"]].concat();
        let client = || drop(pair.put("cloud", SKILL, of_client));
        let Some(output) = run_stopped_at(&pair.0, &args, ("fsync", number), client) else {
            assert!(number > 2, "no run was stopped");
            break;
        };
        assert_eq!(pair.text("cloud", SKILL), of_client, "{number}: {output:?}");
    }
}

#[test]
fn a_file_written_during_a_sync_restore_is_kept() {
    if !can_inject() {
        return;
    }
    let paths = ["skills/mine/1.md", "skills/mine/2.md", "skills/mine/3.md"];
    for (target, side) in [("cloud", "cloud"), ("local", "b")] {
        for number in 1..=STOPS {
            let pair = Pair::new();
            for path in paths {
                let snapshot = format!("backups-b/b-20261101T000000Z/{path}");
                pair.0.write(&snapshot, "old");
            }
            for path in &paths[..2] {
                pair.put(side, path, "before");
            }
            let args = ["--manager-home", "manager-b", "sync", "-c", "b.toml"];
            let from = ["restore", "--from", "b-20261101T000000Z"];
            let args = [&args[..], &from, &["--target", target, "--apply"]].concat();
            // One file that is replaced, and one that did not exist.
            let client = || {
                for path in &paths[1..] {
                    pair.put(side, path, "of another process");
                }
            };
            let Some(output) = run_stopped_at(&pair.0, &args, ("fsync", number), client) else {
                assert!(number > 2, "no run was stopped");
                break;
            };
            for path in &paths[1..] {
                let text = pair.text(side, path);
                let backups = kept(&pair.0.path("backups-b"));
                let is_kept =
                    text == "of another process" || backups.contains("of another process");
                assert!(is_kept, "{target} {number} {path}: {text} {output:?}");
            }
            if !output.status.success() {
                let stderr_text = String::from_utf8_lossy(&output.stderr);
                assert!(
                    stderr_text.contains("changed during the restore"),
                    "{stderr_text}"
                );
            }
        }
    }
}

/// Returns all texts below a folder.
fn kept(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all += &kept(&path);
        } else {
            all += &fs::read_to_string(path).unwrap_or_default();
        }
    }
    all
}
