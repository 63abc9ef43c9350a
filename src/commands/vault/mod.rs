//! `vault`: encrypted snapshots outside this machine, by restic.

mod backup;
mod check;
mod contents;
mod drill;
mod export;
mod forget;
mod import;
mod init;
mod restore;
mod snapshots;

use crate::choices::vault_connection::ConnectionArgs;
use crate::context::Context;
use crate::error::{Outcome, Result};
use clap::{Args, Subcommand};

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
    Init(init::VaultInitArgs),
    Backup(backup::VaultBackupArgs),
    #[command(alias = "list")]
    Snapshots(snapshots::SnapshotsArgs),
    Ls(contents::LsArgs),
    Cat(contents::CatArgs),
    Restore(restore::VaultRestoreArgs),
    Check(check::VaultCheckArgs),
    Forget(forget::ForgetArgs),
    Import(import::VaultImportArgs),
    Export(export::VaultExportArgs),
    Drill(drill::DrillArgs),
}

impl VaultArgs {
    /// Returns true if the command captures or replaces the Codex home.
    pub(crate) fn works_on_home(&self) -> bool {
        matches!(
            self.command,
            VaultCommand::Backup(_) | VaultCommand::Restore(_)
        )
    }

    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
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
