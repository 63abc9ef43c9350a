//! `list`: the table of `accounts`; its JSON document has the profiles only.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::account_screen::AccountScreenArgs;
use clap::Args;

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
        self.screen.run(
            |list, context| list.print_profiles_json("list", context),
            context,
        )
    }
}
