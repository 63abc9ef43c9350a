//! Ctrl-C in `backup` and `restore` at any system call that changes a disk. The command itself completes or
//! undoes the operation, and leaves no temp files.

use crate::support::aftermath::{
    TwoHomes, archives, check_archives, home_tree, prepare, report_points, stray_files,
};
use crate::support::conversations::{Conversation, id, write};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::held_lock::HeldLock;
use crate::support::injection::{
    Fault, can_inject, points, run_interrupted_in, run_with_fault, sample,
};
use crate::support::pair::{ID, META, Pair, ROLLOUT};
use crate::support::sample::{backup, put, sample_home, text};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// The number of the signal that Ctrl-C sends.
const SIGINT: i32 = 2;

/// The exit code of a command interrupted by the user.
const INTERRUPTED: i32 = 130;

/// Returns true if the command was interrupted, false if it was already done. Before the handler is
/// installed the signal itself ends the process.
fn was_stopped(output: &Output, marker: &str) -> bool {
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => false,
        (Some(INTERRUPTED), _) | (None, Some(SIGINT)) => true,
        other => panic!("{marker}: {other:?}"),
    }
}

/// Removes the temp files of a run that does not count: if two threads reach their N-th call, the command
/// gets two signals and ends at once.
fn clean_up(env: &TestEnv, known: &BTreeSet<PathBuf>) {
    let _ = backup(env, &[]);
    check_archives(env, known, "not reached");
}

#[test]
fn an_interrupted_backup_leaves_no_temp_files() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::new();
    prepare(&env, &mut dice);
    let _ = backup(&env, &[]);
    put(&env, "skills/s0/SKILL.md", "changed");
    let (known, before) = (archives(&env), home_tree(&env));
    let args = ["backup", "--no-status", "--json"];
    let points = points(&env, &args);
    check_archives(&env, &known, "without a fault");
    let (mut missed, mut stopped) = (Vec::new(), 0);
    let tried = sample(&points, &mut dice);
    for point in &tried {
        let marker = format!("{point:?}");
        let Some(output) = run_with_fault(&env, &args, point, Fault::Interrupted) else {
            missed.push(marker);
            clean_up(&env, &known);
            continue;
        };
        let marker = format!("{marker} {output:?}");
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{marker}");
        let new = archives(&env).len() - known.len();
        // A command that is interrupted too late completes and reports success.
        assert_eq!(was_stopped(&output, &marker), new == 0, "{marker}");
        stopped += usize::from(new == 0);
        check_archives(&env, &known, &marker);
        assert_same_tree(&before, &home_tree(&env));
    }
    report_points(points.len(), tried.len(), &missed);
    assert!(stopped > 0, "no run was interrupted in time");
}

#[test]
fn waiting_for_another_command_is_reported_and_can_be_interrupted() {
    let env = TestEnv::new();
    sample_home(&env);
    let _ = backup(&env, &[]);
    let held = HeldLock::exclusive(&env.manager_home().join(".lock"));
    let before = env.tree("home/.codex-manager/backups");
    for args in [
        &["config", "set", "color", "never"][..],
        &["prune", "--keep-last", "1"],
    ] {
        let mut child = env
            .command(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut printed = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let marker = printed.by_ref().map(|line| line.expect("text"));
        let marker: Vec<_> = marker
            .take_while(|line| !line.contains("waiting for another process"))
            .collect();
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("marker");
        let rest: Vec<_> = printed.map(|line| line.expect("text")).collect();
        let status = child.wait().expect("wait");
        assert_eq!(
            status.code(),
            Some(INTERRUPTED),
            "{args:?} {marker:?} {rest:?}"
        );
    }
    drop(held);
    assert!(!env.manager_home().join("config.toml").exists());
    assert_same_tree(&before, &env.tree("home/.codex-manager/backups"));
}

#[test]
fn an_interrupted_restore_leaves_no_temp_files() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let (mut both, points) = TwoHomes::new(&env, &mut dice);
    let known = archives(&env);
    let (mut missed, mut stopped) = (Vec::new(), 0);
    let tried = sample(&points, &mut dice);
    for point in &tried {
        let fault = (point, Fault::Interrupted);
        let Some(output) = both.restore_other(&env, &known, fault, &mut missed) else {
            clean_up(&env, &known);
            continue;
        };
        let marker = format!("{point:?} {output:?}");
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{marker}");
        let is_done = both.check_home(&env, &marker);
        assert_eq!(was_stopped(&output, &marker), !is_done, "{marker}");
        stopped += usize::from(!is_done);
        check_archives(&env, &known, &marker);
    }
    report_points(points.len(), tried.len(), &missed);
    assert!(stopped > 0, "no run was interrupted in time");
}

