//! Merges an export into the manager home, without replacing newer local data by older data.
//!
//! Every step is atomic and idempotent, so the same import completes one that was killed.

use super::error::TransferError;
use super::export::NotTransferred;
use super::manifest::{CONFIG, ExportFile, LAUNCHES};
use super::profiles::{self, ImportOptions, ProfileImport};
use super::reader::Package;
use crate::accounts::{AccountLocks, LiveHomeUpdate, Profiles};
use crate::archive::names;
use crate::codex::login_lock;
use crate::inventory::cooldown::LOCK_NAME;
use crate::inventory::{
    CooldownFile, InventoryFile, LegacyRecord, cooldown, legacy, observations, store,
};
use crate::io::{FileLock, IoContext, atomic, document, file_open, hash, links};
use crate::quota::{AccountEntry, WeeklyEvidence};
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;

/// The effect of importing one archive, from an export or from the home of a Python codex-manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveOutcome {
    Added,
    /// The manager home already has an archive with the same bytes under this name, or this name with a number.
    Present,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveImport {
    /// The name in the export.
    pub archive: String,
    /// The name in the manager home.
    pub saved_as: String,
    pub outcome: ArchiveOutcome,
}

/// The effect of an import on `config.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigOutcome {
    /// The export has no settings.
    None,
    /// There are no local settings, so the settings of the export are copied.
    Added,
    Same,
    /// The local settings differ from those of the export, and are kept.
    Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportPlan {
    pub profiles: Vec<ProfileImport>,
    /// The profiles that are not imported.
    pub left: Vec<NotTransferred>,
    /// The emails of accounts whose entry in `cooldown.json` changes.
    pub accounts: Vec<String>,
    pub archives: Vec<ArchiveImport>,
    /// The number of new records of legacy files.
    pub records: usize,
    /// The number of new observations.
    pub observations: usize,
    /// The number of new lines of the launch registry.
    pub launches: usize,
    pub config: ConfigOutcome,
}

/// Plans an import, given the current manager home. Takes no lock and writes nothing.
///
/// # Errors
/// A local file cannot be read, or is of a newer version.
pub fn plan(package: &Package, options: &ImportOptions<'_>) -> Result<ImportPlan, TransferError> {
    let home = options.manager_home;
    let cooldown = cooldown::load(home, &options.now.to_utc(), options.zone)?.file;
    let inventory = document::read::<InventoryFile>(&home.join(store::FILE_NAME))?;
    let launches = file_open::read_if_exists(&home.join(LAUNCHES))?.unwrap_or_default();
    let config = file_open::read_if_exists(&home.join(CONFIG))?;

    // An exported span may extend a local one and add none, so the new spans are counted in a merged copy.
    let mut new_spans = 0;
    for file in &package.observations {
        if let Some(identity) = &file.identity {
            let mut local_file = observations::load_observations(home, identity)?;
            let count_before = local_file.spans.len();
            for span in &file.spans {
                local_file.add_span(span.clone());
            }
            new_spans += local_file.spans.len().saturating_sub(count_before);
        }
    }

    let (profiles, left) = profiles::plan(package, options)?;
    // A damaged inventory is replaced by an empty one, so it has no known records.
    let inventory = inventory.good().unwrap_or_default();
    Ok(ImportPlan {
        profiles,
        left,
        accounts: list_changed_emails(&cooldown, &package.cooldown),
        archives: plan_archives(package, &store::backups_folder(home))?,
        records: select_new_records(package, &inventory).len(),
        observations: new_spans,
        launches: select_new_launches(package, &launches).len(),
        config: match (&package.config, &config) {
            (None, _) => ConfigOutcome::None,
            (Some(_), None) => ConfigOutcome::Added,
            (Some(exported), Some(local)) if exported == local => ConfigOutcome::Same,
            (Some(_), Some(_)) => ConfigOutcome::Kept,
        },
    })
}

/// Decides under which name each archive is saved: the name in the export, with a number if another archive has it.
fn plan_archives(package: &Package, backups: &Path) -> Result<Vec<ArchiveImport>, TransferError> {
    // In lower case, because some file systems do not distinguish the letter case.
    let mut planned_names: BTreeSet<String> = BTreeSet::new();
    let mut plans = Vec::new();
    for archive in &package.archives {
        let stem = names::strip_archive_suffix(&archive.name);
        let mut number = 0;
        let (saved_as, outcome) = loop {
            number += 1;
            let name = names::archive_name(stem, number);
            let path = backups.join(&name);
            if planned_names.contains(&name.to_lowercase()) {
                continue;
            }

            if path.symlink_metadata().is_err() {
                // A sidecar without its archive describes another archive.
                let sidecar = names::sidecar_path(&path);
                if sidecar.is_some_and(|sidecar| sidecar.symlink_metadata().is_ok()) {
                    continue;
                }
                break (name, ArchiveOutcome::Added);
            }

            if has_same_content(&path, &archive.file)? {
                break (name, ArchiveOutcome::Present);
            }
        };

        planned_names.insert(saved_as.to_lowercase());
        plans.push(ArchiveImport {
            archive: archive.name.clone(),
            saved_as,
            outcome,
        });
    }
    Ok(plans)
}

