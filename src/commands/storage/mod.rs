//! `storage`: the disk usage of the Codex home, and the commands that reduce it.

mod page;
mod report;
mod shrink;
mod trash;
mod vacuum;

use crate::codex::process;
use crate::context::Context;
use crate::error::{CommandError, Outcome, Result};
use crate::views::table_format::TableArgs;
use clap::{Args, FromArgMatches, Subcommand};
use std::path::PathBuf;
use std::process::Command;

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
    Undelete(trash::UndeleteArgs),
    Vacuum(vacuum::VacuumArgs),
}

impl StorageArgs {
    /// Runs the chosen subcommand; without one, prints the disk usage, and on a terminal runs the
    /// suggestion that the user chooses.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        match self.command {
            Some(_) if self.html.is_some() => Err(CommandError::usage(
                "--html writes the report of storage alone",
            )),
            None => match report::run(self.table, self.html.as_deref(), context)? {
                (outcome, None) => Ok(outcome),
                (_, Some(suggestion)) => run_suggestion(&suggestion, context),
            },
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

/// Runs a command of the report: one of this program for the same homes, else one for the shell.
fn run_suggestion(command: &str, context: &Context) -> Result<Outcome> {
    context.note(format_args!("$ {command}"));
    if let Some(words) = command.strip_prefix("codex-manager storage ") {
        let parser = clap::Command::new("storage").no_binary_name(true);
        let parsed = StorageCommand::augment_subcommands(parser)
            .try_get_matches_from(words.split(' '))
            .and_then(|matches| StorageCommand::from_arg_matches(&matches));
        let parsed = parsed.map_err(|e| CommandError::usage("invalid suggestion").because(e))?;
        return parsed.run(context);
    }
    // The commands of this program check it themselves.
    if !process::find_codex(context.codex_home()).is_empty() {
        return Err(CommandError::codex_running("Codex is running on this home")
            .hint("end Codex first; nothing was changed"));
    }
    let status = Command::new("sh").args(["-c", command]).status();
    match status {
        Ok(status) if status.success() => Ok(Outcome::Done),
        Ok(status) => Err(CommandError::failed(format!(
            "the command failed: {status}"
        ))),
        Err(e) => Err(CommandError::failed("cannot start sh").because(e)),
    }
}
