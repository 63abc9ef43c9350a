//! `launch`: starts Codex under a chosen account and records the conversation.

use crate::choices::account_choice::{find_identity, pick_account};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::before_new_codex;
use crate::steps::best_login::find_best_login;
use crate::steps::start_codex::StartArgs;
use crate::views::account::printable;
use crate::views::folder_account::find_folder_profile;
use clap::Args;
use codex_manager_core::codex::arguments::asks_for_help_or_version;
use codex_manager_core::codex::{Arguments, Identity, InvocationMode};
use codex_manager_core::inventory::remedies;
use std::ffi::OsString;

/// Start Codex under an account and record the conversation
///
/// Switches the Codex home to the account first, like `use`, and saves the login afterwards, because
/// Codex may have renewed it. With --isolated the account runs in a separate home, and the live account
/// stays. Exit code and signals are those of Codex, except that a `codex exec` that ends because of a usage
/// limit gives 75.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager launch work
  codex-manager launch work -- --model gpt-6-sol
  codex-manager launch personal --isolated      # while work stays signed in
  codex-manager launch --recommended -- exec \"fix the tests\"
  codex-manager launch work --wait --then \"continue\" -- exec \"fix the tests\"
  codex-manager launch work --dry-run")]
pub(crate) struct LaunchArgs {
    /// A profile, an email, or a unique prefix of one [default: the account of the folder, else a picker]
    #[arg(value_name = "PROFILE")]
    profile: Option<String>,
    /// Use the best account with a saved login, as `recommend --use` does
    #[arg(long, conflicts_with = "profile")]
    recommended: bool,
    /// Use the account of the folder, in an isolated home. If the folder has none, run Codex directly, without
    /// a record. The shell function `codex` of `hook --wrap` uses this
    #[arg(long, conflicts_with_all = ["profile", "recommended", "wait"])]
    if_folder: bool,
    #[command(flatten)]
    start: StartArgs,
    /// Arguments to pass to Codex
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

impl LaunchArgs {
    /// # Errors
    /// There is no account, or it cannot be used; see [`StartArgs::start`].
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        if self.if_folder {
            return self.run_for_folder(context);
        }

        // `codex --version` and `--help` need no account, and must work before one exists.
        if asks_for_help_or_version(&self.args) {
            return self.start.run_directly(&self.args, context);
        }

        let account = match &self.profile {
            Some(text) => find_identity(text, context)?,
            None if self.recommended => find_best_login(context)?.entry.identity,
            None => match self.find_folder_account(context)? {
                Some(account) => account,
                None => pick_account("which account?", context)?,
            },
        };

        let session_id = None;
        self.start.start(&account, &self.args, session_id, context)
    }

    /// Runs `launch --if-folder`. On Unix the account of the folder runs isolated and never becomes the live one,
    /// because another terminal may be using a folder with another account.
    fn run_for_folder(self, context: &Context) -> Result<Outcome> {
        let runs_conversation = Arguments::parse(&self.args).mode != InvocationMode::Administrative;
        if runs_conversation && let Some(account) = self.find_folder_account(context)? {
            let mut start = self.start.clone();
            // Isolated homes exist on Unix only.
            start.isolated |= cfg!(unix);
            let session_id = None;
            let outcome = start.start(&account, &self.args, session_id, context)?;

            // The shell function replaces Codex, and scripts rely on Codex's exit code.
            return Ok(match outcome {
                Outcome::UsageLimit(code) => Outcome::Codex(code),
                other => other,
            });
        }

        if runs_conversation && !self.start.dry_run {
            before_new_codex::archive_if_codex_changed(context)?;
        }

        self.start.run_directly(&self.args, context)
    }

    /// Returns the account of the folder in which Codex will work, if it has one.
    fn find_folder_account(&self, context: &Context) -> Result<Option<Identity>> {
        let working_root = Arguments::parse(&self.args).working_root();
        let Some((folder, profile)) = find_folder_profile(working_root.as_deref(), context) else {
            return Ok(None);
        };
        let identity = find_identity(profile, context).map_err(|e| {
            e.hint(format!(
                "the setting folders.{} names this account; {}",
                printable(folder),
                remedies::suggest_folder_setting(folder)
            ))
        })?;
        Ok(Some(identity))
    }
}
