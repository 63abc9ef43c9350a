//! Checks whether a sync could run, for `sync preflight` and `doctor`.

use crate::choices::sync_config::{read_config_quietly, replica};
use crate::context::Context;
use crate::doctor::{Check, machine};
use crate::error::Result;
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_context::SyncContext;
use crate::steps::vault_sync::{VaultPurpose, VaultSync};
use codex_manager_core::io::{DocumentError, IoContext as _, IoError, pluralize};
use codex_manager_core::sync::config::{SyncConfig, SyncRemote};
use codex_manager_core::sync::conflict_copies::{ConflictCopies, ConflictCopy};
use codex_manager_core::sync::listed_versions::RemoteManifests;
use codex_manager_core::sync::plan::{self, PLACEHOLDERS, PlanRequest, UndeliveredVersion};
use codex_manager_core::sync::state::{Replica, SyncState};
use codex_manager_core::sync::{identity, manifest, resolutions, scan, scope};
use std::collections::BTreeSet;
use std::path::Path;

const STATE_ID: &str = "sync.state";
const MANIFESTS_ID: &str = "sync.manifests";

/// Checks whether `sync run --apply` with the flags `shutdown_args` could run. `path` is that of sync.toml. Changes
/// nothing.
///
/// # Errors
/// The configuration is missing or invalid.
pub(crate) fn run_checks(
    context: &Context,
    path: &Path,
    shutdown_args: &ShutdownArgs,
) -> Result<Vec<Check>> {
    let config = read_config_quietly(context, path)?;
    let sync = SyncContext {
        context,
        config: &config,
        replica: &replica(context, &config),
        shutdown_args,
    };

    let message = format!("configuration: {}", path.display());
    let mut checks = vec![Check::ok("sync.config", message)];
    let warnings = [&*config.warnings, &format_misspelled_root_warnings(&config)].concat();
    let to_check = |warning| Check::warn("sync.config", warning);
    checks.extend(warnings.into_iter().map(to_check));

    push_folder_checks(&sync, &mut checks);
    checks.push(sync.check_codex_ended(path));
    push_state_checks(&sync, &mut checks);

    match config.remote {
        SyncRemote::Folder => push_undelivered_checks(&sync, &mut checks),
        SyncRemote::Vault => checks.push(check_vault(&sync)),
    }
    Ok(checks)
}

/// Checks that the vault can be read and that this machine may sync through it. The message names the repository.
fn check_vault(sync: &SyncContext<'_>) -> Check {
    let read_vault = || -> Result<String> {
        let Some(vault) = VaultSync::open(sync, VaultPurpose::Plan)? else {
            // Not reached, because the sync goes through the vault.
            return Ok(String::new());
        };
        vault.join(sync)?;
        Ok(vault.location())
    };

    match read_vault() {
        Ok(location) => Check::ok("sync.cloud", format!("vault: {location}")),
        Err(e) => {
            let check = Check::fail("sync.cloud", e.to_one_line());
            match e.hints.first() {
                Some(hint) => check.advised(hint.clone()),
                None => check,
            }
        }
    }
}

/// Warns of newer file versions that are in the manifests of other machines but not in the cloud folder. Also warns of
/// placeholders, which the cloud client has not downloaded.
fn push_undelivered_checks(sync: &SyncContext<'_>, checks: &mut Vec<Check>) {
    // If the plan fails, the run itself reports the reason and the remedy.
    let Ok((plan, _state)) = plan::plan(&PlanRequest::new(sync.config, sync.replica)) else {
        return;
    };
    for message in UndeliveredVersion::format_summary_by_machine(&plan.notices.undelivered) {
        let fix = "wait for the cloud client, and before you start Codex here run: codex-manager sync run --apply";
        checks.push(Check::warn("sync.arrival", message).advised(fix));
    }
    let mut skipped = plan.notices.skipped.into_iter();
    if let Some((_, reason)) = skipped.find(|(path, _)| path == PLACEHOLDERS) {
        checks.push(Check::warn("sync.arrival", reason));
    }
}

