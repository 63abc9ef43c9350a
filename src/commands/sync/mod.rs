//! `sync`: synchronizes Codex's state between machines, through a cloud folder or the vault.

mod forget;
mod init;
mod open_decision;
mod plan;
mod resolve;
mod restore;
mod run;

use crate::choices::sync_config::{read_config, read_config_quietly, replica, resolve_config_path};
use crate::context::Context;
use crate::doctor::Status;
use crate::error::{CommandError, Outcome, Result};
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_checks::{format_misspelled_root_warnings, run_checks};
use crate::steps::sync_context::SyncContext;
use crate::ui::object;
use crate::views::check_output;
use clap::{Args, Subcommand};
use codex_manager_core::sync::scope::Scope;
use std::path::{Path, PathBuf};

/// Sync conversations through a cloud folder or the vault
///
/// The cloud folder is any folder that Dropbox, OneDrive, iCloud Drive, Google Drive, Syncthing or NFS shares; the
/// vault is encrypted. Logins are never synced. A configuration of the older Python tool codexSync works unchanged.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync init --cloud ~/Dropbox/codex   # once on each machine
  codex-manager sync plan
  codex-manager sync run --apply
  codex-manager sync -c config.toml run --dry-run
  codex-manager sync resolve                        # what needs a decision")]
pub(crate) struct SyncArgs {
    /// Path of the configuration [default: sync.toml in the manager home]
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    shutdown_args: ShutdownArgs,
    #[command(subcommand)]
    command: SyncCommand,
}

#[derive(Debug, Subcommand)]
enum SyncCommand {
    #[command(alias = "init-config")]
    Init(init::SyncInitArgs),
    /// Check the configuration file
    #[command(after_help = "Examples:
  codex-manager sync validate -c config.toml")]
    Validate,
    /// Check the configuration, the folders and the programs that use them
    #[command(
        alias = "doctor",
        after_help = "Examples:
  codex-manager sync preflight"
    )]
    Preflight,
    Plan(plan::PlanArgs),
    #[command(alias = "sync")]
    Run(run::RunArgs),
    Restore(restore::SyncRestoreArgs),
    Resolve(resolve::ResolveArgs),
    Forget(forget::SyncForgetArgs),
}

impl SyncArgs {
    /// Returns the value of `-c`.
    pub(crate) fn named_config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Returns true if the command reads or writes files of the Codex home.
    pub(crate) fn works_on_home(&self) -> bool {
        matches!(
            self.command,
            SyncCommand::Plan(_)
                | SyncCommand::Run(_)
                | SyncCommand::Restore(_)
                | SyncCommand::Resolve(_)
        )
    }

    /// Returns true if the command writes the log that `[logging]` configures: `run` and `restore` do, if they may
    /// change files.
    pub(crate) fn keeps_log(&self, context: &Context) -> bool {
        let config = || {
            let path = resolve_config_path(context, self.config.as_deref());
            read_config_quietly(context, &path)
        };
        match &self.command {
            SyncCommand::Run(args) => config().is_ok_and(|config| args.applies(&config)),
            SyncCommand::Restore(args) => config().is_ok_and(|config| args.applies(&config)),
            _ => false,
        }
    }

    pub(crate) fn run(self, context: &Context) -> Result<Outcome> {
        let config = self.config.as_deref();
        let path = &resolve_config_path(context, config);
        let shutdown = &self.shutdown_args;
        match self.command {
            SyncCommand::Init(args) => args.run(context, path),
            SyncCommand::Validate => validate(context, path),
            SyncCommand::Preflight => preflight(context, path, shutdown),
            SyncCommand::Plan(args) => {
                let context = &args.table.apply(context)?;
                with_sync(context, path, shutdown, |sync| args.run(sync))
            }
            SyncCommand::Run(args) => with_sync(context, path, shutdown, |sync| args.run(sync)),
            SyncCommand::Restore(args) => with_sync(context, path, shutdown, |sync| args.run(sync)),
            SyncCommand::Resolve(args) => with_sync(context, path, shutdown, |sync| args.run(sync)),
            SyncCommand::Forget(args) => args.run(context, path),
        }
    }
}

/// Runs `command` with the sync of the configuration at `path`.
fn with_sync(
    context: &Context,
    path: &Path,
    shutdown_args: &ShutdownArgs,
    command: impl FnOnce(&SyncContext<'_>) -> Result<Outcome>,
) -> Result<Outcome> {
    let config = read_config(context, path)?;
    command(&SyncContext {
        context,
        config: &config,
        replica: &replica(context, &config),
        shutdown_args,
    })
}

/// Checks the configuration file only.
fn validate(context: &Context, path: &Path) -> Result<Outcome> {
    let config = read_config(context, path)?;
    Scope::build(&config)
        .map_err(|e| CommandError::usage(format!("filters.exclude_globs: {e}")))?;

    let root_warnings = format_misspelled_root_warnings(&config);
    for warning in &root_warnings {
        context.ui.warn(warning);
    }

    let json = object()
        .with("path", path)
        .with("ok", true)
        .with("warnings", [config.warnings, root_warnings].concat());
    context.ui.document("sync validate", &json);
    context.ui.prose(format_args!("valid: {}", path.display()));
    Ok(Outcome::Done)
}

/// Checks the configuration, the folders and the programs that use them.
fn preflight(context: &Context, path: &Path, shutdown_args: &ShutdownArgs) -> Result<Outcome> {
    let checks = run_checks(context, path, shutdown_args)?;
    let ui = &context.ui;
    ui.list_document("sync preflight", "checks", &checks);
    for check in &checks {
        check_output::print_check(ui, check);
    }
    let has_failed = checks.iter().any(|check| check.status == Status::Fail);
    Ok(Outcome::passed_if(!has_failed))
}
