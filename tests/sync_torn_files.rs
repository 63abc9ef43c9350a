//! Files in the cloud folder that a client or a power cut has torn, and their recovery.

use crate::support::pair::{META, Pair, ROLLOUT, SKILL, actions, set_mtime};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the only entry of a folder whose name starts with `begin`.
fn only(folder: &Path, begin: &str) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(begin)
    });
    assert_eq!(paths.len(), 1, "{paths:?}");
    paths.remove(0)
}

/// Returns the remainder of a complete file.
type Tear = fn(&[u8]) -> Vec<u8>;

/// Ways in which a file is torn.
const TEARS: [(&str, Tear); 4] = [
    ("cut", |whole| whole[..whole.len() / 2].to_vec()),
    ("empty", |_| Vec::new()),
    ("zeros", |whole| vec![0; whole.len()]),
    ("half zeros", |whole| {
        let mut torn = whole.to_vec();
        torn[whole.len() / 2..].fill(0);
        torn
    }),
];

#[test]
fn a_torn_manifest_is_rewritten_and_existing_files_are_attested() {
    for (how, tear) in TEARS {
        let pair = Pair::new();
        pair.configure("c", "");
        pair.put("a", SKILL, "one");
        for name in ["a", "b", "a", "b"] {
            pair.apply(name);
        }
        let machines = pair.cloud().join(".codex-manager/machines");
        let word = only(&machines, "a-");
        let whole = fs::read(&word).unwrap();
        fs::write(&word, tear(&whole)).unwrap();
        let checks = pair.run("a", &["preflight"]).code(0);
        assert!(
            checks
                .stdout
                .contains("this machine's manifest in the cloud folder is"),
            "{how}: {checks}"
        );
        let json = pair.apply("a");
        assert_eq!(json["warnings"].as_array().unwrap().len(), 0, "{json}");
        assert_eq!(fs::read(only(&machines, "a-")).unwrap(), whole, "{how}");
        // A file that the user copied by hand to all places except the third machine.
        for name in ["a", "b", "cloud"] {
            pair.put(name, "skills/s/hand", "by hand");
        }
        for name in ["a", "b", "a", "b"] {
            pair.apply(name);
        }
        pair.apply("c");
        assert_eq!(pair.text("c", "skills/s/hand"), "by hand", "{how}");
    }
}

/// Creates two machines with a conflict copy; returns its paths in the cloud folder and on `b`.
fn with_conflict_copy() -> (Pair, PathBuf, PathBuf) {
    let pair = Pair::new();
    for name in ["a", "b", "c"] {
        pair.configure(name, "[conflict]\npolicy = \"prefer_local\"\n");
    }
    pair.diverge();
    pair.apply("b");
    let there = only(&pair.cloud().join(".codex-manager/forks"), "rollout-");
    let replica = only(&pair.0.path("manager-b/sync"), "");
    let here = only(&replica.join("forks"), "rollout-");
    (pair, there, here)
}

#[test]
fn a_torn_conflict_copy_is_completed_from_the_other_side() {
    for (how, tear) in TEARS {
        for is_here in [false, true] {
            let (pair, there, here) = with_conflict_copy();
            let whole = fs::read(&there).unwrap();
            let torn = if is_here { &here } else { &there };
            let time = torn.metadata().unwrap().modified().unwrap();
            fs::write(torn, tear(&whole)).unwrap();
            let file = fs::File::options().write(true).open(torn).unwrap();
            file.set_modified(time).unwrap();
            if !is_here {
                let _ = pair.run("c", &["run", "--apply"]).code(6);
            }
            let planned = pair.run("b", &["plan", "--json"]).code(0).json();
            let json = pair.apply("b");
            assert_eq!(planned["actions"], json["actions"]);
            assert_eq!(actions(&json).len(), 1, "{how} {is_here}: {json}");
            for path in [&there, &here] {
                assert_eq!(fs::read(path).unwrap(), whole, "{how} {is_here}");
            }
            assert_eq!(actions(&pair.apply("b")), [""; 0]);
            pair.apply("c");
        }
    }
}

#[test]
fn a_partial_conflict_copy_is_completed_or_kept() {
    let (pair, there, here) = with_conflict_copy();
    let whole = fs::read_to_string(&there).unwrap();
    assert!(whole.starts_with(META) && whole.len() > META.len());
    fs::write(&here, META).unwrap();
    pair.apply("b");
    assert_eq!(fs::read_to_string(&here).unwrap(), whole);
    // If no complete copy is left, the files stay, and no conversation is created from them.
    for (torn, secs) in [(&here, 1_795_000_000), (&there, 1_795_000_060)] {
        fs::write(torn, META).unwrap();
        set_mtime(torn, secs);
    }
    let before = pair.text("b", ROLLOUT);
    let _ = pair.run("b", &["run", "--apply"]).code(6);
    let name = there.file_name().unwrap().to_str().unwrap();
    for keep in ["fork", "both"] {
        let _ = pair.run("b", &["resolve", name, "--keep", keep]).code(1);
    }
    assert_eq!(pair.text("b", ROLLOUT), before);
    assert!(here.exists() && there.exists());
}

#[test]
fn files_of_a_machine_with_an_incomplete_manifest_are_synced_once_another_machine_attests_them() {
    let pair = Pair::new();
    pair.configure("c", "");
    pair.put("a", SKILL, "one");
    pair.put("a", ROLLOUT, META);
    for name in ["a", "b", "b"] {
        pair.apply(name);
    }
    let word = only(&pair.cloud().join(".codex-manager/machines"), "a-");
    let whole = fs::read(&word).unwrap();
    fs::write(&word, &whole[..whole.len() - 20]).unwrap();
    let _ = pair.run("c", &["run", "--apply"]).code(6);
    let checks = pair.run("c", &["preflight"]).code(0);
    for output in ["the manifest of a has", "/a-", "remove that"] {
        assert!(checks.stdout.contains(output), "{output}: {checks}");
    }
    pair.apply("b");
    pair.apply("c");
    assert_eq!(pair.text("c", SKILL), "one");
    assert_eq!(pair.text("c", ROLLOUT), META);
}
