//! `vault`: encrypted snapshots outside this machine, by restic.

mod backup;
mod check;
mod connection;
mod contents;
mod drill;
mod export;
mod forget;
mod import;
mod init;
mod new_snapshot;
mod restore;
mod snapshot_choice;
mod snapshots;

pub(super) use connection::warn_of_unattended;
pub(super) use new_snapshot::add_snapshot;
pub(super) use restore::add_snapshots;

use crate::context::Context;
use crate::error::{CommandError, Outcome};
use clap::{Args, Subcommand};
use connection::ConnectionArgs;

/// Keep encrypted, deduplicated snapshots elsewhere, with restic
///
/// Needs restic 0.14 or newer. Every storage of restic works: a folder, S3 and compatible servers,
/// SFTP, a REST server, Azure, Google Cloud, and the storages of rclone. Several machines can share
/// one vault. restic alone can read it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager vault init sftp:me@nas:/backups/codex
  codex-manager vault backup
  codex-manager vault snapshots
  codex-manager vault restore latest --dry-run")]
pub(crate) struct VaultArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: VaultCommand,
}

#[derive(Debug, Subcommand)]
enum VaultCommand {
    Init(init::InitArgs),
    Backup(backup::BackupArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Ls(contents::LsArgs),
    Cat(contents::CatArgs),
    Restore(restore::RestoreArgs),
    Check(check::CheckArgs),
    Forget(forget::ForgetArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    Drill(drill::DrillArgs),
}

impl VaultArgs {
    /// Returns true if the command reads or writes the Codex home.
    pub(crate) fn works_on_home(&self) -> bool {
        matches!(
            self.command,
            VaultCommand::Backup(_) | VaultCommand::Restore(_)
        )
    }

    /// Runs the command.
    ///
    /// # Errors
    /// Those of the subcommand.
    pub(crate) fn run(self, context: &Context) -> Result<Outcome, CommandError> {
        let connection = &self.connection;
        match self.command {
            VaultCommand::Init(args) => args.run(context, connection),
            VaultCommand::Backup(args) => args.run(context, connection),
            VaultCommand::Snapshots(args) => args.run(context, connection),
            VaultCommand::Ls(args) => args.run(context, connection),
            VaultCommand::Cat(args) => args.run(context, connection),
            VaultCommand::Restore(args) => args.run(context, connection),
            VaultCommand::Check(args) => args.run(context, connection),
            VaultCommand::Forget(args) => args.run(context, connection),
            VaultCommand::Import(args) => args.run(context, connection),
            VaultCommand::Export(args) => args.run(context, connection),
            VaultCommand::Drill(args) => args.run(context, connection),
        }
    }
}
