//! `sync validate` and `sync preflight`: check the configuration and whether a sync could run.

use super::codex_use;
use super::shared::{self, is_writable, read_quietly, replica};
use crate::commands::check_output;
use crate::commands::shutdown::ShutdownArgs;
use crate::context::Context;
use crate::doctor::{Check, Status, machine};
use crate::error::{CommandError, Outcome};
use crate::io::atomic;
use crate::io::quantity::pluralize;
use crate::sync::config::SyncConfig;
use crate::sync::conflict_copies::ConflictCopies;
use crate::sync::identity;
use crate::sync::manifest;
use crate::sync::plan::{self, PlanRequest, UndeliveredVersion};
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::resolutions;
use crate::sync::scan::{self, Stat};
use crate::sync::scope::{self, Scope};
use crate::sync::state::{Replica, StateDamage, StateError, SyncState};
use chrono::DateTime;
use clap::Args;
use serde::Serialize;
use std::path::Path;

/// Check the configuration file
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync validate -c config.toml")]
pub(super) struct ValidateArgs {}

#[derive(Serialize)]
struct ValidateJson<'a> {
    path: &'a Path,
    ok: bool,
    warnings: &'a [String],
}

impl ValidateArgs {
    #[allow(clippy::unused_self, reason = "like its siblings")]
    pub(super) fn run(self, context: &Context, path: &Path) -> Result<Outcome, CommandError> {
        let config = shared::read_config(context, path)?;
        Scope::of(&config)
            .map_err(|e| CommandError::usage(format!("filters.exclude_globs: {e}")))?;
        let misspelled = misspelled(&config);
        for warning in &misspelled {
            context.ui.warn(warning);
        }
        context.ui.document(
            "sync validate",
            &ValidateJson {
                path,
                ok: true,
                warnings: &[config.warnings, misspelled].concat(),
            },
        );
        context.ui.prose(format_args!("valid: {}", path.display()));
        Ok(Outcome::Done)
    }
}

/// Check the configuration, the folders and the programs that use them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  codex-manager sync preflight")]
pub(super) struct PreflightArgs {}

impl PreflightArgs {
    #[allow(clippy::unused_self, reason = "like its siblings")]
    pub(super) fn run(
        self,
        context: &Context,
        path: &Path,
        closing: &ShutdownArgs,
    ) -> Result<Outcome, CommandError> {
        let checks = checks(context, path, closing)?;
        context
            .ui
            .list_document("sync preflight", "checks", &checks);
        for check in &checks {
            check_output::show(&context.ui, check);
        }
        let failed = checks.iter().any(|check| check.status == Status::Fail);
        Ok(if failed {
            Outcome::CheckFailed
        } else {
            Outcome::Done
        })
    }
}

/// Checks the conditions of `sync run --apply` with the flags `args`; changes nothing.
///
/// # Errors
/// The configuration is missing or invalid.
pub(in crate::commands) fn checks(
    context: &Context,
    path: &Path,
    args: &ShutdownArgs,
) -> Result<Vec<Check>, CommandError> {
    let config = read_quietly(context, path)?;
    let message = format!("configuration: {}", path.display());
    let mut checks = vec![Check::ok("sync.config", message)];
    for warning in config.warnings.iter().chain(&misspelled(&config)) {
        push(
            &mut checks,
            "sync.config",
            Status::Warn,
            warning.clone(),
            None,
        );
    }
    folders(&config, &mut checks);
    checks.push(codex_use::check(context, &config, path, args));
    state(context, &config, &mut checks);
    undelivered(context, &config, &mut checks);
    Ok(checks)
}

/// Warns of newer versions that other machines list and that have not arrived.
fn undelivered(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    // If the plan fails, a run reports the reason and the remedy.
    let replica = replica(context, config);
    let Ok((plan, _)) = plan::plan(&PlanRequest::new(config, &replica)) else {
        return;
    };
    for message in UndeliveredVersion::by_machine(&plan.notices.undelivered) {
        let fix = "wait for the cloud client, and before you start Codex here run: codex-manager sync run --apply";
        push(checks, "sync.arrival", Status::Warn, message, Some(fix));
    }
}

