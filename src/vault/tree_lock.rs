//! The folders that restic reads, and the lock on them.

use super::error::VaultError;
use super::folder::folder;
use super::process_note::is_backup_running;
use crate::io::lock::FileLock;
use crate::io::{atomic, progress};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The interval at which the end of an orphaned restic is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The wait after which the user is informed.
const LONG_WAIT: Duration = Duration::from_secs(1);

/// Name of the tree of the captured home in the vault's folder.
pub(super) const TREE: &str = "tree";

/// Name of the folder into which archives are unpacked.
pub(super) const IMPORT: &str = "import";

/// Name of the lock file.
pub(super) const LOCK: &str = ".lock";

/// The lock on the folders that restic reads. One command at a time uses them.
#[derive(Debug)]
pub(crate) struct TreeLock {
    folder: PathBuf,
    _lock: FileLock,
}

impl TreeLock {
    /// Waits for the lock, and for a restic that still reads the folders after its codex-manager was killed. With
    /// other files in them it would make an incomplete snapshot.
    ///
    /// # Errors
    /// The file system refuses, or the user interrupts the wait.
    pub(crate) fn acquire(manager_home: &Path) -> Result<Self, VaultError> {
        let folder = folder(manager_home);
        atomic::create_private_folder(manager_home)?;
        atomic::create_private_folder(&folder)?;
        let lock = FileLock::exclusive_unless_interrupted(&folder.join(LOCK))?;
        let since = Instant::now();
        while is_backup_running(&folder) {
            if progress::is_interrupted() {
                return Err(VaultError::Interrupted);
            }
            if since.elapsed() >= LONG_WAIT {
                progress::report_wait();
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Returns the tree of the captured home. Its path stays the same, so that restic finds the
    /// previous snapshot as its parent.
    pub(crate) fn tree(&self) -> PathBuf {
        self.folder.join(TREE)
    }

    /// Returns the folder into which archives are unpacked.
    pub(super) fn import_tree(&self) -> PathBuf {
        self.folder.join(IMPORT)
    }
}
