//! `profile rename`: changes the name of a profile.

use crate::commands::profile::records::{lock_account, record_profiles_if, rename_in_settings};
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::ui::{Style, object};
use crate::views::account::printable;
use crate::views::dry_run::wording;
use clap::Args;

/// Change the name of a profile
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile rename me@example.com work")]
pub(super) struct RenameArgs {
    /// The name of the profile
    #[arg(value_name = "OLD")]
    old: String,
    /// The new name of the profile
    #[arg(value_name = "NEW")]
    new: String,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

impl RenameArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let profiles = context.profiles();
        let _account_locks = lock_account(&self.old, self.dry_run, context)?;
        let old_name = profiles.find_by_name(&self.old)?.name;
        profiles.rename(&old_name, &self.new, self.dry_run)?;

        let cooldown_outcome = record_profiles_if(!self.dry_run, context);
        let verb_text = wording(self.dry_run, "would rename", "renamed");
        context.ui.prose(format_args!(
            "{verb_text} {} to {}",
            printable(&old_name),
            context.ui.paint(Style::Strong, &self.new)
        ));
        let (changed_settings, settings_outcome) =
            rename_in_settings(&old_name, &self.new, self.dry_run, context);

        let json = object()
            .with("profile", &self.new)
            .with("renamed_from", &old_name)
            .with("settings", changed_settings)
            .with("dry_run", self.dry_run);
        context.ui.document("profile rename", &json);
        Ok(cooldown_outcome.or(settings_outcome))
    }
}
