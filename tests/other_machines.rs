//! Archives from another machine, whose Codex home has the same path.

use crate::support::env::{Run, TestEnv};
use crate::support::sample::{backup, put, sample_home};
use crate::vault::vault_env;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Archives the Codex home on another machine, and copies the archive to this one. Returns its name.
pub(crate) fn bring_archive(env: &mut TestEnv) -> String {
    let other_manager = env.path("other-manager");
    env.set("CODEX_MANAGER_HOME", &other_manager);
    let made = env.run(["backup", "--no-status", "--json"]).code(0).json();
    env.unset("CODEX_MANAGER_HOME");
    let backups = env.manager_home().join("backups");
    fs::create_dir_all(&backups).unwrap();
    for entry in fs::read_dir(other_manager.join("backups")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), backups.join(entry.file_name())).unwrap();
    }
    made["archive"].as_str().unwrap().to_owned()
}

/// Returns true if the run describes the archive as one from another machine.
fn names_other_machine(run: &Run) -> bool {
    let words: Vec<_> = run.stderr.split_whitespace().collect();
    words.join(" ").contains("from another machine")
}

#[test]
fn an_archive_from_another_machine_is_not_latest_before_own_ones_and_counts_for_no_rule() {
    let mut env = TestEnv::new();
    sample_home(&env);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let other = bring_archive(&mut env);
    let latest = ["restore", "latest", "--dry-run", "--json"];
    let run = env.run(latest).code(0);
    assert_eq!(run.json()["archive"], other.as_str(), "{run}");
    assert!(names_other_machine(&run), "{run}");

    env.set("CODEX_MANAGER_NOW", "2026-11-20T12:00:00Z");
    put(&env, "notes.txt", "of this machine");
    let own = backup(&env, &[]);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T14:00:00Z");
    let run = env.run(latest).code(0);
    let name = own.file_name().and_then(|name| name.to_str()).unwrap();
    assert_eq!(run.json()["archive"], name, "{run}");
    assert!(!names_other_machine(&run), "{run}");

    let run = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    assert_eq!(run.json()["drop"], Value::Array(Vec::new()), "{run}");
    let args = ["backup", "--no-status", "--if-older", "90min", "--json"];
    let run = env.run(args).code(0);
    let made = run.json()["archive"].as_str().unwrap().to_owned();
    assert!(made.starts_with("2026-11-20-1400"), "{run}");
    let run = env.run(["prune", "--keep-last", "1", "--json"]).code(0);
    assert_eq!(run.json()["drop"][0]["archive"], name, "{run}");
    let backups = env.manager_home().join("backups");
    assert!(backups.join(other).exists() && backups.join(made).exists());
}

#[test]
fn an_archive_from_another_machine_is_latest_if_own_ones_have_no_conversations() {
    let mut env = TestEnv::new();
    sample_home(&env);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let other = bring_archive(&mut env);
    fs::remove_dir_all(env.codex_home()).unwrap();
    put(&env, "AGENTS.md", "of this machine");
    env.set("CODEX_MANAGER_NOW", "2026-11-20T14:00:00Z");
    let made = env.run(["backup", "--no-status"]).code(0);
    let warning = "warning: an archive of today 13:00 has 2 conversations";
    assert!(made.stderr.contains(warning), "{made}");
    let run = env
        .run(["restore", "latest", "--dry-run", "--json"])
        .code(0);
    assert_eq!(run.json()["archive"], other.as_str(), "{run}");
}

#[test]
fn an_own_archive_of_conversations_is_latest_before_a_full_one_from_another_machine() {
    let mut env = TestEnv::new();
    sample_home(&env);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T13:00:00Z");
    let _ = bring_archive(&mut env);
    env.set("CODEX_MANAGER_NOW", "2026-11-20T15:00:00Z");
    let own = backup(&env, &["--mode", "sessions"]);
    let name = own.file_name().and_then(|name| name.to_str()).unwrap();
    let run = env
        .run(["restore", "latest", "--dry-run", "--json"])
        .code(0);
    assert_eq!(run.json()["archive"], name, "{run}");
}

/// Returns the machine that a document records.
fn machine(path: &Path) -> String {
    let document: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    document["machine"].as_str().unwrap().to_owned()
}

#[test]
fn the_login_of_an_imported_archive_from_another_machine_is_not_restored() {
    let Some(mut env) = vault_env() else { return };
    let other = bring_archive(&mut env);
    let _ = env.run(["vault", "import", &*other]).code(0);
    let args = ["vault", "restore", "latest", "--json", "--to", "new"];
    let run = env.run(args).code(0);
    assert_eq!(run.json()["auth"], "skipped");
    assert!(!env.path("new/auth.json").exists());
    assert!(names_other_machine(&run), "{run}");
}

#[test]
fn an_exported_snapshot_records_the_machine_that_made_it() {
    let Some(mut env) = vault_env() else { return };
    let other = bring_archive(&mut env);
    let _ = env.run(["vault", "import", &*other]).code(0);
    let exported_machine = |folder: &str| {
        let args = ["vault", "export", "latest", "--to", folder, "--json"];
        let exported = env.run(args).code(0).json();
        let sidecar = exported["metadata_path"].as_str().unwrap();
        machine(&env.path(&sidecar.replace("[ROOT]/", "")))
    };
    let state = |manager: &str| machine(&env.path(manager).join("vault/state.json"));
    assert_eq!(exported_machine("imported"), state("other-manager"));
    crate::vault::backup(&env);
    assert_eq!(exported_machine("own"), state("home/.codex-manager"));
}
