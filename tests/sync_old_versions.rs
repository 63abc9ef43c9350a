//! Old versions that come back, through a cloud client or by the user's intention.

use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use std::fs;

/// Writes a version with this mtime on the first of the machines, and syncs all of them in order.
fn write_and_sync(pair: &Pair, text: &str, time: u64, names: &[&str]) {
    set_mtime(&pair.put(names[0], SKILL, text), time);
    for name in names {
        pair.apply(name);
    }
}

/// Asserts the text on both machines and in the cloud folder.
fn assert_everywhere(pair: &Pair, text: &str) {
    for side in ["a", "b", "cloud"] {
        assert_eq!(pair.text(side, SKILL), text, "{side}");
    }
}

fn reason(json: &serde_json::Value) -> &str {
    json["actions"][0]["reason"].as_str().unwrap()
}

const OLDER: &str = "the cloud folder has an older version";

#[test]
fn an_old_text_that_is_still_attested_does_not_replace_a_newer_one() {
    let pair = Pair::new();
    pair.configure("c", "");
    fs::create_dir_all(pair.home("c")).unwrap();
    // `c` is off from now on. Its manifest still attests the version that it wrote.
    write_and_sync(&pair, "one", 1_795_000_000, &["c", "a", "b"]);
    for n in 2..5 {
        write_and_sync(&pair, &format!("text {n}"), 1_795_000_000 + n, &["a", "b"]);
    }
    for (name, time) in [("a", 1_795_000_000), ("b", 1_795_000_100)] {
        set_mtime(&pair.put("cloud", SKILL, "one"), time);
        let json = pair.apply(name);
        assert_eq!(actions(&json), [format!("copy-to-cloud {SKILL}")]);
        assert_eq!(reason(&json), OLDER);
        assert!(json["snapshot"].is_string(), "{json}");
        for other in ["a", "b"] {
            assert_eq!(actions(&pair.apply(other)), [""; 0], "{other}");
        }
        assert_everywhere(&pair, "text 4");
    }
    // A machine that was away gets the newer version.
    assert_eq!(
        actions(&pair.apply("c")),
        [format!("copy-to-local {SKILL}")]
    );
}

