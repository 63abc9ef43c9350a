//! I2, I3, I14: each system call of `backup` and `restore` that changes a disk fails, or is the last
//! one.
//!
//! The tests print the fault points that were not reached. If a command has many points, a test tries
//! an even sample; `CODEX_MANAGER_FAULT_POINTS` sets its size.

#![allow(
    clippy::print_stdout,
    reason = "seeds and what was skipped are shown when a test fails, or with --nocapture"
)]

use crate::support::aftermath::{
    TwoHomes, archives, check_archives, home_tree, prepare, remove_leftovers, report_points,
    stray_files,
};
use crate::support::env::{TestEnv, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::injection::{
    Fault, Point, RENAME, can_inject, points, run_ends_before_call,
    run_ends_before_call_without_exchange, run_with_fault, sample,
};
use crate::support::sample::{FIRST, backup, line, put, rollout, sample_home, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Output;

/// Checks exit code and messages of a command with a fault. Returns true if it reported success.
fn reports_success(output: &Output, point: &Point, fault: Fault) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let context = format!("{point:?} {fault:?}: {output:?}");
    assert!(!stderr.contains("panicked"), "{context}");
    if matches!(fault, Fault::Killed) {
        assert_eq!(output.status.signal(), Some(9), "{context}");
        return false;
    }
    let code = output.status.code().expect("a code");
    // A file of the home that cannot be opened is left out, or the command refuses.
    let may_lack = point.call == "openat" && (4..=6).contains(&code);
    // A fault after the archive was published, or the home exchanged, does not undo the command.
    let is_unnoted = code == 6
        && (stderr.contains("done, but a record of it could not be written")
            || point.call == "write");
    assert!(
        code == 0 || code == 1 || may_lack || is_unnoted,
        "{context}"
    );
    // The failed write may be that of the error message, after the line that names the archive.
    let named = |line: &&str| line.contains("-codex.tar.gz: ") && line.contains(" archive of ");
    let mut messages = stderr.lines().skip_while(named);
    let is_mute = point.call == "write"
        && messages
            .next()
            .is_none_or(|line| line.starts_with("  caused by: "));
    let is_done = code == 0 || code == 6;
    assert!(
        is_done || is_mute || stderr.contains("error: ") || stderr.contains("{\"error\":{"),
        "{context}"
    );
    is_done
}

/// Verifies the archives that the JSON output names. Returns false if there is no JSON output.
fn check_reported_archives(output: &Output, keys: &[&str], env: &TestEnv, context: &str) -> bool {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
        return false;
    };
    for key in keys {
        if let Some(name) = document[*key].as_str() {
            let path = env.manager_home().join("backups").join(name);
            let _ = env.run(["verify", &text(&path)]).code(0);
            assert!(path.exists(), "{context}: {name}");
        }
    }
    true
}

const FAULTS: [Fault; 5] = [
    Fault::Once("EIO"),
    Fault::Once("ENOSPC"),
    Fault::FromThenOn("EIO"),
    Fault::FromThenOn("ENOSPC"),
    Fault::Killed,
];

/// Returns each fault with a separate sample of the points.
fn sample_all_faults(points: &[Point], dice: &mut Dice) -> Vec<(Point, Fault)> {
    FAULTS
        .iter()
        .flat_map(|fault| {
            let chosen = sample(points, dice);
            chosen.into_iter().map(|point| (point, *fault))
        })
        .collect()
}

#[test]
fn i2_i3_i14_a_failed_system_call_in_a_backup_loses_nothing_and_causes_no_false_report() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::new();
    prepare(&env, &mut dice);
    let _ = backup(&env, &[]);
    // Some members are copied from the previous archive, others are compressed again.
    put(&env, "skills/s0/SKILL.md", "changed");
    let known = archives(&env);
    let before = home_tree(&env);
    let args = ["backup", "--no-status", "--json"];
    let points = points(&env, &args);
    check_archives(&env, &known, "without a fault");
    let mut missed = Vec::new();
    let tried = sample_all_faults(&points, &mut dice);
    for (i, (point, fault)) in tried.iter().enumerate() {
        let context = format!("{point:?} {fault:?}");
        let Some(output) = run_with_fault(&env, &args, point, *fault) else {
            missed.push(context);
            check_archives(&env, &known, "not reached");
            continue;
        };
        let context = format!("{context} {output:?}");
        let done = reports_success(&output, point, *fault);
        let printed = check_reported_archives(&output, &["archive"], &env, &context);
        assert!(!done || printed, "{context}: success without a report");
        let new = archives(&env).len() - known.len();
        assert!(new <= 1 && (!done || new == 1), "{context}: {new} archives");
        check_archives(&env, &known, &context);
        assert_same_tree(&before, &home_tree(&env));
        if i % 8 == 7 || i + 1 == tried.len() {
            let _ = backup(&env, &[]);
            check_archives(&env, &known, &context);
            assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{context}");
        }
    }
    report_points(points.len(), tried.len(), &missed);
}

