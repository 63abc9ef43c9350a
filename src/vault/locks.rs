//! Locks that dead restic processes have left in the repository.
//!
//! `restic unlock` removes every lock with the host name of this machine and the id of a process that
//! does not run here. If another machine or container has the same name, that removes the lock of its
//! running backup, and `prune` then deletes the data that it has uploaded. So this program notes the
//! processes that it starts, and runs `restic unlock` only if no other lock can be lost.

use super::error::VaultError;
use super::restic::Restic;
use crate::io::clock::Clock;
use crate::io::piped_child::ChildEnd;
use crate::io::{atomic, machine, processes};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Time after which a lock that was not refreshed is stale. restic refreshes its locks every 5 minutes.
const STALE_AGE: TimeDelta = TimeDelta::minutes(30);

/// Name of the folder of the notes in the vault's folder.
const NOTES: &str = "restic";

/// A lock, as `restic cat lock` prints it.
#[derive(Debug, Deserialize)]
struct RepositoryLock {
    time: DateTime<Utc>,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    pid: u32,
}

/// The note of a running restic that may hold a lock: an empty file with the process id as its name.
/// It remains if this process is killed, or restic fails.
#[derive(Debug)]
pub(super) struct ProcessNote(PathBuf);

impl ProcessNote {
    /// Writes the note. Without it, as on a read-only disk, a lock that restic leaves is stale only after
    /// [`STALE_AGE`].
    pub(super) fn write(vault_folder: &Path, pid: u32) -> Self {
        let folder = vault_folder.join(NOTES);
        let path = folder.join(pid.to_string());
        remove_notes(vault_folder, |path| {
            let age = |noted| Clock::System.now() - DateTime::<Utc>::from(noted);
            let noted = path.symlink_metadata().and_then(|meta| meta.modified());
            noted.is_ok_and(|noted| age(noted) > STALE_AGE)
        });
        let _ = fs::remove_file(&path);
        let _ = atomic::create_private_folder(&folder).and_then(|()| atomic::create_private(&path));
        Self(path)
    }

    /// Removes the note of a restic that succeeded. Any other may have left its lock: restic 0.14 does
    /// so if it is interrupted at the beginning.
    pub(super) fn close(self, end: &ChildEnd) {
        if end.status.is_some_and(|status| status.success()) {
            let _ = fs::remove_file(self.0);
        }
    }
}

/// Returns true if a process that is noted in `vault_folder`, and is gone, made the lock.
fn is_of_noted(lock: &RepositoryLock, vault_folder: &Path) -> bool {
    let note = vault_folder.join(NOTES).join(lock.pid.to_string());
    let noted = note.symlink_metadata().and_then(|meta| meta.modified());
    // A container with the same host name may have a restic with this id at another time.
    noted.is_ok_and(|noted| (lock.time - DateTime::<Utc>::from(noted)).abs() < STALE_AGE)
        && processes::started(lock.pid).is_none()
}

/// Removes the notes that `is_old` accepts, of processes that are gone.
fn remove_notes(vault_folder: &Path, is_old: impl Fn(&Path) -> bool) {
    let notes = fs::read_dir(vault_folder.join(NOTES));
    for entry in notes.into_iter().flatten().flatten() {
        let pid = entry.file_name().to_string_lossy().parse();
        if is_old(&entry.path()) && pid.is_ok_and(|pid| processes::started(pid).is_none()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Restic {
    /// Removes the locks of dead processes that this program started, and those that were not refreshed
    /// for [`STALE_AGE`]. Removes none if another process of this host name may hold one.
    ///
    /// # Errors
    /// The locks cannot be listed or removed.
    pub(super) fn remove_stale_locks(&self) -> Result<(), VaultError> {
        let listed = self.output(&["list", "locks", "--no-lock", "--quiet"])?;
        let now = Clock::System.now();
        let host = machine::name(&self.env);
        for id in String::from_utf8_lossy(&listed).split_whitespace() {
            // A lock that cannot be read was removed meanwhile, or is being written.
            let Ok(json) = self.output(&["cat", "lock", "--no-lock", id]) else {
                return Ok(());
            };
            let Ok(lock) = serde_json::from_slice::<RepositoryLock>(&json) else {
                return Ok(());
            };
            let name = lock.hostname.split('.').next();
            let may_be_here = host.as_deref().is_none_or(|host| {
                name.is_none_or(|name| name.is_empty() || name.eq_ignore_ascii_case(host))
            });
            let is_stale = now - lock.time > STALE_AGE;
            if may_be_here && !is_stale && !is_of_noted(&lock, &self.folder) {
                return Ok(());
            }
        }
        self.output(&["unlock"])?;
        remove_notes(&self.folder, |_| true);
        Ok(())
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    /// The wait status of a process that exited with code 1.
    const EXIT_1: i32 = 1 << 8;

    #[test]
    fn only_locks_of_noted_processes_that_failed_and_are_gone_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let lock = |pid: u32, minutes: i64| RepositoryLock {
            time: Clock::System.now() + TimeDelta::minutes(minutes),
            hostname: String::new(),
            pid,
        };
        let end = |status: i32| ChildEnd {
            status: Some(ExitStatus::from_raw(status)),
            stderr: String::new(),
            stop: None,
        };
        assert!(!is_of_noted(&lock(pid, 0), folder.path()));
        ProcessNote::write(folder.path(), pid).close(&end(EXIT_1));
        assert!(is_of_noted(&lock(pid, 0), folder.path()));
        assert!(
            !is_of_noted(&lock(pid, 31), folder.path()),
            "of a later process"
        );
        ProcessNote::write(folder.path(), pid).close(&end(0));
        assert!(!is_of_noted(&lock(pid, 0), folder.path()));
        let own = std::process::id();
        ProcessNote::write(folder.path(), own).close(&end(EXIT_1));
        assert!(!is_of_noted(&lock(own, 0), folder.path()), "it runs");
        remove_notes(folder.path(), |_| true);
        assert!(folder.path().join(NOTES).join(own.to_string()).exists());
    }
}
