//! The table of accounts for `accounts` and `list`, which differ only in their JSON documents.

use crate::choices::account_choice::find_identity;
use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::refresh::refresh_accounts;
use crate::views::account_list::AccountList;
use crate::views::table_format::TableArgs;
use clap::Args;

/// The flags of `accounts` and `list`.
#[derive(Debug, Args)]
pub(crate) struct AccountScreenArgs {
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
    pub(crate) fn run(
        self,
        print_json: impl FnOnce(&AccountList, &Context),
        context: &Context,
    ) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let all_accounts = None;
        let is_fresh = !self.refresh || refresh_accounts(all_accounts, context)?;
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