pub(crate) fn format_misspelled_root_warnings(config: &SyncConfig) -> Vec<String> {
    let problems = scope::describe_misspelled_roots(config).into_iter();
    problems.map(|p| format!("include_roots {p}")).collect()
}

fn push_folder_checks(sync: &SyncContext<'_>, checks: &mut Vec<Check>) {
    const HOME_ID: &str = "sync.local";
    let config = sync.config;
    let home = config.local.display();
    checks.push(if config.local.is_dir() {
        Check::ok(HOME_ID, format!("Codex home: {home}"))
    } else {
        let message = format!("the Codex home does not exist yet: {home}");
        Check::warn(HOME_ID, message).advised("start Codex once, or run a sync, which creates it")
    });

    // `check_vault` checks the vault.
    if config.remote == SyncRemote::Folder {
        checks.push(check_cloud_folder(sync));
    }
    checks.push(check_backup_folder(&config.backup.folder));

    if let Some((_, service)) = machine::find_sync_service(&config.local) {
        let message = format!("the Codex home is inside a folder of {service}");
        let fix = "move it out: replicated databases and logins break";
        checks.push(Check::warn(HOME_ID, message).advised(fix));
    }
}

fn check_cloud_folder(sync: &SyncContext<'_>) -> Check {
    const ID: &str = "sync.cloud";
    let config = sync.config;
    let cloud = config.cloud.display();
    // `push_state_checks` reports a state that cannot be read.
    let state = sync.replica.read();
    if state.is_ok_and(|state| plan::creates_cloud_folder(config, &state)) {
        let fix = "the first sync run creates it; if that is not its path, correct paths.cloud_root_dir in sync.toml";
        Check::warn(ID, format!("the cloud folder does not exist yet: {cloud}")).advised(fix)
    } else if !config.cloud.is_dir() {
        Check::fail(ID, format!("the cloud folder does not exist: {cloud}"))
            .advised("mount it, start its cloud client, or create it with mkdir")
    } else if let Err(e) = check_writable(&config.cloud) {
        let message = format!("the cloud folder is not usable: {e}: {}", e.source);
        Check::fail(ID, message)
    } else {
        Check::ok(ID, format!("cloud folder: {cloud}"))
    }
}

fn check_backup_folder(folder: &Path) -> Check {
    const ID: &str = "sync.backups";
    let shown = folder.display();
    // The nearest existing path decides, even if it is a file or a broken link.
    let mut ancestors = folder.ancestors();
    let nearest_path = ancestors.find(|path| path.symlink_metadata().is_ok());
    if let Some(Ok(())) = nearest_path.map(check_writable) {
        Check::ok(ID, format!("backup folder: {shown}"))
    } else {
        Check::fail(ID, format!("the backup folder is not writable: {shown}"))
            .advised("make it writable, or set paths.backup_dir in sync.toml to another folder")
    }
}

/// Checks the state of the last sync, the manifests and the conflict copies.
fn push_state_checks(sync: &SyncContext<'_>, checks: &mut Vec<Check>) {
    let (config, replica) = (sync.config, sync.replica);
    let mut state = match replica.read() {
        Ok(state) => state,
        Err(e) => {
            checks.push(match &e {
                DocumentError::Io(e) => Check::fail(STATE_ID, format!("{e}: {}", e.source)),
                DocumentError::Newer { .. } => {
                    Check::fail(STATE_ID, e.to_string()).advised("upgrade codex-manager")
                }
            });
            return;
        }
    };

    checks.push(check_last_sync(&state, replica));
    push_own_manifest_checks(config, replica, &mut state, checks);
    let remote_manifests = identity::read_remote_manifests(config, &state);
    // Another check reports a cloud folder that cannot be read.
    if let Ok(manifests) = &remote_manifests {
        push_remote_manifest_checks(config, manifests, checks);
    }

    // If the manifests cannot be read, the run itself reports the reason.
    let remote_resolutions = remote_manifests
        .map(|manifests| manifests.resolutions)
        .unwrap_or_default();
    let decisions = [&state.resolutions, &remote_resolutions];
    let undecided = count_undecided_copies(config, replica, &state, decisions);
    if undecided > 0 {
        let copies = pluralize(undecided, "conflict copy");
        let fix = "decide with: codex-manager sync resolve";
        checks.push(Check::warn("sync.forks", format!("{copies} without a decision")).advised(fix));
    }
}

