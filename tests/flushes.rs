//! Which folders and files are flushed to the disk, and what a failed flush means.

use crate::support::env::TestEnv;
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{backup, put, sample_home};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the folders that a run of the command created, that still exist, and whose names were not flushed.
fn unflushed_folders(env: &TestEnv, args: &[&str]) -> BTreeSet<PathBuf> {
    let options = ["-y", "-e", "trace=mkdir,fsync,syncfs,rename,renameat2"].map(str::to_owned);
    let (output, log) = traced(env, &options, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    let mut pending = BTreeSet::new();
    for line in log.lines() {
        if line.contains("mkdir(") && line.ends_with("= 0") {
            let path = line.split('"').nth(1).expect("a path");
            pending.insert(env.path("").join(path));
        } else if line.contains("syncfs(") {
            pending.clear();
        } else if let Some((_, flushed)) = line.split_once("fsync(") {
            let folder = flushed.split(['<', '>']).nth(1).expect("a path");
            pending.retain(|made| made.parent() != Some(Path::new(folder)));
        }
    }
    pending.retain(|made| made.is_dir());
    pending
}

#[test]
fn new_folders_are_flushed_when_they_are_first_used() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let id = "01a1f790-0000-7000-8000-000000000001";
    let name = format!("sessions/2026/11/20/rollout-2026-11-20T06-00-00-{id}.jsonl");
    put(
        &env,
        name,
        format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n"),
    );
    let commands: [&[&str]; 5] = [
        &["storage", "trash", id],
        &["storage", "vacuum"],
        &["profile", "save", "alice"],
        &["backup", "--no-status"],
        &["restore", "latest", "--yes"],
    ];
    for args in commands {
        fs::remove_dir_all(env.manager_home()).unwrap_or_default();
        if args[0] == "restore" {
            backup(&env, &[]);
            put(&env, "AGENTS.md", "changed");
        }
        let unflushed = unflushed_folders(&env, args);
        assert_eq!(unflushed, BTreeSet::new(), "{args:?}");
    }
}
