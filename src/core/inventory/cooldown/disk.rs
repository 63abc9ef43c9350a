//! Reads `cooldown.json`, rebuilds it if lost, and changes it under its lock.

use super::content::CooldownFile;
use crate::accounts::Profiles;
use crate::inventory::records::InventoryFile;
use crate::inventory::{catalog, python};
use crate::io::{DocumentError, DocumentState, FileLock, Zone, atomic, document, file_open};
use chrono::{DateTime, Utc};
use std::path::Path;

/// The name of the document in the manager home.
pub const FILE_NAME: &str = "cooldown.json";

/// The name of the lock file that protects changes of the manager home's documents.
pub const LOCK_NAME: &str = ".lock";

#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadedCooldown {
    /// The document, rebuilt from the records if it was lost.
    pub file: CooldownFile,
    /// Warnings to print: damage, ignored entries.
    pub warnings: Vec<String>,
    origin: CooldownOrigin,
}

/// The origin of a document, which decides whether a write keeps a copy of the old file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum CooldownOrigin {
    #[default]
    Absent,
    Native,
    Python,
    Damaged,
}

/// Reads `cooldown.json` of a manager home. Converts a document of the Python tool, and rebuilds a missing, damaged or
/// unreadable one. Takes no lock and writes nothing.
///
/// # Errors
/// A newer version wrote it.
pub fn load(
    manager_home: &Path,
    now: &DateTime<Utc>,
    zone: Zone,
) -> Result<LoadedCooldown, DocumentError> {
    let path = manager_home.join(FILE_NAME);
    let with_origin = |(file, warnings), origin| LoadedCooldown {
        file,
        warnings,
        origin,
    };

    let problem = match document::read_or_damaged::<CooldownFile>(&path)? {
        DocumentState::Good(file) => {
            return Ok(with_origin((file, Vec::new()), CooldownOrigin::Native));
        }
        DocumentState::Absent => {
            let rebuilt = rebuild_from_records(manager_home)?;
            return Ok(with_origin(rebuilt, CooldownOrigin::Absent));
        }
        DocumentState::Damaged(problem) => problem,
    };

    // The document of the Python tool has another form, so it counts as damaged until this check recognizes it.
    let bytes = file_open::read(&path).unwrap_or_default();
    if let Some(converted) = python::parse_python_cooldown(&bytes, manager_home, now, zone) {
        return Ok(with_origin(converted, CooldownOrigin::Python));
    }

    let (file, mut warnings) = rebuild_from_records(manager_home)?;
    let path = path.display();
    let warning = format!("damaged ({problem}), rebuilt from profiles and archives: {path}");
    warnings.insert(0, warning);
    Ok(with_origin((file, warnings), CooldownOrigin::Damaged))
}

/// Reads, changes and writes `cooldown.json` of a manager home under its lock. Returns the value of `change`, and
/// warnings to print: damage, copies that were kept.
///
/// Creates the manager home (0700) if it does not exist. Keeps a document of the Python tool byte for byte as
/// `cooldown.json.python-backup`, and a damaged one as `cooldown.json.damaged`; if that name exists, with `-2` and so
/// on. Writes nothing if the document is valid and `change` changes nothing, or if there is no document and no account.
///
/// # Errors
/// Those of [`load`], the document cannot be locked or written, or the user interrupts the wait for the lock.
pub fn update<R>(
    manager_home: &Path,
    now: &DateTime<Utc>,
    zone: Zone,
    change: impl FnOnce(&mut CooldownFile) -> R,
) -> Result<(R, Vec<String>), DocumentError> {
    atomic::create_private_folder(manager_home)?;
    let _lock = FileLock::acquire_unless_interrupted(&manager_home.join(LOCK_NAME))?;

    let LoadedCooldown {
        mut file,
        mut warnings,
        origin,
    } = load(manager_home, now, zone)?;

    let former_file = file.clone();
    let result = change(&mut file);
    if origin != CooldownOrigin::Native || file != former_file {
        warnings.extend(write_keeping_original(manager_home, origin, &file)?);
    }

    Ok((result, warnings))
}

/// Writes the document. Keeps a copy of a document of the Python tool or a damaged one, and returns the warning that
/// names the copy.
fn write_keeping_original(
    manager_home: &Path,
    origin: CooldownOrigin,
    file: &CooldownFile,
) -> Result<Option<String>, DocumentError> {
    let path = manager_home.join(FILE_NAME);

    let notice = match origin {
        CooldownOrigin::Absent if file.accounts.is_empty() => return Ok(None),
        CooldownOrigin::Absent | CooldownOrigin::Native => None,
        CooldownOrigin::Python => {
            let copy = atomic::keep_copy(&path, ".python-backup")?;
            Some(format!(
                "converted the {FILE_NAME} of the Python codex-manager, whose commands cooldown and recommend \
                 now fail in this folder; to go back, rename the original to {FILE_NAME}: {}",
                copy.display()
            ))
        }
        CooldownOrigin::Damaged => {
            let copy = document::move_aside(&path)?;
            Some(format!("the damaged file is kept as {}", copy.display()))
        }
    };

    document::write(&path, file)?;
    Ok(notice)
}

/// Rebuilds the document from the profiles and `inventory.json`, or from `backups/` if `inventory.json` is lost too. A
/// `backups/` that cannot be listed counts as empty.
fn rebuild_from_records(manager_home: &Path) -> Result<(CooldownFile, Vec<String>), DocumentError> {
    let mut file = CooldownFile::default();
    let mut warnings = Vec::new();

    match Profiles::of(manager_home).list() {
        Ok(profiles) => profiles.iter().for_each(|p| file.record_profile(p)),
        Err(e) => warnings.push(format!("the profiles cannot be read and were ignored: {e}")),
    }

    let path = manager_home.join("inventory.json");
    let inventory = match document::read_or_damaged::<InventoryFile>(&path)? {
        DocumentState::Good(inventory) => inventory,
        unusable => {
            if let DocumentState::Damaged(problem) = unusable {
                warnings.push(format!("damaged ({problem}): {}", path.display()));
            }
            InventoryFile {
                archives: catalog::list_all(&manager_home.join("backups"), Vec::new)
                    .unwrap_or_default(),
                ..InventoryFile::default()
            }
        }
    };

    file.record_inventory(&inventory);
    Ok((file, warnings))
}
