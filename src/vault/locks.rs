//! Locks that dead restic processes have left in the repository.
//!
//! `restic unlock` removes every lock with the host name of this machine and the id of a process that does
//! not run here. If another machine or container has the same name, that removes the lock of its running
//! backup, and `prune` then deletes the data that it has uploaded. So this program notes the processes that
//! it starts, and runs `restic unlock` only if every lock is of a dead process in the notes, of another
//! host, or stale.

use super::error::VaultError;
use super::process_note::is_of_dead_process;
use super::restic::Restic;
use crate::io::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

/// Age of a stale lock. restic refreshes its locks every 5 minutes.
const STALE_AGE: TimeDelta = TimeDelta::minutes(30);

/// A lock, as `restic cat lock` prints it.
#[derive(Debug, Deserialize)]
struct RepositoryLock {
    time: DateTime<Utc>,
    #[serde(default)]
    #[cfg_attr(not(unix), allow(dead_code, reason = "every lock may be of this host"))]
    hostname: String,
    #[serde(default)]
    pid: u32,
}

/// Returns true if `restic unlock` may treat the lock as one of this host.
fn may_be_of_this_host(lock: &RepositoryLock) -> bool {
    #[cfg(unix)]
    {
        let name = rustix::system::uname();
        name.nodename().to_str() == Ok(lock.hostname.as_str())
    }
    #[cfg(not(unix))]
    {
        let _ = lock;
        true
    }
}

impl Restic {
    /// Removes the locks of dead processes that this program started, and those that were not refreshed
    /// for [`STALE_AGE`]. Removes none if another process with the host name of this machine may hold one.
    ///
    /// # Errors
    /// The locks cannot be listed or removed.
    pub(super) fn remove_dead_locks(&self) -> Result<(), VaultError> {
        let listed = self.output(&["list", "locks", "--no-lock", "--quiet"])?;
        for id in String::from_utf8_lossy(&listed).split_whitespace() {
            let json = match self.output(&["cat", "lock", "--no-lock", "--quiet", id]) {
                Ok(json) => json,
                Err(e @ (VaultError::Interrupted | VaultError::NoProgress(_))) => return Err(e),
                // It was removed meanwhile.
                Err(_) => return Ok(()),
            };
            let Ok(lock) = serde_json::from_slice::<RepositoryLock>(&json) else {
                return Ok(());
            };
            let is_stale = Clock::System.now() - lock.time > STALE_AGE;
            let is_dead = || is_of_dead_process(&self.vault_folder, lock.pid, lock.time);
            if may_be_of_this_host(&lock) && !is_stale && !is_dead() {
                return Ok(());
            }
        }
        self.output(&["unlock"]).map(drop)
    }
}
