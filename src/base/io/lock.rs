//! Locks of the operating system. They end with the process that holds them.
//!
//! The lock file is created if it is missing and is never removed: its existence means nothing.
//!
//! Windows refuses to read a locked range through another handle, also in the same process
//! (`LockFileEx`). So one byte beyond the end of every file is locked, which no process reads.

use super::file_open::{self, FinalLink};
use super::io_error::{IoContext, IoError};
use super::lock_holder::LockHolder;
use super::{flush, progress, sharing};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};

/// The longest wait for any lock. The process that holds it may be suspended, or wait for a disk that does not respond.
pub const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// The longest wait of a command that can do without the lock.
const READER_LIMIT: Duration = Duration::from_secs(2);

/// The interval between two attempts to lock. The system offers no lock with a time limit.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The interval between two checks of the process that holds the lock. The first check reports the wait.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// An attempt to lock a file.
type TryLock = fn(&File) -> Result<(), TryLockError>;

/// A lock that is held until this value is dropped or the process ends.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the exclusive lock on `path`, for work that must be completed. Reports a long wait.
    ///
    /// # Errors
    /// The file cannot be opened. An error of the kind [`ErrorKind::TimedOut`] names the process that holds the lock
    /// after [`WAIT_LIMIT`], or that is stopped.
    pub fn acquire(path: &Path) -> Result<Self, IoError> {
        Self::acquire_unless(path, try_lock, WAIT_LIMIT, || false)
    }

    /// Like [`FileLock::acquire`], but ends the wait on Ctrl-C with an error of the kind [`ErrorKind::Interrupted`].
    pub fn acquire_unless_interrupted(path: &Path) -> Result<Self, IoError> {
        Self::acquire_unless(path, try_lock, WAIT_LIMIT, progress::is_interrupted)
    }

    /// Like [`FileLock::acquire_unless_interrupted`], for work that can do without the lock: waits [`READER_LIMIT`] at
    /// most.
    pub fn acquire_soon(path: &Path) -> Result<Self, IoError> {
        Self::acquire_unless(path, try_lock, READER_LIMIT, progress::is_interrupted)
    }

    /// Like [`FileLock::acquire`], for a lock that several processes may share.
    pub fn acquire_shared(path: &Path) -> Result<Self, IoError> {
        Self::acquire_unless(path, try_lock_shared, WAIT_LIMIT, || false)
    }

    fn acquire_unless(
        path: &Path,
        try_lock: TryLock,
        limit: Duration,
        should_give_up: impl Fn() -> bool,
    ) -> Result<Self, IoError> {
        let stops = |waited| waited >= limit || should_give_up();
        let lock = Self::lock_until(path, try_lock, stops)?;
        lock.ok_or_else(|| {
            if should_give_up() {
                ErrorKind::Interrupted.into()
            } else {
                held_error(path)
            }
        })
        .at("lock", path)
    }

    /// Takes the lock on `path`, and reports a long wait. Returns `None` once `stops`, which gets the time waited so
    /// far, returns true, or if the process that holds the lock is stopped.
    fn lock_until(
        path: &Path,
        try_lock: TryLock,
        stops: impl Fn(Duration) -> bool,
    ) -> Result<Option<Self>, IoError> {
        let file = open_lock_file(path)?;
        let started_at = Instant::now();
        let mut checks = HolderChecks::default();
        loop {
            match try_lock(&file) {
                Ok(()) => return Ok(Some(Self { file })),
                Err(TryLockError::WouldBlock) => {
                    let waited = started_at.elapsed();
                    if stops(waited) || checks.show_stopped_holder(path, waited) {
                        return Ok(None);
                    }
                    std::thread::sleep(RETRY_INTERVAL);
                }
                Err(TryLockError::Error(source)) => return Err(source).at("lock", path),
            }
        }
    }

    /// Takes the exclusive lock on `path`, waiting at most `limit`. Returns `None` if another process still holds it.
    pub fn acquire_within(path: &Path, limit: Duration) -> Result<Option<Self>, IoError> {
        Self::lock_until(path, try_lock, |waited| waited >= limit)
    }

    /// Takes the exclusive lock on `path`. Returns `None` if another process holds it.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, IoError> {
        Self::acquire_within(path, Duration::ZERO)
    }

    /// Replaces the content of the lock file. Durable on return.
    ///
    /// # Errors
    /// The file cannot be written. It may then contain only a part of `bytes`.
    pub fn write_content(&self, bytes: &[u8]) -> std::io::Result<()> {
        // In place, not by a rename: the lock belongs to the file and not to its name.
        self.file.set_len(0)?;
        super::position::write_all_at(&self.file, bytes, 0)?;
        flush::sync_all(&self.file)
    }

    /// Returns true if `path` still names the locked file. False if an earlier holder of the lock removed the file,
    /// so that this lock excludes no other process.
    pub fn is_current(&self, path: &Path) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            match (self.file.metadata(), path.symlink_metadata()) {
                (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
                _ => false,
            }
        }
        #[cfg(not(unix))]
        {
            let held = self.file.try_clone().and_then(same_file::Handle::from_file);
            let named = same_file::Handle::from_path(path);
            matches!((held, named), (Ok(held), Ok(named)) if held == named)
        }
    }
}

/// Returns the error for a lock that another process has not released.
pub(crate) fn held_error(path: &Path) -> Error {
    let holder = LockHolder::find(path);
    Error::new(
        ErrorKind::TimedOut,
        format!("{holder} did not release it in time"),
    )
}