/// The number of conversations. To open each takes the traced command several times as long as the two seconds after
/// which a command that only reads is ended.
const MANY: u32 = 300;

fn many_conversations(env: &TestEnv) {
    for number in 1..=MANY {
        let _ = write(env, &Conversation::new(number, 60, "one", "two"));
    }
}

/// Asserts that the command obeys one SIGINT that it gets while it opens files with `marker` in their paths.
#[track_caller]
fn assert_obeyed(env: &TestEnv, args: &[&str], marker: &str) {
    let Some(output) = run_interrupted_in(env, args, marker) else {
        panic!("{args:?} does not open {marker}");
    };
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(INTERRUPTED), "{args:?} {text}");
    assert!(text.contains("interrupted"), "{args:?} {text}");
}

#[test]
fn one_ctrl_c_ends_every_command_that_reads_many_conversations() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    many_conversations(&env);
    let before = env.tree("home/.codex");
    let ids: Vec<_> = (1..=MANY).map(id).collect();
    let ids = ids.iter().map(String::as_str);
    let export: Vec<_> = ["export"].into_iter().chain(ids).collect();
    let export = [&export[..], &["--out", "exported"]].concat();
    for args in [
        &["find", "nothing", "--regex"][..],
        &["usage"],
        &["storage"],
        &["history", "check"],
        &["history", "rebuild", "--yes"],
        &["backup", "--no-status"],
        &export,
    ] {
        assert_obeyed(&env, args, "sessions/2026");
        assert_same_tree(&before, &env.tree("home/.codex"));
    }
    let left = fs::read_dir(env.path("exported")).map_or(0, Iterator::count);
    assert!(left < MANY as usize, "{left}");
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

#[test]
fn one_ctrl_c_ends_a_restore_and_a_search_of_archives() {
    if !can_inject() {
        return;
    }
    let env = TestEnv::new();
    many_conversations(&env);
    let archive = text(&backup(&env, &[]));
    for number in 1..=MANY {
        let _ = write(&env, &Conversation::new(number, 60, "one", "another"));
    }
    let before = home_tree(&env);
    assert_obeyed(&env, &["restore", &archive, "--yes"], "sessions/2026");
    assert_same_tree(&before, &home_tree(&env));
    fs::remove_dir_all(env.codex_home()).expect("remove");
    fs::create_dir(env.codex_home()).expect("create");
    let search = ["find", "nothing", "--archives", "--regex"];
    assert_obeyed(&env, &search, "/home/sessions");
    assert_eq!(stray_files(&env), Vec::<PathBuf>::new());
}

#[test]
fn one_ctrl_c_ends_the_plan_of_a_sync() {
    if !can_inject() {
        return;
    }
    let pair = Pair::new();
    for n in 0..MANY {
        let id = format!("01a1f78b-{n:04x}-7ef3-b0ee-5caab8d3b455");
        pair.put("a", &ROLLOUT.replace(ID, &id), &META.replace(ID, &id));
    }
    for action in [&["plan"][..], &["run", "--apply"]] {
        let sync = ["--manager-home", "manager-a", "sync", "-c", "a.toml"];
        assert_obeyed(&pair.0, &[&sync[..], action].concat(), "sessions/2026");
        assert!(!pair.cloud().join("sessions").exists());
    }
}
