//! Writes the log of an unattended run, with its command line and its result.

use crate::context::Context;
use crate::error::{Outcome, Result};
use codex_manager_core::codex::redaction;
use codex_manager_core::io::{events, machine};
use codex_manager_core::logging::{self, LogContext, LogSettings, LogWriter};
use std::sync::Arc;

/// Runs `work` with a log that records the command line and the result. `machine` is the configured name of this
/// machine; `None` uses the host name.
pub(crate) fn run_with_log(
    context: &Context,
    settings: &LogSettings,
    machine: Option<&str>,
    work: impl FnOnce() -> Result<Outcome>,
) -> Result<Outcome> {
    let log = begin_log(context, settings, machine);
    let result = work();
    log_result(&log, context, &result);
    result
}

fn begin_log(
    context: &Context,
    settings: &LogSettings,
    given_name: Option<&str>,
) -> Arc<LogWriter> {
    let given_name = given_name.map(str::to_owned);
    let machine_name = given_name.or_else(|| machine::read_name(&context.env));
    let log_context = LogContext {
        manager_home: context.manager_home().to_path_buf(),
        machine: machine_name.unwrap_or_else(|| "unknown-machine".into()),
        clock: context.clock,
        zone: context.zone(),
    };

    let log = logging::start(settings, log_context);
    for warning in &log.warnings {
        context.warn(warning);
    }

    let (writer, is_first) = log.install();
    // A command that was started by another command writes into the log of that command.
    if is_first {
        let arguments: Vec<_> = std::env::args_os().collect();
        let command = redaction::format_command_line(&arguments);
        events::info!(command, version = env!("CARGO_PKG_VERSION"), "begins");
    }
    writer
}

fn log_result(log: &LogWriter, context: &Context, result: &Result<Outcome>) {
    match result {
        Ok(Outcome::Done) => events::info!(exit_code = Outcome::Done.code(), "ends"),
        Ok(outcome) => events::warn!(exit_code = outcome.code(), "ends"),
        Err(error) => {
            let causes = error.causes().join("; ");
            events::error!(
                exit_code = error.kind as u8,
                error = %error,
                causes,
                "ends"
            );
        }
    }

    if let Some(problem) = log.problem() {
        context.warn(format_args!("the log is incomplete: {problem}"));
    }
}
