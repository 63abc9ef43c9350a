//! Temporary folders for work in progress, removed later if their process was killed.

use super::io_error::{IoContext, IoError};
use super::lock::FileLock;
use super::{atomic, file_open, owner, sharing, tree};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

pub const STAGING_PREFIX: &str = "staging-";

pub fn is_staging_name(name: &OsStr) -> bool {
    name.as_encoded_bytes()
        .starts_with(STAGING_PREFIX.as_bytes())
}

const LOCK: &str = ".lock";

/// A private folder (0700), removed on drop, or by [`remove_stale`] after a crash.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    /// A spare open descriptor. Closing it lets the cleanup open a file even if the process is at its limit of open
    /// files.
    reserve_descriptor: Option<File>,
    lock: Option<FileLock>,
}

impl Staging {
    /// Creates a folder in `parent`, which is created if it is missing.
    pub fn create_in(parent: &Path) -> Result<Self, IoError> {
        let (folder, lock) = create_locked(parent, STAGING_PREFIX)?;
        // The lock file, because the folder has no other file yet.
        let reserve = file_open::open(folder.join(LOCK)).inspect_err(|_| discard_folder(&folder));
        Ok(Self {
            reserve_descriptor: Some(reserve.at("open", &folder)?),
            lock: Some(lock),
            folder,
        })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of an entry in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Closed first: Windows and network disks keep the name of an open file, and so the folder.
        (self.reserve_descriptor, self.lock) = (None, None);
        // The next cleanup removes the rest.
        let _ = tree::remove(&self.folder);
    }
}

/// Creates a folder in `parent`, with `prefix` and random characters as its name. Returns its path and its lock.
pub fn create_locked(parent: &Path, prefix: &str) -> Result<(PathBuf, FileLock), IoError> {
    atomic::create_private_folder(parent)?;

    // Under the parent's lock, so that a cleanup never sees a folder whose own lock is not yet
    // taken.
    let _parent_lock = FileLock::acquire(&parent.join(LOCK))?;
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(parent)
        .at("create a folder in", parent)?
        .keep();

    owner::inherit_folder_owner(&folder);
    let lock = FileLock::acquire(&folder.join(LOCK)).inspect_err(|_| discard_folder(&folder))?;

    Ok((folder, lock))
}

/// Removes a folder with nothing but its lock. Lists nothing, because the process may be unable to open more files.
fn discard_folder(folder: &Path) {
    let _ = sharing::remove_file(folder.join(LOCK));
    let _ = fs::remove_dir(folder);
}

/// Returns the folders in `parent` with this prefix whose lock no process holds.
pub fn find_stale(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let prefix = prefix.as_bytes();
    tree::list_entries(parent)
        .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|folder| super::lock::is_free(&folder.join(LOCK)))
        .collect()
}

/// Removes the staging folders in `parent` whose process has ended, unless another process is creating one. Returns an
/// error for each that could not be removed.
pub fn remove_stale(parent: &Path) -> Vec<IoError> {
    if find_stale(parent, STAGING_PREFIX).is_empty() {
        return Vec::new();
    }

    match FileLock::try_acquire(&parent.join(LOCK)) {
        Err(e) => vec![e],
        // The next call removes them.
        Ok(None) => Vec::new(),
        Ok(Some(_parent_lock)) => {
            // The first list may have a new folder that its process had not locked yet.
            let results = find_stale(parent, STAGING_PREFIX)
                .into_iter()
                .map(|folder| tree::remove(&folder));
            results.filter_map(Result::err).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_staging_folder_is_removed_with_its_own_lock_and_not_stale_before() {
        let parent = tempfile::tempdir().unwrap();
        let staging = Staging::create_in(parent.path()).unwrap();
        atomic::write(&staging.path("file"), b"text").unwrap();
        assert!(find_stale(parent.path(), STAGING_PREFIX).is_empty());
        drop(staging);
        let left = tree::list(parent.path()).unwrap();
        assert!(left.iter().all(|(name, _)| name == LOCK), "{left:?}");
    }
}
