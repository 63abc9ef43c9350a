//! `history`: compares the conversations on disk with Codex's lists, and repairs the lists.

mod check;
mod rebuild;
mod repair;
mod undo;

use crate::codex::auth::AuthFile;
use crate::codex::home::AUTH_JSON;
use crate::codex::threads;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use crate::history::HistoryError;
use crate::history::check::{Findings, compare};
use crate::history::repair::RepairContext;
use clap::{Args, Subcommand};

/// Find and repair conversations that Codex does not list
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager history check
  codex-manager history repair --dry-run
  codex-manager history repair
  codex-manager history undo
  codex-manager history rebuild --max-threads 0")]
pub struct HistoryArgs {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Debug, Subcommand)]
enum HistoryCommand {
    Check(check::CheckArgs),
    Repair(repair::RepairArgs),
    Undo(undo::UndoArgs),
    Rebuild(rebuild::RebuildArgs),
}

impl HistoryArgs {
    /// Runs the chosen subcommand.
    ///
    /// # Errors
    /// See each subcommand.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        match self.command {
            HistoryCommand::Check(args) => args.run(context),
            HistoryCommand::Repair(args) => args.run(context),
            HistoryCommand::Undo(args) => args.run(context),
            HistoryCommand::Rebuild(args) => args.run(context),
        }
    }
}

fn repair_context(context: &Context) -> RepairContext<'_> {
    RepairContext {
        home: &context.settings.codex_home,
        manager_home: &context.settings.manager_home,
        env: &context.env,
    }
}

fn require_home(context: &Context) -> Result<(), CommandError> {
    let home = &context.settings.codex_home;
    if home.is_dir() {
        return Ok(());
    }
    Err(
        CommandError::failed(format!("no Codex home: {}", home.display()))
            .hint("start codex once, or name the folder with --codex-home DIR"),
    )
}

fn findings(context: &Context) -> Result<Findings, HistoryError> {
    let home = &context.settings.codex_home;
    let database = threads::find_state_database(home, &context.env);
    let auth = AuthFile::read(&home.join(AUTH_JSON)).ok();
    let live = auth.and_then(|auth| auth.login()?.identity.account_id.clone());
    compare(home, database.as_deref(), live.as_deref())
}
