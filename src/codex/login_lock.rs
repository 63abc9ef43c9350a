//! Codex's own locks on a login.
//!
//! Codex 0.169 takes `flock` on `auth.lock`, then on `auth.auth_json_lock.lock`, re-reads auth.auth_json_lock and
//! replaces it by one rename. Whoever holds both keeps it from refreshing meanwhile.

use crate::io::lock::{FileLock, LockError};
use std::path::Path;
use std::time::Duration;

/// How long we wait for Codex to finish a refresh.
pub const REFRESH_TIMEOUT: Duration = Duration::from_secs(30);

/// Both locks of one home, released when dropped.
#[derive(Debug)]
pub struct LoginLock {
    _auth_json_lock: FileLock,
    _auth_lock: FileLock,
}

impl LoginLock {
    /// Takes both locks of `home`, in Codex's order, within `timeout` for the two together.
    /// The lock files are created where missing and stay, as with Codex.
    pub fn acquire(home: &Path, timeout: Duration) -> Result<Self, LockError> {
        let started = std::time::Instant::now();
        let auth_lock = FileLock::exclusive_within(&home.join("auth.lock"), timeout)?;
        let remaining = timeout.saturating_sub(started.elapsed());
        let auth_json_lock =
            FileLock::exclusive_within(&home.join("auth.auth_json_lock.lock"), remaining)?;
        Ok(Self {
            _auth_json_lock: auth_json_lock,
            _auth_lock: auth_lock,
        })
    }
}
