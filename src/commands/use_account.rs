//! `use`: switches the Codex home to another account.

use crate::choices::account_choice::{find_account, pick_account};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::home_checks::check_credential_store;
use crate::steps::switch_account::SwitchArgs;
use crate::views::account::{full_time, label, read_accounts_and_profiles};
use clap::Args;
use codex_manager_core::accounts::switch;
use codex_manager_core::codex::Identity;
use codex_manager_core::io::shell;
use codex_manager_core::quota::state::{self, AccountState};
use codex_manager_core::quota::{Account, account::find_by_identity};

/// Switch the Codex home to another account; only auth.json changes
///
/// The live login is always saved to its profile first. Running programs keep their account: Codex's
/// background daemon must be stopped, other Codex programs are listed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager use work
  codex-manager use me@example.com --stop-daemon
  codex-manager use -                  # the previous account
  codex-manager use work --dry-run")]
pub(crate) struct UseArgs {
    /// A profile, an email, a unique prefix of one, or - for the previous account [default: a picker]
    #[arg(value_name = "ACCOUNT")]
    account: Option<String>,
    #[command(flatten)]
    switch: SwitchArgs,
}

impl UseArgs {
    /// # Errors
    /// See [`switch::SwitchError`]; no account or several match; the daemon is running. Nothing was
    /// changed.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        check_credential_store(context)?;
        let target = self.resolve_target(context)?;
        self.confirm_cooldown(&target, context)?;
        self.switch.run(&target, context)
    }

    /// Warns of an account in cooldown, and asks on a terminal whether to switch to it.
    ///
    /// # Errors
    /// The answer is no, or the switch would be refused anyway.
    fn confirm_cooldown(&self, target: &Identity, context: &Context) -> Result<()> {
        let (accounts, _) = read_accounts_and_profiles(context)?;
        let Some(account) = find_by_identity(&accounts, target) else {
            return Ok(());
        };
        let verdict = state::compute_verdict(&account.entry, &context.now());
        if verdict.state != AccountState::Cooldown || account.current {
            return Ok(());
        }

        // Checked first, so that the user is not asked about a switch that would be refused.
        self.switch.check_allowed(target, context)?;

        let available_at = verdict.next_available_at;
        let until_note = available_at.map_or("; no reset known".into(), |at| {
            format!(" until {}", full_time(&at, context))
        });
        context.warn(format_args!(
            "{} is in cooldown{until_note}",
            label(account)
        ));

        // Without a terminal, the warning is enough.
        let asks_user = !self.switch.dry_run && !context.settings.assume_yes;
        if asks_user && context.ui.confirm("switch anyway?") == Some(false) {
            return Err(CommandError::refused("the switch was not confirmed")
                .hint("nothing was changed; find a ready account: codex-manager recommend"));
        }
        Ok(())
    }

    /// If the user typed only one letter of a name, asks whether to switch, because it may be a typing error.
    ///
    /// # Errors
    /// The user does not consent, or cannot be asked.
    fn confirm_one_letter(
        &self,
        typed_name: &str,
        account: Account,
        context: &Context,
    ) -> Result<Identity> {
        let name = label(&account);
        let is_clear = typed_name.chars().count() > 1 || name.eq_ignore_ascii_case(typed_name);
        if is_clear || self.switch.dry_run || context.settings.assume_yes {
            return Ok(account.entry.identity);
        }

        let message = match context.ui.confirm(format_args!("switch to {name}?")) {
            Some(true) => return Ok(account.entry.identity),
            Some(false) => "the switch was not confirmed".to_owned(),
            // The user cannot be asked.
            None => format!("one letter is not enough to switch to {name}"),
        };
        let command = format!("codex-manager use {}", shell::quote_if_needed(&name));
        Err(CommandError::refused(message)
            .hint(format!("nothing was changed; give the name: {command}")))
    }

    fn resolve_target(&self, context: &Context) -> Result<Identity> {
        match self.account.as_deref() {
            None => pick_account("which account?", context),
            Some("-") => {
                let (manager_home, home) = (context.manager_home(), context.codex_home());
                switch::read_previous_account(manager_home, home)?.ok_or_else(|| {
                    CommandError::failed("there is no previous account")
                        .hint("name an account; list them: codex-manager accounts")
                })
            }
            Some(text) => self.confirm_one_letter(text, find_account(text, context)?, context),
        }
    }
}
