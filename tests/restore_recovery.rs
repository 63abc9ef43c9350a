//! Recovery of a killed restore after the home was used again.

use crate::support::aftermath::{home_tree, stray_files};
use crate::support::env::{Run, TestEnv, assert_same_tree};
use crate::support::faults::Mount;
use crate::support::injection::{can_inject, run_ends_before_call};
use crate::support::sample::{backup, put, sample_home, text};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

const AGENTS: &str = "AGENTS.md";
const PROMPTS: &str = "history.jsonl";

/// Kills a restore of two files after the exchange of one of them. `None` if the system does not allow
/// fault injection.
fn kill_restore_halfway() -> Option<TestEnv> {
    if !can_inject() {
        return None;
    }
    let env = TestEnv::on_disk();
    sample_home(&env);
    put(&env, AGENTS, "archived");
    put(&env, PROMPTS, "{\"archived\":1}\n");
    let archive = text(&backup(&env, &[]));
    let args = ["restore", &archive, "--only", AGENTS, "--only", PROMPTS];
    let args = [&args[..], &["--no-safety-backup"]].concat();
    for number in 1..20 {
        put(&env, AGENTS, "live");
        put(&env, PROMPTS, "{\"live\":1}\n");
        let ended = run_ends_before_call(&env, &args, "renameat2", number);
        assert!(!ended, "no kill happened between the two files");
        let read = |name: &str| fs::read_to_string(env.codex_home().join(name)).expect("read");
        if read(AGENTS) == "archived" && read(PROMPTS).contains("live") {
            return Some(env);
        }
        let _ = env.run(["recommend"]);
    }
    panic!("no kill happened between the two files");
}

fn type_a_prompt(env: &TestEnv) {
    let path = env.codex_home().join(PROMPTS);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(path)
        .expect("open");
    file.write_all(b"{\"typed\":\"since\"}\n").expect("write");
}

fn check_finished(env: &TestEnv, run: &Run) {
    assert!(run.stderr.contains("restore was finished"), "{run}");
    let live = fs::read_to_string(env.codex_home().join(PROMPTS)).expect("read");
    assert_eq!(live, "{\"archived\":1}\n");
}

#[test]
fn files_written_after_a_killed_restore_are_kept_and_reported() {
    let Some(env) = kill_restore_halfway() else {
        return;
    };
    env.tick();
    type_a_prompt(&env);
    let run = env.run(["recommend"]);
    check_finished(&env, &run);
    let kept = env.path("home/..codex.codex-manager-restore.kept-1");
    assert!(run.stderr.contains("kept in "), "{run}");
    assert!(run.stderr.contains("restore.kept-1"), "{run}");
    let kept_text = fs::read_to_string(kept.join("new").join(PROMPTS)).expect("read");
    assert!(kept_text.contains("since"), "{kept_text}");
    // `doctor` names each such folder until it is removed.
    fs::create_dir(kept.with_file_name("..codex.codex-manager-restore.kept-2")).expect("create");
    fs::create_dir(kept.with_file_name("..codex.codex-manager-restore.old-1")).expect("create");
    let checks = env.run(["doctor", "--json"]).json();
    let message = checks.to_string();
    assert!(message.contains("restore.old-1"), "{message}");
    assert!(message.contains("restore.kept-1, "), "{message}");
    assert!(message.contains("restore.kept-2"), "{message}");
    let run = env.run(["doctor"]);
    assert!(run.stdout.contains("copy what you need"), "{run}");
}

#[test]
fn a_killed_restore_is_not_completed_while_a_process_uses_the_home() {
    let Some(env) = kill_restore_halfway() else {
        return;
    };
    let before = home_tree(&env);
    let held = fs::File::open(env.codex_home().join(PROMPTS)).expect("open");
    let pid = format!("PID {}", std::process::id());
    for args in [
        &["recommend"][..],
        &["list-backups"],
        &["current"],
        &["doctor"],
    ] {
        let run = env.run(args);
        assert!(run.stderr.contains(&pid), "{args:?} {run}");
        assert!(run.stderr.contains("codex-manager doctor"), "{run}");
        assert!(![1, 3].contains(&run.code), "{args:?} {run}");
    }
    for args in [
        &["backup", "--no-status"][..],
        &["restore", "latest"],
        &["use", "alice"],
        &["history", "check"],
    ] {
        let run = env.run(args).code(3);
        assert!(run.stderr.contains(&pid), "{args:?} {run}");
    }
    let fixed = env.run(["doctor", "--fix"]).code(5);
    assert!(fixed.stderr.contains(&pid), "{fixed}");
    assert!(fixed.stdout.contains("end Codex"), "{fixed}");
    assert_same_tree(&before, &home_tree(&env));
    drop(held);
    let run = env.run(["recommend"]);
    check_finished(&env, &run);
    assert_eq!(stray_files(&env), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_partial_restore_accepts_any_file_name() {
    let env = TestEnv::on_disk();
    sample_home(&env);
    let folder = env.codex_home().join("skills/s");
    fs::create_dir_all(&folder).expect("folder");
    let names: [&[u8]; 4] = [b"n\xff", b"notes", b"notes.aside", b"notes.moved"];
    let path = |name: &[u8]| folder.join(OsStr::from_bytes(name));
    for name in names {
        fs::write(path(name), [b"archived ", name].concat()).expect("write");
    }
    let archive = text(&backup(&env, &[]));
    let before = home_tree(&env);
    for name in names {
        fs::write(path(name), [b"changed ", name].concat()).expect("write");
    }
    let _ = env.run(["restore", &archive, "--only", "skills/s"]).code(0);
    assert_same_tree(&before, &home_tree(&env));
}

/// SQLite would apply the old `-wal` to the restored database. A mounted home is exchanged entry by entry.
#[test]
fn i2_a_killed_restore_leaves_no_old_wal_beside_the_new_database() {
    for is_mounted in [false, true] {
        if !can_inject() {
            return;
        }
        let env = TestEnv::on_disk();
        let home = env.codex_home();
        fs::create_dir(env.path("volume")).expect("folder");
        let mount = is_mounted.then(|| Mount::bind(&env.path("volume"), &home));
        if matches!(mount, Some(None)) {
            return;
        }
        sample_home(&env);
        let (database, wal) = (home.join("state_5.sqlite"), home.join("state_5.sqlite-wal"));
        let archive = text(&backup(&env, &[]));
        let live = b"SQLite format 3\0of the live home";
        let mut args = vec!["restore", &archive, "--no-safety-backup"];
        if !is_mounted {
            args.extend(["--only", "state_5.sqlite"]);
        }
        let mut was_killed_between = false;
        let mut has_ended = false;
        for number in 1..60 {
            fs::write(&database, live).expect("write");
            fs::write(&wal, "old").expect("write");
            has_ended = run_ends_before_call(&env, &args, "renameat2", number);
            let is_live = fs::read(&database).is_ok_and(|bytes| bytes == live);
            assert!(is_live || !wal.exists(), "{is_mounted}, call {number}");
            was_killed_between |= is_live && !wal.exists();
            if has_ended {
                break;
            }
            let _ = env.run(["recommend"]);
        }
        assert!(has_ended && was_killed_between, "{is_mounted}");
    }
}
