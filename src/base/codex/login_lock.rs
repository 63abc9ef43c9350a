//! Codex's own locks on a login.
//!
//! To renew a login, Codex 0.169 takes `flock` on `auth.lock`, then on `auth.json.lock`, reads
//! auth.json again and replaces it by one rename. While this program holds both locks, Codex cannot
//! renew the login.

use crate::io::{FileLock, IoError, lock};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first of the two lock files, in the home. The second one is beside auth.json, or beside the target of a link
/// there.
pub(super) const AUTH_LOCK: &str = "auth.lock";

/// The longest wait for Codex to finish a renewal and release its locks.
pub const REFRESH_TIMEOUT: Duration = lock::WAIT_LIMIT;

/// Returns the error for the locks of `home` that Codex has not released within the time limit.
pub fn timeout_error(home: &Path) -> IoError {
    let path = LoginLock::held_path(home);
    IoError {
        action: "lock",
        source: lock::held_error(&path),
        path,
    }
}

/// Codex's two locks on the login of a home, released when dropped.
#[derive(Debug)]
pub struct LoginLock {
    _auth_json_lock: FileLock,
    _auth_lock: FileLock,
}

impl LoginLock {
    /// Returns the lock file of `home` that Codex holds; `auth.json.lock` if it holds none.
    pub fn held_path(home: &Path) -> PathBuf {
        let first = home.join(AUTH_LOCK);
        if lock::is_held(&first) {
            first
        } else {
            home.join("auth.json.lock")
        }
    }

    /// Takes both locks of `home` in Codex's order; `timeout` limits the two together. Returns `None` if Codex still
    /// holds one of them. Missing lock files are created, and stay, as Codex leaves them.
    pub fn acquire(home: &Path, timeout: Duration) -> Result<Option<Self>, IoError> {
        let started = std::time::Instant::now();
        let Some(auth_lock) = FileLock::acquire_within(&home.join(AUTH_LOCK), timeout)? else {
            return Ok(None);
        };
        // In the order of Codex: two programs that take both locks in different orders could wait for each other
        // forever.
        let remaining = timeout.saturating_sub(started.elapsed());
        let auth_json_lock = FileLock::acquire_within(&home.join("auth.json.lock"), remaining)?;
        Ok(auth_json_lock.map(|auth_json_lock| Self {
            _auth_json_lock: auth_json_lock,
            _auth_lock: auth_lock,
        }))
    }
}
