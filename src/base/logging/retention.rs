//! Compresses and removes old logs. Changes only files with a name that [`LogLocation::parse`] accepts.

use super::file::{LogLocation, LogName};
use super::settings::{LogArchiving, LogSettings};
use super::writer::WRITE_LOCK_TIMEOUT;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError, atomic, file_open, tree, zip_file};
use chrono::NaiveDate;
use std::fs::File;
use std::io;
use std::path::Path;
use zip::write::SimpleFileOptions;

/// Compresses and removes old logs, unless another process does so. The log to which lines are appended today stays as
/// it is; full logs of today are compressed too. Returns a warning for each failure.
pub(super) fn clean_up(
    location: &LogLocation,
    settings: &LogSettings,
    today: NaiveDate,
) -> Vec<String> {
    let Ok(Some(_lock)) = FileLock::try_acquire(&location.retention_lock_path()) else {
        // Another process cleans up, or the lock cannot be taken. The next run tries again.
        return Vec::new();
    };

    let days = i64::from(settings.retention_days);
    // A log has lines until the end of its day, so its last line is younger than the difference of the dates.
    let is_old = |log: LogName| days > 0 && (today - log.date).num_days() > days;
    let is_finished = |log: LogName| log.date < today || (log.date == today && log.number > 0);
    let compresses = settings.archive == LogArchiving::Zip;

    let results = location.list().into_iter().map(|log| {
        if is_old(log) {
            tree::remove(&location.path(log))
        } else if compresses && !log.is_zip && is_finished(log) {
            compress_log(log, location)
        } else {
            Ok(())
        }
    });
    let failures = results.filter_map(Result::err);
    failures
        .map(|e| format!("cannot clean up an old log: {e}: {}", e.source))
        .collect()
}

/// Compresses a log. Removes it only after the complete zip file is on disk.
fn compress_log(log: LogName, location: &LogLocation) -> Result<(), IoError> {
    // A process may still append a line to yesterday's log at midnight.
    let lock = FileLock::acquire_within(&location.write_lock_path(), WRITE_LOCK_TIMEOUT)?;
    let Some(_lock) = lock else {
        // The next run compresses it.
        return Ok(());
    };

    let path = location.path(log);
    let zip_path = location.path(LogName {
        is_zip: true,
        ..log
    });

    let mut temp = atomic::TempFile::create_beside(&zip_path)?;
    write_zip(&path, temp.file()).at("pack", &path)?;
    // The zip file keeps the time of the log.
    let modified = path.metadata().and_then(|meta| meta.modified());
    modified
        .and_then(|at| temp.file().set_modified(at))
        .at("set the time of", &zip_path)?;

    let is_published = temp.publish(&zip_path)?.is_ok();
    if is_published {
        return tree::remove(&path);
    }

    // `zip_path` exists already: the log got new lines after its compression, or the removal above was interrupted. The
    // next run compresses the log under a new number.
    let number = location.next_free_number(log.date);
    let free_path = location.path(LogName { number, ..log });
    atomic::rename(&path, &free_path)
}

fn write_zip(log_path: &Path, zip_file: &mut File) -> io::Result<()> {
    let mut log = file_open::open(log_path)?;
    let name = log_path.file_name().unwrap_or_default().to_string_lossy();
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .unix_permissions(0o600);
    zip_file::write(zip_file, |zip| {
        zip.start_file(name, options)?;
        zip_file::add_content(zip, &mut log)
    })?
}
