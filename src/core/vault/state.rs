//! The id, the last backup and the last drills of this machine: `vault/state.json` of the manager home.

use super::folder::{create_vault_folder, vault_folder};
use crate::io::{Document, DocumentError, Timestamp, document, random_id};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The content of `vault/state.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct VaultState {
    /// Random id of this machine and manager home, because several machines may have one host name, and homes with one
    /// path. Archives and snapshots record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    #[serde(default)]
    pub backed_up_at: Option<Timestamp>,
    #[serde(default)]
    pub drill: Option<DrillResult>,
    /// Time of the last drill that found no problem.
    #[serde(default)]
    pub drill_passed_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillResult {
    pub at: Timestamp,
    pub snapshot: String,
    /// Problems for the user; empty for a good drill.
    pub problems: Vec<String>,
}

impl Document for VaultState {
    const SCHEMA: u64 = 1;
}

fn state_path(manager_home: &Path) -> PathBuf {
    vault_folder(manager_home).join("state.json")
}

/// Reads the state. A missing or damaged document gives the default.
///
/// # Errors
/// The document cannot be read, or is of a newer version.
pub fn read(manager_home: &Path) -> Result<VaultState, DocumentError> {
    let state = document::read::<VaultState>(&state_path(manager_home))?;
    Ok(state.good().unwrap_or_default())
}

/// Returns the id of this machine. Creates the id if there is none yet, also without a vault.
///
/// # Errors
/// As [`update`], or the folder of the state cannot be created.
pub fn ensure_machine_id(manager_home: &Path) -> Result<String, DocumentError> {
    if let Some(id) = read(manager_home)?.machine {
        return Ok(id);
    }
    create_vault_folder(manager_home)?;
    let mut id = random_id();
    update(manager_home, |state| match &state.machine {
        // Another process has stored an id in the meantime.
        Some(stored_id) => id.clone_from(stored_id),
        None => state.machine = Some(id.clone()),
    })?;
    Ok(id)
}

/// Changes the state under a separate lock, because a backup holds the lock of the tree for a long
/// time.
///
/// # Errors
/// The document cannot be read or written, is of a newer version, or the user interrupts the wait for the lock.
pub fn update(
    manager_home: &Path,
    change: impl FnOnce(&mut VaultState),
) -> Result<(), DocumentError> {
    let lock = vault_folder(manager_home).join(".state.lock");
    document::update(&state_path(manager_home), &lock, change).map(drop)
}