fn misspelled(config: &SyncConfig) -> Vec<String> {
    let found = scope::misspelled_roots(config).into_iter();
    found.map(|(key, why)| format!("{key} {why}")).collect()
}

fn push(
    checks: &mut Vec<Check>,
    id: &'static str,
    status: Status,
    message: String,
    fix: Option<&str>,
) {
    let check = Check::new(id, status, message);
    checks.push(match fix {
        Some(fix) => check.advised(fix),
        None => check,
    });
}

fn folders(config: &SyncConfig, checks: &mut Vec<Check>) {
    let (id, local) = ("sync.local", &config.local);
    if local.is_dir() {
        let message = format!("Codex home: {}", local.display());
        push(checks, id, Status::Ok, message, None);
    } else {
        let message = format!("the Codex home does not exist yet: {}", local.display());
        push(
            checks,
            id,
            Status::Warn,
            message,
            Some("start Codex once, or run a sync, which creates it"),
        );
    }
    let (id, cloud) = ("sync.cloud", &config.cloud);
    if !cloud.is_dir() {
        let message = format!("the cloud folder does not exist: {}", cloud.display());
        let fix = "mount it, start its cloud client, or create it with mkdir";
        push(checks, id, Status::Fail, message, Some(fix));
    } else if let Err(e) = is_writable(cloud) {
        let message = format!("the cloud folder is not usable: {e}: {}", e.source);
        push(checks, id, Status::Fail, message, None);
    } else {
        let message = format!("cloud folder: {}", cloud.display());
        push(checks, id, Status::Ok, message, None);
    }
    let (id, backups) = ("sync.backups", &config.backup.folder);
    // The path itself decides if it exists, even as a file or a broken link, and not a folder above it.
    let mut above = backups.ancestors();
    let existing = above.find(|path| path.symlink_metadata().is_ok());
    if let Some(Ok(())) = existing.map(is_writable) {
        let message = format!("backup folder: {}", backups.display());
        push(checks, id, Status::Ok, message, None);
    } else {
        let message = format!("the backup folder is not writable: {}", backups.display());
        push(
            checks,
            id,
            Status::Fail,
            message,
            Some("set paths.backup_dir"),
        );
    }
    if let Some((_, service)) = machine::sync_service(local) {
        let message = format!("the Codex home is inside a folder of {service}");
        let fix = "move it out: replicated databases and logins break";
        push(checks, "sync.local", Status::Warn, message, Some(fix));
    }
}

/// Checks the state of the last sync, the manifests, the conflict copies and the temp files.
fn state(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    let replica = replica(context, config);
    let mut state = match replica.read() {
        Ok(state) => state,
        Err(e) => {
            let (message, fix) = match &e {
                StateError::Io(e) => (format!("{e}: {}", e.source), None),
                StateError::Newer { .. } => (e.to_string(), Some("upgrade codex-manager")),
            };
            push(checks, STATE_ID, Status::Fail, message, fix);
            return;
        }
    };
    checks.push(state_check(&state, &replica));
    check_own_manifest(config, &replica, &mut state, checks);
    let others = identity::read_remote_manifests(config, &state);
    if let Ok(manifests) = &others {
        check_remote_manifests(config, manifests, checks);
    }
    let copies = ConflictCopies::read(&replica.folder, &config.cloud).unwrap_or_default();
    let remote_resolutions = others.map(|all| all.resolutions).unwrap_or_default();
    let records = [&state.resolutions, &remote_resolutions];
    let names = copies.all.keys();
    let open = names
        .filter(|name| !resolutions::is_dropped(name, records))
        .count();
    if open > 0 {
        let message = format!("{} without a decision", pluralize(open, "conflict copy"));
        let fix = "decide with: codex-manager sync resolve";
        push(checks, "sync.forks", Status::Warn, message, Some(fix));
    }
    let stale_files = atomic::stale(&config.local, None);
    if !stale_files.is_empty() {
        let count = pluralize(stale_files.len(), "temp file");
        let message = format!("{count} of killed runs");
        let fix = "the next sync run removes them";
        push(checks, STATE_ID, Status::Warn, message, Some(fix));
    }
}

