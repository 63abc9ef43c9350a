//! What commands that need a closed Codex share: their flags, the list under `--verbose`, and the
//! question.

use crate::codex::process::Seen;
use crate::context::Context;
use crate::error::CommandError;
use crate::shutdown::{
    self, ConfirmationRequest, PromptChannel, Prompter, ShutdownPlan, ShutdownReport,
    ShutdownRequest, ShutdownSettings, ShutdownTargets, TargetOs,
};
use crate::ui::dialog;
use clap::Args;
use std::fmt::Write;

/// The flags about ending Codex.
#[derive(Debug, Clone, Default, Args)]
pub struct ShutdownArgs {
    /// Ask before Codex is ended, whatever the configuration and --yes say
    #[arg(
        long,
        global = true,
        conflicts_with = "auto_terminate_without_confirmation"
    )]
    manual_terminate_confirmation: bool,
    /// End a running Codex without asking, in this run
    #[arg(long, global = true)]
    auto_terminate_without_confirmation: bool,
}

impl ShutdownArgs {
    /// What they say about asking.
    pub fn confirmation(&self, context: &Context) -> ConfirmationRequest {
        if self.manual_terminate_confirmation {
            ConfirmationRequest::Ask
        } else if self.auto_terminate_without_confirmation {
            ConfirmationRequest::DoNotAsk
        } else if context.settings.assume_yes {
            ConfirmationRequest::Yes
        } else {
            ConfirmationRequest::AsConfigured
        }
    }

    /// What closing Codex would take, without waiting, asking or ending anybody.
    pub fn plan(&self, context: &Context, request: &ShutdownRequest<'_>) -> ShutdownPlan {
        let seen = request.scan();
        list(context, &seen);
        let asks = shutdown::must_ask(
            request.settings,
            self.confirmation(context),
            TargetOs::of_this_build(),
        );
        shutdown::plan(&seen, request.settings, asks)
    }

    /// Sees to it that nobody uses the home.
    ///
    /// # Errors
    /// Codex is running and is not ended (exit code 3), or was told to end and did not in time (5).
    pub fn shut_down(
        &self,
        context: &Context,
        request: &ShutdownRequest<'_>,
    ) -> Result<ShutdownReport, CommandError> {
        let mut prompter = UserPrompter { context, request };
        let report = shutdown::shut_down(request, self.confirmation(context), &mut prompter)?;
        if !report.ended.is_empty() {
            let ended = shutdown::named(&report.ended);
            context.ui.note(format_args!("ended: {ended}"));
        }
        Ok(report)
    }
}

/// The processes that use the home, under `--verbose`.
pub fn list(context: &Context, seen: &Seen) {
    if seen.holders().is_empty() {
        context.ui.detail("codex is not running on this home");
    }
    for process in &seen.processes {
        let line = format!(
            "{:>7}  {}  {}  {}",
            process.pid, process.name, process.role, process.command_line
        );
        context.ui.detail(line);
    }
    for conversation in &seen.conversations {
        let line = format_args!("conversation being written: {conversation}");
        context.ui.detail(line);
    }
}

/// Whether the user can be asked, in a window or on the terminal.
pub fn can_ask(context: &Context, settings: &ShutdownSettings) -> bool {
    let in_a_window = settings.channel == PromptChannel::Gui && dialog::is_available(&context.env);
    in_a_window || context.ui.is_interactive()
}

struct UserPrompter<'a> {
    context: &'a Context,
    request: &'a ShutdownRequest<'a>,
}

impl Prompter for UserPrompter<'_> {
    fn show(&mut self, seen: &Seen) {
        list(self.context, seen);
    }

    fn ask(&mut self, targets: &ShutdownTargets) -> Option<bool> {
        let question = question(targets, self.request);
        let in_a_window = match self.request.settings.channel {
            PromptChannel::Gui => dialog::confirm(&question, &self.context.env),
            PromptChannel::Console => None,
        };
        in_a_window.or_else(|| self.context.ui.confirm(&question))
    }
}

fn question(targets: &ShutdownTargets, request: &ShutdownRequest<'_>) -> String {
    let mut text = format!("Codex is running on {}:\n", request.home.display());
    for process in &targets.processes {
        let _ = writeln!(text, "  {process}");
    }
    match targets.conversations.len() {
        0 => {}
        1 => text.push_str("A conversation is being written; its turn would be cut off.\n"),
        n => {
            let _ = writeln!(
                text,
                "{n} conversations are being written; their turns would be cut off."
            );
        }
    }
    text.push_str("End Codex and go on?");
    text
}
