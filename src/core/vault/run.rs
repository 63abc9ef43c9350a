//! Runs restic and reads its output: as a whole, line by line, or as a stream.

use super::error::VaultError;
use super::fault::{self, Fault};
use super::process_note::{ProcessNote, RepositoryLock};
use super::restic::Restic;
use crate::io::{IoContext, progress};
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Maximum size of output that is read as a whole: the list of all snapshots is one document.
const MAX_OUTPUT_BYTES: u64 = 256 << 20;

/// Time between two attempts on a locked repository.
const LOCK_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Time between two checks for locks of dead processes, which read every lock.
const LOCK_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The number of snapshots that one `restic forget` gets. Windows permits command lines of 32,767 characters.
const MAX_FORGOTTEN_IDS: usize = 400;

/// Exit code of `restic backup` if some files could not be read.
const INCOMPLETE_CODE: i32 = 3;

impl Restic {
    /// Runs restic to its end and returns its standard output.
    ///
    /// # Errors
    /// restic fails or makes no progress, or the user interrupts.
    pub fn run(&self, args: &[&str]) -> Result<Vec<u8>, VaultError> {
        self.retry_while_locked(|| self.run_once(args))
    }

    /// Removes snapshots. Their data stays until `restic prune`.
    ///
    /// # Errors
    /// As [`Restic::run`]; [`Fault::AppendOnly`] if the storage refuses to remove snapshots. Then none of the first
    /// [`MAX_FORGOTTEN_IDS`] snapshots was removed.
    pub fn forget<'a>(&self, ids: impl IntoIterator<Item = &'a str>) -> Result<(), VaultError> {
        let ids: Vec<_> = ids.into_iter().collect();
        ids.chunks(MAX_FORGOTTEN_IDS)
            .try_for_each(|ids| self.forget_batch(ids))
    }

    fn forget_batch(&self, ids: &[&str]) -> Result<(), VaultError> {
        let forgotten = self.run(&[&["forget"], ids].concat());
        forgotten.map(drop).map_err(|mut e| {
            // The same credentials have read the list of snapshots, so the storage refuses only deletions.
            if let VaultError::Restic { fault, .. } = &mut e
                && *fault == Fault::Credentials
            {
                *fault = Fault::AppendOnly;
            }
            e
        })
    }

    /// Runs a restic command that takes no lock in `folder`, into which the command writes files. Each change in the
    /// folder counts as progress, because restic 0.14 restores without output.
    ///
    /// # Errors
    /// As [`Restic::run`]; [`VaultError::Io`] if the disk of the folder is full.
    pub(super) fn run_writing_into(&self, folder: &Path, args: &[&str]) -> Result<(), VaultError> {
        let mut child = self.start_unlocked(self.repository_command(args).current_dir(folder))?;
        child.expect_changes_in(folder);
        let end = child.finish();

        match end.status {
            Some(status) if status.success() && end.stop.is_none() => Ok(()),
            // The command only reads the storage, so the disk of `folder` is full.
            _ if Fault::from_message(&end.stderr) == Some(Fault::NoSpace) => {
                let disk_full: io::Result<()> = Err(io::ErrorKind::StorageFull.into());
                Ok(disk_full.at("write to", folder)?)
            }
            _ => Err(self.end_error(&end)),
        }
    }

    /// Like [`Restic::run`], but fails if the repository is locked.
    fn run_once(&self, args: &[&str]) -> Result<Vec<u8>, VaultError> {
        let (mut child, note) = self.start_with_note(&mut self.repository_command(args))?;
        let mut stdout = Vec::new();
        let read_result = (&mut child).take(MAX_OUTPUT_BYTES).read_to_end(&mut stdout);
        let end = child.finish();
        ProcessNote::remove_if_finished(note, &end);

        match end.status {
            Some(status) if status.success() && read_result.is_ok() => Ok(stdout),
            _ => Err(self.end_error(&end)),
        }
    }

    /// Runs restic in `folder` and passes each line of standard output, with its line feed, to `on_line`, which returns
    /// true if the line shows progress. The lines begin again if the repository was locked.
    ///
    /// # Errors
    /// As [`Restic::run`]. A backup that could not read every file fails too.
    pub(super) fn run_lines(
        &self,
        folder: &Path,
        args: &[&str],
        mut on_line: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), VaultError> {
        self.retry_while_locked(|| {
            let command = &mut self.repository_command(args);
            let (mut child, note) = self.start_with_note(command.current_dir(folder))?;
            child.expect_marks();

            // A read error ends the loop like the end of the output, because the exit code decides.
            let mut lines = BufReader::new(child);
            let mut line = Vec::new();
            while let Ok(1..) = lines.read_until(b'\n', &mut line) {
                if on_line(&line) {
                    lines.get_mut().mark_progress();
                }
                line.clear();
            }

            let end = lines.into_inner().finish();
            ProcessNote::remove_if_finished(note, &end);
            match end.status.and_then(|status| status.code()) {
                Some(0) if end.stop.is_none() => Ok(()),
                Some(INCOMPLETE_CODE) if end.stop.is_none() => {
                    Err(self.fault_error(Fault::Other, fault::extract_reason(&end.stderr)))
                }
                _ => Err(self.end_error(&end)),
            }
        })
    }

    /// Passes the content of the file at `path` of a snapshot to `read`, or the folder at `path` as a tar stream with
    /// paths relative to the root of the snapshot. Takes no lock.
    ///
    /// # Errors
    /// As [`Restic::stream`].
    pub fn dump<T>(
        &self,
        snapshot: &str,
        path: &OsStr,
        read: impl FnMut(&mut dyn Read) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let args = ["dump", "--no-lock", snapshot].map(OsStr::new);
        self.stream(&[&args[..], &[path]].concat(), read)
    }

    /// Runs restic and passes its standard output to `read`. Starts again from the beginning if the
    /// repository was locked.
    ///
    /// # Errors
    /// As [`Restic::run`], or the error of `read`. An error of restic takes precedence, because
    /// `read` then gets a truncated stream.
    pub(super) fn stream<T>(
        &self,
        args: &[impl AsRef<OsStr>],
        mut read: impl FnMut(&mut dyn Read) -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        self.retry_while_locked(|| {
            let (mut child, note) = self.start_with_note(&mut self.repository_command(args))?;
            let result = read(&mut child);

            // If `read` fails before the end of the stream, restic fails for that reason, and its error is ignored.
            let was_read_to_end = result.is_ok() || matches!(child.read(&mut [0; 8192]), Ok(0));

            let end = child.finish();
            ProcessNote::remove_if_finished(note, &end);

            let has_failed = end.status.is_none_or(|status| !status.success());
            if end.stop.is_some() || (was_read_to_end && has_failed) {
                return Err(self.end_error(&end));
            }
            result
        })
    }

    /// Removes the locks of dead processes that this program started, and locks that were not refreshed
    /// for half an hour. Removes no lock if another process with the host name of this machine may hold one.
    fn remove_dead_locks(&self) -> Result<(), VaultError> {
        let lock_ids = self.run_once(&["list", "locks", "--no-lock", "--quiet"])?;
        for id in String::from_utf8_lossy(&lock_ids).split_whitespace() {
            let json = match self.run_once(&["cat", "lock", "--no-lock", "--quiet", id]) {
                Ok(json) => json,
                Err(e @ (VaultError::Interrupted | VaultError::NoProgress(_))) => return Err(e),
                // Another process removed the lock in the meantime.
                Err(_) => return Ok(()),
            };

            let lock = serde_json::from_slice::<RepositoryLock>(&json);
            let may_unlock = lock.is_ok_and(|lock| lock.allows_unlock(&self.vault_folder));
            if !may_unlock {
                return Ok(());
            }
        }

        // restic removes stale locks, and locks of this host whose process is dead. All of these were checked above.
        self.run_once(&["unlock"]).map(drop)
    }

    /// Runs `work`, and repeats it while another process holds a lock on the repository, until `lock_wait` has passed.
    /// Removes the locks of dead processes.
    fn retry_while_locked<T>(
        &self,
        mut work: impl FnMut() -> Result<T, VaultError>,
    ) -> Result<T, VaultError> {
        let deadline = Instant::now() + self.lock_wait;
        let mut next_check = Instant::now();
        loop {
            let mut result = work();
            if is_locked(&result) && Instant::now() >= next_check {
                self.remove_dead_locks()?;
                next_check = Instant::now() + LOCK_CHECK_INTERVAL;
                result = work();
            }

            if !is_locked(&result) || Instant::now() >= deadline {
                return result;
            }
            progress::report_wait("another process to finish");
            sleep_until_retry()?;
        }
    }
}

fn is_locked<T>(result: &Result<T, VaultError>) -> bool {
    matches!(result, Err(VaultError::Restic { fault, .. }) if *fault == Fault::Locked)
}

fn sleep_until_retry() -> Result<(), VaultError> {
    let retry_at = Instant::now() + LOCK_RETRY_INTERVAL;
    while Instant::now() < retry_at {
        if progress::is_interrupted() {
            return Err(VaultError::Interrupted);
        }
        thread::sleep(LOCK_RETRY_INTERVAL / 10);
    }
    Ok(())
}
