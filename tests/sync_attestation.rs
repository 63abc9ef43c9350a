//! Attestation of arriving files: the machine that lists them, and the names under which they arrive.

use crate::support::env::assert_same_tree;
use crate::support::pair::{META, Pair, ROLLOUT, actions, set_mtime};
use std::fs;
use std::path::PathBuf;

fn manifest_of(pair: &Pair, name: &str) -> PathBuf {
    let entries = fs::read_dir(pair.cloud().join(".codex-manager/machines")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let begin = format!("{name}-");
    let is_of = |path: &PathBuf| {
        let file = path.file_name().unwrap().to_string_lossy();
        file.starts_with(&begin)
    };
    paths.find(is_of).expect("a manifest")
}

#[test]
fn files_copied_to_the_cloud_folder_by_hand_reach_further_machines() {
    for compare in ["mtime", "mtime_hash_fallback", "three_way"] {
        let pair = Pair::new();
        for name in ["a", "b"] {
            pair.configure(name, &format!("[sync]\ncompare = \"{compare}\"\n"));
        }
        for name in ["a", "cloud"] {
            for (path, text) in [
                (ROLLOUT, META),
                ("skills/mine/SKILL.md", "mine"),
                ("history.jsonl", "{\"ts\":1}\n"),
            ] {
                set_mtime(&pair.put(name, path, text), 1_795_000_000);
            }
        }
        // Equal content with different mtimes.
        set_mtime(&pair.put("a", "skills/other/SKILL.md", "x"), 1_795_000_000);
        set_mtime(
            &pair.put("cloud", "skills/other/SKILL.md", "x"),
            1_795_009_000,
        );
        pair.apply("a");
        let before = pair.tree();
        assert_eq!(actions(&pair.apply("a")), Vec::<String>::new());
        assert_same_tree(&before, &pair.tree());
        let came = actions(&pair.apply("b"));
        assert_eq!(came.len(), 4, "{compare}: {came:?}");
        assert_eq!(pair.text("b", "skills/other/SKILL.md"), "x");
        assert_eq!(pair.text("b", ROLLOUT), META);
    }
}

/// Such a rollout is no version of the conversation of its name, and would replace it.
#[test]
fn a_rollout_whose_first_line_has_another_id_than_its_name_is_not_taken() {
    let pair = Pair::synced(&[(ROLLOUT, META)]);
    let other = META.replace("3b455", "3b4ff");
    assert_ne!(other, META);
    let new = ROLLOUT.replace("3b455", "3b466");
    // In the place of a conversation, and under a new name.
    for path in [ROLLOUT, &new] {
        pair.put("b", path, &format!("{other}{other}"));
    }
    let _ = pair.run("b", &["run", "--apply"]);
    assert_eq!(pair.text("cloud", &new), format!("{other}{other}"));
    let run = pair.run("a", &["run", "--apply"]);
    assert_eq!(pair.text("a", ROLLOUT), META, "{run}");
    assert!(!pair.home("a").join(&new).exists(), "{run}");
    let notices = run.stdout + &run.stderr;
    assert_eq!(
        notices
            .matches("has the id of another conversation")
            .count(),
        2,
        "{notices}"
    );
}

#[test]
fn files_of_a_removed_machine_reach_further_machines() {
    let pair = Pair::new();
    pair.put("a", ROLLOUT, META);
    pair.put("a", "skills/mine/SKILL.md", "mine");
    pair.apply("a");
    pair.apply("b");
    fs::remove_file(manifest_of(&pair, "a")).unwrap();
    pair.apply("b");
    pair.configure("c", "");
    fs::create_dir_all(pair.home("c")).unwrap();
    pair.apply("c");
    assert_eq!(pair.text("c", ROLLOUT), META);
    assert_eq!(pair.text("c", "skills/mine/SKILL.md"), "mine");
}

#[test]
fn a_file_equal_only_by_size_and_mtime_is_not_attested() {
    let pair = Pair::new();
    pair.configure("a", "[sync]\ncompare = \"mtime\"\n");
    let text = "x".repeat(300);
    set_mtime(&pair.put("a", "skills/mine/SKILL.md", &text), 1_795_000_000);
    set_mtime(
        &pair.put("cloud", "skills/mine/SKILL.md", &"\0".repeat(300)),
        1_795_000_000,
    );
    pair.apply("a");
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    assert_eq!(run.json()["waiting"][0]["path"], "skills/mine/SKILL.md");
    assert!(!pair.home("b").join("skills").exists());
}

#[test]
fn a_name_in_another_case_or_unicode_form_is_the_same_file() {
    for (mine, theirs) in [
        ("skills/mine/Case.md", "skills/mine/case.md"),
        ("skills/mine/caf\u{e9}.md", "skills/mine/cafe\u{301}.md"),
        (
            "skills/mine/\u{c9}t\u{e9}.md",
            "skills/mine/e\u{301}te\u{301}.md",
        ),
    ] {
        let pair = Pair::new();
        pair.put("a", mine, "one");
        pair.apply("a");
        fs::rename(pair.cloud().join(mine), pair.cloud().join(theirs)).unwrap();
        assert_eq!(
            actions(&pair.apply("b")),
            [format!("copy-to-local {theirs}")]
        );
        assert_eq!(pair.text("b", theirs), "one");
        pair.put("b", theirs, "two, and longer");
        pair.apply("b");
        pair.apply("a");
        assert_eq!(pair.text("a", mine), "two, and longer");
        for name in ["a", "b"] {
            assert_eq!(actions(&pair.apply(name)), Vec::<String>::new());
        }
        assert!(!pair.cloud().join(mine).exists());
    }
}

#[test]
fn a_partial_or_newer_manifest_attests_nothing() {
    for (what, damage) in [
        (
            "half",
            (|text: &str| text[..text.len() / 2].to_owned()) as fn(&str) -> String,
        ),
        ("newer", |text| {
            let body = text.replacen("\"schema\":1", "\"schema\":9", 1);
            let end = body.rfind("{\"end\"").unwrap();
            let digest = codex_manager_core::io::hash::Sha256Digest::of(&body.as_bytes()[..end]);
            format!("{}{{\"end\":\"{digest}\"}}\n", &body[..end])
        }),
    ] {
        let pair = Pair::new();
        pair.put("a", ROLLOUT, META);
        pair.apply("a");
        let manifest = manifest_of(&pair, "a");
        let whole = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, damage(&whole)).unwrap();
        let _ = pair.run("b", &["run", "--apply"]).code(6);
        assert!(!pair.home("b").join(ROLLOUT).exists(), "{what}");
        let checks = pair.run("b", &["preflight", "--json"]).code(0).json();
        let mut checks = checks["checks"].as_array().unwrap().iter();
        let check = checks
            .find(|check| check["id"] == "sync.manifests")
            .unwrap();
        let message = check["message"].as_str().unwrap();
        assert!(message.contains("has not arrived completely"), "{check}");
        fs::write(&manifest, whole).unwrap();
        pair.apply("b");
        assert_eq!(pair.text("b", ROLLOUT), META);
    }
}

