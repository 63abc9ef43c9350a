//! Versions that another machine lists and that have not arrived: they are reported, and no older version
//! replaces them.

use crate::support::copy_tree;
use crate::support::pair::{ID, META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path and the first line of another conversation.
fn second() -> (String, String) {
    let id = ID.replace("455", "456");
    (ROLLOUT.replace(ID, &id), META.replace(ID, &id))
}

/// Resets the cloud folder to a former day, except for the manifests, which have arrived already.
fn only_manifests_arrived(pair: &Pair, day: &Path) -> PathBuf {
    let manifests = ".codex-manager/machines";
    let all = pair.0.path("all");
    fs::rename(pair.cloud(), &all).unwrap();
    fs::rename(day, pair.cloud()).unwrap();
    let _ = fs::remove_dir_all(pair.cloud().join(manifests));
    fs::create_dir_all(pair.cloud().join(manifests)).unwrap();
    for entry in fs::read_dir(all.join(manifests)).unwrap() {
        let entry = entry.unwrap();
        let to = pair.cloud().join(manifests).join(entry.file_name());
        fs::copy(entry.path(), to).unwrap();
    }
    all
}

#[test]
fn undelivered_files_are_reported_with_their_machine() {
    let pair = Pair::synced(&[
        (ROLLOUT, META),
        (SKILL, "one"),
        ("history.jsonl", "{\"ts\":1}\n"),
    ]);
    pair.apply("a");
    let day = pair.copy_cloud();
    let longer = format!("{META}{{\"n\":1}}\n");
    let (other, meta) = second();
    pair.put("a", ROLLOUT, &longer);
    pair.put("a", &other, &meta);
    pair.put("a", SKILL, "two");
    pair.put("a", "skills/new/SKILL.md", "new");
    pair.put("a", "history.jsonl", "{\"ts\":1}\n{\"ts\":2}\n");
    pair.apply("a");
    let all = only_manifests_arrived(&pair, &day);
    let message_text = "a has 2 conversations and 3 files that have not arrived yet";
    for args in [&["plan", "--json"][..], &["run", "--apply", "--json"]] {
        let run = pair.run("b", args).code(6);
        assert!(run.stderr.contains(message_text), "{run}");
        let json = run.json();
        assert_eq!(actions(&json), [""; 0]);
        assert_eq!(json["summary"]["waiting"], 5, "{json}");
        let waiting = json["waiting"].as_array().unwrap();
        let reason = |path: &str| {
            let of_it = waiting.iter().find(|file| file["path"] == path);
            of_it.unwrap_or_else(|| panic!("{path}: {json}"))["reason"].clone()
        };
        for path in [
            ROLLOUT,
            SKILL,
            "history.jsonl",
            &other,
            "skills/new/SKILL.md",
        ] {
            assert_eq!(reason(path), "a has a version that has not arrived yet");
        }
    }
    let run = pair.run("b", &["run", "--apply"]).code(6);
    assert!(
        run.stderr
            .contains("before you start Codex on this machine run:\n    codex-manager"),
        "{run}"
    );
    assert!(!run.stderr.contains("continue with"), "{run}");
    let json = pair.run("b", &["preflight", "--json"]).code(0).json();
    let checks = json["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "sync.arrival");
    let check = check.unwrap_or_else(|| panic!("{json}"));
    assert_eq!(
        (&check["status"], &check["message"]),
        (&"warn".into(), &message_text.into())
    );
    // Files that have arrived are used; sync waits for the others.
    fs::copy(all.join(SKILL), pair.cloud().join(SKILL)).unwrap();
    let run = pair.run("b", &["run", "--apply"]).code(6);
    assert!(
        run.stderr
            .contains("a has 2 conversations and 2 files that"),
        "{run}"
    );
    assert_eq!(pair.text("b", SKILL), "two");
    pair.restore_cloud(&all);
    assert_eq!(actions(&pair.apply("b")).len(), 4);
    assert_eq!(pair.text("b", ROLLOUT), longer);
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
}

#[test]
fn excluded_and_deleted_files_are_not_awaited() {
    let pair = Pair::new();
    pair.configure("b", "[targets]\ninclude_roots = [\"sessions\"]\n");
    let day = pair.copy_cloud();
    pair.put("a", SKILL, "one");
    pair.apply("a");
    let all = only_manifests_arrived(&pair, &day);
    pair.apply("b");
    // The user writes the file by hand, on both machines and in the cloud folder.
    pair.restore_cloud(&all);
    let (other, meta) = second();
    pair.configure("b", "");
    pair.sync(&[(ROLLOUT, META), (&other, &meta)]);
    for name in ["a", "b", "cloud"] {
        for path in [ROLLOUT, SKILL] {
            let root = if name == "cloud" {
                pair.cloud()
            } else {
                pair.home(name)
            };
            fs::remove_file(root.join(path)).unwrap();
        }
    }
    for name in ["a", "b", "a", "b"] {
        assert_eq!(actions(&pair.apply(name)), [""; 0], "{name}");
    }
}

#[test]
fn conflict_copies_are_not_awaited() {
    for keep in [None, Some("local"), Some("both")] {
        let pair = Pair::new();
        pair.configure("b", "[conflict]\npolicy = \"prefer_local\"\n");
        pair.sync(&[(ROLLOUT, META)]);
        // The longer version of `a`, which its manifest lists, becomes a conflict copy on `b`.
        pair.put(
            "a",
            ROLLOUT,
            &format!("{META}{{\"n\":\"a, and longer\"}}\n"),
        );
        pair.apply("a");
        pair.put("b", ROLLOUT, &format!("{META}{{\"n\":\"b\"}}\n"));
        pair.apply("b");
        pair.apply("b");
        if let Some(keep) = keep {
            let _ = pair.run("b", &["resolve", ID, "--keep", keep]).code(0);
        }
        for name in ["b", "a", "b", "a"] {
            pair.apply(name);
        }
    }
}

#[test]
fn accept_unlisted_is_offered_only_if_no_newer_version_is_listed() {
    let pair = Pair::synced(&[(SKILL, "one\n")]);
    for name in ["a", "b"] {
        pair.apply(name);
    }
    // Written by hand: all manifests list only the version that both machines have.
    pair.put("cloud", SKILL, "by hand\n");
    let run = pair.run("b", &["run", "--apply"]).code(6);
    assert!(
        run.stderr
            .contains("; this machine has the newest version\n"),
        "{run}"
    );
    assert!(run.stderr.contains("--accept-unlisted"), "{run}");
    pair.put("cloud", SKILL, "one\n");
    pair.apply("b");
    // The version of `c` is newer than that of `a`, and a part of it has arrived.
    pair.configure("c", "");
    pair.apply("c");
    pair.put("c", SKILL, "two, of c\n");
    pair.apply("c");
    pair.put("cloud", SKILL, "two, o");
    let run = pair.run("b", &["run", "--apply"]).code(6);
    assert!(run.stderr.contains("; c has the newest version\n"), "{run}");
    assert!(!run.stderr.contains("--accept-unlisted"), "{run}");
}

/// Copies the homes of a machine to an image, or back.
fn copy_homes(pair: &Pair, name: &str, image: &str, is_restore: bool) {
    for home in [format!("codex-{name}"), format!("manager-{name}")] {
        let (live, kept) = (pair.0.path(&home), pair.0.path(image).join(&home));
        let (from, to) = if is_restore {
            (kept, live)
        } else {
            (live, kept)
        };
        let _ = fs::remove_dir_all(&to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        copy_tree(&from, &to);
    }
}

/// Syncs all machines and keeps both versions of each conflict, until a round changes nothing. Asserts that no
/// machine waits then, and that all have the same conversations.
fn settle(pair: &Pair, names: &[&str], what: &str) {
    let mut runs = Vec::new();
    for _ in 0..8 {
        runs.clear();
        let mut is_decided = true;
        for name in names {
            let mut run = pair.run(name, &["run", "--apply"]);
            if run.code == 5 {
                assert!(run.stderr.contains("seems unmounted"), "{what}: {run}");
                run = pair.run(name, &["run", "--apply", "--refill"]);
            }
            runs.push(run);
            let resolved = pair.run(name, &["resolve", ID, "--keep", "both"]);
            is_decided &= resolved.code == 1;
        }
        if is_decided && runs.iter().all(|run| run.code == 0) {
            break;
        }
    }
    for run in runs {
        assert_eq!(run.code, 0, "{what}: {run}");
    }
    let texts = |name: &str| {
        let folder = pair.home(name).join("sessions/2026/11/18");
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut texts: Vec<_> = entries
            .map(|entry| (entry.file_name(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        texts.sort();
        texts
    };
    for name in names {
        assert_eq!(texts(name), texts(names[0]), "{what}: {name}");
    }
}

/// Creates three machines with a conversation that `a` began, `b` continued and `c` continued differently, and `c`
/// keeps both. Returns them with an image of each machine, made before `c` decided.
fn kept_both() -> Pair {
    let pair = Pair::new();
    for name in ["a", "b", "c"] {
        pair.configure(name, "[conflict]\npolicy = \"manual\"\n");
    }
    pair.put("a", ROLLOUT, META);
    for name in ["a", "b", "c"] {
        pair.apply(name);
    }
    let of_a = format!("{META}{{\"n\":\"a, which is longer than that of c\"}}\n");
    pair.put("a", ROLLOUT, &of_a);
    pair.apply("a");
    pair.apply("b");
    pair.put("b", ROLLOUT, &format!("{of_a}{{\"n\":\"b\"}}\n"));
    pair.apply("b");
    pair.put("c", ROLLOUT, &format!("{META}{{\"n\":\"c\"}}\n"));
    for name in ["a", "b", "c"] {
        copy_homes(&pair, name, "image", false);
    }
    pair.apply("a");
    let _ = pair.run("c", &["run", "--apply"]).code(2);
    let _ = pair.run("c", &["resolve", ID, "--keep", "both"]).code(0);
    pair
}

#[test]
fn after_keep_both_a_prefix_of_a_resolved_version_is_not_awaited() {
    settle(&kept_both(), &["a", "b", "c"], "kept both");
}

#[test]
fn a_version_lost_in_the_cloud_folder_is_not_awaited_after_its_machine_replaced_it() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    let archived = ROLLOUT.replace("sessions/2026/11/18/", "archived_sessions/");
    let (first, second) = ("{\"n\":1}\n", "{\"n\":2}\n");
    pair.put("a", ROLLOUT, &format!("{META}{first}{second}"));
    pair.apply("a");
    // The client removes the file before it is delivered, and meanwhile the user compacts and archives the
    // conversation.
    fs::remove_file(pair.cloud().join(ROLLOUT)).unwrap();
    fs::remove_file(pair.home("a").join(ROLLOUT)).unwrap();
    let short = format!("{META}{second}");
    pair.put("a", &archived, &short);
    pair.apply("a");
    pair.apply("b");
    assert_eq!(pair.text("b", &archived), short);
}

#[test]
fn a_version_that_a_restored_machine_has_lost_is_awaited_only_if_a_clone_has_it() {
    for lost in [ROLLOUT, SKILL, "history.jsonl"] {
        let pair = Pair::synced(&[
            (ROLLOUT, META),
            (SKILL, "one"),
            ("history.jsonl", "{\"ts\":1}\n"),
        ]);
        pair.apply("a");
        copy_homes(&pair, "a", "image", false);
        let day = pair.copy_cloud();
        let text = pair.text("a", lost) + "{\"ts\":2}\n";
        let written = pair.put("a", lost, &text);
        set_mtime(&written, 1_900_000_000);
        pair.apply("a");
        let all = only_manifests_arrived(&pair, &day);
        let awaited = "a has a version that has not arrived yet";
        let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
        assert_eq!(run.json()["waiting"][0]["reason"], awaited, "{run}");
        // The machine is put back, and has not this version any more.
        copy_homes(&pair, "a", "latest", false);
        copy_homes(&pair, "a", "image", true);
        pair.apply("a");
        let given_up = "restored from a backup or copied";
        let run = pair.run("b", &["run", "--apply"]).code(0);
        assert!(run.to_string().contains(given_up), "{lost}: {run}");
        let run = pair.run("b", &["run", "--apply"]).code(0);
        assert!(!run.to_string().contains(given_up), "{lost}, once: {run}");
        // It was a clone, and the other machine still has this version.
        copy_homes(&pair, "a", "latest", true);
        pair.put("a", "skills/more/SKILL.md", "x");
        pair.apply("a");
        fs::remove_dir_all(&all).unwrap();
        let manifests = pair.0.path("manifests");
        let _ = fs::remove_dir_all(&manifests);
        fs::rename(pair.cloud().join(".codex-manager/machines"), &manifests).unwrap();
        fs::remove_file(pair.cloud().join(lost)).unwrap();
        fs::rename(&manifests, pair.cloud().join(".codex-manager/machines")).unwrap();
        pair.put("cloud", lost, &pair.text("b", lost));
        let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
        let waiting = run.json()["waiting"].to_string();
        assert!(waiting.contains(awaited), "{lost}: {run}");
    }
}
