//! The pointer to the journal of a restore: a file in `tmp/restores/` of the manager home. It has the path of the
//! staging folder, a NUL, and the marker that is also in the lock file of the staging folder.

use crate::io::{
    FileLock, IoContext, LockHolder, atomic, file_open, hash, json_path, random_id, sharing,
};
use crate::journal::JournalError;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SEPARATOR: u8 = 0;

/// The time to wait for the lock of a pointer. A command that searches for interrupted restores holds this lock only
/// briefly.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

fn restores_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("tmp").join("restores")
}

/// A file that names the staging folder of a running restore. Dropping the value removes the file, unless the staging
/// folder still exists.
#[derive(Debug)]
pub(crate) struct JournalPointer {
    path: PathBuf,
    folder: PathBuf,
    /// Held while the restore runs. It shows that the restore is running even before the staging folder exists.
    lock: FileLock,
}

impl JournalPointer {
    /// Writes a pointer to the staging folder `folder`. The pointer is durable on return.
    ///
    /// # Errors
    /// [`JournalError::InProgress`] if another restore uses this staging folder; or the pointer cannot be written.
    pub(crate) fn create(manager_home: &Path, folder: &Path) -> Result<Self, JournalError> {
        let pointers = restores_folder(manager_home);
        atomic::create_private_folder(&pointers)?;
        let path = pointer_path(manager_home, folder);

        loop {
            let lock = FileLock::acquire_within(&path, LOCK_TIMEOUT)?.ok_or_else(|| {
                JournalError::InProgress {
                    folder: folder.to_path_buf(),
                    holder: LockHolder::find(&path),
                }
            })?;

            // Another command may have removed the file as stale before it was locked.
            if !lock.is_current(&path) {
                continue;
            }

            // The staging folder of a killed restore has this marker, so it must not change.
            let marker = read_marker(manager_home, folder).unwrap_or_else(random_id);

            // Made before the content is written: if that fails, dropping the pointer removes the file.
            let folder = folder.to_path_buf();
            let pointer = Self { path, folder, lock };

            let folder_bytes = pointer.folder.as_os_str().as_encoded_bytes();
            let content = [folder_bytes, &[SEPARATOR], marker.as_bytes()].concat();
            let written = pointer.lock.write_content(&content);
            written.at("write", &pointer.path)?;

            atomic::sync_folder(&pointers)?;
            return Ok(pointer);
        }
    }

    /// Removes the pointer at `path` of a restore that has ended. Does nothing if a new restore holds the lock.
    pub(crate) fn remove(path: &Path, folder: &Path) -> Result<(), JournalError> {
        // If another process holds the lock, a new restore uses the staging folder.
        if let Some(lock) = FileLock::try_acquire(path)? {
            // Removed by `Drop` while the lock is held, so that no new restore can take the lock in between.
            drop(Self {
                path: path.to_path_buf(),
                folder: folder.to_path_buf(),
                lock,
            });
        }
        Ok(())
    }
}

impl Drop for JournalPointer {
    fn drop(&mut self) {
        // While the staging folder exists, its recovery needs the marker in the pointer. A pointer that stays for
        // another reason is removed by the next command.
        if self.lock.is_current(&self.path) && self.folder.symlink_metadata().is_err() {
            let _ = sharing::remove_file(&self.path);
        }
    }
}

/// Returns the staging folders that pointers name, each with the path of its pointer. Ignores unreadable pointers.
pub(crate) fn list_pointed_folders(manager_home: &Path) -> Vec<(PathBuf, PathBuf)> {
    let pointers = fs::read_dir(restores_folder(manager_home));
    let paths = pointers.into_iter().flatten().flatten().map(|e| e.path());
    let folders = paths.filter_map(|path| {
        let (staging_folder, _) = read_pointer(&path)?;
        Some((staging_folder, path))
    });
    folders.collect()
}

/// Returns the marker of a staging folder; `None` if no restore of this manager home created the folder.
pub(crate) fn read_marker(manager_home: &Path, folder: &Path) -> Option<String> {
    let pointer = read_pointer(&pointer_path(manager_home, folder));
    let (_, marker) = pointer.filter(|(named_folder, _)| named_folder == folder)?;
    marker
}

fn pointer_path(manager_home: &Path, folder: &Path) -> PathBuf {
    let digest = hash::sha256(folder.as_os_str().as_encoded_bytes());
    restores_folder(manager_home).join(&digest[..16])
}

/// Reads the path of the staging folder and the marker from a pointer file. The marker is `None` in an incomplete file.
fn read_pointer(pointer: &Path) -> Option<(PathBuf, Option<String>)> {
    let mut bytes = file_open::read(pointer).ok()?;
    let mut marker = None;
    if let Some(separator) = bytes.iter().position(|byte| *byte == SEPARATOR) {
        marker = String::from_utf8(bytes.split_off(separator + 1)).ok();
        bytes.truncate(separator);
    }
    Some((json_path::path_from_bytes(bytes).ok()?, marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_restore_does_not_change_the_pointer_of_the_first() {
        let root = tempfile::tempdir().unwrap();
        let (manager, folder) = (root.path().join("manager"), root.path().join("x"));
        let first = JournalPointer::create(&manager, &folder).unwrap();
        let second = JournalPointer::create(&manager, &folder);
        assert!(matches!(second, Err(JournalError::InProgress { .. })));
        let text = fs::read(&first.path).unwrap();
        assert!(text.starts_with(folder.as_os_str().as_encoded_bytes()));
        // Removing it as an old one does not either.
        JournalPointer::remove(&first.path, &folder).unwrap();
        assert!(first.path.exists());
        let path = first.path.clone();
        drop(first);
        assert!(!path.exists());
    }

    /// On Windows the name of an open file stays until it is closed.
    #[cfg(unix)]
    #[test]
    fn a_dropped_pointer_does_not_remove_the_file_of_another_restore() {
        let root = tempfile::tempdir().unwrap();
        let (manager, folder) = (root.path().join("manager"), root.path().join("x"));
        let first = JournalPointer::create(&manager, &folder).unwrap();
        fs::remove_file(&first.path).unwrap();
        let path = first.path.clone();
        let second = JournalPointer::create(&manager, &folder).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }
}