#[test]
fn files_placed_on_both_sides_by_hand_are_synced_without_waiting() {
    let longer = format!("{META}{{\"n\":1}}\n");
    for (here, action) in [(META, None), (&*longer, Some("copy-to-cloud"))] {
        let pair = Pair::new();
        pair.configure("a", "[sync]\ncompare = \"three_way\"\n");
        for name in ["a", "b", "a"] {
            pair.apply(name);
        }
        pair.put("a", ROLLOUT, here);
        pair.put("a", "skills/mine/SKILL.md", "mine");
        set_mtime(&pair.put("cloud", ROLLOUT, META), 1_795_000_000);
        let skill = pair.put("cloud", "skills/mine/SKILL.md", "mine");
        set_mtime(&skill, 1_795_000_000);
        let expected: Vec<_> = action
            .map(|a| format!("{a} {ROLLOUT}"))
            .into_iter()
            .collect();
        assert_eq!(actions(&pair.apply("a")), expected);
        pair.apply("b");
        assert_eq!(pair.text("b", ROLLOUT), here);
        assert_eq!(pair.text("b", "skills/mine/SKILL.md"), "mine");
    }
}

#[test]
fn a_conversation_twice_in_the_cloud_folder_stays_only_where_this_machine_has_it() {
    let archived = format!("archived_sessions/{}", ROLLOUT.rsplit('/').next().unwrap());
    for there in [META, "{}\n"] {
        let pair = Pair::new();
        pair.put("a", ROLLOUT, META);
        pair.put("cloud", &archived, META);
        pair.put("cloud", ROLLOUT, there);
        pair.apply("a");
        assert!(!pair.cloud().join(&archived).exists());
        assert_eq!(pair.text("cloud", ROLLOUT), META);
        let forks = pair.cloud().join(".codex-manager/forks");
        assert_eq!(forks.exists(), there != META, "kept until the user decides");
        assert!(actions(&pair.apply("a")).is_empty());
    }
}

