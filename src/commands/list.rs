//! `list`: shows all profiles with their remaining quota. Queries the quota only with `--refresh`.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::refresh;
use crate::views::profile_list::show;
use crate::views::table_format::TableArgs;
use clap::Args;

/// List the profiles and their remaining quota
///
/// Uses the last known figures; makes no query and reads no conversations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager list
  codex-manager list --json
  codex-manager list --format tsv | cut -f1,2
  codex-manager list --refresh         # queries the quota first")]
pub(crate) struct ListArgs {
    /// Query the quota of all profiles first, like `status --all`
    #[arg(long)]
    refresh: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl ListArgs {
    /// # Errors
    /// A document was written by a newer version or cannot be read.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let is_fresh = !self.refresh || refresh::refresh_all(context)?;
        let outcome = show("list", context)?;
        Ok(if is_fresh { outcome } else { Outcome::Partial })
    }
}
