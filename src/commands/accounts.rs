//! `accounts` and `list`: show all accounts in one table, by readiness. They query the quota only with `--refresh`.

use crate::choices::account_choice::find_identity;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::refresh::refresh_all;
use crate::views::account_list::AccountList;
use crate::views::table_format::TableArgs;
use clap::Args;

/// Show all accounts, ready ones first, with their remaining quota
///
/// Uses the last known figures; makes no query and reads no conversations. Bars show what is left. NEXT is
/// the time until the account is ready again; for a ready one until its weekly reset. * marks the live
/// account, ! one without a usable saved login. `list`, `cooldown` and `status --all` show the same table.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager accounts
  codex-manager accounts --timeline
  codex-manager accounts --refresh     # queries the quota first
  codex-manager accounts --format tsv | grep me@example.com")]
pub(crate) struct AccountsArgs {
    #[command(flatten)]
    screen: AccountScreenArgs,
}

impl AccountsArgs {
    /// # Errors
    /// A document was written by a newer version or cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        self.screen.run(AccountList::print_json, context)
    }
}

/// List the accounts and their quota, like `accounts`
///
/// With --json, lists the profiles only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager list
  codex-manager list --json
  codex-manager list --format tsv | cut -f1,2
  codex-manager list --refresh         # queries the quota first")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    screen: AccountScreenArgs,
}

impl ListArgs {
    /// # Errors
    /// A document was written by a newer version or cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let print_json = |list: &_, context: &Context| {
            AccountList::print_profiles_json(list, "list", context);
        };
        self.screen.run(print_json, context)
    }
}

/// The flags of `accounts` and `list`, which differ only in their JSON documents.
#[derive(Debug, Args)]
struct AccountScreenArgs {
    /// Show only this account: a profile, an email, or a unique prefix of one
    #[arg(conflicts_with = "refresh")]
    account: Option<String>,
    /// Draw a timeline of the next seven days instead of the table
    #[arg(long, conflicts_with = "format")]
    timeline: bool,
    /// Query the quota of all accounts with a saved login first, like `status --all`
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl AccountScreenArgs {
    /// Prints the accounts. Calls `print_json` to print their JSON document.
    ///
    /// # Errors
    /// A document cannot be read or was written by a newer version; no account or several match; or with `--refresh`,
    /// the figures cannot be recorded.
    fn run(
        self,
        print_json: impl FnOnce(&AccountList, &Context),
        context: &Context,
    ) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let is_fresh = !self.refresh || refresh_all(context)?;
        let dry_run = false;
        let mut list = AccountList::read(dry_run, context)?;
        if let Some(account_name) = &self.account {
            list.retain_account(&find_identity(account_name, context)?);
        }
        print_json(&list, context);
        let outcome = list.show(self.timeline, context);
        Ok(if is_fresh { outcome } else { Outcome::Partial })
    }
}
