//! Flushes of new folders, and the results of commands with a failed flush.

use crate::support::conversations::{self, Conversation};
use crate::support::copy_tree;
use crate::support::env::TestEnv;
use crate::support::injection::{can_inject, traced};
use crate::support::pair::{ID, META, ROLLOUT, SKILL};
use crate::support::profiles::alice_and_bob;
use crate::support::sample::{alice, backup, bob, put, sample_home};
use crate::support::sign_in::write_auth;
use crate::support::write_program;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A program in place of Codex.
const CODEX: &str = "#!/bin/sh\ncase \"$1\" in --help) echo '  --no-daemon  alone';; \
                     --version) echo 'codex-cli 0.169.0';; esac\n";

/// Returns the folders that a run of the command created, that still exist, and whose names were not flushed.
fn unflushed_folders(env: &TestEnv, args: &[&str]) -> BTreeSet<PathBuf> {
    let options = [
        "-y",
        "-e",
        "trace=mkdir,openat2,fsync,syncfs,rename,renameat2",
    ]
    .map(str::to_owned);
    let (output, log) = traced(env, &options, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    let opened_folder = Regex::new(r"openat2.* = (\d+)<(.*)>$").expect("a pattern");
    let mut open_folders: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut pending = BTreeSet::new();
    for line in log.lines() {
        if let Some(opened) = opened_folder.captures(line) {
            open_folders.insert(opened[1].to_owned(), PathBuf::from(&opened[2]));
        } else if line.contains("mkdir(") && line.ends_with("= 0") {
            let path = Path::new(line.split('"').nth(1).expect("a path"));
            // A folder that others can write to is reached by its descriptor.
            let by_descriptor = path.strip_prefix("/proc/self/fd").ok().map(|below| {
                let mut parts = below.iter().map(|part| part.to_string_lossy());
                let folder = &open_folders[&*parts.next().expect("a descriptor")];
                folder.join(parts.collect::<Vec<_>>().join("/"))
            });
            pending.insert(by_descriptor.unwrap_or_else(|| env.path("").join(path)));
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
    write_program(&env.path("bin/codex"), CODEX);
    sample_home(&env);
    let toml = format!(
        "[identity]\nmachine_id = \"a\"\n[paths]\ncloud_root_dir = {:?}\nlocal_state_dir = {:?}\n",
        env.path("cloud"),
        env.codex_home()
    );
    env.write("sync.toml", toml);
    fs::create_dir(env.path("cloud")).unwrap();
    let id = "01a1f790-0000-7000-8000-000000000001";
    let name = format!("sessions/2026/11/20/rollout-2026-11-20T06-00-00-{id}.jsonl");
    put(
        &env,
        name,
        format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n"),
    );
    let commands: [&[&str]; 7] = [
        &["launch", "bob", "--isolated"],
        &["sync", "-c", "sync.toml", "run", "--apply"],
        &["storage", "trash", id],
        &["storage", "vacuum"],
        &["profile", "save", "alice"],
        &["backup", "--no-status"],
        &["restore", "latest", "--yes"],
    ];
    for args in commands {
        fs::remove_dir_all(env.manager_home()).unwrap_or_default();
        if args[0] == "launch" {
            write_auth(&env.codex_home(), &bob());
            let _ = env.run(["profile", "save", "bob"]).code(0);
            write_auth(&env.codex_home(), &alice(1));
            let _ = env.run(["profile", "save", "alice"]).code(0);
        }
        if args[0] == "restore" {
            backup(&env, &[]);
            put(&env, "AGENTS.md", "changed");
        }
        let unflushed = unflushed_folders(&env, args);
        assert_eq!(unflushed, BTreeSet::new(), "{args:?}");
    }
}

/// Returns the name of the flushed file or folder, without that of a temp file in it.
fn flushed_name(log: &str, failed: &str) -> String {
    let thread = failed.split(' ').next().expect("a thread");
    let is_begin = |line: &&str| line.starts_with(thread) && line.contains("unfinished");
    // Another thread's call may be logged between the begin and the end of this one.
    let begin = log.lines().take_while(|line| *line != failed);
    let begin = begin.filter(is_begin).last();
    let line = begin.filter(|_| failed.contains("resumed>"));
    let path = line
        .unwrap_or(failed)
        .split(['<', '>'])
        .nth(1)
        .expect("a path");
    let mut names = path.rsplit('/');
    let name = names.find(|name| !name.contains("-tmp-"));
    name.expect("a name").to_owned()
}

/// Returns the number of flushes in a run of the command, and the paths of those that the run reports as done although
/// they failed. Each run begins with a copy of the home.
fn ignored_failures(env: &TestEnv, args: &[&str]) -> (usize, BTreeSet<String>) {
    let reset = || {
        let _ = fs::remove_dir_all(env.path("home"));
        copy_tree(&env.path("template"), &env.path("home"));
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
        let stderr = String::from_utf8_lossy(&output.stderr);
        // 2 is a conflict. What is named is not ignored.
        let is_done = matches!(output.status.code(), Some(0 | 2));
        if is_done && !stderr.contains("Input/output error") {
            ignored.insert(flushed_name(&log, failed));
        }
    }
    unreachable!("the loop above has no end")
}

/// A command, and the flushes that it may ignore.
type IgnoredFlushes<'a> = (&'a [&'a str], &'a [&'a str]);

/// Runs each command with each of its flushes failing, then without a fault. Asserts that only the named ones are
/// ignored.
#[track_caller]
fn assert_ignores_only(env: &TestEnv, commands: &[IgnoredFlushes<'_>]) {
    let mut wrong = Vec::new();
    for (args, expected) in commands {
        let _ = fs::remove_dir_all(env.path("template"));
        copy_tree(&env.path("home"), &env.path("template"));
        let (flushes, ignored) = ignored_failures(env, args);
        assert!(flushes > 1, "{args:?}");
        let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
        if ignored != expected {
            wrong.push(format!("{args:?}: {ignored:?} of {flushes}"));
        }
        let run = env.run(*args);
        assert!(matches!(run.code, 0 | 2), "{args:?}: {run}");
    }
    assert_eq!(wrong, Vec::<String>::new());
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
    assert_ignores_only(
        &env,
        &[
            (&["profile", "save", "alice"], &[]),
            // The note of archives on the same disk is not printed if it cannot be recorded.
            (&["backup", "--no-status"], &[".codex-manager"]),
            // SQLite ignores a failed flush of the folder of its journal.
            (&["storage", "trash", id], &[".codex"]),
            (&["storage", "undelete", id], &[".codex"]),
            // The exchange is durable then. The next command removes the journal.
            (&["storage", "vacuum"], &[".vacuum.codex-manager-journal"]),
        ],
    );
}

#[test]
fn i14_a_failed_flush_of_logins_and_archives_is_not_reported_as_done() {
    if !can_inject() {
        return;
    }
    let env = alice_and_bob();
    let id = &*conversations::id(1);
    write_program(&env.path("bin/codex"), CODEX);
    conversations::write(&env, &Conversation::new(1, 1, "question", "answer"));
    backup(&env, &[]);
    put(&env, "AGENTS.md", "changed");
    backup(&env, &[]);
    put(&env, "AGENTS.md", "changed again");
    assert_ignores_only(
        &env,
        &[
            (&["storage", "shrink", "--session", id], &[]),
            (&["storage", "expand"], &[]),
            (&["use", "home"], &[]),
            // `codex-program.json` is a cache.
            (&["launch", "work"], &[".codex-manager"]),
            (&["launch", "home", "--isolated"], &[]),
            // The exchange is durable then. The next command removes the journal.
            (
                &["prune", "--keep-last", "1"],
                &[".prune.codex-manager-journal"],
            ),
            (&["prune", "--undo"], &[".prune.codex-manager-journal"]),
            (
                &["restore", "latest", "--yes"],
                &["..codex.codex-manager-restore"],
            ),
        ],
    );
}

#[test]
fn i14_a_failed_flush_of_a_sync_is_not_reported_as_done() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    for (name, home) in [("a", env.codex_home()), ("b", env.path("home/codex-b"))] {
        fs::create_dir_all(&home).unwrap();
        let text = format!(
            "[identity]\nmachine_id = \"{name}\"\n[paths]\ncloud_root_dir = {:?}\nlocal_state_dir = {home:?}\n\
             backup_dir = {:?}\n[conflict]\npolicy = \"manual\"\n",
            env.path("home/cloud"),
            env.path(&format!("home/backups-{name}")),
        );
        env.write(&format!("{name}.toml"), text);
    }
    fs::create_dir_all(env.path("home/cloud")).unwrap();
    put(&env, ROLLOUT, META);
    put(&env, SKILL, "one");
    let run_of_a: &[&str] = &["sync", "-c", "a.toml", "run", "--apply"];
    let run_of_b = [&["--manager-home", "home/manager-b"], run_of_a].concat();
    let run_of_b: Vec<_> = run_of_b
        .into_iter()
        .map(|arg| if arg == "a.toml" { "b.toml" } else { arg })
        .collect();
    let resolve: &[&str] = &["sync", "-c", "a.toml", "resolve", ID, "--keep", "both"];
    assert_ignores_only(&env, &[(run_of_a, &[]), (&run_of_b, &[])]);
    put(&env, ROLLOUT, format!("{META}{{\"n\":\"a\"}}\n"));
    put(&env, SKILL, "two");
    let of_b = format!("{META}{{\"n\":\"b, longer\"}}\n");
    fs::write(env.path("home/codex-b").join(ROLLOUT), of_b).unwrap();
    let _ = env.run(&run_of_b).code(0);
    assert_ignores_only(&env, &[(run_of_a, &[]), (resolve, &[]), (run_of_a, &[])]);
}

#[test]
fn i14_a_failed_flush_of_a_vault_restore_is_not_reported_as_done() {
    let Some(mut env) = crate::support::restic::program().map(|_| TestEnv::new()) else {
        return;
    };
    if !can_inject() {
        return;
    }
    sample_home(&env);
    crate::support::restic::new_repository(&env.path("home/vault"));
    env.set("RESTIC_PASSWORD", crate::support::restic::PASSWORD);
    let _ = env.run(["vault", "init", "home/vault"]).code(0);
    let _ = env.run(["vault", "backup"]).code(0);
    put(&env, "AGENTS.md", "changed");
    let restore: &[&str] = &["vault", "restore", "latest", "--yes"];
    assert_ignores_only(&env, &[(restore, &["..codex.codex-manager-restore"])]);
}
