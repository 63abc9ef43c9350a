//! The beginning of a swap: takes the lock, and first recovers an interrupted one.

use super::super::staging_folder::check_private_folder;
use super::error::SwapError;
use super::journal::JOURNAL;
use super::recovery::{Recovery, RecoveryGuard, recover_locked};
use super::transaction::{LOCK, Swap};
use crate::io::atomic;
use crate::io::lock::{FileLock, LockError};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The wait for a lock that another command holds only while it looks for interrupted restores.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

impl Swap {
    /// Begins a swap of `home`, with the journal in `folder` (created, 0700). A restore that was
    /// killed there is first finished or undone, as by [`recover`](super::recover).
    pub fn begin(folder: &Path, home: &Path, guard: &dyn RecoveryGuard) -> Result<Self, SwapError> {
        let lock = loop {
            atomic::create_private_folder(folder)?;
            check_private_folder(folder)?;
            // Another command may hold the lock while it looks for interrupted restores.
            match FileLock::exclusive_within(&folder.join(LOCK), LOCK_TIMEOUT) {
                Ok(lock) if !lock.is_current(&folder.join(LOCK)) => {}
                Ok(lock) if folder.join(JOURNAL).exists() => {
                    if let Recovery::Deferred(obstacle) = recover_locked(folder, lock, guard)? {
                        return Err(obstacle.into());
                    }
                }
                Ok(lock) => break lock,
                Err(LockError::Held(_)) => {
                    return Err(SwapError::InProgress(folder.to_path_buf()));
                }
                // Another process removed the folder between the two calls above.
                Err(LockError::Io(e)) if e.is_not_found() => {}
                Err(LockError::Io(e)) => {
                    // Removes the folder only if it is empty: then it is the one created above.
                    let _ = fs::remove_dir(folder);
                    return Err(e.into());
                }
            }
        };
        Self::create(folder, home, lock)
    }
}
