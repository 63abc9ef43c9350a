//! Codex's own locks on a login.
//!
//! Codex 0.169 takes `flock` on `auth.lock`, then on `auth.json.lock`, re-reads auth.json and
//! replaces it by one rename. Whoever holds both keeps it from refreshing meanwhile.

use crate::io::lock::{FileLock, LockError};
use std::path::Path;
use std::time::Duration;

/// How long we wait for Codex to finish a refresh.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Both locks of one home, released when dropped.
#[derive(Debug)]
pub struct LoginLock {
    _json: FileLock,
    _outer: FileLock,
}

impl LoginLock {
    /// Takes both locks of `home`, in Codex's order, within `patience` for the two together.
    /// The lock files are created where missing and stay, as with Codex.
    pub fn take(home: &Path, patience: Duration) -> Result<Self, LockError> {
        let started = std::time::Instant::now();
        let outer = FileLock::exclusive_within(&home.join("auth.lock"), patience)?;
        let rest = patience.saturating_sub(started.elapsed());
        let json = FileLock::exclusive_within(&home.join("auth.json.lock"), rest)?;
        Ok(Self {
            _json: json,
            _outer: outer,
        })
    }
}
