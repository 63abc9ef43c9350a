//! `profile undo`: puts a removed profile back.

use crate::accounts::profile::Profiles;
use crate::commands::profile::records::update_cooldown;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::views::account::printable;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Put a removed profile back, with its logins and its history
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile undo
  codex-manager profile undo work")]
pub(super) struct ProfileUndoArgs {
    /// The name of the removed profile [default: the one removed last]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// The JSON document. Its keys are an interface.
#[derive(Debug, Serialize)]
struct UndoView {
    profile: String,
    trash: PathBuf,
    dry_run: bool,
}

impl ProfileUndoArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let profiles = Profiles::of(&context.settings.manager_home);
        let undone = profiles.undo_remove(self.name.as_deref(), self.dry_run)?;
        let Some((profile, trash)) = undone else {
            let of = self
                .name
                .map_or_else(String::new, |name| format!(" named {name:?}"));
            return Err(
                CommandError::failed(format!("there is no removed profile{of}"))
                    .hint("list the profiles: codex-manager list; nothing was changed"),
            );
        };
        if !self.dry_run {
            update_cooldown(context, None)?;
        }
        let verb = if self.dry_run { "would put" } else { "put" };
        context.ui.prose(format_args!(
            "{verb} the profile {} back",
            printable(&profile)
        ));
        context.ui.document(
            "profile undo",
            &UndoView {
                profile,
                trash,
                dry_run: self.dry_run,
            },
        );
        Ok(Outcome::Done)
    }
}
