//! Folders for work in progress that are swept when whoever made them is gone.

use super::lock::FileLock;
use super::{IoContext, IoError, atomic, tree};
use std::fs;
use std::path::{Path, PathBuf};

/// How the names of our staging folders begin.
pub const STAGING_PREFIX: &str = "staging-";

/// A private folder (0700), removed when dropped, and swept by [`sweep`] after a crash.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    _lock: FileLock,
}

impl Staging {
    /// A new folder inside `parent`, which is created where it is missing.
    pub fn inside(parent: &Path) -> Result<Self, IoError> {
        atomic::create_private_folder(parent)?;
        // Under the parent's lock, so that a sweep never sees a folder whose own lock is not yet
        // taken.
        let _creating = FileLock::exclusive(&parent.join(".lock"))?;
        let folder = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .tempdir_in(parent)
            .at("create a folder in", parent)?
            .keep();
        let lock = FileLock::exclusive(&folder.join(".lock"))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What stays behind is swept later.
        let _ = tree::remove(&self.folder);
    }
}

/// Staging folders in `parent` whose maker is gone.
pub fn stale(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with(STAGING_PREFIX))
        .map(|e| e.path())
        .filter(|folder| !super::lock::is_held(&folder.join(".lock")))
        .collect()
}

/// Removes staging folders in `parent` whose maker is gone; returns how many.
pub fn sweep(parent: &Path) -> Result<usize, IoError> {
    if stale(parent).is_empty() {
        return Ok(0);
    }
    let _sweeping = FileLock::exclusive(&parent.join(".lock"))?;
    let stale = stale(parent);
    for folder in &stale {
        tree::remove(folder)?;
    }
    Ok(stale.len())
}
