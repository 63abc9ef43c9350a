//! The restic processes that this program starts, and the locks that dead ones have left in the repository.
//!
//! `restic unlock` removes every lock with the host name of this machine and the id of a process that does
//! not run here. If another machine or container has the same name, that removes the lock of its running
//! backup, and `prune` then deletes the data that it has uploaded. So this program notes the processes that
//! it starts, and runs `restic unlock` only if every lock is of a dead process in the notes, of another
//! host, or stale.

use crate::io::lock::is_free;
use crate::io::{ChildEnd, Clock, atomic, clock, lock, random_id, sharing};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Maximum time between the start of restic and its first lock, and maximum difference of two clocks.
const START_TOLERANCE: TimeDelta = TimeDelta::minutes(1);

/// Time since the start of restic after which the note of a dead process is removed. Until then, the note identifies
/// the lock of the process, which restic may have refreshed for hours.
const MAX_NOTE_AGE: TimeDelta = TimeDelta::days(1);

/// Age of a stale lock. restic refreshes its locks every 5 minutes.
const STALE_AGE: TimeDelta = TimeDelta::minutes(30);

/// Name of the folder of the notes in the vault's folder.
const NOTES_FOLDER: &str = "restic";

/// Prefix of the names of notes of `restic backup`, which reads the folders of [`super::TreeLock`].
const BACKUP_PREFIX: &str = "backup-";

/// Exit code of a restic that SIGINT ended.
const INTERRUPTED_CODE: i32 = 130;

/// The note of a restic process that may lock the repository.
///
/// It is an empty file that is the standard input of restic and is locked (flock), so the lock of the file ends with
/// restic, even in another process namespace. Its name is a random id, and the process id as soon as that is known:
/// `ID` or `ID-PID`, after [`BACKUP_PREFIX`] for a backup. The mtime of the file is the start time of the process.
///
/// Windows frees a lock when the process that took it closes the file or ends, even if a child has the file open. On
/// Windows this process therefore keeps the file open, and restic ends with this process.
#[derive(Debug)]
pub(super) struct ProcessNote {
    path: PathBuf,
    #[cfg(windows)]
    locked: File,
}

impl ProcessNote {
    /// Creates the note of a process that is not yet started, and returns it with the standard input of the process.
    /// Returns `None` if the note cannot be written, as on a read-only disk. A lock that restic leaves is then removed
    /// only when it is stale.
    pub(super) fn create(vault_folder: &Path, is_backup: bool) -> Option<(Self, File)> {
        let folder = vault_folder.join(NOTES_FOLDER);
        remove_old_notes(&folder);

        let prefix = if is_backup { BACKUP_PREFIX } else { "" };
        let path = folder.join(format!("{prefix}{}", random_id()));
        atomic::create_unsynced_folder(&folder).ok()?;
        let file = atomic::create_private(&path).ok()?;

        let note = Self {
            #[cfg(windows)]
            locked: file.try_clone().ok()?,
            path,
        };

        // Waits, because another process may just be checking the lock of the note.
        if lock::lock(&file).is_err() {
            note.remove();
            return None;
        }

        Some((note, file))
    }

    /// Adds the process id to the name of the note. If that fails, the start time alone identifies the process.
    pub(super) fn set_pid(&mut self, pid: u32) {
        let path_with_pid = atomic::with_suffix(&self.path, &format!("-{pid}"));
        if atomic::rename_to_free_unsynced(&self.path, &path_with_pid).is_ok() {
            self.path = path_with_pid;
        }
    }

    /// Removes the note of a process that ended by itself. Keeps the note of an interrupted or killed process, which
    /// may have left its lock: restic 0.14 does so if it is interrupted during the creation of the lock.
    pub(super) fn remove_if_finished(note: Option<Self>, end: &ChildEnd) {
        let code = end.status.and_then(|status| status.code());
        let has_finished = end.stop.is_none() && code.is_some_and(|code| code != INTERRUPTED_CODE);
        if has_finished && let Some(note) = note {
            note.remove();
        }
    }

    /// Removes the note of a process that has ended or did not start.
    pub(super) fn remove(self) {
        #[cfg(windows)]
        drop(self.locked);
        // `remove_old_notes` removes a note that stays.
        let _ = sharing::remove_file(self.path);
    }
}

/// Returns the notes in `folder`, with the time of the start of each process. Leaves out notes that cannot be read.
fn list_notes(folder: &Path) -> impl Iterator<Item = (PathBuf, DateTime<Utc>)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let started = entry.metadata().and_then(|meta| meta.modified()).ok()?;
        // A time that cannot be converted counts as new, so that `remove_old_notes` keeps the note.
        let started = clock::from_file_time(started).unwrap_or(DateTime::<Utc>::MAX_UTC);
        Some((entry.path(), started))
    })
}

fn remove_old_notes(folder: &Path) {
    let oldest_kept = Clock::System.now() - MAX_NOTE_AGE;
    for (path, started) in list_notes(folder) {
        if started < oldest_kept && is_free(&path) {
            let _ = sharing::remove_file(path);
        }
    }
}

/// Returns true if a recorded `restic backup` runs, including one that outlived a killed codex-manager.
pub(super) fn is_backup_running(vault_folder: &Path) -> bool {
    list_notes(&vault_folder.join(NOTES_FOLDER)).any(|(path, _)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(BACKUP_PREFIX) && !is_free(&path)
    })
}

