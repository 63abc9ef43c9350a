//! Checks whether a sync could run, for `sync preflight` and `doctor`.

use crate::choices::sync_config::{read_config_quietly, replica};
use crate::context::Context;
use crate::doctor::{Check, machine};
use crate::error::Result;
use crate::steps::shutdown::ShutdownArgs;
use crate::steps::sync_shutdown;
use crate::steps::vault_sync::{VaultPurpose, VaultSync};
use codex_manager_core::io::{DocumentError, IoContext as _, IoError, atomic, pluralize};
use codex_manager_core::sync::config::{SyncConfig, SyncRemote};
use codex_manager_core::sync::conflict_copies::{ConflictCopies, ConflictCopy};
use codex_manager_core::sync::listed_versions::RemoteManifests;
use codex_manager_core::sync::plan::{self, PLACEHOLDERS, PlanRequest, UndeliveredVersion};
use codex_manager_core::sync::state::{Replica, StateDamage, SyncState};
use codex_manager_core::sync::{identity, manifest, resolutions, scan, scope};
use std::path::Path;

/// Checks whether `sync run --apply` with the flags `args` could run. `path` is that of sync.toml. Changes nothing.
///
/// # Errors
/// The configuration is missing or invalid.
pub(crate) fn run_checks(
    context: &Context,
    path: &Path,
    args: &ShutdownArgs,
) -> Result<Vec<Check>> {
    let config = read_config_quietly(context, path)?;
    let message = format!("configuration: {}", path.display());
    let mut checks = vec![Check::ok("sync.config", message)];
    for warning in config
        .warnings
        .iter()
        .chain(&format_misspelled_root_warnings(&config))
    {
        checks.push(Check::warn("sync.config", warning.clone()));
    }

    check_folders(context, &config, &mut checks);
    checks.push(sync_shutdown::check_codex_ended(
        context, &config, path, args,
    ));
    check_state(context, &config, &mut checks);

    match config.remote {
        SyncRemote::Folder => check_undelivered(context, &config, &mut checks),
        SyncRemote::Vault => checks.push(check_vault(context, &config)),
    }
    Ok(checks)
}

