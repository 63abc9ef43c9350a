//! The lock of a conversation that Codex holds while it has the conversation loaded.
//!
//! While another process holds `thread-writer-locks/<id>.lock`, Codex refuses to load the conversation
//! ("already has an active writer"). Lock files are created and removed under `.coordination.lock`.

use super::home::THREAD_LOCKS;
use crate::io::{FileLock, IoError, atomic, tree};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lock under which lock files are created and removed.
const COORDINATION_LOCK: &str = ".coordination.lock";

/// The longest wait for the coordination lock, which Codex holds for milliseconds.
const COORDINATION_TIMEOUT: Duration = Duration::from_secs(5);

/// The held lock of a conversation. Dropping it removes the lock file, as Codex does.
#[derive(Debug)]
pub(crate) struct WriterLock {
    path: PathBuf,
    _lock: FileLock,
}

impl WriterLock {
    /// Takes the lock of the conversation `id` in `home`; `None` if another process holds it, or holds the coordination
    /// lock for more than five seconds.
    ///
    /// # Errors
    /// The folder or a lock file cannot be created.
    pub(crate) fn acquire_if_free(home: &Path, id: &str) -> Result<Option<Self>, IoError> {
        let folder = home.join(THREAD_LOCKS);
        atomic::create_private_folder(&folder)?;
        let Some(_coordination) = lock_coordination(&folder)? else {
            return Ok(None);
        };
        let path = folder.join(format!("{id}.lock"));
        let lock = FileLock::try_acquire(&path)?;
        Ok(lock.map(|lock| Self { path, _lock: lock }))
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        let folder = atomic::parent_of(&self.path);
        // A lock file that stays is harmless: Codex removes unlocked ones when it starts.
        if let Ok(Some(_coordination)) = lock_coordination(folder) {
            let _ = tree::remove(&self.path);
        }
    }
}

/// Takes Codex's lock for lock files. Returns `None` if another process holds it until [`COORDINATION_TIMEOUT`] ends.
fn lock_coordination(folder: &Path) -> Result<Option<FileLock>, IoError> {
    FileLock::acquire_within(&folder.join(COORDINATION_LOCK), COORDINATION_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::lock;

    #[test]
    fn a_held_writer_lock_cannot_be_taken_again() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(THREAD_LOCKS).join("a.lock");
        let take = |id| WriterLock::acquire_if_free(home.path(), id).unwrap();
        let first = take("a").unwrap();
        assert!(lock::is_held(&file));
        assert!(take("a").is_none());
        assert!(take("b").is_some());
        drop(first);
        assert!(!file.exists());
        assert!(lock::retry_until_free(|| take("a"), Option::is_none).is_some());
    }
}