fn has_same_content(path: &Path, file: &ExportFile) -> Result<bool, TransferError> {
    let meta = path.metadata();
    let has_same_size = meta.is_ok_and(|meta| meta.is_file() && meta.len() == file.size);
    if !has_same_size {
        return Ok(false);
    }
    let mut open_file = file_open::open(path).at("open", path)?;
    let (digest, _) = hash::sha256_of_reader(&mut open_file).at("read", path)?;
    Ok(digest == file.sha256.to_string())
}

fn select_new_records<'a>(package: &'a Package, local: &InventoryFile) -> Vec<&'a LegacyRecord> {
    let local_paths: HashSet<_> = local.legacy.iter().map(|r| &r.source_path).collect();
    let exported_records = package.inventory.legacy.iter();
    let new_records = exported_records.filter(|record| !local_paths.contains(&record.source_path));
    new_records.collect()
}

/// Returns the lines of the export's launch registry for launches that the registry `local` does not have. Keeps the
/// order of the lines, and leaves out damaged lines.
fn select_new_launches<'a>(package: &'a Package, local: &[u8]) -> Vec<&'a [u8]> {
    let launch_id = |line: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        Some(value.get("launch_id")?.as_str()?.to_owned())
    };

    let is_newline = |byte: &u8| *byte == b'\n';
    let local_ids: HashSet<_> = local.split(is_newline).filter_map(launch_id).collect();
    let is_new = |line: &&[u8]| launch_id(line).is_some_and(|id| !local_ids.contains(&id));

    let exported = package.launches.as_deref().unwrap_or_default();
    exported.split(is_newline).filter(is_new).collect()
}

fn list_changed_emails(local: &CooldownFile, exported: &CooldownFile) -> Vec<String> {
    let mut merged = local.clone();
    let mut changed_emails = Vec::new();
    for entry in &exported.accounts {
        let entry_before = merged.find(&entry.identity).cloned();
        merge_entry(&mut merged, entry);
        if merged.find(&entry.identity) != entry_before.as_ref() {
            changed_emails.push(entry.identity.email.to_string());
        }
    }
    changed_emails
}

/// Merges the newer facts in `exported` into the entry of the same account in `file`. The availability of the login in
/// `file` stays as it is.
pub(super) fn merge_entry(file: &mut CooldownFile, exported: &AccountEntry) {
    let identity = &exported.identity;
    if let Some(observation) = &exported.observation {
        file.entry(identity).add_observation(observation.clone());
    }
    if let Some(at) = exported.last_used_at {
        file.record_use(identity, at);
    }

    let local = file.entry(identity);
    if local.plan.is_none() {
        local.plan.clone_from(&exported.plan);
    }

    // The user's last decision counts, even if it ended a hold.
    if exported.held_since > local.held_since {
        local.held_since = exported.held_since;
        local.held_until = exported.held_until;
    }

    if let Some(end) = &exported.quota_end {
        local.add_evidence(WeeklyEvidence {
            observed_at: end.detected_at,
            exhausted_until: Some(end.resets_at),
        });
    }
    if let Some(evidence) = exported.weekly {
        local.add_evidence(evidence);
    }
}

/// The result of [`apply`].
#[derive(Debug)]
pub struct ImportReport {
    /// The plan that was carried out.
    pub plan: ImportPlan,
    /// The profiles whose imported login also replaced the login in a Codex home.
    pub renewed: Vec<String>,
    /// The profiles whose imported login could not replace the login in a Codex home, because Codex held its lock.
    pub busy: Vec<String>,
    /// Warnings for the user, for example about damaged documents.
    pub warnings: Vec<String>,
}

/// Imports an export. The imported files are durable on return.
///
/// # Errors
/// A file cannot be read or written, or a local document is of a newer version. Completed steps stay, and the same
/// import again does the remaining ones.
pub fn apply(
    package: &Package,
    options: &ImportOptions<'_>,
) -> Result<ImportReport, TransferError> {
    let home = options.manager_home;
    atomic::create_private_folder(home)?;

    // Remove temp files of killed imports.
    let (backups, observations) = (store::backups_folder(home), home.join(observations::FOLDER));
    for folder in [home, &backups, &observations] {
        atomic::remove_stale_temps(folder);
    }

    let _account_locks = lock_accounts(package, options)?;
    let mut report = ImportReport {
        plan: plan(package, options)?,
        renewed: Vec::new(),
        busy: Vec::new(),
        warnings: Vec::new(),
    };

    for planned in report.plan.profiles.clone() {
        let Some(exported) = package.profiles.get(&planned.name) else {
            continue;
        };
        match profiles::import_profile(&planned, exported, &package.id, options)? {
            LiveHomeUpdate::Renewed => report.renewed.push(planned.profile),
            LiveHomeUpdate::Busy => report.busy.push(planned.profile),
            LiveHomeUpdate::No => {}
        }
    }

    // Archives come after the logins, because they may fill the disk. They can be imported again; a lost login cannot
    // be made again.
    import_archives_and_sidecars(&report.plan.archives, package, home)?;

    for file in &package.observations {
        if let Some(identity) = &file.identity {
            observations::add_spans(home, identity, file.spans.iter().cloned())?;
        }
    }
    add_legacy_records(package, home)?;
    append_launches(package, home)?;
    if let (ConfigOutcome::Added, Some(config)) = (report.plan.config, &package.config) {
        atomic::write(&home.join(CONFIG), config)?;
    }

    // This step also reads the profiles and archives that were just imported, so it is the last one.
    report.warnings = merge_cooldown(package, options)?;
    Ok(report)
}