#[test]
fn an_old_version_in_the_cloud_folder_waits_for_a_newer_version_of_another_machine() {
    let pair = Pair::new();
    write_and_sync(&pair, "one", 1_795_000_000, &["b", "a", "b"]);
    write_and_sync(&pair, "two", 1_795_000_010, &["a"]);
    set_mtime(&pair.put("cloud", SKILL, "one"), 1_795_000_000);
    // The file of `b` is unchanged; only the manifest of `a` shows the change.
    let json = pair.run("b", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(actions(&json), [""; 0]);
    assert_eq!(
        json["waiting"][0]["reason"],
        "a has a version that has not arrived yet"
    );
    assert_eq!(reason(&pair.apply("a")), OLDER);
    pair.apply("b");
    assert_everywhere(&pair, "two");
}

#[test]
fn an_old_text_is_replaced_by_a_local_edit_of_the_newer_one() {
    let pair = Pair::new();
    write_and_sync(&pair, "one", 1_795_000_000, &["b", "a", "b"]);
    write_and_sync(&pair, "two", 1_795_000_010, &["a", "b"]);
    set_mtime(&pair.put("cloud", SKILL, "one"), 1_795_000_000);
    write_and_sync(&pair, "three", 1_795_000_020, &["a", "b"]);
    assert_everywhere(&pair, "three");
}

#[test]
fn an_unattested_old_text_is_recognized_as_outdated() {
    let pair = Pair::new();
    write_and_sync(&pair, "one", 1_795_000_000, &["a", "b"]);
    for n in 2..8 {
        write_and_sync(&pair, &format!("text {n}"), 1_795_000_000 + n, &["a", "b"]);
    }
    for more in [&[][..], &["--accept-unlisted"]] {
        set_mtime(&pair.put("cloud", SKILL, "text 3"), 1_795_000_003);
        let mut args = vec!["run", "--apply", "--json"];
        args.extend(more);
        let json = pair.run("b", &args).code(0).json();
        assert_eq!(reason(&json), OLDER);
        pair.apply("a");
        assert_everywhere(&pair, "text 7");
    }
}

#[test]
fn a_deliberate_return_to_an_old_text_is_synced() {
    let pair = Pair::new();
    write_and_sync(&pair, "one", 1_795_000_000, &["a", "b"]);
    write_and_sync(&pair, "two", 1_795_000_010, &["b", "a"]);
    // The same text again, with the same mtime as before.
    write_and_sync(&pair, "one", 1_795_000_000, &["b", "a"]);
    assert_everywhere(&pair, "one");
    write_and_sync(&pair, "two", 1_795_000_010, &["a", "b"]);
    assert_everywhere(&pair, "two");
    // A restored version is older than the ones that follow, like any other version.
    set_mtime(&pair.put("cloud", SKILL, "one"), 1_795_000_000);
    assert_eq!(reason(&pair.apply("b")), OLDER);
    assert_everywhere(&pair, "two");
}

#[test]
fn a_version_restored_into_the_cloud_folder_reaches_all_machines() {
    let pair = Pair::new();
    write_and_sync(&pair, "one", 1_795_000_000, &["b", "a", "b"]);
    write_and_sync(&pair, "two", 1_795_000_010, &["a", "b"]);
    let args = ["restore", "--target", "cloud", "--apply"];
    let _ = pair.run("a", &args).code(0);
    assert_eq!(pair.text("cloud", SKILL), "one");
    for name in ["b", "a"] {
        assert_eq!(
            actions(&pair.apply(name)),
            [format!("copy-to-local {SKILL}")]
        );
    }
    assert_everywhere(&pair, "one");
}

#[test]
fn a_cloud_folder_rolled_back_to_an_earlier_day_is_updated() {
    // The machine may or may not remember its own manifest of that day.
    for versions in [3, 12] {
        for more in [&[][..], &["--accept-unlisted"]] {
            let pair = Pair::new();
            write_and_sync(&pair, "one", 1_795_000_000, &["a", "b", "a", "b"]);
            let day = pair.copy_cloud();
            for n in 0..versions {
                write_and_sync(&pair, &format!("text {n}"), 1_795_000_010 + n, &["a"]);
            }
            pair.apply("b");
            pair.restore_cloud(&day);
            let newest = format!("text {}", versions - 1);
            let mut args = vec!["run", "--apply", "--json"];
            args.extend(more);
            for name in ["b", "a", "b", "a"] {
                let json = pair.run(name, &args).code(0).json();
                assert_eq!(json["waiting"].as_array().unwrap().len(), 0, "{json}");
            }
            assert_everywhere(&pair, &newest);
            assert_eq!(actions(&pair.apply("a")), [""; 0]);
        }
    }
}

#[test]
fn an_earlier_version_of_a_conversation_in_the_cloud_folder_is_updated() {
    let line = |n: u32| format!("{{\"n\":{n}}}\n");
    let texts: Vec<_> = (0..3)
        .map(|n| format!("{META}{}", (0..n).map(line).collect::<String>()))
        .collect();
    // The local file contains what the other machine attests, as text or compressed.
    for is_packed in [false, true] {
        let pair = Pair::new();
        pair.put("b", ROLLOUT, &texts[0]);
        for name in ["b", "a", "b"] {
            pair.apply(name);
        }
        let old = pair.cloud().join(ROLLOUT);
        if is_packed {
            fs::remove_file(pair.home("b").join(ROLLOUT)).unwrap();
            let packed = zstd::encode_all(texts[1].as_bytes(), 1).unwrap();
            fs::write(pair.home("b").join(format!("{ROLLOUT}.zst")), packed).unwrap();
        } else {
            pair.put("b", ROLLOUT, &texts[1]);
        }
        for name in ["b", "a"] {
            pair.apply(name);
        }
        let _ = fs::remove_file(pair.cloud().join(format!("{ROLLOUT}.zst")));
        fs::write(&old, &texts[0]).unwrap();
        let here = pair.home("a").join(ROLLOUT);
        let _ = fs::remove_file(pair.home("a").join(format!("{ROLLOUT}.zst")));
        fs::write(here, &texts[2]).unwrap();
        assert_eq!(
            actions(&pair.apply("a")),
            [format!("copy-to-cloud {ROLLOUT}")],
            "{is_packed}"
        );
        pair.apply("b");
        assert_eq!(pair.text("b", ROLLOUT), texts[2]);
    }
}

#[test]
fn a_prefix_of_a_conversation_waits_for_undelivered_turns() {
    let pair = Pair::new();
    pair.put("b", ROLLOUT, META);
    for name in ["b", "a", "b"] {
        pair.apply(name);
    }
    pair.put("b", ROLLOUT, &format!("{META}{{\"by\":\"b\"}}\n"));
    pair.apply("b");
    // The manifest has arrived, the conversation has not.
    pair.put("cloud", ROLLOUT, META);
    pair.put("a", ROLLOUT, &format!("{META}{{\"by\":\"a\"}}\n"));
    let json = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(json["waiting"][0]["path"], ROLLOUT, "{json}");
    assert_eq!(pair.text("cloud", ROLLOUT), META);
}

#[test]
fn a_file_that_ends_inside_a_line_is_not_used_but_one_without_the_last_line_is() {
    let pair = Pair::new();
    write_and_sync(&pair, "one\ntwo\n", 1_795_000_000, &["a"]);
    let half = pair.put("cloud", SKILL, "one\ntw");
    for more in [&[][..], &["--accept-unlisted"]] {
        let mut args = vec!["run", "--apply", "--json"];
        args.extend(more);
        let json = pair.run("a", &args).code(6).json();
        assert_eq!(json["waiting"][0]["path"], SKILL, "{json}");
        assert_eq!(pair.text("a", SKILL), "one\ntwo\n");
    }
    fs::remove_file(half).unwrap();
    assert_eq!(
        actions(&pair.apply("a")),
        [format!("copy-to-cloud {SKILL}")]
    );
    // The user removed the last line.
    pair.put("cloud", SKILL, "one\n");
    assert_eq!(
        actions(&pair.apply("a")),
        [format!("copy-to-local {SKILL}")]
    );
}

#[test]
fn a_partial_text_that_was_synced_is_replaced_by_the_complete_one() {
    let pair = Pair::new();
    // No machine has a manifest yet.
    pair.put("cloud", SKILL, "one\ntw");
    pair.apply("a");
    assert_eq!(pair.text("a", SKILL), "one\ntw");
    pair.put("b", SKILL, "one\ntwo\n");
    pair.put("cloud", SKILL, "one\ntwo\n");
    pair.apply("b");
    // A partial file that `a` has attested comes back.
    pair.put("cloud", SKILL, "one\ntw");
    assert_eq!(reason(&pair.apply("b")), OLDER);
    pair.apply("a");
    assert_everywhere(&pair, "one\ntwo\n");
}

#[test]
fn without_other_machines_an_old_text_is_a_conflict() {
    let pair = Pair::new();
    for (n, text) in ["one", "two"].into_iter().enumerate() {
        write_and_sync(&pair, text, 1_795_000_000 + n as u64, &["a"]);
    }
    // A cloud client, or a user without codex-manager, restores the old version.
    set_mtime(&pair.put("cloud", SKILL, "one"), 1_795_000_100);
    let json = pair.run("a", &["run", "--apply", "--json"]).code(2).json();
    assert_eq!(json["conflicts"][0]["path"], SKILL, "{json}");
    assert_eq!(pair.text("a", SKILL), "two");
    let _ = pair
        .run("a", &["resolve", SKILL, "--keep", "cloud"])
        .code(0);
    assert_eq!(pair.text("a", SKILL), "one");
    // The replaced version comes back now.
    set_mtime(&pair.put("cloud", SKILL, "two"), 1_795_000_101);
    let _ = pair.run("a", &["run", "--apply"]).code(2);
    let _ = pair
        .run("a", &["resolve", SKILL, "--keep", "local"])
        .code(0);
    assert_eq!(pair.text("cloud", SKILL), "one");
}

#[test]
fn a_replaced_concurrent_version_is_in_the_snapshot() {
    let pair = Pair::new();
    write_and_sync(&pair, "one", 1_795_000_000, &["a", "b", "a"]);
    let before = pair.copy_cloud();
    write_and_sync(&pair, "by a", 1_795_000_010, &["a"]);
    let by_a = fs::read_dir(pair.cloud().join(".codex-manager/machines")).unwrap();
    let words: Vec<_> = by_a
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("a-"))
        .map(|entry| (entry.path(), fs::read(entry.path()).unwrap()))
        .collect();
    // The cloud folder of `b`, before the change arrived there.
    pair.restore_cloud(&before);
    write_and_sync(&pair, "by b", 1_795_000_020, &["b"]);
    // The client keeps the version of `b`.
    for (path, word) in words {
        fs::write(path, word).unwrap();
    }
    let json = pair.apply("a");
    assert_eq!(actions(&json), [format!("copy-to-local {SKILL}")]);
    let snapshot = json["snapshot"].as_str().expect("a snapshot");
    let args = [
        "restore", "--from", snapshot, "--target", "local", "--apply",
    ];
    let _ = pair.run("a", &args).code(0);
    for name in ["a", "b"] {
        pair.apply(name);
    }
    assert_everywhere(&pair, "by a");
}

