//! Appends lines to the log, and renames a full file.

use super::file::{LogLocation, LogName};
use crate::io::{FileLock, IoContext, IoError, file_open, sharing};
use chrono::NaiveDate;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The longest wait for the lock that another process holds while it writes lines. After that the lines are
/// dropped, so that the log does not delay the job.
pub(super) const WRITE_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length in bytes of the lines that one call of [`LogWriter::write`] appends.
const MAX_WRITE_BYTES: usize = 64 * 1024;

/// Writes lines to the log of the day.
#[derive(Debug)]
pub struct LogWriter {
    location: LogLocation,
    /// The maximum size of a file; 0 for no limit.
    max_bytes: u64,
    /// The first error. The mutex is held while a line is written.
    problem: Mutex<Option<String>>,
}

impl LogWriter {
    /// Creates a writer without opening a file. A `max_bytes` of 0 means no limit.
    pub(super) fn new(location: LogLocation, max_bytes: u64) -> Self {
        Self {
            location,
            max_bytes,
            problem: Mutex::default(),
        }
    }

    /// Returns the first error of writing a line, if any.
    pub fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns true if one call of [`LogWriter::write`] may write `lines` together with `line`.
    pub(super) fn fits_in_one_write(&self, lines: &str, line: &str) -> bool {
        let length = lines.len() + line.len();
        length <= MAX_WRITE_BYTES && (self.max_bytes == 0 || length as u64 <= self.max_bytes)
    }

    /// Appends lines, each with its newline, to the log of that day. The first error is stored for
    /// [`LogWriter::problem`].
    pub(super) fn write(&self, lines: &str, date: NaiveDate) {
        let problem = self.problem.lock();
        let mut problem = problem.unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = self.append_lines(lines, date) {
            problem.get_or_insert_with(|| format!("{e}: {}", e.source));
        }
    }

    fn append_lines(&self, lines: &str, date: NaiveDate) -> Result<(), IoError> {
        let name = LogName {
            date,
            number: 0,
            is_zip: false,
        };
        let path = self.location.path(name);

        // The file is opened under the lock, because another process that holds the lock may rename it.
        let lock_path = self.location.write_lock_path();
        let lock = FileLock::acquire_within(&lock_path, WRITE_LOCK_TIMEOUT)?;
        let held_error = || io::Error::other("another process holds it");
        let _lock = lock.ok_or_else(held_error).at("lock", &lock_path)?;
        let mut file = LogLocation::open_for_append(&path)?;
        let size = file.metadata().at("inspect", &path)?.len();

        let lines = lines.as_bytes();
        // An empty file is never full, so a line that is longer than the limit gets a file of its own.
        let exceeds_max = size > 0 && size.saturating_add(lines.len() as u64) > self.max_bytes;
        if self.max_bytes > 0 && exceeds_max {
            let number = self.location.next_free_number(date);
            let full_path = self.location.path(LogName { number, ..name });
            // Not `atomic::rename`, which emits an event: the event would come back to this function.
            sharing::rename(&path, &full_path).at("rename", &path)?;
            file = LogLocation::open_for_append(&path)?;
        }

        // If a killed process or a full disk has left a partial line, the next line must not be appended to it.
        if file_open::ends_in_partial_line(&mut file).at("write the log", &path)? {
            file.write_all(b"\n").at("write the log", &path)?;
        }

        // Without an fsync: a log must not make a command slower, and after a power loss its last
        // lines are of little use.
        file.write_all(lines).at("write the log", &path)?;
        Ok(())
    }
}