/// Locks the accounts whose logins will be imported. Finds them by a plan without locks; the caller plans again under
/// the locks.
fn lock_accounts(
    package: &Package,
    options: &ImportOptions<'_>,
) -> Result<AccountLocks, TransferError> {
    let (planned, _) = profiles::plan(package, options)?;
    let exported = planned.iter().filter_map(|p| package.profiles.get(&p.name));
    let logins = exported.filter_map(|exported| exported.login.as_ref());
    let accounts: Vec<_> = logins.map(|(_, login)| &login.identity).collect();
    let profiles = Profiles::of(options.manager_home);
    Ok(profiles.lock_accounts(&accounts, options.now, login_lock::REFRESH_TIMEOUT)?)
}

/// Merges the exported entries of accounts into `cooldown.json`. Returns warnings for the user.
fn merge_cooldown(
    package: &Package,
    options: &ImportOptions<'_>,
) -> Result<Vec<String>, TransferError> {
    let home = options.manager_home;
    let profiles = Profiles::of(home).list()?;
    let archives = store::list_archives(home)?;

    let ((), warnings) = cooldown::update(home, &options.now.to_utc(), options.zone, |file| {
        for entry in &package.cooldown.accounts {
            merge_entry(file, entry);
        }
        for archive in &archives {
            let has_login = archive.archive.is_some() && archive.metadata.captures_login();
            if has_login && let Some(identity) = archive.metadata.identity() {
                file.record_archived_account(&identity, has_login);
            }
        }
        file.set_profiles(&profiles);
    })?;
    Ok(warnings)
}

fn import_archives_and_sidecars(
    imports: &[ArchiveImport],
    package: &Package,
    home: &Path,
) -> Result<(), TransferError> {
    let backups = store::backups_folder(home);
    atomic::create_private_folder(&backups)?;

    // The plan has one import for each archive of the package, in the same order.
    for (import, archive) in imports.iter().zip(&package.archives) {
        let target = backups.join(&import.saved_as);
        if import.outcome == ArchiveOutcome::Added
            && let Some(staged_file) = &archive.staged
        {
            let is_published = links::publish_copy(staged_file, &target)?;
            if !is_published {
                return Err(TransferError::Exists(target));
            }
        }

        let sidecar_name = names::sidecar_name(&archive.name);
        let sidecar_bytes = sidecar_name.and_then(|name| package.sidecars.get(&name));
        if let (Some(bytes), Some(path)) = (sidecar_bytes, names::sidecar_path(&target))
            && path.symlink_metadata().is_err()
        {
            atomic::write(&path, bytes)?;
        }
    }

    // The remaining sidecars have no archive in the export.
    for (name, bytes) in &package.sidecars {
        let mut archives = package.archives.iter();
        let has_archive = archives.any(|a| names::sidecar_name(&a.name).as_ref() == Some(name));
        let path = backups.join(name);
        if !has_archive && path.symlink_metadata().is_err() {
            atomic::write(&path, bytes)?;
        }
    }

    if !imports.is_empty() || !package.sidecars.is_empty() {
        store::refresh(home)?;
    }
    Ok(())
}

fn add_legacy_records(package: &Package, home: &Path) -> Result<(), TransferError> {
    if package.inventory.legacy.is_empty() {
        return Ok(());
    }

    let backups = store::backups_folder(home);
    let (path, lock) = (home.join(store::FILE_NAME), home.join(LOCK_NAME));
    document::update(&path, &lock, |inventory: &mut InventoryFile| {
        let new_records = select_new_records(package, inventory);
        let new_records = new_records.into_iter().cloned().collect();
        let is_taken = |_: &LegacyRecord, name: &str| backups.join(name).exists();
        legacy::merge_records(inventory, new_records, is_taken);
    })?;
    Ok(())
}

fn append_launches(package: &Package, home: &Path) -> Result<(), TransferError> {
    let path = home.join(LAUNCHES);
    let _lock = FileLock::acquire(&home.join(LOCK_NAME))?;
    let mut registry = file_open::read_if_exists(&path)?.unwrap_or_default();
    let new_lines = select_new_launches(package, &registry);
    if new_lines.is_empty() {
        return Ok(());
    }

    if registry.last().is_some_and(|last| *last != b'\n') {
        registry.push(b'\n');
    }
    for line in new_lines {
        registry.extend_from_slice(line);
        registry.push(b'\n');
    }

    Ok(atomic::write(&path, &registry)?)
}
