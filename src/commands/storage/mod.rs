//! `storage`: the disk usage of the Codex home, and the commands that reduce it.

mod report;
mod shrink;
mod trash;
mod vacuum;

use crate::context::Context;
use crate::error::{Outcome, Result};
use crate::views::table_format::TableArgs;
use clap::{Args, Subcommand};

/// Show the disk usage of the Codex home, and reduce it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage
  codex-manager storage --verbose
  codex-manager storage shrink --dry-run
  codex-manager storage --json | jq '.largest[] | [.bytes, .project]'")]
pub(crate) struct StorageArgs {
    #[command(flatten)]
    table: TableArgs,
    #[command(subcommand)]
    command: Option<StorageCommand>,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    Shrink(shrink::ShrinkArgs),
    Expand(shrink::ExpandArgs),
    Trash(trash::TrashArgs),
    Undelete(trash::UndeleteArgs),
    Vacuum(vacuum::VacuumArgs),
}

impl StorageArgs {
    /// Runs the chosen subcommand; without one, prints the disk usage.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        match self.command {
            None => report::run(self.table, context),
            Some(command) => command.run(context),
        }
    }
}

impl StorageCommand {
    fn run(self, context: &Context) -> Result<Outcome> {
        match self {
            Self::Shrink(args) => args.run(context),
            Self::Expand(args) => args.run(context),
            Self::Trash(args) => args.run(context),
            Self::Undelete(args) => args.run(context),
            Self::Vacuum(args) => args.run(context),
        }
    }
}
