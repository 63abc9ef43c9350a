//! Finds interrupted restores and finishes them.
//!
//! The journal lies beside the home that was being replaced. A pointer file in the manager home
//! (`tmp/restores/`) names its folder, so that a command for another home finds it too. Both places
//! are searched.

use super::login_guard::LoginGuard;
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use crate::io::lock::{self, FileLock, LockError};
use crate::io::{IoContext, OrdinaryPath, atomic, file_open, sharing};
use crate::journal::{self, JournalError, KeptAs, Recovery};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The wait for the lock of a pointer, which a command that searches for interrupted restores holds
/// only briefly.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// Returns the folder of the pointers in the manager home.
fn pointers_folder(manager_home: &Path) -> PathBuf {
    manager_home.join("tmp").join("restores")
}

/// A file that names the folder of a running restore. Removed on drop.
#[derive(Debug)]
pub(super) struct JournalPointer {
    path: PathBuf,
    /// Held while the restore runs. It shows that the restore is alive even before its folder
    /// exists.
    lock: FileLock,
}

impl JournalPointer {
    /// Writes the pointer to `folder`. It is durable before anything is staged there.
    ///
    /// # Errors
    /// [`JournalError::InProgress`] if another restore runs there.
    pub(super) fn create(manager_home: &Path, folder: &Path) -> Result<Self, JournalError> {
        let pointers = pointers_folder(manager_home);
        atomic::create_private_folder(&pointers)?;
        let text = folder.as_os_str().as_encoded_bytes();
        let path = pointers.join(&crate::io::hash::sha256(text)[..16]);
        loop {
            let lock = match FileLock::exclusive_within(&path, LOCK_TIMEOUT) {
                Ok(lock) => lock,
                Err(LockError::Held(_)) => {
                    return Err(JournalError::InProgress(folder.to_path_buf()));
                }
                Err(LockError::Io(e)) => return Err(e.into()),
            };
            // Another command may have removed the file as stale before it was locked.
            if lock.is_current(&path) {
                // Dropping it removes the file if writing fails.
                let pointer = Self { path, lock };
                pointer.lock.fill(text).at("write", &pointer.path)?;
                atomic::sync_folder(&pointers)?;
                return Ok(pointer);
            }
        }
    }

    /// Removes the pointer of a restore that has ended. Does nothing if a new restore holds it.
    fn remove(path: &Path) -> Result<(), JournalError> {
        match FileLock::try_exclusive(path) {
            Ok(lock) => drop(Self {
                path: path.to_path_buf(),
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
        // A pointer that stays behind names a missing folder. The next command removes it.
        if self.lock.is_current(&self.path) {
            let _ = sharing::remove_file(&self.path);
        }
    }
}

/// Returns the folders in which a restore may have been interrupted, with their pointers.
pub fn candidate_folders(
    codex_home: &Path,
    manager_home: &Path,
) -> Vec<(PathBuf, Option<PathBuf>)> {
    let mut candidates: Vec<_> = restore_folders(codex_home)
        .into_iter()
        .filter(|folder| !matches!(journal::is_real_folder(folder), Ok(false)))
        .map(|folder| (folder, None))
        .collect();
    if let Ok(pointers) = fs::read_dir(pointers_folder(manager_home)) {
        for pointer in pointers.flatten().map(|e| e.path()) {
            if let Ok(bytes) = file_open::read(&pointer) {
                candidates.push((path_from_bytes(bytes), Some(pointer)));
            }
        }
    }
    candidates
}

/// Returns true if another process is restoring `codex_home`.
pub fn is_in_progress(codex_home: &Path) -> bool {
    restore_folders(codex_home)
        .iter()
        .any(|folder| journal::is_in_progress(folder))
}

/// Returns the folders that a restore of a home can have its journal in.
fn restore_folders(codex_home: &Path) -> [PathBuf; 2] {
    let home = codex_home
        .canonical()
        .unwrap_or_else(|_| codex_home.to_path_buf());
    [journal::folder_beside(&home), journal::folder_within(&home)]
}

/// Returns the folders that ended restores of `codex_home`, and repairs of its databases, have left.
pub(crate) fn kept_folders(codex_home: &Path) -> Vec<(PathBuf, KeptAs)> {
    let folders = restore_folders(codex_home).into_iter();
    let folders = folders.chain([journal::staging_in(codex_home)]);
    folders
        .flat_map(|place| journal::list_kept(&place))
        .collect()
}

/// A restore that was interrupted, and the result of recovering it.
#[derive(Debug)]
pub(crate) struct RecoveredRestore {
    /// False for a restore of another home than the one that the command works on.
    pub is_own: bool,
    /// The result of its recovery.
    pub result: Result<Recovery, JournalError>,
}

/// Finishes or undoes every interrupted restore. Costs a few listings if there is none.
pub(crate) fn recover_all(
    codex_home: &Path,
    manager_home: &Path,
    env: &Environment,
    now: Timestamp,
) -> Vec<RecoveredRestore> {
    let own = restore_folders(codex_home);
    let guard = LoginGuard {
        manager_home,
        env,
        now,
    };
    let mut recovered = Vec::new();
    // A restore with a pointer is found twice.
    let mut seen = BTreeSet::new();
    for (folder, pointer) in candidate_folders(codex_home, manager_home) {
        let mut result = journal::recover(&folder, &guard);
        let is_running = pointer.as_deref().is_some_and(lock::is_held);
        if is_running && matches!(result, Ok(Recovery::None)) {
            result = Ok(Recovery::InProgress);
        }
        let has_ended = matches!(
            result,
            Ok(Recovery::None | Recovery::Undone(_) | Recovery::Finished(_))
        );
        if let Some(pointer) = pointer.filter(|_| has_ended)
            && let Err(e) = JournalPointer::remove(&pointer)
        {
            result = Err(e);
        }
        let is_new = seen.insert(folder.clone());
        let is_repeated = !is_new && matches!(result, Ok(Recovery::Deferred(_)) | Err(_));
        if !is_repeated && !matches!(result, Ok(Recovery::None)) {
            recovered.push(RecoveredRestore {
                is_own: own.contains(&folder),
                result,
            });
        }
    }
    recovered
}

#[cfg(unix)]
fn path_from_bytes(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn path_from_bytes(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
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
        assert_eq!(text, folder.as_os_str().as_encoded_bytes());
        // Removing it as an old one does not either.
        JournalPointer::remove(&first.path).unwrap();
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
