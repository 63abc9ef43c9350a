//! `storage`: the disk usage of the Codex home, and the commands that reduce it.

mod report;
mod shrink;
mod trash;
mod vacuum;

use crate::commands::table_format::TableArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use clap::{Args, Subcommand};

/// Show the disk usage of the Codex home, and reduce it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage
  codex-manager storage --verbose
  codex-manager storage shrink --dry-run
  codex-manager storage --json | jq '.largest[] | [.bytes, .project]'")]
pub struct StorageArgs {
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
    ///
    /// # Errors
    /// See each subcommand.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        match self.command {
            None => report::run(self.table, context),
            Some(StorageCommand::Shrink(args)) => args.run(context),
            Some(StorageCommand::Expand(args)) => args.run(context),
            Some(StorageCommand::Trash(args)) => args.run(context),
            Some(StorageCommand::Undelete(args)) => args.run(context),
            Some(StorageCommand::Vacuum(args)) => args.run(context),
        }
    }
}
