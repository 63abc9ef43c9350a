//! Homes that change, or become unreadable, during a backup: all other files are archived, and
//! missing ones are reported.

use crate::support::archives::{create_archive_with_progress, restore_archive};
use crate::support::env::TestEnv;
use crate::support::injection::{can_inject, traced};
use crate::support::sample::{
    FIRST, SECOND, assert_same_home, backup, put, rollout, sample_home, text,
};
use codex_manager_core::io::Progress;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Mutex;

/// Runs a backup in which a system call on one file is altered. Returns exit code and document.
fn backup_with(env: &TestEnv, file: &str, call: &str, how: &str) -> (i32, serde_json::Value) {
    let path = env.codex_home().join(file);
    let options = [
        "-P",
        path.to_str().expect("UTF-8"),
        "-e",
        &format!("trace={call}"),
        "-e",
        &format!("inject={call}:{how}"),
    ];
    let options = options.map(str::to_owned);
    let (output, log) = traced(
        env,
        &options,
        &["backup", "--no-status", "--json", "--rehash"],
    );
    assert!(log.contains("INJECTED"), "{file}: {output:?}\n{log}");
    let document = serde_json::from_slice(&output.stdout);
    let code = output.status.code().expect("a code");
    (
        code,
        document.unwrap_or_else(|e| panic!("{file}: {e}: {output:?}")),
    )
}

/// Asserts that a backup lacks only `file`.
#[track_caller]
fn assert_only_missing(env: &TestEnv, file: &str, done: &(i32, serde_json::Value)) {
    let (code, document) = done;
    assert_eq!(*code, 6, "{file}: {document}");
    let skipped = document["skipped"].as_array().expect("a list");
    let paths: Vec<_> = skipped.iter().map(|s| &s["path"]).collect();
    assert_eq!(paths, [file], "{document}");
    let archive = document["archive"].as_str().expect("a name");
    let _ = env.run(["verify", archive]).code(0);
    let there = env.path(&format!("there-{}", file.replace('/', "-")));
    let to = there.to_str().expect("UTF-8");
    let _ = env.run(["restore", archive, "--to", to]).code(0);
    let (first, second) = (rollout(FIRST), rollout(SECOND));
    let names = ["config.toml", "history.jsonl", "session_index.jsonl"];
    let databases = ["state_5.sqlite", "AGENTS.md"];
    let all = names.iter().chain(&databases).map(PathBuf::from);
    for name in all.chain([first, second]) {
        let is_left_out = name.to_str() == Some(file);
        assert_eq!(
            there.join(&name).exists(),
            !is_left_out,
            "{file}: {}",
            name.display()
        );
    }
}

#[test]
fn an_unreadable_file_is_reported_and_all_others_are_archived() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let first = rollout(FIRST).display().to_string();
    for (file, call, how) in [
        (&*first, "read", "error=EIO"),
        ("history.jsonl", "read", "error=EIO"),
        ("session_index.jsonl", "read", "error=EIO"),
        ("config.toml", "read", "error=EIO"),
        ("AGENTS.md", "read", "error=EIO"),
        // The header of a database can be read, but its first or a later page cannot.
        ("state_5.sqlite", "pread64", "error=EIO"),
        ("state_5.sqlite", "pread64", "error=EIO:when=3+"),
    ] {
        let _ = fs::remove_dir_all(env.path(&format!("there-{}", file.replace('/', "-"))));
        let done = backup_with(&env, file, call, how);
        assert_only_missing(&env, file, &done);
    }
}

#[test]
fn a_rollout_is_left_out_if_all_its_reads_are_short_and_archived_if_only_the_first_is() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    sample_home(&env);
    let first = rollout(FIRST).display().to_string();
    // Every read returns the end of the file before the listed size.
    let done = backup_with(&env, &first, "read", "retval=0");
    assert_only_missing(&env, &first, &done);
    // The second attempt reads the complete file.
    let (code, document) = backup_with(&env, &first, "read", "retval=0:when=1");
    assert_eq!(code, 0, "{document}");
}

#[test]
fn a_database_that_fails_to_open_once_is_archived_or_reported() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let database = sample_home(&env).join("state_5.sqlite");
    let args = ["backup", "--no-status", "--json"];
    let mut named = 0;
    for number in 1.. {
        let Some(output) = with_failing_open(&env, &database, number, &args) else {
            // Each system call is counted by itself.
            assert!(number > 2, "the file was opened {number} times");
            break;
        };
        let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let archive = document["path"].as_str().expect("a path");
        let there = env.path(&format!("there-{number}"));
        let to = there.to_str().expect("UTF-8");
        let _ = env.run(["restore", archive, "--to", to]).code(0);
        let is_kept = there.join("state_5.sqlite").exists();
        let code = if is_kept { 0 } else { 6 };
        assert_eq!(output.status.code(), Some(code), "{number}: {output:?}");
        named += i32::from(!is_kept);
    }
    assert!(named > 0, "no read failed");
}

