//! The handler of Ctrl-C and SIGTERM, and the time limit for a command to end after that.

use super::command::Cli;
use crate::config::ColorChoice;
use crate::context::Environment;
use crate::error::{CommandError, ErrorKind};
use crate::ui::{self, Ui, Verbosity, picker};
use codex_manager_core::io::{progress, signals};
use std::sync::Arc;
use std::time::Duration;

/// Handles Ctrl-C and SIGTERM. The first signal stops a long operation at its next safe point. A second signal ends the
/// process at once. The first one does so too while the command waits for input. It also does so for a command that
/// [ends at once](super::command::Command::ends_at_once) and has no open picker. A command that only reads ends after
/// [`READING_END_TIMEOUT`] at the latest. A picker is always closed first.
pub(super) fn install_handler(cli: &Cli, env: &Environment) {
    let ends_at_once = cli.command.ends_at_once();
    let only_reads = cli.command.only_reads();
    let error = CommandError::interrupted().hint(cli.command.interrupt_hint());
    let ui = Ui::new(cli.flags.json, Verbosity::Normal, ColorChoice::Never, env);

    let exit_after_timeout = Arc::new(move || {
        std::thread::sleep(READING_END_TIMEOUT);
        picker::restore_terminal();
        ui.error(&error);
        #[allow(clippy::exit, reason = "a call of the system may not return")]
        std::process::exit(ErrorKind::Interrupted as i32);
    });

    // If the handler cannot be installed, a signal ends the process at once. All files survive that.
    let _ = signals::handle_end_requests(move || {
        // `launch::run` handles the signals while Codex has the terminal.
        if progress::are_signals_handed_over() {
            return;
        }

        #[allow(
            clippy::exit,
            reason = "no operation is running, or this is the second signal"
        )]
        if progress::should_end_at_once() || (ends_at_once && !picker::is_open()) {
            picker::restore_terminal();
            ui::report_cancelled();
            std::process::exit(ErrorKind::Interrupted as i32);
        }

        progress::interrupt();
        if only_reads {
            let exit_after_timeout = Arc::clone(&exit_after_timeout);
            std::thread::spawn(move || exit_after_timeout());
        }
    });
}

/// After Ctrl-C, a read-only command has this time to reach a safe point. Then the process exits.
const READING_END_TIMEOUT: Duration = Duration::from_secs(2);
