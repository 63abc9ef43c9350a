//! Runs a small program of the system to its end, with a time limit.

use codex_manager_core::codex::redaction::printable;
use codex_manager_core::io::{ChildGroup, ChildOutput};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct ProgramEnd {
    /// The standard output of the program.
    pub(crate) output: Vec<u8>,
    /// The reason for a failure: the last line of the program's standard error, else its exit status. `None` if the
    /// program succeeded.
    pub(crate) problem: Option<String>,
    pub(crate) code: Option<i32>,
}

/// Runs a program without input. Kills the program after [`PROGRAM_TIMEOUT`]. `name` is its name in messages. A
/// program that fails is no error; see [`ProgramEnd::problem`].
///
/// # Errors
/// The program cannot be started.
pub(crate) fn run_program(name: &str, command: &mut Command) -> Result<ProgramEnd, String> {
    let deadline = Instant::now() + PROGRAM_TIMEOUT;
    let mut child = ChildGroup::spawn(command).map_err(|e| format!("cannot run {name}: {e}"))?;
    child.close_input();

    let mut output = Vec::new();
    while let ChildOutput::Line(line) = child.read_line(deadline) {
        output.extend_from_slice(&line);
        output.push(b'\n');
    }

    let status = child.finish(deadline);
    let is_success = status.is_some_and(|status| status.success());
    Ok(ProgramEnd {
        output,
        problem: (!is_success).then(|| describe_failure(name, status, &child.stderr())),
        code: status.and_then(|status| status.code()),
    })
}

/// Returns the last line of the error output, because it is the most likely cause, else the exit status.
fn describe_failure(name: &str, status: Option<ExitStatus>, stderr: &str) -> String {
    let last_line = stderr.lines().rfind(|line| !line.trim().is_empty());
    match (last_line, status) {
        (Some(line), _) => format!("{name}: {}", printable(line)),
        (None, Some(status)) => status.to_string(),
        (None, None) => "no answer in time".into(),
    }
}