/// Checks that the vault can be read and that this machine may sync through it. The message names the repository.
fn check_vault(context: &Context, config: &SyncConfig) -> Check {
    let replica = replica(context, config);
    let read = || -> Result<String> {
        let Some(vault) = VaultSync::open(context, config, VaultPurpose::Plan)? else {
            // Not reached, because the sync goes through the vault.
            return Ok(String::new());
        };
        vault.join(config, &replica)?;
        Ok(vault.location())
    };

    match read() {
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

/// Warns of newer versions that other machines list and that have not arrived in the cloud folder. Warns of
/// placeholders too: the cloud folder has these files, and its client has not downloaded them.
fn check_undelivered(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    // If the plan fails, the run itself reports the reason and the remedy.
    let replica = replica(context, config);
    let Ok((plan, _)) = plan::plan(&PlanRequest::new(config, &replica)) else {
        return;
    };
    for message in UndeliveredVersion::format_summary_by_machine(&plan.notices.undelivered) {
        let fix = "wait for the cloud client, and before you start Codex here run: codex-manager sync run --apply";
        checks.push(Check::warn("sync.arrival", message).advised(fix));
    }
    let mut skipped = plan.notices.skipped.into_iter();
    if let Some((_, why)) = skipped.find(|(path, _)| path == PLACEHOLDERS) {
        checks.push(Check::warn("sync.arrival", why));
    }
}

pub(crate) fn format_misspelled_root_warnings(config: &SyncConfig) -> Vec<String> {
    let found = scope::describe_misspelled_roots(config).into_iter();
    found.map(|why| format!("include_roots {why}")).collect()
}

fn check_folders(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    let (id, local) = ("sync.local", &config.local);
    if local.is_dir() {
        let message = format!("Codex home: {}", local.display());
        checks.push(Check::ok(id, message));
    } else {
        let message = format!("the Codex home does not exist yet: {}", local.display());
        checks.push(
            Check::warn(id, message).advised("start Codex once, or run a sync, which creates it"),
        );
    }

    let (id, cloud) = ("sync.cloud", &config.cloud);
    // The check of the state reports a state that cannot be read.
    let state = replica(context, config).read();
    let is_created = state.is_ok_and(|state| plan::creates_cloud_folder(config, &state));
    if config.remote == SyncRemote::Vault {
        // Checked by `check_vault`.
    } else if is_created {
        let message = format!("the cloud folder does not exist yet: {}", cloud.display());
        let fix = "the first sync run creates it; if that is not its path, correct paths.cloud_root_dir in sync.toml";
        checks.push(Check::warn(id, message).advised(fix));
    } else if !cloud.is_dir() {
        let message = format!("the cloud folder does not exist: {}", cloud.display());
        let fix = "mount it, start its cloud client, or create it with mkdir";
        checks.push(Check::fail(id, message).advised(fix));
    } else if let Err(e) = check_writable(cloud) {
        let message = format!("the cloud folder is not usable: {e}: {}", e.source);
        checks.push(Check::fail(id, message));
    } else {
        let message = format!("cloud folder: {}", cloud.display());
        checks.push(Check::ok(id, message));
    }

    let (id, backups) = ("sync.backups", &config.backup.folder);
    // The first path that exists decides, also if it is a file or a broken link.
    let mut ancestors = backups.ancestors();
    let nearest_path = ancestors.find(|path| path.symlink_metadata().is_ok());
    if let Some(Ok(())) = nearest_path.map(check_writable) {
        let message = format!("backup folder: {}", backups.display());
        checks.push(Check::ok(id, message));
    } else {
        let message = format!("the backup folder is not writable: {}", backups.display());
        let fix = "make it writable, or set paths.backup_dir in sync.toml to another folder";
        checks.push(Check::fail(id, message).advised(fix));
    }

    if let Some((_, service)) = machine::find_sync_service(local) {
        let message = format!("the Codex home is inside a folder of {service}");
        let fix = "move it out: replicated databases and logins break";
        checks.push(Check::warn("sync.local", message).advised(fix));
    }
}

/// Checks the state of the last sync, the manifests, the conflict copies and the temp files.
fn check_state(context: &Context, config: &SyncConfig, checks: &mut Vec<Check>) {
    let replica = replica(context, config);
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

    checks.push(check_last_sync(&state, &replica));
    check_own_manifest(config, &replica, &mut state, checks);
    let remote_manifests = identity::read_remote_manifests(config, &state);
    if let Ok(manifests) = &remote_manifests {
        check_remote_manifests(config, manifests, checks);
    }

    // The decisions of other machines count, too.
    let copies = ConflictCopies::read(&replica.folder, &config.cloud).unwrap_or_default();
    let remote_resolutions = remote_manifests
        .map(|all| all.resolutions)
        .unwrap_or_default();
    let resolution_sets = [&state.resolutions, &remote_resolutions];
    let equals_conversation = |copy: &ConflictCopy| {
        copy.last_synced(&state)
            .is_some_and(|last| copies.has_text_of(copy, &config.local.join(&last.local.path)))
    };
    let needs_decision = |copy: &&ConflictCopy| {
        !resolutions::is_dropped(&copy.name, resolution_sets) && !equals_conversation(copy)
    };
    let undecided = copies.all.values().filter(needs_decision).count();
    if undecided > 0 {
        let message = format!(
            "{} without a decision",
            pluralize(undecided, "conflict copy")
        );
        let fix = "decide with: codex-manager sync resolve";
        checks.push(Check::warn("sync.forks", message).advised(fix));
    }

    let stale_files = atomic::find_stale_temps(&config.local, None);
    if !stale_files.is_empty() {
        let count = pluralize(stale_files.len(), "temp file");
        let message = format!("{count} of killed runs");
        let fix = "the next sync run removes them";
        checks.push(Check::warn(STATE_ID, message).advised(fix));
    }
}

const STATE_ID: &str = "sync.state";

fn check_last_sync(state: &SyncState, replica: &Replica) -> Check {
    let state_file = replica.state_file();
    let state_file = state_file.display();
    let damage = match state.file.damage {
        Some(StateDamage::All) => format!("the state of the last sync is unreadable: {state_file}"),
        Some(StateDamage::Lines(n)) => {
            format!("the state of the last sync has {n} unreadable lines: {state_file}")
        }
        None if state.file.exists => {
            let message = format!("last sync: {}", pluralize(state.files.len(), "file"));
            return Check::ok(STATE_ID, message);
        }
        None => return Check::ok(STATE_ID, "no sync yet"),
    };

    Check::warn(STATE_ID, damage)
        .advised("the next sync run keeps a copy of the file and compares the content of all files")
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
        checks.push(Check::warn("sync.arrival", message).advised(fix));
    }

    if scan::is_placeholder(&identity::own_manifest_path(config, state)) {
        let message = "this machine's manifest is not downloaded".to_owned();
        let fix = "have the cloud client download it";
        checks.push(Check::fail("sync.arrival", message).advised(fix));
    }

    // Changes only `state`, which is not written.
    if let Ok(Some((path, why))) = identity::rename_if_cloned(state, config, replica) {
        checks.push(Check::warn(STATE_ID, format!("{path} {why}")));
    }
}

/// Adds a warning for each file in the folder of manifests that cannot be used as another machine's manifest.
fn check_remote_manifests(
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
        checks.push(Check::warn("sync.arrival", message).advised(fix));
    }

    for name in &manifests.not_downloaded {
        let message = format!("the manifest of another machine is not downloaded: {name}");
        let fix = "have the cloud client download it";
        checks.push(Check::warn("sync.arrival", message).advised(fix));
    }

    for path in &manifests.too_large {
        let message = format!("a manifest is too large and is ignored: {path}");
        let fix = "if none of your machines wrote it, remove it from the cloud folder";
        checks.push(Check::warn("sync.arrival", message).advised(fix));
    }

    for name in &manifests.foreign {
        let message = format!("a file among the manifests has an unknown name: {name}");
        checks.push(Check::warn("sync.arrival", message));
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
