//! Fault injection with `strace`: the N-th system call of a name fails, or is the last one.
//!
//! `strace` counts the calls of each thread separately, so the fault hits the first thread that makes
//! N calls of this name. A later call of another thread is not reached if that fault ends the command.

#![allow(
    clippy::print_stdout,
    reason = "seeds and skipped tests are printed when a test fails, or with --nocapture"
)]

use super::env::{PROGRAM, TestEnv};
use super::faults::Dice;
use super::pauses::{EVENT_LIMIT, poll};
use super::skips::skip;
use super::variables;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

/// The number of points that a test tries for each command and kind of fault. The sample starts at a
/// random point, so a few runs cover all points.
const POINTS: usize = 16;

/// The calls that change a disk.
const CALLS: &str = "write,pwrite64,copy_file_range,fsync,fdatasync,syncfs,ftruncate,\
    openat,mkdir,symlink,link,linkat,rename,renameat,renameat2,chmod,fchmod,utimensat,\
    unlink,unlinkat,rmdir";

/// The kinds of faults of a system call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The call fails once, with this error.
    Once(&'static str),
    /// The call and all later ones of this name in its thread fail with this error.
    FromThenOn(&'static str),
    /// The program is killed at the call.
    Killed,
    /// The program gets SIGINT at the call, as by Ctrl-C.
    Interrupted,
}

/// The N-th system call of this name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) call: String,
    pub(crate) number: usize,
}

/// Returns true if faults can be injected on this machine; else it skips the test.
pub(crate) fn can_inject() -> bool {
    let works = cfg!(target_os = "linux")
        && Command::new("strace")
            .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"])
            .output()
            .is_ok_and(|o| o.status.success());
    if !works {
        skip("strace", "it is missing, or may not trace");
    }
    works
}

/// Returns true if the command starts Codex or restic. Faults are not injected into other programs.
fn starts_other_programs(args: &[&str]) -> bool {
    args.starts_with(&["launch"])
        || args.starts_with(&["storage", "shrink"])
        || args.starts_with(&["vault"])
}

/// Returns the command that runs `args` under strace.
fn strace(env: &TestEnv, options: &[&str], args: &[&str]) -> Command {
    let mut strace = env.other_program("strace");
    strace.arg("-f").args(options);
    if starts_other_programs(args) {
        strace.args(["-b", "execve"]);
    }
    strace.arg(PROGRAM).args(args);
    strace
}

/// Runs the command under strace. Returns its output and the log of strace.
pub(crate) fn traced(env: &TestEnv, options: &[String], args: &[&str]) -> (Output, String) {
    let log = env.path("strace.log");
    let mut all = vec!["-o", log.to_str().expect("UTF-8")];
    // With seccomp, strace stops at the traced calls only. It cannot inject signals then, nor
    // detach from a child at execve (`-b`).
    if !options.iter().any(|o| o.contains("signal=")) && !starts_other_programs(args) {
        all.push("--seccomp-bpf");
    }
    all.extend(options.iter().map(String::as_str));
    let output = strace(env, &all, args).output().expect("start strace");
    let text = fs::read(&log).expect("log of strace");
    fs::remove_file(&log).expect("remove");
    (output, String::from_utf8_lossy(&text).into_owned())
}

/// Returns the disk-changing calls of one run of the command without faults.
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
        // An open without O_CREAT changes nothing.
        if name != "openat" || arguments.contains("O_CREAT") {
            points.insert(Point {
                call: name.to_owned(),
                number: *number,
            });
        }
    }
    points.into_iter().collect()
}

/// Selects [`POINTS`] evenly distributed points.
pub(crate) fn sample(points: &[Point], dice: &mut Dice) -> Vec<Point> {
    sample_evenly(POINTS, points, dice)
}

/// Returns about a third of the numbers up to `last`, for a test that creates its homes again for each kill.
pub(crate) fn kill_numbers(last: usize) -> Vec<usize> {
    let all: Vec<usize> = (1..=last).collect();
    sample_evenly(last.div_ceil(3), &all, &mut Dice::new())
}

/// Selects `number` evenly distributed points. `CODEX_MANAGER_FAULT_POINTS` overrides the number.
pub(crate) fn sample_evenly<T: Clone>(number: usize, points: &[T], dice: &mut Dice) -> Vec<T> {
    let wanted = variables::value("CODEX_MANAGER_FAULT_POINTS").unwrap_or(number);
    let step = points.len().div_ceil(wanted).max(1);
    let first = usize::try_from(dice.below(step as u64)).expect("in range");
    points.iter().skip(first).step_by(step).cloned().collect()
}