#[test]
fn an_attested_change_with_equal_size_and_mtime_is_detected() {
    const SKILL: &str = "skills/mine/SKILL.md";
    let turn = |n: u8| format!("{META}{{\"n\":{n}}}\n");
    for (path, old, new) in [
        (SKILL, "use 4 spaces".to_owned(), "use 2 spaces".to_owned()),
        (ROLLOUT, turn(1), turn(2)),
    ] {
        let pair = Pair::new();
        set_mtime(&pair.put("b", path, &old), 1_795_000_000);
        for name in ["b", "a", "b", "a"] {
            pair.apply(name);
        }
        set_mtime(&pair.put("b", path, &new), 1_795_000_001);
        pair.apply("b");
        // The manifest arrives before the file, and the client rounds mtimes.
        let there = pair.put("cloud", path, &old);
        set_mtime(&there, 1_795_000_000);
        // The former version of a conversation becomes a conflict copy and is dropped, because the local file
        // contains it. The other version has the same length and cannot be distinguished from an older one;
        // that of a skill can.
        let code = if path == SKILL { 6 } else { 0 };
        for _ in 0..2 {
            let _ = pair.run("a", &["run", "--apply"]).code(code);
        }
        let json = pair
            .run("a", &["run", "--apply", "--json"])
            .code(code)
            .json();
        assert_eq!(actions(&json), [""; 0]);
        assert_eq!(pair.text("a", path), old);
        fs::write(&there, &new).unwrap();
        set_mtime(&there, 1_795_000_000);
        let came = actions(&pair.apply("a"));
        assert_eq!(came.len(), 1, "{came:?}");
        assert_eq!(pair.text("a", path), new);
        let before = pair.tree();
        assert_eq!(actions(&pair.apply("a")), [""; 0]);
        assert_same_tree(&before, &pair.tree());
    }
}

#[test]
fn a_change_with_equal_size_and_mtime_conflicts_with_a_local_edit() {
    let pair = Pair::new();
    let there = pair.cloud().join("AGENTS.md");
    set_mtime(&pair.put("b", "AGENTS.md", "use 4 spaces"), 1_795_000_000);
    for name in ["b", "a", "b"] {
        pair.apply(name);
    }
    set_mtime(&pair.put("b", "AGENTS.md", "use 2 spaces"), 1_795_000_001);
    pair.apply("b");
    set_mtime(&there, 1_795_000_000);
    pair.put("a", "AGENTS.md", "use 4 spaces, and more");
    let run = pair.run("a", &["run", "--apply", "--json"]).code(2);
    assert_eq!(run.json()["conflicts"][0]["path"], "AGENTS.md", "{run}");
    assert_eq!(pair.text("cloud", "AGENTS.md"), "use 2 spaces");
}

#[test]
fn an_attested_compressed_conversation_is_read_once() {
    let pair = Pair::new();
    let path = format!("{ROLLOUT}.zst");
    let packed = zstd::encode_all(META.as_bytes(), 1).unwrap();
    fs::create_dir_all(pair.home("b").join(&path).parent().unwrap()).unwrap();
    fs::write(pair.home("b").join(&path), &packed).unwrap();
    for name in ["b", "a", "b", "a"] {
        pair.apply(name);
    }
    let before = pair.tree();
    // Size and mtime are equal, and no machine attests another content.
    let there = pair.cloud().join(&path);
    let time = there.metadata().unwrap().modified().unwrap();
    fs::write(&there, vec![b'x'; packed.len()]).unwrap();
    let file = fs::File::options().write(true).open(&there).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(actions(&pair.apply("a")), [""; 0]);
    fs::write(&there, &packed).unwrap();
    file.set_modified(time).unwrap();
    assert_same_tree(&before, &pair.tree());
}
