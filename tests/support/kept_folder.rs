//! A folder that a test changes again and again, and puts back as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A copy of a folder, with times and permissions.
pub(crate) struct KeptFolder {
    folder: PathBuf,
    copy: TempDir,
}

impl KeptFolder {
    /// Copies the folder as it is now.
    pub(crate) fn of(folder: &Path) -> Self {
        let kept = Self {
            folder: folder.to_path_buf(),
            copy: tempfile::tempdir().unwrap(),
        };
        copy(folder, kept.copy.path());
        kept
    }

    /// Makes the folder what it was.
    pub(crate) fn put_back(&self) {
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