/// Returns true if a process recorded in `vault_folder` with the id `pid` created or refreshed a lock at `locked_at`,
/// and has ended.
fn is_of_dead_process(vault_folder: &Path, pid: u32, locked_at: DateTime<Utc>) -> bool {
    list_notes(&vault_folder.join(NOTES_FOLDER)).any(|(path, started)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let delay = locked_at - started;
        let may_have_locked = match name.trim_start_matches(BACKUP_PREFIX).split_once('-') {
            Some((_, recorded_pid)) => recorded_pid.parse() == Ok(pid) && delay > -START_TOLERANCE,
            // The note has no process id, because this program was killed before it knew the id.
            None => delay.abs() < START_TOLERANCE,
        };
        may_have_locked && is_free(&path)
    })
}

/// A lock, as `restic cat lock` prints it.
#[derive(Debug, Deserialize)]
pub(super) struct RepositoryLock {
    time: DateTime<Utc>,
    #[serde(default)]
    #[cfg_attr(not(unix), allow(dead_code, reason = "every lock may be of this host"))]
    hostname: String,
    #[serde(default)]
    pid: u32,
}

impl RepositoryLock {
    /// Returns true if `restic unlock` may run although the lock exists: restic keeps a lock of another host, and may
    /// remove a lock that is stale or belongs to a dead process in the notes.
    pub(super) fn allows_unlock(&self, vault_folder: &Path) -> bool {
        !may_be_of_this_host(self)
            || Clock::System.now() - self.time > STALE_AGE
            || is_of_dead_process(vault_folder, self.pid, self.time)
    }
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

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    /// Starts a process that ends by itself only if its note cannot be its input.
    fn sleeper(note: &mut ProcessNote, input: File) -> Child {
        let mut command = Command::new("sleep");
        let child = command.arg("600").stdin(Stdio::from(input)).spawn();
        let child = child.expect("sleep starts");
        note.set_pid(child.id());
        child
    }

    fn end(status: ExitStatus) -> ChildEnd {
        ChildEnd {
            status: Some(status),
            stderr: String::new(),
            stop: None,
        }
    }

    /// Other tests fork, and until exec such a child holds the note.
    fn becomes_true(check: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !check() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        check()
    }

    #[test]
    fn a_lock_is_stale_only_if_its_recorded_process_has_ended() {
        let vault = tempfile::tempdir().unwrap();
        let is_dead = |pid: u32, minutes: i64| {
            let locked_at = Clock::System.now() + TimeDelta::minutes(minutes);
            is_of_dead_process(vault.path(), pid, locked_at)
        };
        let (mut note, input) = ProcessNote::create(vault.path(), true).unwrap();
        let mut child = sleeper(&mut note, input);
        let pid = child.id();
        assert!(!is_dead(pid, 0), "it runs");
        assert!(is_backup_running(vault.path()));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        ProcessNote::remove_if_finished(Some(note), &end(status));
        let dead = || is_dead(pid, 0);
        assert!(becomes_true(dead), "the note of a killed process remains");
        assert!(!is_backup_running(vault.path()));
        assert!(is_dead(pid, 120), "refreshed");
        assert!(!is_dead(pid, -5), "older than the process");
        assert!(!is_dead(pid + 1, 0));
    }

    #[test]
    fn a_process_killed_before_its_id_was_recorded_is_found_by_its_start_time() {
        let vault = tempfile::tempdir().unwrap();
        let is_dead = |minutes: i64| {
            let locked_at = Clock::System.now() + TimeDelta::minutes(minutes);
            is_of_dead_process(vault.path(), 7, locked_at)
        };
        let (_note, input) = ProcessNote::create(vault.path(), false).unwrap();
        assert!(!is_dead(0), "it runs");
        drop(input);
        assert!(becomes_true(|| is_dead(0)));
        assert!(!is_dead(5));
    }

    #[test]
    fn notes_of_processes_that_ended_by_themselves_are_removed() {
        let vault = tempfile::tempdir().unwrap();
        let count = || list_notes(&vault.path().join(NOTES_FOLDER)).count();
        // Exit codes 0, 1 and 130 as wait statuses.
        for (status, left) in [(0, 0), (1 << 8, 0), (INTERRUPTED_CODE << 8, 1)] {
            let (note, _input) = ProcessNote::create(vault.path(), false).unwrap();
            ProcessNote::remove_if_finished(Some(note), &end(ExitStatus::from_raw(status)));
            assert_eq!(count(), left, "{status}");
        }
    }
}

#[cfg(windows)]
#[cfg(test)]
mod windows_tests {
    use super::*;

    #[test]
    fn a_lock_is_stale_only_after_this_process_and_its_restic_have_ended() {
        let vault = tempfile::tempdir().unwrap();
        let is_dead = || is_of_dead_process(vault.path(), 7, Clock::System.now());
        let (mut note, input) = ProcessNote::create(vault.path(), true).unwrap();
        note.set_pid(7);
        // As with the command that started restic: only restic and the note have the file open.
        drop(input);
        assert!(!is_dead());
        assert!(is_backup_running(vault.path()));
        drop(note);
        assert!(is_dead());
        assert!(!is_backup_running(vault.path()));
    }
}
