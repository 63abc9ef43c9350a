//! Manifests of other machines that are not downloaded, too large, or do not match the folder, and the
//! messages about them.

use crate::support::memory::run_measuring_memory;
use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the path of a machine's manifest.
pub(crate) fn manifest_of(pair: &Pair, name: &str) -> PathBuf {
    let folder = pair.cloud().join(".codex-manager/machines");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let begin = format!("{name}-");
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(&begin)
    };
    entries.into_iter().find(is_it).expect("a manifest")
}

/// Returns the path of iCloud Drive's placeholder for a file.
fn placeholder_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    path.with_file_name(format!(".{name}.icloud"))
}

#[test]
fn a_manifest_that_is_not_downloaded_is_awaited() {
    let pair = Pair::new();
    pair.put("a", SKILL, "whole, as it was written");
    pair.apply("a");
    let list = manifest_of(&pair, "a");
    let stand_in = placeholder_of(&list);
    fs::rename(&list, &stand_in).unwrap();
    // Without another machine, the file would be used.
    pair.put("cloud", SKILL, "whole, as it\n");
    let run = pair.run("b", &["run", "--apply", "--json"]).code(6);
    let waiting = run.json()["waiting"].to_string();
    assert!(waiting.contains(SKILL), "{run}");
    assert!(waiting.contains("is not downloaded"), "{run}");
    assert!(
        waiting.contains(list.file_name().unwrap().to_str().unwrap()),
        "{run}"
    );
    assert!(!pair.home("b").join(SKILL).exists());
    let preflight = pair.run("b", &["preflight"]).code(0);
    assert!(
        preflight.to_string().contains("is not downloaded"),
        "{preflight}"
    );
    fs::rename(&stand_in, &list).unwrap();
    pair.put("cloud", SKILL, "whole, as it was written");
    pair.apply("b");
    assert_eq!(pair.text("b", SKILL), "whole, as it was written");
}

#[test]
fn an_own_manifest_that_is_not_downloaded_is_not_overwritten() {
    let pair = Pair::synced(&[(SKILL, "one")]);
    let list = manifest_of(&pair, "b");
    let stand_in = placeholder_of(&list);
    fs::rename(&list, &stand_in).unwrap();
    pair.put("b", SKILL, "two");
    let before = pair.tree();
    let run = pair.run("b", &["run", "--apply"]).code(5);
    assert!(run.stderr.contains("not downloaded"), "{run}");
    assert!(run.stderr.contains("nothing was changed"), "{run}");
    crate::support::env::assert_same_tree(&before, &pair.tree());
    let preflight = pair.run("b", &["preflight"]).code(5);
    assert!(
        preflight.to_string().contains("not downloaded"),
        "{preflight}"
    );
    fs::rename(&stand_in, &list).unwrap();
    pair.apply("b");
    assert_eq!(pair.text("cloud", SKILL), "two");
}

#[test]
fn a_conflict_copy_that_is_not_downloaded_is_awaited() {
    let pair = Pair::new();
    for name in ["a", "b"] {
        pair.configure(name, "[conflict]\npolicy = \"prefer_cloud\"\n");
    }
    pair.diverge();
    pair.apply("b");
    let name = pair.apply("b")["forks"][0].as_str().unwrap().to_owned();
    let fork = pair.cloud().join(".codex-manager/forks").join(&name);
    let stand_in = placeholder_of(&fork);
    fs::rename(&fork, &stand_in).unwrap();
    // One machine has the conflict copy, the other one does not.
    assert_eq!(actions(&pair.apply("b")), [""; 0]);
    let json = pair.run("a", &["run", "--apply", "--json"]).code(6).json();
    assert_eq!(json["waiting"][0]["path"], *name, "{json}");
    assert_eq!(json["forks"][0], *name, "{json}");
    assert!(!fork.exists());
    fs::rename(&stand_in, &fork).unwrap();
    assert_eq!(actions(&pair.apply("a")), [format!("settle-fork {name}")]);
}

#[test]
fn oversized_manifests_are_reported_and_skipped_with_little_memory() {
    let pair = Pair::new();
    pair.put("a", SKILL, "one");
    pair.apply("a");
    let folder = pair.cloud().join(".codex-manager/machines");
    let put = |name: &str, size: u64| {
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_len(size).unwrap();
    };
    put("huge-00000001.jsonl", 2 << 30);
    put("zeros-00000002.jsonl", 700 << 20);
    fs::write(folder.join("line-00000003.jsonl"), vec![b'x'; 1 << 20]).unwrap();
    for n in 0..5_000 {
        fs::write(folder.join(format!("many-{n:08x}.jsonl")), "x\n").unwrap();
    }
    let run = ["--manager-home", "manager-b", "sync", "-c", "b.toml", "run"];
    let (run, peak) = run_measuring_memory(&pair.0, &[&run[..], &["--apply", "--json"]].concat());
    let run = run.code(6);
    let skipped = run.json()["skipped"].to_string();
    assert!(skipped.contains("huge-00000001.jsonl"), "{skipped}");
    assert!(
        skipped.contains("remove it from the cloud folder"),
        "{skipped}"
    );
    assert!(peak < 100 << 20, "{peak}");
    // The entries of the valid manifest still count.
    assert_eq!(pair.text("b", SKILL), "one");
    let _ = pair.run("b", &["preflight"]).code(0);
}

#[test]
fn a_partial_conversation_is_reported_with_the_machine_of_the_newest_version() {
    let pair = Pair::new();
    let whole = format!("{META}{{\"n\":1}}\n");
    pair.put("a", ROLLOUT, &whole);
    pair.apply("a");
    pair.put("cloud", ROLLOUT, &whole[..whole.len() - 4]);
    // The user must not overwrite a version that has not arrived.
    let run = pair.run("b", &["run", "--apply"]).code(6);
    assert!(run.stderr.contains("; a has the newest version\n"), "{run}");
    assert!(!run.stderr.contains("--accept-unlisted"), "{run}");
    assert!(!pair.home("b").join(ROLLOUT).exists());
    // The machine that wrote it has no newer version.
    let run = pair.run("a", &["run", "--apply"]).code(6);
    assert!(
        run.stderr
            .contains("; this machine has the newest version\n"),
        "{run}"
    );
    assert!(run.stderr.contains("--accept-unlisted"), "{run}");
    let _ = pair
        .run("a", &["run", "--apply", "--accept-unlisted"])
        .code(0);
    pair.apply("b");
    assert_eq!(pair.text("b", ROLLOUT), whole);
}

#[test]
fn a_zero_filled_file_is_reported_with_a_remedy() {
    let pair = Pair::new();
    let whole = format!("{META}{{\"n\":1}}\n");
    pair.put("a", ROLLOUT, &whole);
    pair.apply("a");
    let zeros = "\0".repeat(whole.len() - META.len());
    let torn = pair.put("cloud", ROLLOUT, &format!("{META}{zeros}"));
    let run = pair.run("b", &["run", "--apply"]).code(6);
    let message = "; remove it from the cloud folder, then run on the other machine that has it:\n    codex-manager sync run --apply\n";
    assert!(run.stderr.contains(message), "{run}");
    fs::remove_file(torn).unwrap();
    pair.apply("a");
    pair.apply("b");
    assert_eq!(pair.text("b", ROLLOUT), whole);
}
