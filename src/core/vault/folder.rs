//! The folder of the vault in the manager home. It contains the tree that restic reads, the password, the state, and
//! temporary folders.

use crate::io::{IoError, Staging, atomic};
use std::path::{Path, PathBuf};

pub const VAULT_FOLDER: &str = "vault";

pub fn vault_folder(manager_home: &Path) -> PathBuf {
    manager_home.join(VAULT_FOLDER)
}

/// Returns the folder in which restores and drills create their temporary folders. Downloads can contain logins, so the
/// next command of any kind removes the folders that killed commands left.
pub(crate) fn staging_parent(manager_home: &Path) -> PathBuf {
    vault_folder(manager_home).join("tmp")
}

/// Creates a temporary folder for the content of a snapshot.
///
/// # Errors
/// A folder cannot be created.
pub fn create_staging(manager_home: &Path) -> Result<Staging, IoError> {
    create_vault_folder(manager_home)?;
    Staging::create_in(&staging_parent(manager_home))
}

/// Creates the manager home and the folder of the vault in it, and returns the latter.
pub(super) fn create_vault_folder(manager_home: &Path) -> Result<PathBuf, IoError> {
    let folder = vault_folder(manager_home);
    atomic::create_private_folder(manager_home)?;
    atomic::create_private_folder(&folder)?;
    Ok(folder)
}