#[test]
fn a_machine_that_takes_the_remote_version_of_a_conflict_attests_it() {
    let pair = Pair::new();
    pair.configure("a", "[conflict]\npolicy = \"prefer_cloud\"\n");
    write_and_sync(&pair, "one", 1_795_000_000, &["a", "b", "a"]);
    let before = pair.copy_cloud();
    write_and_sync(&pair, "by a", 1_795_000_010, &["a"]);
    // A client sets back the file and the manifest of `a`, and `b` edits the text and then returns to it.
    pair.restore_cloud(&before);
    for (n, text) in ["by b", "one"].into_iter().enumerate() {
        write_and_sync(&pair, text, 1_795_000_020 + n as u64, &["b"]);
        let json = pair.apply("a");
        assert_eq!(actions(&json), [format!("copy-to-local {SKILL}")], "{text}");
    }
    // If `a` still listed "by a", the successor of "one", `b` would wait for it forever.
    for name in ["b", "a", "b"] {
        assert_eq!(actions(&pair.apply(name)), [""; 0], "{name}");
    }
    assert_everywhere(&pair, "one");
}

#[test]
fn a_partial_conflict_copy_is_completed_by_the_machine_that_created_it() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[conflict]\npolicy = \"prefer_local\"\n");
    }
    pair.diverge();
    pair.apply("b");
    let forks = fs::read_dir(pair.cloud().join(".codex-manager/forks")).unwrap();
    let fork = forks.map(|entry| entry.unwrap().path()).next().unwrap();
    let whole = fs::read(&fork).unwrap();
    fs::write(&fork, &whole[..whole.len() / 2]).unwrap();
    let json = pair.apply("b");
    assert_eq!(json["actions"][0]["action"], "settle-fork", "{json}");
    assert_eq!(fs::read(&fork).unwrap(), whole);
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
}