fn check_last_sync(state: &SyncState, replica: &Replica) -> Check {
    let state_file = replica.state_file();
    let state_file = state_file.display();
    let problem = match state.file.damage {
        Some(damage) => format!("the state of the last sync {damage}: {state_file}"),
        None if state.file.exists => {
            let message = format!("last sync: {}", pluralize(state.files.len(), "file"));
            return Check::ok(STATE_ID, message);
        }
        None => return Check::ok(STATE_ID, "no sync yet"),
    };

    Check::warn(STATE_ID, problem)
        .advised("the next sync run keeps a copy of the file and compares the content of all files")
}

/// Counts the conflict copies that no machine has dropped and that differ from their conversations.
fn count_undecided_copies(
    config: &SyncConfig,
    replica: &Replica,
    state: &SyncState,
    decisions: [&BTreeSet<String>; 2],
) -> usize {
    let copies = ConflictCopies::read(&replica.folder, &config.cloud).unwrap_or_default();
    let equals_conversation = |copy: &ConflictCopy| {
        copy.last_synced(state)
            .is_some_and(|last| copies.has_text_of(copy, &config.local.join(&last.local.path)))
    };
    let needs_decision = |copy: &&ConflictCopy| {
        !resolutions::is_dropped(&copy.name, decisions) && !equals_conversation(copy)
    };
    copies.all.values().filter(needs_decision).count()
}

/// Adds findings about this machine's manifest in the cloud folder.
fn push_own_manifest_checks(
    config: &SyncConfig,
    replica: &Replica,
    state: &mut SyncState,
    checks: &mut Vec<Check>,
) {
    if let Ok(true) = identity::is_own_manifest_torn(state, config, replica) {
        let message = "this machine's manifest in the cloud folder is incomplete";
        let fix = "the next sync run writes it again";
        checks.push(Check::warn(MANIFESTS_ID, message).advised(fix));
    }

    if scan::is_placeholder(&identity::own_manifest_path(config, state)) {
        let message = "this machine's manifest is not downloaded";
        let fix = "have the cloud client download it";
        checks.push(Check::fail(MANIFESTS_ID, message).advised(fix));
    }

    // The rename changes only `state` in memory. This check does not write the state.
    if let Ok(Some((path, problem))) = identity::rename_if_cloned(state, config, replica) {
        checks.push(Check::warn(STATE_ID, format!("{path} {problem}")));
    }
}

/// Adds a warning for each file in the folder of manifests that cannot be used as another machine's manifest.
fn push_remote_manifest_checks(
    config: &SyncConfig,
    manifests: &RemoteManifests,
    checks: &mut Vec<Check>,
) {
    for name in &manifests.incomplete {
        let path = manifest::path_of_file(&config.cloud, name);
        let machine = manifest::parse_machine_name(name).unwrap_or(name);
        let message = format!(
            "the manifest of {machine} has not arrived completely: {}",
            path.display()
        );
        let fix = "wait for the cloud client, or sync on that machine; if the machine is gone, remove that file";
        checks.push(Check::warn(MANIFESTS_ID, message).advised(fix));
    }

    for name in &manifests.not_downloaded {
        let message = format!("the manifest of another machine is not downloaded: {name}");
        let fix = "have the cloud client download it";
        checks.push(Check::warn(MANIFESTS_ID, message).advised(fix));
    }

    for path in &manifests.too_large {
        let message = format!("a manifest is too large and is ignored: {path}");
        let fix = "if none of your machines wrote it, remove it from the cloud folder";
        checks.push(Check::warn(MANIFESTS_ID, message).advised(fix));
    }

    for name in &manifests.foreign {
        let message = format!("a file among the manifests has an unknown name: {name}");
        checks.push(Check::warn(MANIFESTS_ID, message));
    }
}

/// Checks that a folder can be listed and that its permissions allow writing. Writes nothing, because cloud
/// clients would replicate a test file.
fn check_writable(folder: &Path) -> Result<(), IoError> {
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
