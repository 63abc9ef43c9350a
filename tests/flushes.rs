//! Flushes of new folders, and the results of commands with a failed flush.

use crate::support::conversations::{self, Conversation};
use crate::support::env::TestEnv;
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{backup, put, sample_home};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// Returns the number of flushes in a run of the command, and the paths of those that the run reports as done although
/// they failed. Each run begins with a copy of the home.
fn ignored_failures(env: &TestEnv, args: &[&str]) -> (usize, BTreeSet<String>) {
    let reset = || {
        let _ = fs::remove_dir_all(env.path("home"));
        let done = Command::new("cp")
            .arg("-a")
            .args([env.path("template"), env.path("home")])
            .status();
        assert!(done.expect("cp").success());
    };
    let options = |inject: &str| {
        ["-y", "-e", "trace=fsync,fdatasync,syncfs", "-e", inject].map(str::to_owned)
    };
    let mut ignored = BTreeSet::new();
    for number in 1.. {
        reset();
        let inject = format!("inject=fsync,fdatasync,syncfs:error=EIO:when={number}");
        let (output, log) = traced(env, &options(&inject), args);
        let Some(failed) = log.lines().find(|line| line.contains("INJECTED")) else {
            reset();
            return (number - 1, ignored);
        };
        if output.status.success() {
            let path = failed.split(['<', '>']).nth(1).expect("a path");
            ignored.insert(
                path.rsplit('/')
                    .find(|name| !name.contains("-tmp-"))
                    .expect("a name")
                    .to_owned(),
            );
        }
    }
    unreachable!("the loop above has no end")
}

#[test]
fn i14_a_failed_flush_is_not_reported_as_done() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let id = &*conversations::id(1);
    fs::remove_file(env.codex_home().join("state_5.sqlite")).expect("remove");
    conversations::write(&env, &Conversation::new(1, 1, "question", "answer"));
    let database = conversations::state(&env);
    let fill = "CREATE TABLE filled(text); INSERT INTO filled VALUES(zeroblob(1000000)); DROP TABLE filled";
    database.execute_batch(fill).unwrap();
    drop(database);
    let commands: [(&[&str], &[&str]); 6] = [
        (&["profile", "save", "alice"], &[]),
        (&["backup", "--no-status"], &[]),
        // SQLite ignores a failed flush of the folder of its journal.
        (&["storage", "trash", id], &[".codex"]),
        (&["storage", "undelete", id], &[".codex"]),
        // The exchange is durable then. The next command removes the journal.
        (&["storage", "vacuum"], &[".vacuum.codex-manager-journal"]),
        (
            &["storage", "vacuum", "--undo"],
            &[".vacuum.codex-manager-journal"],
        ),
    ];
    for (args, expected) in commands {
        let _ = fs::remove_dir_all(env.path("template"));
        let done = Command::new("cp")
            .arg("-a")
            .args([env.path("home"), env.path("template")])
            .status();
        assert!(done.expect("cp").success());
        let (flushes, ignored) = ignored_failures(&env, args);
        assert!(flushes > 1, "{args:?}");
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(ignored, expected, "{args:?}");
        let _ = env.run(args).code(0);
    }
}
