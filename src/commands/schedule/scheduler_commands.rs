//! Runs commands of the scheduler and reports their errors.

use crate::codex::program::Program;
use crate::context::Context;
use crate::error::CommandError;
use crate::io::child::{ChildGroup, ChildOutput};
use crate::schedule::SchedulerCommand;
use std::path::Path;
use std::time::{Duration, Instant};

/// The time limit of one command of the scheduler.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the steps in order. `state` describes the state after a failure, for the hint ("the files were
/// written").
pub(super) fn run_all(
    steps: &[SchedulerCommand],
    context: &Context,
    state: &str,
) -> Result<(), CommandError> {
    for step in steps {
        let problem = match run(&step.words, context) {
            Ok((_, None)) => continue,
            Ok((_, Some(problem))) => problem,
            Err(e) => e,
        };
        if step.may_fail {
            context
                .ui
                .detail(format_args!("{}: {problem}", step.words.join(" ")));
            continue;
        }
        return Err(
            CommandError::failed(format!("the scheduler command failed: {problem}")).hint(format!(
                "{state}; run this in your desktop or login session: {}",
                step.words.join(" ")
            )),
        );
    }
    Ok(())
}

/// Runs one command of the scheduler. Returns its stdout and, if it failed, the last line of its stderr.
pub(super) fn run(
    words: &[String],
    context: &Context,
) -> Result<(Vec<u8>, Option<String>), String> {
    let (name, arguments) = words.split_first().ok_or("nothing to run")?;
    let program = Program::find(Some(Path::new(name)), &context.env).map_err(|e| e.to_string())?;
    let mut command = context.env.command(program.path());
    command.args(arguments);
    let deadline = Instant::now() + COMMAND_TIMEOUT;
    let mut child =
        ChildGroup::spawn(&mut command).map_err(|e| format!("cannot run {name}: {e}"))?;
    child.close_input();
    let mut output = Vec::new();
    while let ChildOutput::Line(line) = child.read_line(deadline) {
        output.extend_from_slice(&line);
        output.push(b'\n');
    }
    let status = child.finish(deadline);
    if status.is_some_and(|status| status.success()) {
        return Ok((output, None));
    }
    let stderr = child.stderr();
    let last = stderr.lines().rfind(|line| !line.trim().is_empty());
    let problem = last.map_or_else(
        || status.map_or("no answer in time".into(), |status| status.to_string()),
        |line| format!("{name}: {}", crate::codex::redaction::printable(line)),
    );
    Ok((output, Some(problem)))
}
