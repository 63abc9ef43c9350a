//! `profile remove` moves a profile to the trash or deletes it with `--purge`, and `profile undo` puts it back.

use crate::choices::account_choice::choose_profile_name;
use crate::commands::profile::records::{lock_account, record_profiles_if};
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::ui::object;
use crate::views::account::printable;
use crate::views::dry_run::wording;
use clap::Args;
use codex_manager_core::accounts::removed::UndoneRemoval;
use codex_manager_core::codex::Identity;
use codex_manager_core::io::{pluralize, shell};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Move a profile to the trash, or with --purge delete it
///
/// The account is not logged out, and the Codex home is not changed. The trash is a folder below
/// profiles/; `profile undo` puts the profile back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile remove work
  codex-manager profile remove work --purge   # deletes its trashed copies too")]
pub(super) struct ProfileRemoveArgs {
    /// The name of the profile [default: a picker]
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Delete the profile and all profiles of that name in the trash
    #[arg(long)]
    purge: bool,
    /// Show what would be done; write nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

impl ProfileRemoveArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let profiles = context.profiles();
        let profile = choose_profile_name(self.name, context)?;
        let _account_locks = lock_account(&profile, self.dry_run, context)?;
        profiles.check_not_isolated(&profile)?;

        let (trash_folder, purged_folders) = if self.purge {
            (None, purge(&profile, self.dry_run, context)?)
        } else {
            (move_to_trash(&profile, self.dry_run, context)?, 0)
        };

        let outcome = record_profiles_if(!self.dry_run, context);
        let json = object()
            .with("profile", &profile)
            .with("trash", trash_folder)
            .with("purged", purged_folders)
            .with("dry_run", self.dry_run);
        context.ui.document("profile remove", &json);
        Ok(outcome)
    }
}

/// Moves a profile to the trash if the user consents, and returns its new folder; `None` in a dry run.
fn move_to_trash(profile: &str, dry_run: bool, context: &Context) -> Result<Option<PathBuf>> {
    let profiles = context.profiles();
    // Checked first, so that a dry run fails for an unknown profile too.
    profiles.find_by_name(profile)?;

    let ui = &context.ui;
    let name = printable(profile);
    if dry_run {
        ui.prose(format_args!("would move the profile {name} to the trash"));
        return Ok(None);
    }
    if !context.confirm(format_args!("move the profile {name} to the trash?")) {
        return Err(CommandError::refused("the profile was not removed")
            .hint("nothing was changed; to remove it without a question, add --yes"));
    }

    let trash_folder = profiles.move_to_trash(profile, context.local_now())?;
    ui.prose(format_args!("moved {name} to the trash"));
    ui.note(format_args!(
        "undo with: codex-manager profile undo {}",
        shell::quote_if_needed(profile)
    ));
    Ok(Some(trash_folder))
}

/// Deletes a profile and its copies in the trash if the user consents. Returns the number of deleted folders; in a dry
/// run, of those that would be deleted.
fn purge(profile: &str, dry_run: bool, context: &Context) -> Result<usize> {
    let profiles = context.profiles();
    let folder_count = profiles.list_folders_of(profile)?.len();
    let accounts = describe_accounts(&profiles.read_accounts_to_purge(profile)?);

    let name = printable(profile);
    if dry_run {
        context.ui.prose(format_args!(
            "would delete {name} permanently: {}, {accounts}",
            pluralize(folder_count, "folder")
        ));
        return Ok(folder_count);
    }

    // The purge may delete the only copy of a login.
    let question = format!("delete {name} ({accounts}) permanently? This may be the only copy");
    if !context.confirm(question) {
        return Err(CommandError::refused(format!(
            "the profile {name} and its copies in the trash may be the only copies of {accounts}"
        ))
        .hint("delete the profile permanently with --yes, or move it to the trash without --purge; nothing was changed"));
    }

    let purged_folders = profiles.purge_profile(profile)?;
    context.ui.prose(format_args!(
        "deleted {name} permanently: {}",
        pluralize(purged_folders, "folder")
    ));
    Ok(purged_folders)
}

/// Formats the accounts as "the logins of a@x.com, b@x.com".
fn describe_accounts(accounts: &[Option<Identity>]) -> String {
    let format_account = |account: &Option<Identity>| match account {
        Some(account) => printable(account.email.as_str()),
        None => "a login without a known account".into(),
    };
    let accounts: BTreeSet<_> = accounts.iter().map(format_account).collect();
    if accounts.is_empty() {
        return "no login".into();
    }
    let accounts: Vec<_> = accounts.into_iter().collect();
    format!("the logins of {}", accounts.join(", "))
}

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

impl ProfileUndoArgs {
    pub(super) fn run(self, context: &Context) -> Result<Outcome> {
        let profiles = context.profiles();
        let undone = profiles.undo_remove(self.name.as_deref(), self.dry_run)?;
        let Some(UndoneRemoval {
            name: profile,
            trashed_folder,
            is_stale,
            ..
        }) = undone
        else {
            let name_note = self
                .name
                .map_or_else(String::new, |name| format!(" named {name:?}"));
            let error = CommandError::failed(format!("there is no removed profile{name_note}"));
            return Err(error.hint("list the profiles: codex-manager list; nothing was changed"));
        };

        let outcome = record_profiles_if(!self.dry_run, context);
        let put_verb = wording(self.dry_run, "would put", "put");
        context.ui.prose(format_args!(
            "{put_verb} the profile {} back",
            printable(&profile)
        ));
        if is_stale {
            context.warn(format_args!(
                "a newer login of this account exists, so this one is probably invalid; sign in again: codex-manager \
                profile login {}",
                shell::quote_if_needed(&profile)
            ));
        }

        let json = object()
            .with("profile", profile)
            .with("trash", trashed_folder)
            .with("is_stale", is_stale)
            .with("dry_run", self.dry_run);
        context.ui.document("profile undo", &json);
        Ok(outcome)
    }
}
