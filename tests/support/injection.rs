//! Making the N-th call of a name fail, or be the last one: `strace` does it.
//!
//! It counts the calls of each thread apart, so the N-th call of a name is the N-th of whichever
//! thread gets there first: a later call of another thread can be out of reach where the one before it
//! has ended the command.

#![allow(
    clippy::print_stdout,
    reason = "seeds and what was skipped are shown when a test fails, or with --nocapture"
)]

use super::env::TestEnv;
use super::faults::Dice;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The number of tried points of each command, for each kind of fault. A sample begins at random, so
/// that a few runs try them all.
const POINTS: usize = 24;

/// The calls that change a disk.
const CALLS: &str = "write,pwrite64,copy_file_range,fsync,fdatasync,syncfs,ftruncate,\
    openat,mkdir,symlink,link,linkat,rename,renameat,renameat2,chmod,fchmod,utimensat,\
    unlink,unlinkat,rmdir";

/// The fault of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The call fails once, with this error.
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
    pub(crate) call: String,
    pub(crate) number: usize,
}

/// Returns true if faults can be injected on this machine. Panics if all tests are required to run.
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

/// Returns true if the command starts a Codex, which has to run without faults.
fn starts_codex(args: &[&str]) -> bool {
    args.starts_with(&["launch"]) || args.starts_with(&["storage", "shrink"])
}

/// The command under strace.
fn strace(env: &TestEnv, options: &[&str], args: &[&str]) -> Command {
    let plain = env.command(args);
    let mut strace = Command::new("strace");
    strace.arg("-f").args(options);
    if starts_codex(args) {
        strace.args(["-b", "execve"]);
    }
    strace.arg(plain.get_program()).args(args);
    strace.env_clear().current_dir(env.path(""));
    for (name, value) in plain.get_envs() {
        strace.env(name, value.unwrap_or_default());
    }
    strace
}

/// Runs the command under strace; gives its log too.
pub(crate) fn traced(env: &TestEnv, options: &[String], args: &[&str]) -> (Output, String) {
    let log = env.path("strace.log");
    let mut all = vec!["-o", log.to_str().expect("UTF-8")];
    // With this it stops at the calls in question alone, but sends no signals, and lets go of no child.
    if !options.iter().any(|o| o.contains("signal=")) && !starts_codex(args) {
        all.push("--seccomp-bpf");
    }
    all.extend(options.iter().map(String::as_str));
    let output = strace(env, &all, args).output().expect("start strace");
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

/// Selects evenly distributed points.
pub(crate) fn sample(points: &[Point], dice: &mut Dice) -> Vec<Point> {
    sample_of(POINTS, points, dice)
}

/// Selects this number of evenly distributed points, or as many as `CODEX_MANAGER_FAULT_POINTS` says.
pub(crate) fn sample_of(number: usize, points: &[Point], dice: &mut Dice) -> Vec<Point> {
    let wanted = std::env::var("CODEX_MANAGER_FAULT_POINTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(number);
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

/// Runs the command and kills it as it makes its `number`-th system call of this name, before that
/// is done; true when it ended without.
pub(crate) fn killed_at(env: &TestEnv, args: &[&str], call: &str, number: usize) -> bool {
    killed_with(env, args, &[], call, number)
}

/// The name of the system call of `fs::rename`.
pub(crate) const RENAME: &str = if cfg!(target_arch = "x86_64") {
    "rename"
} else {
    "renameat"
};

/// Like [`killed_at`], where the system has no call that exchanges two files.
pub(crate) fn killed_without_exchange(
    env: &TestEnv,
    args: &[&str],
    call: &str,
    number: usize,
) -> bool {
    let without = ["-e", "inject=renameat2:error=EINVAL"];
    killed_with(env, args, &without, call, number)
}

fn killed_with(env: &TestEnv, args: &[&str], also: &[&str], call: &str, number: usize) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={number}");
    let options = [also, &["-o", "/dev/null", "-e", &inject]].concat();
    let mut strace = strace(env, &options, args);
    strace.stdin(Stdio::null()).stdout(Stdio::null());
    strace.stderr(Stdio::null());
    strace.status().expect("start strace").code().is_some()
}

/// Runs the command and stops it when it has made its `number`-th system call of this name, lets
/// `meanwhile` happen, and lets it go on; `None` where it ended without.
pub(crate) fn stopped_at(
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
    strace.stdin(Stdio::null());
    strace.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = strace.spawn().expect("start strace");
    let mut meanwhile = Some(meanwhile);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let mut lines = text.lines();
        let stopped = lines.find(|line| line.contains("stopped by SIGSTOP"));
        if let Some(process) = stopped.and_then(|line| line.split_whitespace().next()) {
            if let Some(meanwhile) = meanwhile.take() {
                meanwhile();
            }
            // Sent while its threads are still being stopped it is lost; where all has ended, it fails.
            let mut kill = Command::new("kill");
            let kill = kill.args(["-CONT", process]).stderr(Stdio::null());
            let _ = kill.status().expect("kill");
        }
        if child.try_wait().expect("look at strace").is_some() {
            break;
        }
        assert!(Instant::now() < until, "it does not end: {text}");
        // Only how often it is looked at: what is waited for is in the log.
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("its output");
    let _ = fs::remove_file(&log);
    meanwhile.is_none().then_some(output)
}
