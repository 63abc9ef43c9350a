//! Snapshots that claim to be of this program, in a repository that others can write to.

use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::restic;
use crate::support::sample::{FIRST, rollout, sample_home};
use crate::vault::{run_restic, set_up};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A home with a vault, and a copy of its snapshot to modify.
struct Forgery {
    env: TestEnv,
}

impl Forgery {
    fn new() -> Option<Self> {
        restic::program()?;
        let mut env = TestEnv::new();
        sample_home(&env);
        set_up(&mut env);
        let _ = env.run(["vault", "backup"]).code(0);
        let _ = run_restic(&env, &["restore", "latest", "--target", "forged"]).code(0);
        Some(Self { env })
    }

    /// Rewrites the manifest of the forged tree.
    fn change_manifest(&self, change: impl FnOnce(&mut Value)) {
        let path = self.env.path("forged/.codex-manager/manifest.json");
        let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(path, manifest.to_string()).unwrap();
    }

    /// Creates a snapshot of the forged tree and restores it into a new folder.
    fn restore(&self) -> Run {
        let script = "cd forged && exec /usr/bin/restic backup --json --host other \
             --tag codex-manager --tag mode=full --tag home=/x .";
        let mut command = self.env.other_program("/bin/sh");
        command
            .args(["-c", script])
            .env("RESTIC_REPOSITORY", self.env.path("vault"));
        let made = Run::of_output(command.output().unwrap()).code(0);
        let last = made.stdout.lines().last().unwrap();
        let summary: Value = serde_json::from_str(last).unwrap();
        let id = summary["snapshot_id"].as_str().unwrap().to_owned();
        self.env.run(["vault", "restore", &id, "--to", "new"])
    }

    /// Asserts that the restore of the forged snapshot is refused and writes nothing.
    #[track_caller]
    fn assert_refused(&self, reason: &str) {
        let before = self.env.tree("home");
        let run = self.restore();
        assert_ne!(run.code, 0, "{run}");
        assert!(run.stderr.contains(reason), "{reason}: {run}");
        assert!(!self.env.path("new").exists(), "{run}");
        let files = |path: &str| {
            let mut tree = self.env.tree(path);
            let is_stable = |p: &Path| !p.starts_with(".cache") && !p.starts_with(".codex-manager");
            tree.0.retain(|p, _| is_stable(p));
            tree
        };
        let mut before = before;
        before
            .0
            .retain(|p, _| !p.starts_with(".cache") && !p.starts_with(".codex-manager"));
        assert_same_tree(&before, &files("home"));
    }
}

/// Modifies the file at a path of the forged tree.
type ChangeFile = fn(&Path);

/// Returns an entry of the manifest for a file.
fn file_entry(path: &str) -> Value {
    json!({ "path": path, "size": 1, "mode": 0o644, "mtime": 0 })
}

fn add_file(manifest: &mut Value, path: &str) {
    manifest["files"]
        .as_array_mut()
        .unwrap()
        .push(file_entry(path));
}

#[test]
fn i12_names_that_leave_the_home_are_refused() {
    for path in ["../evil", "/etc/evil", "sessions/../../evil"] {
        let Some(forgery) = Forgery::new() else {
            return;
        };
        forgery.change_manifest(|manifest| add_file(manifest, path));
        forgery.assert_refused("is damaged: manifest");
    }
}

#[test]
fn i12_links_that_leave_the_home_are_refused() {
    let Some(forgery) = Forgery::new() else {
        return;
    };
    let outside = forgery.env.path("outside");
    forgery.change_manifest(|manifest| {
        manifest["links"] = json!([{ "path": "skills/out", "target": outside }]);
    });
    forgery.assert_refused("unsafe entry");
}

#[test]
fn i12_reserved_names_and_journals_of_databases_are_refused() {
    for path in [".codex-manager/journal.json", "state_5.sqlite-wal"] {
        let Some(forgery) = Forgery::new() else {
            return;
        };
        let file = forgery.env.path("forged").join(path);
        fs::write(file, "x").unwrap();
        forgery.change_manifest(|manifest| add_file(manifest, path));
        forgery.assert_refused("unsafe entry");
    }
}