#[test]
fn i2_i3_i14_a_failed_system_call_in_a_restore_leaves_the_old_or_the_new_home() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let (mut both, points) = TwoHomes::new(&env, &mut dice);
    let known = archives(&env);
    let mut missed = Vec::new();
    let tried = sample_all_faults(&points, &mut dice);
    let (mut old, mut new) = (0, 0);
    for (i, (point, fault)) in tried.iter().enumerate() {
        let output = both.restore_other(&env, &known, (point, *fault), &mut missed);
        let Some(output) = output else {
            continue;
        };
        let context = format!("{point:?} {fault:?} {output:?}");
        let done = reports_success(&output, point, *fault);
        let printed = check_reported_archives(&output, &["safety_backup"], &env, &context);
        assert!(!done || printed, "{context}: success without a report");
        check_archives(&env, &known, &context);
        // After any outcome the home has one complete state.
        if both.check_home(&env, &context) {
            new += 1;
        } else {
            assert!(!(done || printed), "{context}: success, but the old home");
            old += 1;
        }
        if i % 8 == 7 || i + 1 == tried.len() {
            let _ = backup(&env, &[]);
            check_archives(&env, &known, &context);
            remove_leftovers(&env);
            assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{context}");
        }
    }
    println!("{old} runs ended with the old home, {new} with the new one");
    report_points(points.len(), tried.len(), &missed);
}

#[test]
fn i2_without_renameat2_exchange_a_killed_restore_leaves_the_old_or_the_new_home() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::new();
    let (mut both, _) = TwoHomes::new(&env, &mut dice);
    let (mut old, mut new) = (0, 0);
    // Each file is linked first, and then replaced by a rename.
    for call in ["linkat", RENAME] {
        for number in 1.. {
            let args = ["restore", both.other(), "--no-safety-backup"];
            let ended = run_ends_before_call_without_exchange(&env, &args, call, number);
            // In most rounds the command that finishes the restore is killed too.
            let again = usize::try_from(dice.below(4)).expect("in range");
            if again > 0 {
                let _ = run_ends_before_call_without_exchange(&env, &["recommend"], call, again);
            }
            let context = format!("killed at {call} {number}, then {again}");
            let run = env.run(["recommend"]);
            assert!(!run.stderr.contains("error: cannot"), "{context}: {run}");
            assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "{context}");
            if both.check_home(&env, &context) {
                new += 1;
            } else {
                old += 1;
            }
            if ended {
                break;
            }
        }
    }
    println!("{old} runs ended with the old home, {new} with the new one");
    assert!(old > 0 && new > 0);
}

/// Returns the sample home with `sessions/` on another disk.
fn linked_sessions() -> (TestEnv, PathBuf) {
    let env = TestEnv::new();
    let home = sample_home(&env);
    fs::create_dir(env.path("disk")).expect("folder");
    fs::rename(home.join("sessions"), env.path("disk/conversations")).expect("move");
    symlink(env.path("disk/conversations"), home.join("sessions")).expect("link");
    (env, home)
}

#[test]
fn i2_without_renameat2_exchange_a_killed_restore_with_linked_sessions_leaves_old_or_new() {
    if !can_inject() {
        return;
    }
    // The linked folder is replaced as a whole, and first.
    let (env, _) = linked_sessions();
    let both = || (env.tree("disk"), home_tree(&env));
    let first = (text(&backup(&env, &[])), both());
    put(&env, rollout(FIRST), line(5));
    put(&env, "AGENTS.md", "changed");
    let second = (text(&backup(&env, &[])), both());
    let states = [first, second];
    let mut now = 1;
    let mut times = [0, 0];
    for number in 1.. {
        let args = ["restore", &states[1 - now].0, "--no-safety-backup"];
        let ended = run_ends_before_call_without_exchange(&env, &args, RENAME, number);
        let _ = env.run(["recommend"]);
        let found = both();
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "rename {number}");
        if found == states[1 - now].1 {
            now = 1 - now;
            times[1] += 1;
        } else {
            assert_same_tree(&states[now].1.0, &found.0);
            assert_same_tree(&states[now].1.1, &found.1);
            times[0] += 1;
        }
        if ended {
            break;
        }
    }
    println!(
        "{} runs ended with the old home, {} with the new one",
        times[0], times[1]
    );
    assert!(times[0] > 0 && times[1] > 0);
}

#[test]
fn i2_a_killed_restore_over_a_home_with_a_folder_named_auth_json_is_finished_or_undone() {
    if !can_inject() {
        return;
    }
    // The exchange of the linked folder is a step of its own, so a kill leaves both homes mixed.
    let (env, home) = linked_sessions();
    put(&env, "AGENTS.md", "archived");
    let archive = text(&backup(&env, &[]));
    fs::remove_file(home.join("auth.json")).expect("remove");
    fs::create_dir(home.join("auth.json")).expect("folder");
    fs::write(home.join("auth.json/x"), "mine").expect("write");
    let conversation = env
        .path("disk/conversations")
        .join(rollout(FIRST).strip_prefix("sessions/").expect("a session"));
    let archived = fs::read(&conversation).expect("read");
    let args = ["restore", &archive, "--auth", "skip", "--yes"];
    let args = [&args[..], &["--no-safety-backup"]].concat();
    let mut kills = 0;
    for number in 1.. {
        fs::write(&conversation, line(5)).expect("write");
        put(&env, "AGENTS.md", "live");
        let ended = run_ends_before_call(&env, &args, "renameat2", number);
        kills += usize::from(!ended);
        let _ = env.run(["recommend"]);
        assert_eq!(stray_files(&env), Vec::<PathBuf>::new(), "kill {number}");
        assert_eq!(
            fs::read_to_string(home.join("auth.json/x")).expect("read"),
            "mine"
        );
        let agents = fs::read_to_string(home.join("AGENTS.md")).expect("read");
        let lines = fs::read(&conversation).expect("read");
        let is_restored = agents == "archived" && lines.starts_with(&archived);
        let is_old = agents == "live" && lines == line(5).as_bytes();
        assert!(is_restored || is_old, "kill {number}: {agents}");
        if ended {
            break;
        }
    }
    assert!(kills > 1);
}