/// Id of findings about the state of the last sync.
const STATE_ID: &str = "sync.state";

/// Returns the finding about the state of the last sync.
fn state_check(state: &SyncState, replica: &Replica) -> Check {
    let file = replica.state_file();
    let file = file.display();
    let damage = match state.file.damage {
        Some(StateDamage::All) => format!("the state of the last sync is unreadable: {file}"),
        Some(StateDamage::Lines(n)) => {
            format!("the state of the last sync has {n} unreadable lines: {file}")
        }
        None if state.file.exists => {
            let message = format!("last sync: {}", pluralize(state.files.len(), "file"));
            return Check::ok(STATE_ID, message);
        }
        None => return Check::ok(STATE_ID, "no sync yet"),
    };
    Check::warn(STATE_ID, damage)
        .advised("the next sync run keeps a copy of it and compares contents")
}

/// Adds findings about this machine's manifest in the cloud folder.
fn check_own_manifest(
    config: &SyncConfig,
    replica: &Replica,
    state: &mut SyncState,
    checks: &mut Vec<Check>,
) {
    if let Ok(true) = identity::is_own_manifest_torn(state, config, replica) {
        let message = "this machine's manifest in the cloud folder is incomplete".to_owned();
        let fix = "the next sync run writes it again";
        push(checks, "sync.arrival", Status::Warn, message, Some(fix));
    }
    if scan::is_placeholder(&identity::own_manifest_path(config, state)) {
        let message = "this machine's manifest is not downloaded".to_owned();
        let fix = "have the cloud client download it";
        push(checks, "sync.arrival", Status::Fail, message, Some(fix));
    }
    if let Ok(Some((path, why))) = identity::rename_if_cloned(state, config, replica) {
        push(
            checks,
            STATE_ID,
            Status::Warn,
            format!("{path} {why}"),
            None,
        );
    }
}

/// Adds a warning for each file of another machine that cannot be read as its manifest.
fn check_remote_manifests(
    config: &SyncConfig,
    manifests: &RemoteManifests,
    checks: &mut Vec<Check>,
) {
    for name in &manifests.incomplete {
        let path = manifest::path_of_name(&config.cloud, name);
        let machine = manifest::machine_name(name).unwrap_or(name);
        let at = Stat::at(&path).ok().flatten().map(|stat| stat.mtime_ns);
        let since = at.map_or_else(String::new, |ns| {
            let at = DateTime::from_timestamp_nanos(ns);
            format!(" since {}", at.format("%Y-%m-%d %H:%M UTC"))
        });
        let message = format!(
            "the manifest of {machine} has not arrived completely{since}: {}",
            path.display()
        );
        let fix = "wait for the cloud client, or sync on that machine; if the machine is gone, remove that \
                   file: a machine with the same files then lists them at its next sync";
        push(checks, "sync.arrival", Status::Warn, message, Some(fix));
    }
    for name in &manifests.not_downloaded {
        let message = format!("the manifest of another machine is not downloaded: {name}");
        let fix = "have the cloud client download it";
        push(checks, "sync.arrival", Status::Warn, message, Some(fix));
    }
    for (name, why) in &manifests.refused {
        let message = format!("{name}: {why}");
        push(checks, "sync.arrival", Status::Warn, message, None);
    }
    for name in &manifests.foreign {
        let message = format!("not the name of a manifest: {name}");
        push(checks, "sync.arrival", Status::Warn, message, None);
    }
}