#[test]
fn a_restore_over_a_database_that_fails_to_open_once_is_complete_or_refused() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    let home = sample_home(&env);
    let database = home.join("state_5.sqlite");
    let archive = text(&backup(&env, &[]));
    let as_archived = env.tree("home/.codex");
    for number in 1.. {
        put(&env, "AGENTS.md", "changed");
        let changed = env.tree("home/.codex");
        let args = ["restore", &archive];
        let Some(output) = with_failing_open(&env, &database, number, &args) else {
            // Each system call is counted by itself.
            assert!(number > 2, "the file was opened {number} times");
            break;
        };
        let is_done = output.status.success();
        let expected = if is_done { &as_archived } else { &changed };
        assert_same_home(expected, &env.tree("home/.codex"));
    }
}

/// Runs a command in which the N-th open of a file fails. Returns `None` if the file is opened less
/// often.
fn with_failing_open(env: &TestEnv, file: &Path, number: u32, args: &[&str]) -> Option<Output> {
    let options = [
        "-P",
        file.to_str().expect("UTF-8"),
        "-e",
        "trace=openat,openat2",
        "-e",
        &format!("inject=openat,openat2:error=EIO:when={number}"),
    ];
    let (output, log) = traced(env, &options.map(str::to_owned), args);
    log.contains("INJECTED").then_some(output)
}

/// Changes the home at given moments of its capture.
struct HomeMutator<L, A> {
    listed: Mutex<Option<L>>,
    read: A,
}

impl<L: FnOnce() + Send, A: Fn() + Sync> Progress for HomeMutator<L, A> {
    fn expect_bytes(&self, _total: u64) {
        if let Some(listed) = self.listed.lock().expect("the lock").take() {
            listed();
        }
    }

    fn add_bytes(&self, _bytes: u64) {
        (self.read)();
    }
}

fn home_mutator<L: FnOnce() + Send, A: Fn() + Sync>(listed: L, read: A) -> HomeMutator<L, A> {
    HomeMutator {
        listed: Mutex::new(Some(listed)),
        read,
    }
}

#[test]
fn a_rollout_that_shrinks_while_it_is_read_is_archived_in_its_final_form() {
    let env = TestEnv::new();
    let path = put(&env, rollout(FIRST), "{}\n".repeat(300_000));
    let other = put(&env, rollout(SECOND), "{}\n");
    let shrink = || {
        let file = OpenOptions::new().write(true).open(&path).expect("open");
        let lines = file.metadata().expect("stat").len() / 3;
        file.set_len((lines / 2).max(7) * 3).expect("shrink");
    };
    let (archive, skipped) =
        create_archive_with_progress(&env, "a.tar.gz", &home_mutator(|| {}, shrink))
            .expect("archived");
    assert_eq!(skipped, []);
    let there = restore_archive(&env, &archive, "there");
    let text = fs::read_to_string(there.join(rollout(FIRST))).expect("the rollout");
    assert!(text.len() < 900_000, "the file did not shrink");
    assert_eq!(text, "{}\n".repeat(text.len() / 3));
    assert_eq!(
        fs::read(there.join(rollout(SECOND))).expect("the other"),
        fs::read(other).expect("the other")
    );
}

#[test]
fn a_conversation_moved_through_a_link_inside_the_home_is_archived_at_its_real_path() {
    let env = TestEnv::new();
    let home = env.codex_home();
    let text = "{\"one\":1}\n";
    let path = put(&env, rollout(FIRST), text);
    let other = put(&env, "old/notes.txt", "mine");
    symlink("old", home.join("archived_sessions")).expect("link");
    let name = path.file_name().expect("a name");
    let to = other.with_file_name(name);
    let archive_it = || fs::rename(&path, &to).expect("move");
    let (archive, skipped) =
        create_archive_with_progress(&env, "a.tar.gz", &home_mutator(archive_it, || {}))
            .expect("archived");
    assert_eq!(skipped, []);
    let there = restore_archive(&env, &archive, "there");
    assert!(there.join("archived_sessions").is_symlink());
    for folder in ["old", "archived_sessions"] {
        let found = fs::read_to_string(there.join(folder).join(name)).expect("the rollout");
        assert_eq!(found, text);
    }
}

#[test]
fn a_conversation_moved_during_a_backup_to_a_folder_that_backups_exclude_is_reported() {
    let env = TestEnv::new();
    let home = env.codex_home();
    let path = put(&env, rollout(FIRST), "{}\n");
    put(&env, rollout(SECOND), "{}\n");
    put(&env, "tmp/old/notes.txt", "mine");
    symlink("tmp/old", home.join("archived_sessions")).expect("link");
    let to = home.join("tmp/old").join(path.file_name().expect("a name"));
    let archive_it = || fs::rename(&path, &to).expect("move");
    let (archive, skipped) =
        create_archive_with_progress(&env, "a.tar.gz", &home_mutator(archive_it, || {}))
            .expect("archived");
    let paths: Vec<_> = skipped.iter().map(|s| &*s.path).collect();
    assert_eq!(paths, [rollout(FIRST).to_str().expect("UTF-8")]);
    let there = restore_archive(&env, &archive, "there");
    assert!(there.join(rollout(SECOND)).exists());
}
