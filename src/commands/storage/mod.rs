//! `storage`: the disk usage of the Codex home, and the commands that reduce it.

mod page;
mod report;
mod shrink;
mod trash;
mod trash_item;
mod undelete;
mod vacuum;

use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::views::table_format::TableArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Show the disk usage of the Codex home, and reduce it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager storage
  codex-manager storage --verbose
  codex-manager storage shrink --dry-run
  codex-manager storage --html storage.html
  codex-manager storage --json | jq '.largest[] | [.bytes, .project]'")]
pub(crate) struct StorageArgs {
    #[command(flatten)]
    table: TableArgs,
    /// Write the report with a treemap as a new HTML page, which loads nothing from elsewhere
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    html: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<StorageCommand>,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    Shrink(shrink::ShrinkArgs),
    Expand(shrink::ExpandArgs),
    Trash(trash::TrashArgs),
    Undelete(undelete::UndeleteArgs),
    Vacuum(vacuum::VacuumArgs),
}

impl StorageArgs {
    /// Runs the chosen subcommand; without one, prints the disk usage.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        match self.command {
            Some(_) if self.html.is_some() => {
                Err(CommandError::usage("subcommands of storage have no --html")
                    .hint("write the report: codex-manager storage --html FILE"))
            }
            None => report::run(self.table, self.html.as_deref(), context),
            Some(StorageCommand::Shrink(args)) => args.run(context),
            Some(StorageCommand::Expand(args)) => args.run(context),
            Some(StorageCommand::Trash(args)) => args.run(context),
            Some(StorageCommand::Undelete(args)) => args.run(context),
            Some(StorageCommand::Vacuum(args)) => args.run(context),
        }
    }
}
