//! Copies the archives and the cooldown of a Python codex-manager into the manager home.
//!
//! Versions 1.x and 2.0 of the Python codex-manager keep their files in `~/.codexmgr`. Versions 3.0 and later keep them
//! in the default manager home, where they are read in place. An import only reads its source. Its steps are
//! idempotent, so the same import completes one that was interrupted.

use super::error::{PythonHomeError, TransferError};
use super::export::{NotTransferred, read_chunks};
use super::merge::{ArchiveOutcome, merge_entry};
use crate::archive::{BackupMode, names};
use crate::inventory::{
    ArchiveRecord, CooldownFile, InventoryFile, catalog, cooldown, python, store,
};
use crate::io::{
    Document, DocumentError, DocumentState, Environment, IoContext, IoError, OrdinaryPath,
    Progress, TempFile, Zone, atomic, document, file_open, hash, links,
};
use crate::quota::LoginState;
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::fs;
use std::io::{BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The environment variable that names the home of versions 1.x and 2.0.
const HOME_VARIABLE: &str = "CODEXMGR_HOME";

/// The default home of versions 1.x and 2.0, relative to the user's home folder.
const DEFAULT_NAME: &str = ".codexmgr";

/// A home of the Python codex-manager outside the manager home.
#[derive(Debug)]
pub struct PythonHome {
    pub folder: PathBuf,
    records: Vec<ArchiveRecord>,
    /// The content of `cooldown.json`; empty if the file does not exist. Versions 1.x and 2.0 do not write it.
    cooldown: CooldownFile,
    /// Warnings about a damaged `cooldown.json`, or about damaged entries in it.
    pub warnings: Vec<String>,
}

/// An archive, or a record without an archive, of a [`PythonHome`].
#[derive(Debug, Clone, Serialize)]
pub struct ArchiveCopy {
    /// The path in the Python home, relative to `backups/`.
    pub archive: String,
    /// The path in the manager home, relative to `backups/`.
    pub saved_as: String,
    pub email: Option<String>,
    pub mode: BackupMode,
    /// The size of the archive in bytes; `None` for a record without an archive.
    pub archive_bytes: Option<u64>,
    pub outcome: ArchiveOutcome,
    #[serde(skip)]
    record: ArchiveRecord,
}

/// The planned effects of [`apply`].
#[derive(Debug, Default, Serialize)]
pub struct CopyPlan {
    pub archives: Vec<ArchiveCopy>,
    /// The archives and records that are not copied.
    pub left: Vec<NotTransferred>,
    /// The emails of accounts whose entry in `cooldown.json` changes.
    pub accounts: Vec<String>,
}

impl CopyPlan {
    pub fn added(&self) -> impl Iterator<Item = &ArchiveCopy> {
        let archives = self.archives.iter();
        archives.filter(|copy| copy.outcome == ArchiveOutcome::Added)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct CopyTarget<'a> {
    /// The manager home to import into.
    pub manager_home: &'a Path,
    pub now: DateTime<Utc>,
    /// The time zone of times in documents that have no offset.
    pub zone: Zone,
}

/// Returns the home of versions 1.x and 2.0: `CODEXMGR_HOME`, or else `~/.codexmgr`.
pub fn default_folder(env: &Environment) -> Option<PathBuf> {
    match env.get(HOME_VARIABLE) {
        Some(folder) => Some(env.absolute(Path::new(folder))),
        None => env.home_dir.as_ref().map(|home| home.join(DEFAULT_NAME)),
    }
}

/// Returns the home of versions 1.x and 2.0, and the number of archives in it. Returns `None` if the folder has no
/// archives or cannot be imported, or if the manager home already has a file with the name of one of the archives.
pub fn find_unimported(env: &Environment, manager_home: &Path) -> Option<(PathBuf, usize)> {
    let folder = default_folder(env)?;
    check_source(&folder, manager_home).ok()?;
    let archives = catalog::list_archive_paths(&store::backups_folder(&folder)).ok()?;
    let backups = store::backups_folder(manager_home);
    let is_imported = |path: &String| backups.join(path).symlink_metadata().is_ok();
    let is_new = !archives.is_empty() && !archives.iter().any(is_imported);
    is_new.then_some((folder, archives.len()))
}

/// Reads the home of a Python codex-manager.
///
/// # Errors
/// `folder` is no home of a Python codex-manager, is or contains the manager home, or cannot be read.
pub fn read(folder: &Path, target: &CopyTarget<'_>) -> Result<PythonHome, TransferError> {
    check_source(folder, target.manager_home)?;
    let no_known_records = Vec::new();
    let records = catalog::list_all(&store::backups_folder(folder), || no_known_records)?;
    let (cooldown, warnings) = read_cooldown(folder, target)?;

    if records.is_empty() && cooldown.accounts.is_empty() {
        return Err(PythonHomeError::Empty(folder.to_path_buf()).into());
    }

    Ok(PythonHome {
        folder: folder.to_path_buf(),
        records,
        cooldown,
        warnings,
    })
}

/// Fails if `folder` cannot be the source of an import.
fn check_source(folder: &Path, manager_home: &Path) -> Result<(), PythonHomeError> {
    let canonical = match folder.canonical() {
        Ok(canonical) if canonical.is_dir() => canonical,
        _ => return Err(PythonHomeError::Missing(folder.to_path_buf())),
    };

    if manager_home.canonical().is_ok_and(|home| home == canonical) {
        return Err(PythonHomeError::IsManagerHome(canonical));
    }
    if links::lies_in(manager_home, &canonical) {
        return Err(PythonHomeError::HoldsManagerHome(canonical));
    }
    if has_own_document(folder) {
        return Err(PythonHomeError::NotPython(canonical));
    }

    Ok(())
}

/// Returns true if `folder` has a document that this codex-manager wrote. Such documents have a `schema`; those of the
/// Python codex-manager do not.
fn has_own_document(folder: &Path) -> bool {
    is_own_document::<InventoryFile>(&folder.join(store::FILE_NAME))
        || is_own_document::<CooldownFile>(&folder.join(cooldown::FILE_NAME))
}

fn is_own_document<T: Document>(path: &Path) -> bool {
    match document::read::<T>(path) {
        Ok(state) => matches!(state, DocumentState::Good(_)),
        Err(e) => matches!(e, DocumentError::Newer { .. }),
    }
}

fn read_cooldown(
    folder: &Path,
    target: &CopyTarget<'_>,
) -> Result<(CooldownFile, Vec<String>), IoError> {
    let path = folder.join(cooldown::FILE_NAME);
    let Some(bytes) = file_open::read_if_exists(&path)? else {
        return Ok((CooldownFile::default(), Vec::new()));
    };
    let parsed = python::parse_python_cooldown(&bytes, folder, &target.now, target.zone);
    Ok(parsed.unwrap_or_else(|| {
        let warning = format!("damaged, so it was ignored: {}", path.display());
        (CooldownFile::default(), vec![warning])
    }))
}

/// Decides which archives to copy, and under which names. Takes no lock and writes nothing.
///
/// # Errors
/// The manager home cannot be read, or has a document of a newer version.
pub fn plan(home: &PythonHome, target: &CopyTarget<'_>) -> Result<CopyPlan, TransferError> {
    let manager_home = target.manager_home;
    // A document of a newer version must stop the import before anything is copied.
    document::read::<InventoryFile>(&manager_home.join(store::FILE_NAME))?;
    let local = cooldown::load(manager_home, &target.now, target.zone)?.file;

    let source = store::backups_folder(&home.folder);
    let backups = store::backups_folder(manager_home);
    let mut plan = CopyPlan::default();
    for record in &home.records {
        match find_copy_name(record, &source, &backups) {
            Ok((saved_as, outcome)) => plan.archives.push(ArchiveCopy {
                archive: record.path.clone(),
                saved_as,
                email: record.metadata.email.clone(),
                mode: record.metadata.mode,
                archive_bytes: record.archive.as_ref().map(|stamp| stamp.bytes),
                outcome,
                record: record.clone(),
            }),
            Err(reason) => plan.left.push(NotTransferred {
                name: record.path.clone(),
                reason,
            }),
        }
    }

    let mut merged = local.clone();
    merge_accounts(&mut merged, home, &plan);
    let accounts = merged.accounts.iter();
    let changed = accounts.filter(|entry| local.find(&entry.identity) != Some(*entry));
    plan.accounts = changed.map(|e| e.identity.email.to_string()).collect();
    Ok(plan)
}

/// Finds the name for a copy of `record` below `backups`: its own name, or the same name with a number. Takes the first
/// name that is free or has the same bytes. An error is the reason why the record is not copied.
fn find_copy_name(
    record: &ArchiveRecord,
    source: &Path,
    backups: &Path,
) -> Result<(String, ArchiveOutcome), String> {
    let source_pair = archive_and_sidecar_paths(source, &record.path);
    // The file of a pair that is compared: the archive, or the sidecar if the record has no archive.
    let main_index = match record.archive {
        Some(_) => 0,
        None => 1,
    };

    // The files are opened before the import, because a file that cannot be opened would abort it half-way. An archive
    // without a sidecar is no error.
    for (index, path) in source_pair.iter().enumerate() {
        if let Err(e) = file_open::open(path)
            && (index == main_index || e.kind() != ErrorKind::NotFound)
        {
            return Err(e.to_string());
        }
    }

    let mut name = record.path.clone();
    let mut number = 1;
    loop {
        let target_pair = archive_and_sidecar_paths(backups, &name);
        let is_free = |path: &PathBuf| path.symlink_metadata().is_err();
        if target_pair.iter().all(is_free) {
            return Ok((name, ArchiveOutcome::Added));
        }

        let (from, to) = (&source_pair[main_index], &target_pair[main_index]);
        if to.is_file() && has_same_content(from, to).map_err(|e| e.to_string())? {
            return Ok((name, ArchiveOutcome::Present));
        }

        if record.path.contains('/') {
            // A record in a subfolder keeps its name, because only names directly in backups/ may have a number.
            return Err("another archive has this name in the manager home".into());
        }

        number += 1;
        name = names::archive_name(names::strip_archive_suffix(&record.path), number);
    }
}

/// Returns the paths of an archive and its sidecar.
fn archive_and_sidecar_paths(backups: &Path, name: &str) -> [PathBuf; 2] {
    let base = name.strip_suffix(".tar.gz").unwrap_or(name);
    [name.to_owned(), format!("{base}.metadata.json")].map(|name| backups.join(name))
}

fn has_same_content(first: &Path, second: &Path) -> std::io::Result<bool> {
    let digest = |path: &Path| hash::sha256_of_reader(&mut BufReader::new(file_open::open(path)?));
    let has_same_len = fs::metadata(first)?.len() == fs::metadata(second)?.len();
    Ok(has_same_len && digest(first)? == digest(second)?)
}

/// Merges the facts about accounts from the copied archives and from the `cooldown.json` of the Python home. The newest
/// observation wins.
fn merge_accounts(file: &mut CooldownFile, home: &PythonHome, plan: &CopyPlan) {
    file.record_inventory(&InventoryFile {
        archives: plan.archives.iter().map(|c| c.record.clone()).collect(),
        ..InventoryFile::default()
    });

    for imported in &home.cooldown.accounts {
        merge_entry(file, imported);
        // The logins are in the archives, which were recorded above.
        let has_login = false;
        file.record_archived_account(&imported.identity, has_login);

        let entry = file.entry(&imported.identity);
        // A profile or the live home may have a newer login than the one that the Python codex-manager saw expire.
        let has_newer_login = matches!(entry.login, LoginState::Ok | LoginState::Moved);
        if imported.login == LoginState::Expired && !has_newer_login {
            entry.login = LoginState::Expired;
        }
    }
}

/// Plans the import again, copies the archives, and records them in `inventory.json` and `cooldown.json`. The copies
/// have mode 0600 and are durable on return. No archive or sidecar in the manager home is overwritten.
///
/// Returns the executed plan, and a warning for each damaged document of the manager home, with the path of its copy.
///
/// # Errors
/// A file cannot be read or written, or the user interrupts. Completed copies stay.
pub fn apply(
    home: &PythonHome,
    target: &CopyTarget<'_>,
    progress: &dyn Progress,
) -> Result<(CopyPlan, Vec<String>), TransferError> {
    let manager_home = target.manager_home;
    let plan = plan(home, target)?;
    let source = store::backups_folder(&home.folder);
    let backups = store::backups_folder(manager_home);
    atomic::create_private_folder(&backups)?;

    // Remove temp files of killed imports.
    for folder in [manager_home, &backups] {
        atomic::remove_stale_temps(folder);
    }

    let sizes = plan.added().filter_map(|copy| copy.archive_bytes);
    progress.expect_bytes(sizes.sum());
    for copy in &plan.archives {
        let from = archive_and_sidecar_paths(&source, &copy.archive);
        let to = archive_and_sidecar_paths(&backups, &copy.saved_as);

        // The archive is copied first, because it is usable without its sidecar if the import is interrupted between
        // the two.
        for (from, to) in from.iter().zip(&to) {
            if from.is_file() && to.symlink_metadata().is_err() {
                copy_new(from, to, &backups, progress)?;
            }
        }
    }

    let damaged_inventory = store::refresh(manager_home)?;
    let inventory_warning = damaged_inventory.map(|path| store::format_rebuilt_warning(&path));
    let ((), warnings) = cooldown::update(manager_home, &target.now, target.zone, |file| {
        merge_accounts(file, home, &plan);
    })?;
    let warnings = inventory_warning.into_iter().chain(warnings);
    Ok((plan, warnings.collect()))
}

/// Copies `from` to the new file `to` below `backups`.
fn copy_new(
    from: &Path,
    to: &Path,
    backups: &Path,
    progress: &dyn Progress,
) -> Result<(), TransferError> {
    atomic::create_private_folder(atomic::parent_of(to))?;
    // A hard link would share the mode of the source. The temp file is not in a subfolder, because only `backups` is
    // searched for temp files of killed commands.
    let mut temp = TempFile::create_in(backups)?;
    read_chunks(from, progress, |bytes| {
        temp.file().write_all(bytes).at("write", to)
    })?;
    let published = temp.publish(to)?;
    published.map_err(|_| PythonHomeError::Taken(to.to_path_buf()).into())
}
