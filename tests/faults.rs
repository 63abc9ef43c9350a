//! I2, I3, I14: every call that changes a disk fails or is the last one, in turn, in `backup` and
//! `restore`.
//!
//! `strace` does it. It counts the calls of each thread apart, so the N-th call of a name is the
//! N-th of whichever thread gets there first: a later call of another thread can be out of reach
//! where the one before it has ended the command. What was not reached is printed. Of more points
//! than [`POINTS`] an even sample is taken, from a random beginning; `CODEX_MANAGER_FAULT_POINTS`
//! sets another number.

#![allow(
    clippy::print_stdout,
    reason = "seeds and what was skipped are shown when a test fails, or with --nocapture"
)]

use crate::support::env::{Run, TestEnv, Tree, assert_same_tree};
use crate::support::faults::Dice;
use crate::support::sample::{FIRST, backup, comparable, line, put, rollout, sample_home, text};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How many points of each command are tried for each way to fail.
const POINTS: usize = 40;

/// The calls that change a disk.
const CALLS: &str = "write,pwrite64,copy_file_range,fsync,fdatasync,syncfs,ftruncate,\
    openat,mkdir,symlink,link,linkat,rename,renameat,renameat2,chmod,fchmod,utimensat,\
    unlink,unlinkat,rmdir";

/// How a call fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Once.
    Once(&'static str),
    /// And all of these calls after it in its thread.
    FromThenOn(&'static str),
    /// It is the last thing that the program does.
    Killed,
    /// The user asks to stop.
    Interrupted,
}

/// The N-th call of this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    call: String,
    number: usize,
}

/// Whether faults can be injected here; not to be able to is a failure where all is required.
pub(crate) fn can_inject() -> bool {
    let works = cfg!(target_os = "linux")
        && Command::new("strace")
            .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"])
            .output()
            .is_ok_and(|o| o.status.success());
    if !works {
        let required = std::env::var_os("CODEX_MANAGER_E2E").is_some_and(|v| v == "require");
        assert!(!required, "strace is missing, or may not trace");
        println!("SKIPPED: strace is missing, or may not trace");
    }
    works
}

/// Runs the command under strace; gives its log too.
pub(crate) fn traced(env: &TestEnv, options: &[String], args: &[&str]) -> (Output, String) {
    let plain = env.command(args);
    let log = env.path("strace.log");
    let mut strace = Command::new("strace");
    // With this it stops at the calls in question alone, but sends no signals.
    if !options.iter().any(|o| o.contains("signal=")) {
        strace.arg("--seccomp-bpf");
    }
    strace.args(["-f", "-o"]).arg(&log);
    strace.args(options).arg(plain.get_program()).args(args);
    strace.env_clear().current_dir(env.path(""));
    for (name, value) in plain.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    let output = strace.output().expect("start strace");
    let text = fs::read(&log).expect("the log");
    fs::remove_file(&log).expect("remove");
    (output, String::from_utf8_lossy(&text).into_owned())
}

/// Every call of one undisturbed run of the command.
pub(crate) fn points(env: &TestEnv, args: &[&str]) -> Vec<Point> {
    let (output, log) = traced(env, &["-e".into(), format!("trace={CALLS}")], args);
    assert!(output.status.success(), "{output:?}");
    let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
    let mut points = BTreeSet::new();
    for entry in log.lines() {
        let Some((thread, call)) = entry.split_once(' ') else {
            continue;
        };
        let Some((name, arguments)) = call.trim_start().split_once('(') else {
            continue;
        };
        if name.contains(' ') {
            continue;
        }
        let number = counts.entry((thread, name)).or_default();
        *number += 1;
        // To read is not to change anything.
        if name != "openat" || arguments.contains("O_CREAT") {
            points.insert(Point {
                call: name.to_owned(),
                number: *number,
            });
        }
    }
    points.into_iter().collect()
}

