//! Ctrl-C in `backup` and `restore`, at any call that changes the disk: the command leaves nothing
//! half done and no temporary files, without the help of a later command.

use crate::support::aftermath::{
    TwoHomes, archives, check_archives, debris, home, prepare, report,
};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::injection::{Fault, can_inject, faulty, points, sample};
use crate::support::sample::{backup, put, sample_home};
use codex_manager::io::lock::FileLock;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// The signal of Ctrl-C.
const SIGINT: i32 = 2;

/// The exit code of a command that the user interrupted.
const INTERRUPTED: i32 = 130;

/// Returns true if the command was interrupted, false if it completed. Before its handler is
/// installed, the signal itself ends the command.
fn was_stopped(output: &Output, context: &str) -> bool {
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => false,
        (Some(INTERRUPTED), _) | (None, Some(SIGINT)) => true,
        other => panic!("{context}: {other:?}"),
    }
}

#[test]
fn a_backup_that_is_interrupted_leaves_no_debris() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::in_memory();
    prepare(&env, &mut dice);
    let _ = backup(&env, &[]);
    put(&env, "skills/s0/SKILL.md", "changed");
    let (known, before) = (archives(&env), home(&env));
    let args = ["backup", "--no-status", "--json"];
    let points = points(&env, &args);
    check_archives(&env, &known, "undisturbed");
    let (mut missed, mut stopped) = (Vec::new(), 0);
    let tried = sample(&points, &mut dice);
    for point in &tried {
        let context = format!("{point:?}");
        let Some(output) = faulty(&env, &args, point, Fault::Interrupted) else {
            missed.push(context);
            check_archives(&env, &known, "not reached");
            continue;
        };
        let context = format!("{context} {output:?}");
        assert_eq!(debris(&env), Vec::<PathBuf>::new(), "{context}");
        let new = archives(&env).len() - known.len();
        // A command that is interrupted too late completes and says so.
        assert_eq!(was_stopped(&output, &context), new == 0, "{context}");
        stopped += usize::from(new == 0);
        check_archives(&env, &known, &context);
        assert_same_tree(&before, &home(&env));
    }
    report(points.len(), tried.len(), &missed);
    assert!(stopped > 0, "it never stopped");
}

#[test]
fn a_wait_for_another_command_is_reported_and_can_be_interrupted() {
    let env = TestEnv::new();
    sample_home(&env);
    let _ = backup(&env, &[]);
    let held = FileLock::exclusive(&env.manager_home().join(".lock")).expect("the lock");
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
        let mut said = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let context = said.by_ref().map(|line| line.expect("text"));
        let context: Vec<_> = context
            .take_while(|line| !line.contains("another codex-manager is at work"))
            .collect();
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("told");
        let rest: Vec<_> = said.map(|line| line.expect("text")).collect();
        let status = child.wait().expect("its end");
        assert_eq!(
            status.code(),
            Some(INTERRUPTED),
            "{args:?} {context:?} {rest:?}"
        );
    }
    drop(held);
    assert!(!env.manager_home().join("config.toml").exists());
    assert_same_tree(&before, &env.tree("home/.codex-manager/backups"));
}

#[test]
fn a_restore_that_is_interrupted_leaves_no_debris() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::in_memory();
    let (mut both, points) = TwoHomes::new(&env, &mut dice);
    let known = archives(&env);
    let (mut missed, mut stopped) = (Vec::new(), 0);
    let tried = sample(&points, &mut dice);
    for point in &tried {
        let fault = (point, Fault::Interrupted);
        let Some(output) = both.restore_other(&env, &known, fault, &mut missed) else {
            continue;
        };
        let context = format!("{point:?} {output:?}");
        assert_eq!(debris(&env), Vec::<PathBuf>::new(), "{context}");
        let is_done = both.look(&env, &context);
        assert_eq!(was_stopped(&output, &context), !is_done, "{context}");
        stopped += usize::from(!is_done);
        check_archives(&env, &known, &context);
    }
    report(points.len(), tried.len(), &missed);
    assert!(stopped > 0, "it never stopped");
}
