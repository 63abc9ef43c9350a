//! No command waits for one that is slow or suspended: reading commands go on, and writing commands name it.

use crate::support::conversations::{Conversation, write};
use crate::support::env::{Run, TestEnv};
use crate::support::held_lock::HeldLock;
use crate::support::injection::{RENAME, can_inject, run_ends_before_call, run_stopped_at};
use crate::support::pauses::wait_until;
use crate::support::sample::{backup, put, sample_home, text};
use crate::support::skips::skip;
use codex_manager_core::io::lock::WAIT_LIMIT;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Instant;

const RENAMES: &str = "rename,renameat,renameat2";

/// Commands that change something, each in a state in which it has something to do.
const WRITERS: [&[&str]; 6] = [
    &["storage", "trash", "01a10000-0000-7000-8000-000000000001"],
    &["restore", "latest", "--yes"],
    &["storage", "vacuum"],
    &["sync", "run", "--apply", "--yes"],
    &["prune", "--keep-last", "1", "--yes"],
    &["backup", "--no-status"],
];

const READERS: [&[&str]; 9] = [
    &["recommend", "--format", "{email}"],
    &["list"],
    &["sessions"],
    &["doctor"],
    &["find", "hello"],
    &["usage"],
    &["history", "check"],
    &["storage"],
    &["list-backups"],
];

fn rollout(n: u32) -> (String, String) {
    let id = format!("01a10000-0000-7000-8000-{n:012}");
    let path = format!("sessions/2026/10/01/rollout-2026-10-01T00-00-00-{id}.jsonl");
    (id, path)
}

/// Creates a home with two archives, two conversations without turns, a database with unused space, and a sync.
fn home() -> TestEnv {
    let env = TestEnv::new();
    sample_home(&env);
    for n in 1..=2 {
        let (id, path) = rollout(n);
        let meta = format!("{{\"type\":\"session_meta\",\"payload\":{{\"id\":\"{id}\"}}}}\n");
        put(&env, path, meta);
    }
    let database = env.codex_home().join("state_5.sqlite");
    let database = rusqlite::Connection::open(database).unwrap();
    let unused = "CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(900000)); DELETE FROM t;";
    database.execute_batch(unused).unwrap();
    database.close().unwrap();
    backup(&env, &[]);
    put(&env, "AGENTS.md", "changed");
    backup(&env, &[]);
    put(&env, "AGENTS.md", "changed again");
    let cloud = text(&env.path("cloud"));
    fs::create_dir(&cloud).unwrap();
    env.run(["sync", "init", "--cloud", &cloud]).code(0);
    env
}

/// Returns the output of a command that was suspended at a rename while `meanwhile` ran.
fn suspend(env: &TestEnv, args: &[&str], number: usize, meanwhile: impl FnOnce()) -> Option<Run> {
    run_stopped_at(env, args, (RENAMES, number), meanwhile).map(Run::of_output)
}

/// A long wait is reported on standard error.
fn assert_no_wait(run: &Run, beside: &[&str]) {
    assert!(!run.stderr.contains("waiting for"), "{beside:?}: {run}");
}

#[test]
fn reading_commands_and_the_prompt_answer_beside_a_suspended_command() {
    if !can_inject() {
        return;
    }
    for writer in WRITERS {
        for number in [1, 2, 4] {
            let env = home();
            let prompt = env.run(READERS[0]).code(0);
            let ended = suspend(&env, writer, number, || {
                let shown = env.run(READERS[0]).code(0);
                assert_eq!(
                    (&shown.stdout, &*shown.stderr),
                    (&prompt.stdout, ""),
                    "{writer:?}"
                );
                for reader in READERS {
                    let run = env.run(reader);
                    assert_no_wait(&run, writer);
                    assert!(
                        [0, 5, 6].contains(&run.code),
                        "{writer:?} {reader:?}: {run}"
                    );
                }
            });
            match ended {
                Some(run) => drop(run.code(0)),
                None => assert!(number > 1, "{writer:?} renames nothing"),
            }
        }
    }
}

#[test]
fn a_command_names_the_suspended_one_and_goes_on() {
    if !can_inject() {
        return;
    }
    // The first rename of a prune is that of the inventory.
    for (writer, number, name) in [
        (WRITERS[0], 1, "storage trash"),
        (WRITERS[1], 1, "restore"),
        (WRITERS[2], 1, "storage vacuum"),
        (WRITERS[4], 2, "prune"),
    ] {
        let env = home();
        let ended = suspend(&env, writer, number, || {
            let run = env.run(["list"]).code(0);
            let line = run.stderr.lines().find(|l| l.contains(" is running a "));
            let line = line.unwrap_or_else(|| panic!("{writer:?}: {run}"));
            assert!(line.starts_with("warning: another process (PID "), "{line}");
            let verb = format!(", codex-manager {name}");
            assert!(line.contains(&verb), "{line}");
            let (_, pid) = line.split_once("(PID ").unwrap();
            let (pid, _) = pid.split_once(',').unwrap();
            let end = format!(", stopped; continue it with: kill -CONT {pid}) is running a {name}");
            assert!(line.ends_with(&end), "{line}");
        });
        ended.expect("a rename").code(0);
    }
}

