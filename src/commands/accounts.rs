//! `accounts`: shows all accounts in one table, by readiness. Queries the quota only with `--refresh`.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::account_screen::AccountScreenArgs;
use crate::views::account_list::AccountList;
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
