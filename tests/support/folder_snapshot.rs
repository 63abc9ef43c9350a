//! Restores a folder that a test changes repeatedly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
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
        copy(folder, snapshot.copy.path());
        snapshot
    }

    /// Restores the copied state of the folder.
    pub(crate) fn restore(&self) {
        fs::remove_dir_all(&self.folder).unwrap();
        fs::create_dir(&self.folder).unwrap();
        copy(self.copy.path(), &self.folder);
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}
