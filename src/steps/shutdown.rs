//! Ends Codex before a sync: the flags, the list of processes, and the confirmation.

use crate::context::Context;
use crate::error::Result;
use crate::ui::dialog;
use clap::Args;
use codex_manager_core::codex::{HomeProcess, HomeUsage};
use codex_manager_core::shutdown::{
    self, PromptChannel, ShutdownPlan, ShutdownRequest, ShutdownSettings, ShutdownTargets,
};
use std::fmt::Write;

/// The flags of `sync` for ending Codex.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ShutdownArgs {
    /// Ask before ending Codex, regardless of the configuration and --yes
    #[arg(
        long,
        global = true,
        conflicts_with = "auto_terminate_without_confirmation"
    )]
    manual_terminate_confirmation: bool,
    /// End a running Codex without asking, for this run
    #[arg(long, global = true)]
    auto_terminate_without_confirmation: bool,
}

impl ShutdownArgs {
    /// Returns true if the user has to consent before Codex is ended. The flags decide; without a flag, `--yes`, and on
    /// Windows also the configuration.
    fn must_ask(&self, context: &Context, settings: &ShutdownSettings) -> bool {
        if self.manual_terminate_confirmation {
            return true;
        }
        let has_consented = self.auto_terminate_without_confirmation || context.settings.assume_yes;
        !has_consented && settings.must_ask(cfg!(windows))
    }

    /// Plans the shutdown. Does not wait, ask, or end a process. With `--verbose`, prints the processes that use the
    /// home.
    pub(crate) fn plan(&self, context: &Context, request: &ShutdownRequest<'_>) -> ShutdownPlan {
        let usage = request.find_home_usage();
        print_home_usage(context, &usage);
        let asks_user = self.must_ask(context, request.settings);
        shutdown::plan_shutdown(&usage, request.settings, asks_user)
    }

    /// Ends all Codex programs that use the home, with the user's consent.
    ///
    /// # Errors
    /// Codex is running and the user did not agree to end it (exit code 3), or it did not end in time
    /// (5).
    pub(crate) fn shut_down(
        &self,
        context: &Context,
        request: &ShutdownRequest<'_>,
    ) -> Result<Vec<HomeProcess>> {
        let usage = shutdown::wait_grace_period(request)?;
        print_home_usage(context, &usage);
        let asks_user = self.must_ask(context, request.settings);
        let ask = |targets: &ShutdownTargets| ask_user(context, request, targets);
        let ended = shutdown::shut_down(request, &usage, asks_user, ask)?;
        if !ended.is_empty() {
            let names = shutdown::join_processes(&ended);
            context.note(format_args!("ended: {names}"));
        }
        Ok(ended)
    }
}

/// Prints the processes that use the home. The text is visible only with `--verbose`.
pub(crate) fn print_home_usage(context: &Context, usage: &HomeUsage) {
    if usage.holders().is_empty() {
        context.ui.detail("no Codex program uses this home");
    }

    for process in &usage.processes {
        let line = format!(
            "{:>7}  {}  {}  {}",
            process.pid, process.name, process.role, process.command_line
        );
        context.ui.detail(line);
    }

    for conversation in &usage.conversations {
        let line = format_args!("open conversation: {conversation}");
        context.ui.detail(line);
    }
}

/// Returns true if the user can be asked, in a dialog window or on the terminal.
pub(crate) fn can_ask(context: &Context, settings: &ShutdownSettings) -> bool {
    // A scheduled job has no terminal, but may be able to open a dialog on the user's desktop.
    let has_dialog = settings.channel == PromptChannel::Gui && dialog::is_available(&context.env);
    has_dialog || context.ui.is_interactive()
}

/// Asks the user for consent to end these processes; `None` if there is no way to ask.
fn ask_user(
    context: &Context,
    request: &ShutdownRequest<'_>,
    targets: &ShutdownTargets,
) -> Option<bool> {
    let question = format_question(targets, request);
    let answer = match request.settings.channel {
        PromptChannel::Gui => dialog::ask_in_window(&question, &context.env),
        PromptChannel::Console => None,
    };
    answer.or_else(|| context.ui.confirm(&question))
}

fn format_question(targets: &ShutdownTargets, request: &ShutdownRequest<'_>) -> String {
    let mut text = format!("Codex is running on {}:\n", request.home.display());
    for process in &targets.processes {
        let _ = writeln!(text, "  {process}");
    }

    match targets.conversations.len() {
        0 => {}
        1 => text.push_str("A conversation is open; its current turn would be lost.\n"),
        n => {
            let _ = writeln!(
                text,
                "{n} conversations are open; their current turns would be lost."
            );
        }
    }

    text.push_str("End Codex and continue?");
    text
}
