//! Measures the peak memory of a command.
//!
//! Linux starts the peak of a child with the memory of its parent. A second, small process of this
//! test program therefore starts the command, so that the memory of other tests does not count.

use super::env::{Run, TestEnv};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Output, Stdio};
use wait4::Wait4 as _;

/// The environment variable with the job folder of the second process.
const JOB: &str = "CODEX_MANAGER_TEST_JOB";
/// The only test that the second process runs.
const MEASURER: &str = "support::memory::the_peak_of_a_command_excludes_the_memory_of_its_parent";
const MIB: u64 = 1 << 20;

/// Runs a command to its end. Also returns its peak resident memory in bytes.
#[track_caller]
pub(crate) fn run_measuring_memory(env: &TestEnv, args: &[&str]) -> (Run, u64) {
    peak_of_command(&env.command(args))
}

fn peak_of_command(command: &Command) -> (Run, u64) {
    let job = tempfile::tempdir().expect("temp dir");
    let program = [command.get_program()].into_iter();
    let words: Vec<_> = program
        .chain(command.get_args())
        .map(|word| word.to_str().expect("UTF-8"))
        .collect();
    fs::write(
        job.path().join("words"),
        serde_json::to_vec(&words).unwrap(),
    )
    .expect("write");
    let mut measurer = Command::new(std::env::current_exe().expect("a path"));
    measurer
        .args(["--exact", MEASURER])
        .env_clear()
        .env(JOB, job.path());
    for (name, value) in command.get_envs() {
        measurer.env(name, value.expect("a set variable"));
    }
    if let Some(folder) = command.get_current_dir() {
        measurer.current_dir(folder);
    }
    let output = measurer.output().expect("start this program again");
    assert!(output.status.success(), "{}", Run::of_output(output));
    let read = |name: &str| fs::read(job.path().join(name)).expect("a result of the measurement");
    let (status, peak): (i32, u64) =
        serde_json::from_slice(&read("usage")).expect("status and peak");
    let run = Run::of_output(Output {
        status: ExitStatus::from_raw(status),
        stdout: read("stdout"),
        stderr: read("stderr"),
    });
    (run, peak)
}

fn measure(job: &Path) {
    let words: Vec<String> = serde_json::from_slice(&fs::read(job.join("words")).unwrap()).unwrap();
    let into = |name: &str| File::create(job.join(name)).unwrap();
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env_remove(JOB)
        .stdin(Stdio::null())
        .stdout(into("stdout"))
        .stderr(into("stderr"))
        .spawn()
        .expect("start the command");
    let used = child.wait4().expect("wait for the command");
    let usage = serde_json::to_vec(&(used.status.into_raw(), used.rusage.maxrss));
    fs::write(job.join("usage"), usage.unwrap()).unwrap();
}

#[test]
fn the_peak_of_a_command_excludes_the_memory_of_its_parent() {
    if let Some(job) = std::env::var_os(JOB) {
        measure(Path::new(&job));
        return;
    }
    let held = vec![1_u8; usize::try_from(150 * MIB).unwrap()];
    let mut small = Command::new("/bin/sh");
    small.args(["-c", "echo out; echo err >&2; exit 3"]);
    let (run, peak) = peak_of_command(&small);
    assert_eq!(
        (&*run.stdout, &*run.stderr, run.code),
        ("out\n", "err\n", 3)
    );
    assert!(peak < 100 * MIB, "{peak}");
    let mut large = Command::new("/bin/sh");
    large.args([
        "-c",
        "x=$(/usr/bin/head -c 40000000 /dev/zero | /usr/bin/tr '\\0' a); echo ${#x}",
    ]);
    let (run, peak) = peak_of_command(&large);
    assert_eq!(run.stdout, "40000000\n");
    assert!((40_000_000..300 * MIB).contains(&peak), "{peak}");
    assert!(held.iter().all(|byte| *byte == 1));
}
