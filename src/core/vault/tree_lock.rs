//! The folders that restic reads: the lock on them, and the removal of secrets that killed commands left there.

use super::error::VaultError;
use super::folder::{create_vault_folder, staging_parent, vault_folder};
use super::process_note::is_backup_running;
use crate::archive::tree_capture::is_always_copied;
use crate::codex::home::kind_of;
use crate::io::{FileLock, IoContext, IoError, lock, progress, staging, tree};
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// The interval at which the end of an orphaned restic is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Name of the tree of the captured home in the vault's folder.
const TREE_FOLDER: &str = "tree";

const IMPORT_FOLDER: &str = "import";

const LOCK_FILE: &str = ".lock";

/// The lock on the folders that restic reads. One command at a time uses them.
#[derive(Debug)]
pub struct TreeLock {
    folder: PathBuf,
    _lock: FileLock,
}

impl TreeLock {
    /// Waits for the lock, and for a restic that still reads the folders after its codex-manager was killed. If the
    /// files changed, that restic would make an incomplete snapshot.
    ///
    /// # Errors
    /// The file system refuses, or the user or [`lock::WAIT_LIMIT`] ends the wait.
    pub fn acquire(manager_home: &Path) -> Result<Self, VaultError> {
        let folder = create_vault_folder(manager_home)?;
        let lock = FileLock::acquire_unless_interrupted(&folder.join(LOCK_FILE))?;

        let waiting_since = Instant::now();
        // The lock of a killed codex-manager is free, but its restic may still run.
        while is_backup_running(&folder) {
            if progress::is_interrupted() {
                return Err(VaultError::Interrupted);
            }
            if waiting_since.elapsed() >= lock::WAIT_LIMIT {
                let restic = "the restic of a killed command still reads this folder";
                let error = Error::new(ErrorKind::TimedOut, restic);
                return Err(error).at("lock", &folder).map_err(VaultError::from);
            }
            progress::report_wait_since(waiting_since, || "another process to finish".into());
            thread::sleep(POLL_INTERVAL);
        }

        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Returns the tree of the captured home. Its path stays the same, so that restic finds the
    /// previous snapshot as its parent.
    pub fn tree_path(&self) -> PathBuf {
        self.folder.join(TREE_FOLDER)
    }

    pub(super) fn import_tree_path(&self) -> PathBuf {
        self.folder.join(IMPORT_FOLDER)
    }
}

/// Removes the secrets that killed commands left: downloaded snapshots, an unpacked archive, and the copies of logins,
/// other secrets and databases at the top of the tree. Leaves the files of running commands and of their restic. Links
/// to conversations, and databases in folders of the tree, stay for the next backup.
///
/// # Errors
/// A file cannot be removed. The next command tries again.
pub fn remove_leftovers(manager_home: &Path) -> Result<(), IoError> {
    let errors = staging::remove_stale(&staging_parent(manager_home));
    if let Some(first_error) = errors.into_iter().next() {
        return Err(first_error);
    }

    let folder = vault_folder(manager_home);
    if find_removable_paths(&folder).is_empty() {
        return Ok(());
    }

    let Ok(Some(_lock)) = FileLock::try_acquire(&folder.join(LOCK_FILE)) else {
        // Another command uses the folders, or the lock cannot be taken. The next command tries again.
        return Ok(());
    };
    if is_backup_running(&folder) {
        return Ok(());
    }

    // A backup may have ended in the meantime.
    let mut paths = find_removable_paths(&folder).into_iter();
    paths.try_for_each(|path| tree::remove(&path))
}

fn find_removable_paths(folder: &Path) -> Vec<PathBuf> {
    let root = folder.join(TREE_FOLDER);
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();

    let copied_entries = entries.filter(|entry| {
        let name = entry.file_name();
        // `is_always_copied` also returns true for each unknown name. In folders with such a name, files are linked.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            kind_of(Path::new(&name)).is_login()
        } else {
            is_always_copied(Path::new(&name))
        }
    });

    let mut paths: Vec<_> = copied_entries.map(|entry| entry.path()).collect();
    let import = folder.join(IMPORT_FOLDER);
    if import.symlink_metadata().is_ok() {
        paths.push(import);
    }
    paths
}