#[test]
fn a_writing_command_fails_beside_a_suspended_one_and_names_it() {
    if !can_inject() {
        return;
    }
    let undelete = rollout(2).0;
    for (holder, command, verb) in [
        (WRITERS[4], &["backup", "--no-status"][..], "prune"),
        (WRITERS[4], &["config", "set", "color", "never"], "prune"),
        (
            WRITERS[0],
            &["storage", "undelete", &undelete],
            "storage trash",
        ),
        (
            WRITERS[0],
            &["storage", "trash", &undelete],
            "storage trash",
        ),
        (WRITERS[3], &["sync", "run", "--apply"], "sync run"),
        (WRITERS[1], &["restore", "latest", "--yes"], "restore"),
        (WRITERS[1], &["backup", "--no-status"], "restore"),
    ] {
        let env = home();
        if command[1] == "undelete" {
            env.run(["storage", "trash", &undelete]).code(0);
        }
        let ended = suspend(&env, holder, 1, || {
            let run = env.run(command).code(1);
            let error = run.stderr.lines().skip_while(|l| !l.starts_with("error"));
            let error: String = error.collect();
            let named = format!(", codex-manager {verb}");
            assert!(error.contains("another process (PID "), "{run}");
            assert!(error.contains(&named), "{run}");
            assert!(
                error.contains(", stopped; continue it with: kill -CONT "),
                "{run}"
            );
        });
        ended.expect("a rename").code(0);
        if holder != WRITERS[0] || command[1] == "undelete" {
            let status = env.run(command).code;
            assert!([0, 6].contains(&status), "{command:?}: {status}");
        }
    }
}

#[test]
fn find_and_sessions_use_the_index_as_it_is_while_another_process_keeps_its_lock() {
    let env = TestEnv::new();
    // Without a database of Codex, the index is the only list.
    let write = |number, word| {
        write(&env, &Conversation::new(number, 60, word, "an answer"));
        fs::remove_file(env.codex_home().join("state_5.sqlite")).unwrap();
    };
    write(1, "early");
    env.run(["find", "early"]).code(0);
    write(2, "late");
    let files = fs::read_dir(env.manager_home().join("index")).unwrap();
    let mut files = files.map(|file| file.unwrap().path());
    let lock = files.find(|path| path.extension().is_some_and(|e| e == "lock"));
    let held = HeldLock::exclusive(&lock.expect("a lock"));

    let run_soon = |args: &[&str], code| {
        let started_at = Instant::now();
        let run = env.run(args).code(code);
        assert!(started_at.elapsed() < WAIT_LIMIT, "{run}");
        run
    };
    let found = run_soon(&["find", "early"], 0);
    assert!(found.stdout.contains("early"), "{found}");
    let warning = "did not release it in time";
    assert!(found.stderr.contains(warning), "{found}");
    // The conversation may be one that the index lacks.
    run_soon(&["find", "late"], 6);
    let listed = run_soon(&["sessions"], 0);
    assert!(listed.stdout.contains("early"), "{listed}");
    drop(held);
    env.run(["find", "late"]).code(0);
}

#[test]
fn an_unfinished_trash_waits_for_the_lock_and_is_recovered_by_the_next_command_that_has_it() {
    if !can_inject() {
        return;
    }
    let env = home();
    let (first, second) = (rollout(1).0, rollout(2).0);
    let trash = env.manager_home().join("trash/conversations");
    let list_pending = || {
        let names = fs::read_dir(&trash).into_iter().flatten().flatten();
        let names = names.map(|e| e.file_name().into_string().unwrap());
        names.filter(|n| n.starts_with(".pending-")).count()
    };
    let args = ["storage", "trash", &first];
    let killed =
        (1..20).find(|n| !run_ends_before_call(&env, &args, RENAME, *n) && list_pending() == 1);
    assert!(killed.is_some(), "no kill leaves a pending entry");

    let held = HeldLock::exclusive(&trash.join(".lock"));
    let run = env.run(["list"]).code(0);
    assert!(run.stderr.contains("is running a storage trash"), "{run}");
    assert_eq!(list_pending(), 1);

    let errors = fs::File::create(env.path("errors")).unwrap();
    let mut next = env.command(["storage", "trash", &second]);
    let next = next.stdout(Stdio::null()).stderr(errors).spawn();
    let mut next = next.unwrap();
    wait_until("it waits for the lock", || {
        let shown = fs::read_to_string(env.path("errors")).unwrap();
        assert_eq!(next.try_wait().unwrap(), None, "{shown}");
        shown.contains("waiting for another process (PID ")
    });
    drop(held);
    assert!(next.wait().unwrap().success());
    assert_eq!(list_pending(), 0);
    let home = env.codex_home();
    assert!(!home.join(rollout(2).1).exists());
    let is_trashed = fs::read_dir(&trash)
        .unwrap()
        .any(|e| e.unwrap().file_name().to_string_lossy().ends_with(&first));
    assert_ne!(home.join(rollout(1).1).exists(), is_trashed);
}

#[test]
fn a_copy_from_another_disk_is_made_before_the_trash_is_locked() {
    if !can_inject() {
        return;
    }
    let (env, disk) = (home(), TestEnv::on_disk());
    let manager = disk.path("manager");
    let device = |path: &Path| path.metadata().unwrap().dev();
    fs::create_dir(&manager).unwrap();
    if device(&manager) == device(&env.codex_home()) {
        skip("two disks", "the memory disk is missing");
        return;
    }
    let (id, path) = rollout(1);
    let folder = text(&manager);
    let args = ["--manager-home", &folder, "storage", "trash", &id];
    let lock = manager.join("trash/conversations/.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let copying = ("copy_file_range", 1);
    let output: Option<Output> = run_stopped_at(&env, &args, copying, || {
        let lock = fs::File::create(&lock).unwrap();
        lock.try_lock().expect("nobody has locked the trash");
        drop(lock);
        assert!(env.codex_home().join(&path).exists());
    });
    Run::of_output(output.expect("a copy")).code(0);
    assert!(!env.codex_home().join(&path).exists());
    let left = fs::read_dir(manager.join("tmp")).unwrap();
    let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
    let undelete = ["--manager-home", &folder, "storage", "undelete", &id];
    env.run(undelete).code(0);
    assert!(env.codex_home().join(&path).exists());
}
