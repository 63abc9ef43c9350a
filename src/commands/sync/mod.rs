//! `sync`: Codex's state between machines, through a folder that something else replicates.

mod codex_use;
mod init;
mod log;
mod plan;
mod preflight;
mod resolve;
mod restore;
mod run;
mod shared;

pub(super) use preflight::checks as preflight_checks;

use crate::commands::shutdown::ShutdownArgs;
use crate::context::Context;
use crate::error::{CommandError, Outcome};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// Continue on another machine, through a folder that something else replicates
///
/// Dropbox, `OneDrive`, iCloud Drive, Google Drive, Syncthing, NFS: anything that copies a folder.
/// Logins never travel. A configuration of codexSync works as it is.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync init --cloud ~/Dropbox/codex   # once on each machine
  codex-manager sync plan
  codex-manager sync run --apply
  codex-manager sync -c config.toml run --dry-run
  codex-manager sync resolve                        # what needs a decision")]
pub struct SyncArgs {
    /// The configuration [default: sync.toml in the manager home]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    closing: ShutdownArgs,
    #[command(subcommand)]
    command: SyncCommand,
}

#[derive(Debug, Subcommand)]
enum SyncCommand {
    #[command(alias = "init-config")]
    Init(init::InitArgs),
    Validate(preflight::ValidateArgs),
    #[command(alias = "doctor")]
    Preflight(preflight::PreflightArgs),
    Plan(plan::PlanArgs),
    #[command(alias = "sync")]
    Run(run::RunArgs),
    Restore(restore::SyncRestoreArgs),
    Resolve(resolve::ResolveArgs),
}

/// Whether runs of `sync` have a configuration that they can use: this one, or the usual one.
///
/// # Errors
/// They have none.
pub(super) fn check_config(context: &Context, given: Option<&Path>) -> Result<(), CommandError> {
    let path = shared::config_path(context, given);
    shared::read_quietly(context, &path).map(drop)
}

impl SyncArgs {
    /// Whether it reads or writes the files of the Codex home.
    pub fn works_on_home(&self) -> bool {
        matches!(
            self.command,
            SyncCommand::Plan(_)
                | SyncCommand::Run(_)
                | SyncCommand::Restore(_)
                | SyncCommand::Resolve(_)
        )
    }

    /// Whether the run keeps a log by itself, as `[logging]` has it: when it changes something.
    pub fn keeps_log(&self, context: &Context) -> bool {
        let path = shared::config_path(context, self.config.as_deref());
        shared::read_quietly(context, &path).is_ok_and(|config| match &self.command {
            SyncCommand::Run(args) => args.applies(&config),
            SyncCommand::Restore(args) => args.applies(&config),
            _ => false,
        })
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Those of the subcommand.
    pub fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let config = self.config.as_deref();
        let path = shared::config_path(context, config);
        let closing = &self.closing;
        match self.command {
            SyncCommand::Init(args) => args.run(context, &path),
            SyncCommand::Validate(args) => args.run(context, &path),
            SyncCommand::Preflight(args) => args.run(context, &path, closing),
            SyncCommand::Plan(args) => args.run(context, &path, closing),
            SyncCommand::Run(args) => args.run(context, &path, closing),
            SyncCommand::Restore(args) => args.run(context, &path, closing),
            SyncCommand::Resolve(args) => args.run(context, &path, closing),
        }
    }
}
