//! Runs a small program of the system to its end, with a time limit.

use codex_manager_core::io::{ChildGroup, ChildOutput};
use std::process::Command;
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
    let problem = if status.is_some_and(|status| status.success()) {
        None
    } else {
        // The last line of the error output is the most likely cause.
        let stderr = child.stderr();
        let last_line = stderr.lines().rfind(|line| !line.trim().is_empty());
        Some(last_line.map_or_else(
            || status.map_or("no answer in time".into(), |status| status.to_string()),
            |line| {
                format!(
                    "{name}: {}",
                    codex_manager_core::codex::redaction::printable(line)
                )
            },
        ))
    };

    Ok(ProgramEnd {
        output,
        problem,
        code: status.and_then(|status| status.code()),
    })
}
