//! The pointer to the journal of a restore: a file in `tmp/restores/` of the manager home with the path of the staging
//! folder, a NUL, and the marker that its lock has.

use crate::io::{
    FileLock, IoContext, LockError, atomic, file_open, hash, json_path, random_id, sharing,
};
use crate::journal::JournalError;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SEPARATOR: u8 = 0;

/// The wait for the lock of a pointer, which a command that searches for interrupted restores holds
/// only briefly.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// Returns the folder of the pointers in the manager home.
fn pointers_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("tmp").join("restores")
}

/// A file that names the folder of a running restore. Removed on drop, unless the folder is still there.
#[derive(Debug)]
pub(crate) struct JournalPointer {
    path: PathBuf,
    folder: PathBuf,
    /// Held while the restore runs. It shows that the restore is alive even before its folder
    /// exists.
    lock: FileLock,
}

impl JournalPointer {
    /// Writes the pointer to `folder`. It is durable before anything is staged there.
    ///
    /// # Errors
    /// [`JournalError::InProgress`] if another restore runs there; or the pointer cannot be written.
    pub(crate) fn create(manager_home: &Path, folder: &Path) -> Result<Self, JournalError> {
        let pointers = pointers_folder(manager_home);
        atomic::create_private_folder(&pointers)?;
        let path = path_of(manager_home, folder);
        loop {
            let lock = match FileLock::acquire_within(&path, LOCK_TIMEOUT) {
                Ok(lock) => lock,
                Err(LockError::Held(_)) => {
                    return Err(JournalError::InProgress(folder.to_path_buf()));
                }
                Err(LockError::Io(e)) => return Err(e.into()),
            };
            // Another command may have removed the file as stale before it was locked.
            if lock.is_current(&path) {
                // The folder of a killed restore keeps its marker.
                let marker = read_marker(manager_home, folder).unwrap_or_else(random_id);
                // Dropping it removes the file if writing fails.
                let folder = folder.to_path_buf();
                let pointer = Self { path, folder, lock };
                let folder = pointer.folder.as_os_str().as_encoded_bytes();
                let text = [folder, &[SEPARATOR], marker.as_bytes()].concat();
                pointer
                    .lock
                    .write_content(&text)
                    .at("write", &pointer.path)?;
                atomic::sync_folder(&pointers)?;
                return Ok(pointer);
            }
        }
    }

    /// Removes the pointer of a restore that has ended. Does nothing if a new restore holds it.
    pub(crate) fn remove(path: &Path, folder: &Path) -> Result<(), JournalError> {
        match FileLock::try_acquire(path) {
            // Its `Drop` removes the file while the lock is held, so that no new restore can lock it in
            // between.
            Ok(lock) => drop(Self {
                path: path.to_path_buf(),
                folder: folder.to_path_buf(),
                lock,
            }),
            // A new restore runs in its folder.
            Err(LockError::Held(_)) => {}
            Err(LockError::Io(e)) => return Err(e.into()),
        }
        Ok(())
    }
}

impl Drop for JournalPointer {
    fn drop(&mut self) {
        // A pointer that stays behind names a missing folder, and the next command removes it; or it has the marker of
        // a folder that still has to be recovered.
        if self.lock.is_current(&self.path) && self.folder.symlink_metadata().is_err() {
            let _ = sharing::remove_file(&self.path);
        }
    }
}

/// Returns the folders that the pointers name, each with its pointer. Leaves out pointers that cannot be read.
pub(crate) fn list_pointed_folders(manager_home: &Path) -> Vec<(PathBuf, PathBuf)> {
    let pointers = fs::read_dir(pointers_folder(manager_home));
    let paths = pointers.into_iter().flatten().flatten().map(|e| e.path());
    let named = paths.filter_map(|path| Some((read(&path)?.0, path)));
    named.collect()
}

/// Returns the marker of the staging folder `folder`; `None` if no restore of this manager home created it.
pub(crate) fn read_marker(manager_home: &Path, folder: &Path) -> Option<String> {
    let (named, marker) = read(&path_of(manager_home, folder))?;
    marker.filter(|_| named == folder)
}

fn path_of(manager_home: &Path, folder: &Path) -> PathBuf {
    let digest = hash::sha256(folder.as_os_str().as_encoded_bytes());
    pointers_folder(manager_home).join(&digest[..16])
}

fn read(pointer: &Path) -> Option<(PathBuf, Option<String>)> {
    let mut bytes = file_open::read(pointer).ok()?;
    let end = bytes.iter().position(|byte| *byte == SEPARATOR);
    let marker = end.map(|end| bytes.split_off(end).split_off(1));
    let marker = marker.and_then(|marker| String::from_utf8(marker).ok());
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
        assert!(matches!(second, Err(JournalError::InProgress(_))));
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
