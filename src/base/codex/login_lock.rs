//! Codex's own locks on a login.
//!
//! To renew a login, Codex 0.169 takes `flock` on `auth.lock`, then on `auth.json.lock`, reads
//! auth.json again and replaces it by one rename. While this program holds both locks, Codex cannot
//! renew the login.

use crate::io::lock::{FileLock, LockError};
use std::path::Path;
use std::time::Duration;

/// The longest wait for Codex to finish a renewal and release its locks.
pub const REFRESH_TIMEOUT: Duration = Duration::from_secs(30);

/// Codex's two locks on the login of a home, released when dropped.
#[derive(Debug)]
pub struct LoginLock {
    _auth_json_lock: FileLock,
    _auth_lock: FileLock,
}

impl LoginLock {
    /// Takes both locks of `home` in Codex's order; `timeout` limits the two together. Missing lock
    /// files are created, and stay, as Codex leaves them.
    pub fn acquire(home: &Path, timeout: Duration) -> Result<Self, LockError> {
        let started = std::time::Instant::now();
        let auth_lock = FileLock::acquire_within(&home.join("auth.lock"), timeout)?;
        // In the order of Codex: two programs that take both locks in different orders could wait for each other
        // forever.
        let remaining = timeout.saturating_sub(started.elapsed());
        let auth_json_lock = FileLock::acquire_within(&home.join("auth.json.lock"), remaining)?;
        Ok(Self {
            _auth_json_lock: auth_json_lock,
            _auth_lock: auth_lock,
        })
    }
}
