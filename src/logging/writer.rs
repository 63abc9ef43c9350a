//! Appending lines, and moving a file away that has become too large.

use super::file::{LogName, LogPlace};
use crate::io::lock::{FileLock, LockError};
use crate::io::{IoContext, atomic};
use chrono::NaiveDate;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long others may keep us from writing a line. A log holds up no job.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Writes lines to the log of the day.
#[derive(Debug)]
pub struct LogWriter {
    place: LogPlace,
    max_bytes: u64,
    /// The first thing that went wrong. Held while a line is written.
    problem: Mutex<Option<String>>,
}

impl LogWriter {
    /// A writer that has opened nothing yet. `max_bytes` of 0 is no limit.
    pub(super) fn new(place: LogPlace, max_bytes: u64) -> Self {
        Self {
            place,
            max_bytes,
            problem: Mutex::default(),
        }
    }

    /// Why a line is missing, if one is.
    pub(super) fn problem(&self) -> Option<String> {
        let problem = self.problem.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends a line with its end to the log of that day. What goes wrong is kept for whoever asks.
    pub(super) fn write(&self, line: &str, date: NaiveDate) {
        let problem = self.problem.lock();
        let mut problem = problem.unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = self.append(line, date) {
            problem.get_or_insert_with(|| match &e {
                LockError::Io(io) => format!("{io}: {}", io.source),
                LockError::Held(_) => e.to_string(),
            });
        }
    }

    fn append(&self, line: &str, date: NaiveDate) -> Result<(), LockError> {
        let name = LogName {
            date,
            number: 0,
            is_zip: false,
        };
        let path = self.place.path(name);
        // Under the lock nobody else writes, and the file of this name is the one that is written.
        let _writing = FileLock::exclusive_within(&self.place.write_lock(), PATIENCE)?;
        let mut file = LogPlace::open(&path)?;
        let size = file.metadata().at("look at", &path)?.len();
        let line = line.as_bytes();
        let is_full = size > 0 && size.saturating_add(line.len() as u64) > self.max_bytes;
        if self.max_bytes > 0 && is_full {
            let number = self.place.free_number(date);
            atomic::rename(&path, &self.place.path(LogName { number, ..name }))?;
            file = LogPlace::open(&path)?;
        }
        mend(&mut file).at("write the log", &path)?;
        file.write_all(line).at("write the log", &path)?;
        Ok(())
    }
}

/// A process that was killed, or a full disk, may have left half a line: the next one begins anew.
fn mend(file: &mut File) -> io::Result<()> {
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" {
        Ok(())
    } else {
        file.write_all(b"\n")
    }
}