/// An even sample.
pub(crate) fn sample(points: &[Point], dice: &mut Dice) -> Vec<Point> {
    let wanted = std::env::var("CODEX_MANAGER_FAULT_POINTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(POINTS);
    let step = points.len().div_ceil(wanted).max(1);
    let first = usize::try_from(dice.below(step as u64)).expect("small");
    points.iter().skip(first).step_by(step).cloned().collect()
}

/// Runs the command with a fault; `None` where the point was not reached.
pub(crate) fn faulty(env: &TestEnv, args: &[&str], point: &Point, fault: Fault) -> Option<Output> {
    let Point { call, number } = point;
    let how = match fault {
        Fault::Once(error) => format!("error={error}:when={number}"),
        Fault::FromThenOn(error) => format!("error={error}:when={number}+"),
        Fault::Killed => format!("signal=KILL:when={number}"),
        Fault::Interrupted => format!("signal=INT:when={number}"),
    };
    let options = ["-e", &format!("trace={call}"), "-e"].map(str::to_owned);
    let options = [&options[..], &[format!("inject={call}:{how}")]].concat();
    let (output, log) = traced(env, &options, args);
    // strace kills itself as its child was killed, and may not have written its log.
    let reached = match fault {
        // Each thread has its own N-th call. Asked twice, a command ends at once, on purpose.
        Fault::Interrupted => log.matches("--- SIGINT").count() == 1,
        _ => log.contains("INJECTED") || output.status.signal() == Some(9),
    };
    // A number that is another thread's: of the loader's calls, where it is the first one's.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reached = reached && !stderr.contains("error while loading shared libraries");
    reached.then_some(output)
}

/// Looks at how a command ended that something happened to. True when it says that all was done.
fn says_done(output: &Output, point: &Point, fault: Fault) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let told = format!("{point:?} {fault:?}: {output:?}");
    assert!(!stderr.contains("panicked"), "{told}");
    if matches!(fault, Fault::Killed) {
        assert_eq!(output.status.signal(), Some(9), "{told}");
        return false;
    }
    let code = output.status.code().expect("a code");
    // What cannot be opened may be a file of the home: left out, or reason enough to refuse.
    let may_lack = point.call == "openat" && (4..=6).contains(&code);
    assert!(code == 0 || code == 1 || may_lack, "{told}");
    // What it had to say may be what could not be written.
    let is_mute = point.call == "write" && stderr.is_empty();
    let is_done = code == 0 || code == 6;
    assert!(is_done || is_mute || stderr.contains("error: "), "{told}");
    is_done
}

/// Incompressible bytes.
fn noise(dice: &mut Dice, bytes: usize) -> Vec<u8> {
    (0..bytes / 8)
        .flat_map(|_| dice.below(u64::MAX).to_le_bytes())
        .collect()
}

/// A home with what takes more than one member.
pub(crate) fn prepare(env: &TestEnv, dice: &mut Dice) {
    sample_home(env);
    put(env, "sessions/2026/11/17/big.bin", noise(dice, 5 << 20));
    for i in 0..3 {
        put(env, format!("skills/s{i}/SKILL.md"), noise(dice, 4 << 10));
    }
}

pub(crate) fn home(env: &TestEnv) -> Tree {
    let mut tree = comparable(&env.tree("home/.codex"));
    // Codex's own locks stay behind, with us as with Codex.
    tree.0
        .retain(|path, _| path.extension().is_none_or(|e| e != "lock"));
    tree
}

pub(crate) fn debris(env: &TestEnv) -> Vec<PathBuf> {
    let tree = env.tree("").0;
    let is_debris = |path: &Path| {
        let path = path.display().to_string();
        [
            "codex-manager-restore",
            "codex-manager-tmp-",
            "staging-",
            ".aside",
            "tmp/restores/",
            "undone",
        ]
        .iter()
        .any(|name| path.contains(name))
    };
    tree.into_keys().filter(|path| is_debris(path)).collect()
}

/// The archives by name.
pub(crate) fn archives(env: &TestEnv) -> BTreeSet<PathBuf> {
    let backups = env.manager_home().join("backups");
    fs::read_dir(backups)
        .expect("list")
        .map(|e| e.expect("entry").path())
        .filter(|p| p.extension().is_some_and(|e| e == "gz"))
        .collect()
}

/// The next command: whatever it lists as good is good. The archives that are not in `known` are
/// then taken away.
pub(crate) fn check_archives(env: &TestEnv, known: &BTreeSet<PathBuf>, told: &str) {
    let list: Run = env.run(["list-backups", "--json"]).code(0);
    let new: Vec<PathBuf> = archives(env).difference(known).cloned().collect();
    assert!(archives(env).is_superset(known), "{told}: one is lost");
    for path in &new {
        let name = path.file_name().expect("a name").to_str().expect("text");
        let rows = list.json();
        let row = rows["backups"]
            .as_array()
            .and_then(|rows| rows.iter().find(|r| r["archive"] == name))
            .unwrap_or_else(|| panic!("{told}: {name} is not listed\n{list}"));
        let problem = row["problem"].as_str().unwrap_or_default();
        assert!(
            problem.is_empty() || problem.starts_with("no sidecar"),
            "{told}: {row}"
        );
        let repair: &[&str] = if problem.is_empty() {
            &[]
        } else {
            &["--repair"]
        };
        let _ = env.run([&["verify", &text(path)], repair].concat()).code(0);
        fs::remove_file(path).expect("remove");
        let sidecar = name.strip_suffix(".tar.gz").expect("an archive");
        let _ = fs::remove_file(path.with_file_name(format!("{sidecar}.metadata.json")));
    }
}

/// What a document on stdout names is there.
fn check_promises(output: &Output, keys: &[&str], env: &TestEnv, told: &str) -> bool {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else {
        return false;
    };
    for key in keys {
        if let Some(name) = document[*key].as_str() {
            let path = env.manager_home().join("backups").join(name);
            let _ = env.run(["verify", &text(&path)]).code(0);
            assert!(path.exists(), "{told}: {name}");
        }
    }
    true
}

const WAYS: [Fault; 5] = [
    Fault::Once("EIO"),
    Fault::Once("ENOSPC"),
    Fault::FromThenOn("EIO"),
    Fault::FromThenOn("ENOSPC"),
    Fault::Killed,
];

