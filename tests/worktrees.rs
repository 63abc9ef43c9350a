//! `worktrees/`: whole checkouts that Codex makes, which archives, the vault and a sync leave out.

use crate::support::env::TestEnv;
use crate::support::sample::{backup, put, sample_home, text};
use crate::vault::vault_env;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Adds a checkout with two files of 12 bytes together.
fn add_checkout(env: &TestEnv) {
    put(env, "worktrees/one/src/main.rs", "main() {}");
    put(env, "worktrees/one/.git", "dir");
}

/// Returns the entry of `worktrees` in a list of excluded paths.
fn entry(document: &Value) -> Value {
    let listed = document["excluded"].as_array().unwrap().iter();
    let mut found = listed.filter(|item| item["path"] == "worktrees");
    found.next().cloned().unwrap_or_default()
}

fn content(env: &TestEnv, name: &str) -> String {
    fs::read_to_string(env.codex_home().join(name)).unwrap()
}

fn has_checkout(archive: &Path) -> bool {
    let listed = std::process::Command::new("tar")
        .arg("tzf")
        .arg(archive)
        .output()
        .unwrap();
    String::from_utf8(listed.stdout)
        .unwrap()
        .contains("worktrees/one/src/main.rs")
}

#[test]
fn a_backup_leaves_checkouts_out_and_names_them() {
    let env = TestEnv::new();
    sample_home(&env);
    add_checkout(&env);
    let run = env.run(["backup", "--no-status"]).code(0);
    let line = "excluded: worktrees/ (2 files, 12 B): checkouts that Codex made";
    assert!(run.stdout.contains(line), "{run}");
    let run = env.run(["backup", "--no-status", "--json"]).code(0);
    let reason = "checkouts that Codex made (--include-worktrees archives them)";
    let expected = json!({"path": "worktrees", "reason": reason, "files": 2, "bytes": 12});
    assert_eq!(entry(&run.json()), expected);
    assert!(!has_checkout(&backup(&env, &[])));
    assert!(has_checkout(&backup(&env, &["--include-worktrees"])));
    let set = ["config", "set", "backup.include_worktrees", "true"];
    let _ = env.run(set).code(0);
    assert!(has_checkout(&backup(&env, &[])));
    let kinds = env.run(["storage", "--json"]).code(0).json()["kinds"].clone();
    let mut kinds = kinds.as_array().unwrap().iter();
    let kind = kinds.find(|kind| kind["kind"] == "worktrees").unwrap();
    assert_eq!((&kind["files"], &kind["bytes"]), (&json!(2), &json!(12)));
}

#[test]
fn a_restore_keeps_the_checkouts_of_the_home() {
    let env = TestEnv::new();
    sample_home(&env);
    add_checkout(&env);
    let archive = text(&backup(&env, &[]));
    let before = env.tree("home/.codex/worktrees");
    put(&env, "AGENTS.md", "changed");
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    assert_eq!(content(&env, "AGENTS.md"), "be brief\n");
    assert_eq!(before.diff(&env.tree("home/.codex/worktrees")), "");
    let _ = env.run(["restore", &archive, "--merge", "--yes"]).code(0);
    assert_eq!(before.diff(&env.tree("home/.codex/worktrees")), "");
}

#[test]
fn a_restore_recreates_archived_checkouts_and_saves_what_it_replaces() {
    let env = TestEnv::new();
    sample_home(&env);
    add_checkout(&env);
    let archive = text(&backup(&env, &["--include-worktrees"]));
    put(&env, "worktrees/one/src/main.rs", "changed");
    put(&env, "worktrees/one/added", "kept");
    let _ = env.run(["restore", &archive, "--yes"]).code(0);
    let main = "worktrees/one/src/main.rs";
    assert_eq!(content(&env, main), "main() {}");
    assert_eq!(content(&env, "worktrees/one/added"), "kept");
    let safety = env.run(["list-backups", "--json"]).code(0).json();
    let mut all = safety["backups"].as_array().unwrap().iter();
    let safety = all
        .find(|b| b["label"] == "safety")
        .expect("a safety backup");
    let name = safety["archive"].as_str().unwrap();
    let _ = env.run(["restore", name, "--yes"]).code(0);
    assert_eq!(content(&env, main), "changed");
}

#[test]
fn a_snapshot_leaves_checkouts_out_unless_they_are_included() {
    let Some(env) = vault_env() else { return };
    add_checkout(&env);
    let made = env.run(["vault", "backup", "--json"]).code(0).json();
    assert_eq!(entry(&made)["files"], json!(2));
    let all = ["vault", "backup", "--include-worktrees", "--json"];
    let all = env.run(all).code(0).json();
    assert_eq!(entry(&all), Value::Null);
    let more = |run: &Value| run["files"].as_u64().unwrap();
    assert_eq!(more(&all), more(&made) + 2);
}

#[test]
fn a_sync_leaves_checkouts_out() {
    let env = TestEnv::new();
    sample_home(&env);
    add_checkout(&env);
    let cloud = env.path("cloud");
    fs::create_dir(&cloud).unwrap();
    let _ = env
        .run(["sync", "init", "--cloud", cloud.to_str().unwrap()])
        .code(0);
    let _ = env.run(["sync", "run", "--apply", "--yes"]);
    let synced = walkdir::WalkDir::new(&cloud).into_iter().flatten();
    let names: Vec<_> = synced.map(|e| e.path().display().to_string()).collect();
    assert!(
        names.iter().any(|name| name.contains("rollout-")),
        "{names:?}"
    );
    assert!(
        !names.iter().any(|name| name.contains("worktrees")),
        "{names:?}"
    );
}
