//! Runs commands of the scheduler and reports their errors.

use crate::codex::program::Program;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::io::environment::Environment;
use crate::schedule::SchedulerCommand;
use crate::steps::run_program::{ProgramEnd, run_program};
use std::path::Path;

/// Runs the steps in order. `state_after_failure` is text for the hint of the error, such as "the files were written".
///
/// # Errors
/// A step fails that has to succeed. The later steps are not run.
pub(super) fn run_all(
    steps: &[SchedulerCommand],
    context: &Context,
    state_after_failure: &str,
) -> Result<()> {
    for step in steps {
        let ended = run_command(&step.words, &context.env);
        let Some(problem) = ended.map_or_else(Some, |end| end.problem) else {
            continue;
        };
        if step.may_fail {
            context
                .ui
                .detail(format_args!("{}: {problem}", step.words.join(" ")));
            continue;
        }
        return Err(
            CommandError::failed(format!("the scheduler command failed: {problem}")).hint(format!(
                "{state_after_failure}; run this in your desktop or login session: {}",
                step.words.join(" ")
            )),
        );
    }
    Ok(())
}

/// Runs a command of the scheduler. A command that starts but fails is not an error; [`ProgramEnd`] describes its
/// failure.
///
/// # Errors
/// The program cannot be found or started.
pub(super) fn run_command(words: &[String], env: &Environment) -> Result<ProgramEnd, String> {
    let (name, arguments) = words.split_first().ok_or("nothing to run")?;
    let program = Program::find(Some(Path::new(name)), env).map_err(|e| e.to_string())?;
    run_program(name, env.command(program.path()).args(arguments))
}