#[test]
fn files_that_differ_from_the_manifest_are_refused() {
    let conversation = rollout(FIRST);
    let changes: [(&str, ChangeFile); 4] = [
        ("is missing", |path| fs::remove_file(path).unwrap()),
        ("is shorter than in the manifest", |path| {
            fs::write(path, "{").unwrap();
        }),
        ("is not a file", |path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path).unwrap();
        }),
        ("is not a file", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (reason, change) in changes {
        let Some(forgery) = Forgery::new() else {
            return;
        };
        change(&forgery.env.path("forged").join(&conversation));
        forgery.assert_refused(reason);
    }
}

#[test]
fn i13_missing_and_damaged_manifests_are_refused() {
    let Some(forgery) = Forgery::new() else {
        return;
    };
    let path = forgery.env.path("forged/.codex-manager/manifest.json");
    for text in ["", "{", "[]", "{\"schema\":1,\"files\":[{\"path\":7}]}"] {
        fs::write(&path, text).unwrap();
        forgery.assert_refused("is damaged: manifest");
    }
    fs::remove_file(&path).unwrap();
    forgery.assert_refused("error: data of the vault is missing or damaged");
}

#[test]
fn a_file_that_the_manifest_does_not_name_is_refused_and_a_link_is_left_out() {
    let Some(forgery) = Forgery::new() else {
        return;
    };
    let forged = forgery.env.path("forged");
    std::os::unix::fs::symlink("/etc", forged.join("etc")).unwrap();
    let run = forgery.restore().code(0);
    let new = forgery.env.tree("new");
    assert!(new.0.contains_key(&rollout(FIRST)), "{run}");
    assert!(new.only(&["etc"]).0.is_empty(), "{new:?}");
    fs::remove_dir_all(forgery.env.path("new")).unwrap();
    fs::write(forged.join("skills-extra"), "x").unwrap();
    forgery.assert_refused("skills-extra is not in the manifest");
}

#[test]
fn other_bytes_of_the_same_length_are_refused() {
    // A conversation, a text, a database and the login: linked and copied files.
    let conversation = rollout(FIRST).to_str().unwrap().to_owned();
    let paths = [&*conversation, "config.toml", "state_5.sqlite", "auth.json"];
    for path in paths {
        let Some(forgery) = Forgery::new() else {
            return;
        };
        let file = forgery.env.path("forged").join(path);
        let mut bytes = fs::read(&file).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&file, bytes).unwrap();
        forgery.assert_refused(&format!("{path} does not match its digest"));
    }
}

#[test]
fn a_snapshot_reads_unchanged_files_once_and_has_the_digest_of_every_file() {
    if restic::program().is_none() {
        return;
    }
    let mut env = TestEnv::new();
    sample_home(&env);
    set_up(&mut env);
    let manifest = env
        .manager_home()
        .join("vault/tree/.codex-manager/manifest.json");
    let digests = || -> BTreeMap<String, Value> {
        let text = fs::read(&manifest).expect("the manifest of the tree");
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        let files = manifest["files"].as_array().unwrap().iter();
        files
            .map(|file| {
                (
                    file["path"].as_str().unwrap().to_owned(),
                    file["blake3"].clone(),
                )
            })
            .collect()
    };
    let name = rollout(FIRST).to_str().unwrap().to_owned();
    let path = env.codex_home().join(&name);
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let set_time = |path: &Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(hour_ago).unwrap();
    };
    set_time(&path);
    let _ = env.run(["vault", "backup"]).code(0);
    let first = digests();
    assert!(
        first.len() > 3 && first.values().all(Value::is_string),
        "{first:?}"
    );
    // A manifest that names other digests shows which files are not read again.
    let text = fs::read_to_string(&manifest).unwrap();
    let mark = "0".repeat(64);
    let marked = first.values().fold(text, |text, digest| {
        text.replace(digest.as_str().unwrap(), &mark)
    });
    fs::write(&manifest, &marked).unwrap();
    let _ = env.run(["vault", "backup"]).code(0);
    assert_eq!(digests()[&name], mark);
    assert_ne!(digests()["auth.json"], mark);
    // Other bytes with the same size and time are another version.
    fs::write(&manifest, &marked).unwrap();
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    set_time(&path);
    let _ = env.run(["vault", "backup"]).code(0);
    assert_eq!(digests()[&name], first[&name]);
}
