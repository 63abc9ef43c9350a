//! `profile`: saves and manages the logins of accounts.

mod export;
mod import;
mod import_switcher;
mod login;
mod login_age;
mod records;
mod remove;
mod rename;
mod restore_login;
mod save;
mod show;

use self::export::ProfileExportArgs;
use self::import::ProfileImportArgs;
use self::login::LoginArgs;
use self::remove::{ProfileRemoveArgs, ProfileUndoArgs};
use self::rename::RenameArgs;
use self::restore_login::RestoreLoginArgs;
use self::save::SaveArgs;
use self::show::ProfileShowArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::views::account_list::AccountList;
use crate::views::table_format::TableArgs;
use clap::{Args, Subcommand};

/// Manage profiles: the saved logins of your accounts
///
/// A profile contains the newest login of one account and the five logins before it, as exact copies. A
/// refresh token works once, so only one copy of a login is valid: the one in the Codex home or the one
/// in the profile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile save work
  codex-manager profile login client
  codex-manager profile save client --from ~/dumps/21apr_me@x.com_auth.json
  codex-manager profile list")]
pub(crate) struct ProfileArgs {
    #[command(subcommand)]
    command: ProfileCommand,
}

/// Sign in to another account and save it as a profile
///
/// The same as `profile login`: runs `codex login` in an empty temporary home, so that no other account is
/// signed out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager login work
  codex-manager login work -- --device-auth")]
pub(crate) struct TopLoginArgs {
    #[command(flatten)]
    login: LoginArgs,
}

impl TopLoginArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let command = ProfileCommand::Login(self.login);
        ProfileArgs { command }.run(context)
    }
}

#[derive(Debug, Subcommand)]
enum ProfileCommand {
    Save(SaveArgs),
    List(ProfileListArgs),
    Show(ProfileShowArgs),
    Rename(RenameArgs),
    Remove(ProfileRemoveArgs),
    Undo(ProfileUndoArgs),
    Login(LoginArgs),
    RestoreLogin(RestoreLoginArgs),
    Export(ProfileExportArgs),
    Import(ProfileImportArgs),
}

/// List the accounts and their remaining quota; the same as `list`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager profile list")]
struct ProfileListArgs {
    #[command(flatten)]
    table: TableArgs,
}

impl ProfileArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        use ProfileCommand as Verb;

        let is_dry_run = match &self.command {
            Verb::List(_) | Verb::Show(_) => false,
            Verb::Save(SaveArgs { dry_run, .. })
            | Verb::Rename(RenameArgs { dry_run, .. })
            | Verb::Remove(ProfileRemoveArgs { dry_run, .. })
            | Verb::Undo(ProfileUndoArgs { dry_run, .. })
            | Verb::Login(LoginArgs { dry_run, .. })
            | Verb::RestoreLogin(RestoreLoginArgs { dry_run, .. })
            | Verb::Export(ProfileExportArgs { dry_run, .. })
            | Verb::Import(ProfileImportArgs { dry_run, .. }) => *dry_run,
        };

        // A killed command may have left a login outside of its profile.
        if !is_dry_run {
            login::recover_sign_ins(context)?;
            export::recover_exports(context)?;
        }

        match self.command {
            Verb::Save(args) => args.run(context),
            Verb::List(args) => {
                let context = &args.table.apply(context)?;
                let dry_run = false;
                let list = AccountList::read(dry_run, context)?;
                list.print_profiles_json("profile list", context);
                Ok(list.show_table(context))
            }
            Verb::Show(args) => args.run(context),
            Verb::Rename(args) => args.run(context),
            Verb::Remove(args) => args.run(context),
            Verb::Undo(args) => args.run(context),
            Verb::Login(args) => args.run(context),
            Verb::RestoreLogin(args) => args.run(context),
            Verb::Export(args) => args.run(context),
            Verb::Import(args) => args.run(context),
        }
    }
}
