//! Restores a folder that a test changes repeatedly.

use super::copy_tree;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A copy of a folder with its times and permissions.
pub(crate) struct FolderSnapshot {
    folder: PathBuf,
    copy: TempDir,
}

impl FolderSnapshot {
    /// Copies the current state of the folder.
    pub(crate) fn take(folder: &Path) -> Self {
        let snapshot = Self {
            folder: folder.to_path_buf(),
            copy: tempfile::tempdir().unwrap(),
        };
        copy_tree(&folder.join("."), snapshot.copy.path());
        snapshot
    }

    /// Restores the copied state of the folder.
    pub(crate) fn restore(&self) {
        fs::remove_dir_all(&self.folder).unwrap();
        fs::create_dir(&self.folder).unwrap();
        copy_tree(&self.copy.path().join("."), &self.folder);
    }
}
