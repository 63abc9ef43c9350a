//! The folder of the vault in the manager home: the tree that restic reads, the password, the state.

use std::path::{Path, PathBuf};

/// Name of the folder in the manager home.
pub(crate) const FOLDER: &str = "vault";

/// Returns the path of the folder in a manager home.
pub(crate) fn folder(manager_home: &Path) -> PathBuf {
    manager_home.join(FOLDER)
}
