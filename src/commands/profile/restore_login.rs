//! `profile restore-login`: restores an older login from the history of a profile.

use crate::choices::account_choice::choose_profile_name;
use crate::commands::profile::login_age::{format_age_line, recorded_renewal};
use crate::commands::profile::records::lock_account;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::object;
use crate::views::account::{printable, time_json};
use crate::views::dry_run::wording;
use clap::Args;

/// Restore an older login from the history of a profile
///
/// An older login has probably been invalidated, because its refresh token works once. The current login
/// moves to the history; running the command again restores it. `use` refuses an older login without
/// --force-stale. A profile whose login was moved to another machine is refused.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile show work                # lists the history
  codex-manager profile restore-login work
  codex-manager profile restore-login work 20261117T155500")]
pub(super) struct RestoreLoginArgs {
    /// The name of the profile [default: a picker]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The name of the login in the history, or a prefix of it [default: the one renewed last]
    #[arg(value_name = "LOGIN")]
    login: Option<String>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

impl RestoreLoginArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let profiles = context.profiles();
        let profile_name = choose_profile_name(self.name, context)?;
        let _account_locks = lock_account(&profile_name, self.dry_run, context)?;
        profiles.check_not_isolated(&profile_name)?;
        let restored = profiles.restore_login(
            &profile_name,
            self.login.as_deref(),
            context.codex_home(),
            context.local_now(),
            self.dry_run,
        )?;

        let ui = &context.ui;
        let verb_text = wording(self.dry_run, "would restore", "restored");
        ui.prose(format_args!(
            "{verb_text} the login {} of the profile {}",
            printable(&restored.login),
            printable(&profile_name)
        ));
        let renewed_at = recorded_renewal(&restored.freshness);
        ui.prose(format_age_line(renewed_at, context));

        if restored.is_stale {
            ui.warn(
                "a newer login of this account exists, so this one is probably invalid; `use` needs --force-stale to use it",
            );
        }

        let json = object()
            .with("profile", profile_name)
            .with("login", restored.login)
            .with("last_refresh", time_json(renewed_at, context))
            .with("is_stale", restored.is_stale)
            .with("dry_run", self.dry_run);
        ui.document("profile restore-login", &json);
        Ok(Outcome::Done)
    }
}