/// The checks of the process that holds a lock, during the wait for it.
#[derive(Default)]
struct HolderChecks {
    number: u32,
    /// True if the process was stopped at the last check.
    was_stopped: bool,
}

impl HolderChecks {
    /// Checks the process in intervals. Returns true if it was stopped at two checks in a row: a debugger stops a
    /// process for moments, but a suspended process does not go on by itself.
    fn show_stopped_holder(&mut self, path: &Path, waited: Duration) -> bool {
        if waited < CHECK_INTERVAL * (self.number + 1) {
            return false;
        }
        self.number += 1;
        let holder = LockHolder::find(path);
        if self.number == 1 {
            let lock = path.display();
            progress::report_wait(&format!("{holder} to finish, which holds the lock {lock}"));
        }
        let was_stopped = std::mem::replace(&mut self.was_stopped, holder.is_stopped);
        was_stopped && holder.is_stopped
    }
}

/// Returns the process that holds the exclusive lock on `path`; `None` if there is none, or the file is missing or
/// cannot be opened. Creates nothing.
pub fn find_holder(path: &Path) -> Option<LockHolder> {
    is_held(path).then(|| LockHolder::find(path))
}

/// Returns true if a process holds the exclusive lock on `path`. False if the file is missing or cannot be opened.
/// Creates nothing.
pub fn is_held(path: &Path) -> bool {
    let Ok(file) = file_open::open(path) else {
        return false;
    };
    matches!(try_lock_shared(&file), Err(TryLockError::WouldBlock))
}

/// Returns true if the file is missing or not locked exclusively. False if it cannot be opened. Creates nothing.
pub fn is_free(path: &Path) -> bool {
    match file_open::open(path) {
        Ok(file) => try_lock_shared(&file).is_ok(),
        Err(e) => e.kind() == ErrorKind::NotFound,
    }
}

fn open_lock_file(path: &Path) -> Result<File, IoError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let options = file_open::set_open_flags(&mut options, FinalLink::Follow);
    sharing::open_or_create(options, path).at("open lock file", path)
}

/// The functions of the standard library lock the whole file (`flock`). The lock ends when the last
/// handle is closed.
#[cfg(not(windows))]
#[allow(clippy::disallowed_methods, reason = "the locks themselves")]
mod system {
    use super::{File, TryLockError};

    pub fn try_lock(file: &File) -> Result<(), TryLockError> {
        file.try_lock()
    }

    pub fn lock(file: &File) -> std::io::Result<()> {
        file.lock()
    }

    pub(super) fn try_lock_shared(file: &File) -> Result<(), TryLockError> {
        file.try_lock_shared()
    }
}

#[cfg(windows)]
mod system {
    use super::{ErrorKind, File, TryLockError};
    use file_guard::Lock;
    use std::mem::forget;

    /// The offset of the locked byte. No file is as long.
    const LOCKED_BYTE: usize = (usize::MAX >> 1) - 1;

    pub fn try_lock(file: &File) -> Result<(), TryLockError> {
        try_lock_byte(file, Lock::Exclusive)
    }

    pub fn lock(file: &File) -> std::io::Result<()> {
        file_guard::lock(file, Lock::Exclusive, LOCKED_BYTE, 1).map(forget)
    }

    pub(super) fn try_lock_shared(file: &File) -> Result<(), TryLockError> {
        try_lock_byte(file, Lock::Shared)
    }

    fn try_lock_byte(file: &File, kind: Lock) -> Result<(), TryLockError> {
        match file_guard::try_lock(file, kind, LOCKED_BYTE, 1) {
            Ok(guard) => {
                // Forgotten, so that the lock ends when the file is closed.
                forget(guard);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(TryLockError::WouldBlock),
            Err(e) => Err(TryLockError::Error(e)),
        }
    }
}

use system::try_lock_shared;
pub use system::{lock, try_lock};

/// Repeats `look` while `is_held` returns true, for tests of calls that do not wait for a lock.
/// Other tests fork, and until exec such a child holds every lock.
#[cfg(test)]
pub(crate) fn retry_until_free<T>(mut look: impl FnMut() -> T, is_held: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let seen = look();
        if !is_held(&seen) || Instant::now() > deadline {
            return seen;
        }
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_file_can_be_read_and_written_but_not_locked_through_other_handles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let lock = FileLock::acquire(&path).unwrap();
        lock.write_content(b"text").unwrap();
        assert_eq!(file_open::read(&path).unwrap(), b"text");
        std::io::Write::write_all(&mut file_open::append_no_link(&path).unwrap(), b"+").unwrap();
        assert_eq!(file_open::read(&path).unwrap(), b"text+");
        assert!(lock.is_current(&path));
        assert!(is_held(&path) && !is_free(&path));
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(lock);
        let again = || FileLock::try_acquire(&path).unwrap();
        assert!(retry_until_free(again, Option::is_none).is_some());
    }

    #[test]
    fn two_shared_locks_are_held_at_once_and_exclude_an_exclusive_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let first = FileLock::acquire_shared(&path).unwrap();
        let second = FileLock::acquire_shared(&path).unwrap();
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop((first, second));
        let again = || FileLock::try_acquire(&path).unwrap();
        assert!(retry_until_free(again, Option::is_none).is_some());
    }
}
