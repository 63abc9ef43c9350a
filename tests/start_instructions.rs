//! The instructions of commands that a shell waits for at each prompt, counted by callgrind: other than times, they are the
//! same on a busy machine.

use crate::support::env::TestEnv;
use crate::support::sample::sample_home;
use crate::support::skips::skip;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// The figures of one compiler and profile: others compile the same program to other instructions.
const FIGURES: &str = "tests/start_instructions.tsv";

const TOLERANCE: f64 = 1.03;

/// `current` is left out: it reads the processes of the machine.
const COMMANDS: [&str; 3] = ["--version", "recommend", "list"];

fn count(env: &TestEnv, command: &str) -> u64 {
    let plain = env.command([command]);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .output()
        .expect("valgrind");
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.unwrap_or_else(|| panic!("{command}: {report}"));
    number.trim().parse().expect("a number")
}

/// Bytes 16 and 17 of an ELF file: 2 is a program at a fixed address, 3 one that is relocated.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn program_starts_without_relocations() {
    let env = TestEnv::new();
    let program = env.command(["--version"]).get_program().to_owned();
    let start = std::fs::read(program).expect("the program");
    assert_eq!(&start[..4], b"\x7fELF");
    assert_eq!(u16::from_ne_bytes([start[16], start[17]]), 2);
}

#[test]
fn start_up_needs_no_more_instructions_than_recorded() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip("valgrind", "not installed");
    }
    let version = Command::new("rustc").arg("-V").output().expect("rustc");
    let compiler = String::from_utf8(version.stdout).expect("text");
    let compiler = compiler.trim();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIGURES);
    let env = TestEnv::new();
    sample_home(&env);
    let _ = env.run(["profile", "save", "work"]).code(0);
    let counted = COMMANDS.map(|command| (command, count(&env, command)));
    if std::env::var_os("UPDATE_FIGURES").is_some() {
        let mut text = format!("{compiler}\n");
        for (command, instructions) in counted {
            let _ = writeln!(text, "{command}\t{instructions}");
        }
        return std::fs::write(file, text).expect("the figures");
    }
    let recorded = std::fs::read_to_string(&file).expect("the figures");
    let (known, figures) = recorded.split_once('\n').expect("the compiler");
    let figures: BTreeMap<&str, f64> = figures
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(command, figure)| (command, figure.parse().expect("a number")))
        .collect();
    for (command, instructions) in counted {
        println!("{command}: {instructions} instructions");
        #[allow(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = instructions as f64 / figures[command];
        assert!(
            known != compiler || ratio <= TOLERANCE,
            "{command}: {instructions} instructions, {ratio:.2} times the recorded number; if that is worth it: UPDATE_FIGURES=1"
        );
    }
}