/// Every way to fail at its own points.
fn all_ways(points: &[Point], dice: &mut Dice) -> Vec<(Point, Fault)> {
    WAYS.iter()
        .flat_map(|way| {
            let chosen = sample(points, dice);
            chosen.into_iter().map(|point| (point, *way))
        })
        .collect()
}

#[test]
fn i2_i3_i14_a_backup_with_any_call_failing_loses_nothing_and_promises_nothing() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::in_memory();
    prepare(&env, &mut dice);
    let _ = backup(&env, &[]);
    // So that some members are copied and others are made.
    put(&env, "skills/s0/SKILL.md", "changed");
    let known = archives(&env);
    let before = home(&env);
    let args = ["backup", "--no-status", "--json"];
    let points = points(&env, &args);
    check_archives(&env, &known, "undisturbed");
    let mut missed = Vec::new();
    let tried = all_ways(&points, &mut dice);
    for (i, (point, fault)) in tried.iter().enumerate() {
        let told = format!("{point:?} {fault:?}");
        let Some(output) = faulty(&env, &args, point, *fault) else {
            missed.push(told);
            check_archives(&env, &known, "not reached");
            continue;
        };
        let told = format!("{told} {output:?}");
        let done = says_done(&output, point, *fault);
        let printed = check_promises(&output, &["archive"], &env, &told);
        assert!(!done || printed, "{told}: done, and nothing is said");
        let new = archives(&env).len() - known.len();
        assert!(new <= 1 && (!done || new == 1), "{told}: {new} archives");
        check_archives(&env, &known, &told);
        assert_same_tree(&before, &home(&env));
        if i % 8 == 7 || i + 1 == tried.len() {
            let _ = backup(&env, &[]);
            check_archives(&env, &known, &told);
            assert_eq!(debris(&env), Vec::<PathBuf>::new(), "{told}");
        }
    }
    report(points.len(), tried.len(), &missed);
}

#[test]
fn i2_i3_i14_a_restore_with_any_call_failing_leaves_the_old_or_the_new_home() {
    if !can_inject() {
        return;
    }
    let mut dice = Dice::new();
    let env = TestEnv::in_memory();
    prepare(&env, &mut dice);
    let archive = text(&backup(&env, &[]));
    put(&env, rollout(FIRST), line(5));
    put(&env, "AGENTS.md", "changed");
    put(&env, "skills/more/SKILL.md", "new");
    fs::remove_file(env.codex_home().join("version.json")).expect("remove");
    let undo = text(&backup(&env, &[]));
    let changed = home(&env);
    let known = archives(&env);
    let points = points(&env, &["restore", &archive, "--json"]);
    let archived = home(&env);
    check_archives(&env, &known, "undisturbed");
    assert_ne!(changed, archived);
    let mut is_archived = true;
    let mut missed = Vec::new();
    let tried = all_ways(&points, &mut dice);
    let (mut old, mut new) = (0, 0);
    for (i, (point, fault)) in tried.iter().enumerate() {
        let target = if is_archived { &undo } else { &archive };
        let (from, to) = if is_archived {
            (&archived, &changed)
        } else {
            (&changed, &archived)
        };
        let told = format!("{point:?} {fault:?}");
        let args = ["restore", target, "--json"];
        let Some(output) = faulty(&env, &args, point, *fault) else {
            missed.push(told);
            check_archives(&env, &known, "not reached");
            is_archived = home(&env) == archived;
            continue;
        };
        let told = format!("{told} {output:?}");
        let done = says_done(&output, point, *fault);
        let printed = check_promises(&output, &["safety_backup"], &env, &told);
        assert!(!done || printed, "{told}: done, and nothing is said");
        check_archives(&env, &known, &told);
        let now = home(&env);
        assert!(
            now == *to || !(done || printed),
            "{told}: not done\n{}",
            to.diff(&now)
        );
        assert!(
            now == *to || now == *from,
            "{told}: a mixture\nfrom old:\n{}\nfrom new:\n{}",
            from.diff(&now),
            to.diff(&now)
        );
        // A restore that failed while nothing else was wrong has been undone.
        if now == *to {
            new += 1;
            is_archived = !is_archived;
        } else {
            old += 1;
        }
        if i % 8 == 7 || i + 1 == tried.len() {
            let _ = backup(&env, &[]);
            check_archives(&env, &known, &told);
            assert_eq!(debris(&env), Vec::<PathBuf>::new(), "{told}");
        }
    }
    println!("{old} times the old home, {new} times the new one");
    report(points.len(), tried.len(), &missed);
}

/// Says what was tried.
pub(crate) fn report(points: usize, tried: usize, missed: &[String]) {
    let mut text = format!("{points} points, {tried} faults tried\n");
    for point in missed {
        text.push_str("not reached: ");
        text.push_str(point);
        text.push('\n');
    }
    let _ = std::io::stdout().write_all(text.as_bytes());
    assert!(
        missed.len() * 2 < tried,
        "too few points were reached\n{text}"
    );
}