/// Runs the command with a fault. Returns `None` if the point was not reached.
pub(crate) fn run_with_fault(
    env: &TestEnv,
    args: &[&str],
    point: &Point,
    fault: Fault,
) -> Option<Output> {
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
    // strace ends by the same signal as its child, possibly before it has written its log.
    let reached = match fault {
        // Two threads may each make their N-th call. A second SIGINT ends a command at once.
        Fault::Interrupted => log.matches("--- SIGINT").count() == 1,
        _ => log.contains("INJECTED") || output.status.signal() == Some(9),
    };
    // The N-th call may be one of the dynamic loader, before the program starts.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reached = reached && !stderr.contains("error while loading shared libraries");
    reached.then_some(output)
}

/// Runs the command and kills it at its `number`-th system call of this name, before the call is
/// executed. Returns true if the command ended before that call.
pub(crate) fn run_ends_before_call(
    env: &TestEnv,
    args: &[&str],
    call: &str,
    number: usize,
) -> bool {
    run_killed(env, args, &[], call, number)
}

/// The name of the system call of `fs::rename`.
pub(crate) const RENAME: &str = if cfg!(target_arch = "x86_64") {
    "rename"
} else {
    "renameat"
};

/// Like [`run_ends_before_call`], on a system that cannot exchange two files in one call.
pub(crate) fn run_ends_before_call_without_exchange(
    env: &TestEnv,
    args: &[&str],
    call: &str,
    number: usize,
) -> bool {
    let without = ["-e", "inject=renameat2:error=EINVAL"];
    run_killed(env, args, &without, call, number)
}

fn run_killed(env: &TestEnv, args: &[&str], also: &[&str], call: &str, number: usize) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={number}");
    // strace formats the traced calls only, and injects into these only.
    let trace = format!("trace={call},renameat2");
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    let options = [&options[..], also].concat();
    let mut strace = strace(env, &options, args);
    strace.stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().expect("start strace").code().is_some()
}

/// Runs the command with a delay before each open of a file, and sends one SIGINT when it has opened three whose paths
/// contain `marker`. Returns `None` if the command opens fewer.
pub(crate) fn run_interrupted_in(env: &TestEnv, args: &[&str], marker: &str) -> Option<Output> {
    let log = env.path("strace.log");
    let path = log.to_str().expect("UTF-8");
    let options = [
        "-o",
        path,
        "-e",
        "trace=openat,openat2",
        "-e",
        "inject=openat,openat2:delay_enter=30ms",
    ];
    let mut child = strace(env, &options, args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start strace");
    let mut is_sent = false;
    let ended = poll(EVENT_LIMIT, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        if !is_sent && text.matches(marker).count() >= 3 {
            let process = text.split_whitespace().next().expect("the process");
            let kill = Command::new("kill").args(["-INT", process]).status();
            is_sent = kill.expect("kill").success();
        }
        child.try_wait().expect("wait for strace")
    });
    assert!(ended.is_some(), "the command does not end: {args:?}");
    let output = child.wait_with_output().expect("output of strace");
    let _ = fs::remove_file(&log);
    is_sent.then_some(output)
}

/// Runs the command and stops it after its `number`-th system call of this name, calls `meanwhile`,
/// and continues it. Returns `None` if the command ended before that call.
pub(crate) fn run_stopped_at(
    env: &TestEnv,
    args: &[&str],
    (call, number): (&str, usize),
    meanwhile: impl FnOnce(),
) -> Option<Output> {
    let log = env.path("strace.log");
    let inject = format!("inject={call}:signal=STOP:when={number}");
    let path = log.to_str().expect("UTF-8");
    let trace = format!("trace={call}");
    let options = ["-o", path, "-e", &trace, "-e", &inject];
    let mut strace = strace(env, &options, args);
    strace.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = strace.spawn().expect("start strace");
    let mut meanwhile = Some(meanwhile);
    let ended = poll(EVENT_LIMIT, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        // The last one: each thread that makes its N-th call stops all, and may be the only one left.
        let mut lines = text.lines();
        let stopped = lines.rfind(|line| line.contains("stopped by SIGSTOP"));
        if let Some(process) = stopped.and_then(|line| line.split_whitespace().next()) {
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile();
            }
            // Repeated: SIGCONT is lost while the threads are still stopping. It fails if the
            // process has ended.
            let process = process.parse().ok().and_then(Pid::from_raw);
            let _ = kill_process(process.expect("a process"), Signal::CONT);
        }
        child.try_wait().expect("wait for strace")
    });
    assert!(ended.is_some(), "the command does not end: {args:?}");
    let output = child.wait_with_output().expect("output of strace");
    let _ = fs::remove_file(&log);
    meanwhile.is_none().then_some(output)
}
