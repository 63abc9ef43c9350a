//! `inventory.json` records the archives, so that listing them opens no sidecar.

use crate::prune::archives;
use crate::support::env::TestEnv;
use std::fs::{self, File};
use std::path::Path;

/// Overwrites a file with invalid bytes of the same length and mtime. A program that reads it fails.
fn corrupt(path: &Path) {
    let before = fs::metadata(path).unwrap();
    fs::write(path, vec![b'x'; usize::try_from(before.len()).unwrap()]).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

/// Returns the number of listed archives, and of those with a problem.
fn listed(env: &TestEnv) -> (usize, usize) {
    let document = env.run(["list-backups", "--json"]).code(0).json();
    let rows = document["backups"].as_array().unwrap();
    let problems = rows.iter().filter(|row| !row["problem"].is_null());
    (rows.len(), problems.count())
}

#[test]
fn after_a_backup_no_sidecar_of_an_unchanged_archive_is_opened() {
    let mut env = TestEnv::new();
    archives(&mut env, &["2026-11-18T10:00:00Z", "2026-11-19T10:00:00Z"]);
    let backups = env.manager_home().join("backups");
    // The user copies archives into the folder, and deletes the index.
    let name = |suffix: &str| format!("2026-11-18-100000-alice@example.com{suffix}");
    for i in 0..20 {
        for end in [".tar.gz", ".metadata.json"] {
            let copy = backups.join(name(&format!("-{}-codex{end}", 1000 + i)));
            fs::copy(backups.join(name(&format!("-codex{end}"))), copy).unwrap();
        }
    }
    fs::remove_file(env.manager_home().join("inventory.json")).unwrap();
    let _ = env.run(["backup", "--no-status"]).code(0);
    assert_eq!(listed(&env), (23, 0));
    for entry in fs::read_dir(&backups).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with(".metadata.json") {
            corrupt(&path);
        }
    }
    assert_eq!(listed(&env), (23, 0), "a sidecar was opened");
    let run = env.run(["restore", "latest", "--dry-run"]).code(0);
    assert!(run.stderr.contains("2026-11-20-120000"), "{run}");
    // A changed mtime is detected.
    let touched = File::options()
        .write(true)
        .open(backups.join(name("-1000-codex.metadata.json")));
    touched
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    assert_eq!(listed(&env), (23, 1));
}
