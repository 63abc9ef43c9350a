//! `launches`: lists launches with their accounts and conversations.

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::steps::launch_list::show_launches;
use crate::views::table_format::TableArgs;
use clap::Args;

/// List launches and their conversations
///
/// The newest launch comes first. If codex-manager was killed during a launch, the record is completed before the
/// launches are shown.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager launches
  codex-manager launches work --all
  codex-manager launches --json")]
pub(crate) struct LaunchesArgs {
    /// Only launches of this account
    #[arg(value_name = "PROFILE")]
    profile_argument: Option<String>,
    /// The same as PROFILE
    #[arg(long, value_name = "PROFILE", conflicts_with = "profile_argument")]
    profile: Option<String>,
    /// Show all launches, not only the last 20
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    table: TableArgs,
}

impl LaunchesArgs {
    /// # Errors
    /// The registry cannot be read or completed, or no account or several match.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let context = &self.table.apply(context)?;
        let profile = self.profile.or(self.profile_argument);
        show_launches("launches", profile.as_deref(), self.all, context)
    }
}
