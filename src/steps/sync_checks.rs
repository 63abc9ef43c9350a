//! Checks whether a sync could run, for `sync preflight` and `doctor`.

use crate::choices::sync_config::{read_quietly, replica};
use crate::context::Context;
use crate::doctor::{Check, Status, machine};
use crate::error::CommandError;
use crate::io::atomic;
use crate::io::quantity::pluralize;
use crate::io::{IoContext as _, IoError};
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_shutdown;
use crate::sync::config::SyncConfig;
use crate::sync::conflict_copies::ConflictCopies;
use crate::sync::identity;
use crate::sync::manifest;
use crate::sync::plan::{self, PlanRequest, UndeliveredVersion};
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::resolutions;
use crate::sync::scan::{self, Stat};
use crate::sync::scope::{self};
use crate::sync::state::{Replica, StateDamage, StateError, SyncState};
use chrono::DateTime;
use std::path::Path;

/// Checks the conditions of `sync run --apply` with the flags `args`; changes nothing.
///
/// # Errors
/// The configuration is missing or invalid.
pub(crate) fn checks(
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
    checks.push(sync_shutdown::check(context, &config, path, args));
    state(context, &config, &mut checks);
    undelivered(context, &config, &mut checks);
    Ok(checks)
}

/// Warns of newer versions that other machines list and that have not arrived.
pub(crate) fn undelivered(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
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

pub(crate) fn misspelled(config: &SyncConfig) -> Vec<String> {
    let found = scope::misspelled_roots(config).into_iter();
    found.map(|(key, why)| format!("{key} {why}")).collect()
}

pub(crate) fn push(
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

pub(crate) fn folders(config: &SyncConfig, checks: &mut Vec<Check>) {
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
pub(crate) fn state(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
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
pub(crate) const STATE_ID: &str = "sync.state";

/// Returns the finding about the state of the last sync.
pub(crate) fn state_check(state: &SyncState, replica: &Replica) -> Check {
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
pub(crate) fn check_own_manifest(
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
pub(crate) fn check_remote_manifests(
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

/// Checks that a folder can be listed and that its permissions allow writing. Writes nothing, because cloud
/// clients would replicate a test file.
pub(crate) fn is_writable(folder: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{Access, access};
        let wanted = Access::WRITE_OK | Access::EXEC_OK;
        access(folder, wanted)
            .map_err(std::io::Error::from)
            .at("write to", folder)?;
    }
    std::fs::read_dir(folder).at("list", folder).map(|_| ())
}
