//! `history`: compares the conversations on disk with Codex's lists, and repairs the lists.

mod check;
mod home;
mod losses;
mod rebuild;
mod repair;
mod undo;

use crate::context::Context;
use crate::error::{Outcome, Result};
use clap::{Args, Subcommand};

/// Find and repair conversations that Codex does not list
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history check
  codex-manager history repair --dry-run
  codex-manager history repair
  codex-manager history undo
  codex-manager history losses
  codex-manager history rebuild --max-threads 0")]
pub(crate) struct HistoryArgs {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Debug, Subcommand)]
enum HistoryCommand {
    Check(check::CheckArgs),
    Losses(losses::LossesArgs),
    Repair(repair::RepairArgs),
    Undo(undo::UndoArgs),
    Rebuild(rebuild::RebuildArgs),
}

impl HistoryArgs {
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        match self.command {
            HistoryCommand::Check(args) => args.run(context),
            HistoryCommand::Losses(args) => args.run(context),
            HistoryCommand::Repair(args) => args.run(context),
            HistoryCommand::Undo(args) => args.run(context),
            HistoryCommand::Rebuild(args) => args.run(context),
        }
    }
}
