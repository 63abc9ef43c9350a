//! The clock of the disk, which gives files their times. Retention compares it with the system clock.
//!
//! A wrong clock makes everything seem old, so retention deletes only what [`confirm_ages`] reports as old.

use super::atomic;
use super::io_error::{IoContext, IoError};
use chrono::{DateTime, TimeDelta, Utc};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// The largest accepted difference between the system clock and the clock of the disk, which may be in another machine.
const TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// A longer time between two items of a series is attributed to a wrong clock.
const MAX_PLAUSIBLE_INTERVAL: TimeDelta = TimeDelta::days(90);

/// The reason why nothing is deleted by its age.
#[derive(Debug, thiserror::Error)]
pub enum ClockDoubt {
    #[error("the system clock shows {clock}, but the clock of the disk shows {disk}")]
    Differs { clock: String, disk: String },
    #[error("the newest item is dated in the future: {}", .0.display())]
    Future(PathBuf),
    #[error(transparent)]
    Io(#[from] IoError),
}

/// An item, such as a backup, that retention may delete because of its age.
#[derive(Debug)]
pub struct Dated {
    /// A file or folder whose mtime is the time at which the item was made.
    pub path: PathBuf,
    /// The time of the system clock when the item was made, as recorded then.
    pub at: DateTime<Utc>,
}

/// Checks that `now` is the time of the disk with `folder`, within [`TOLERANCE`]. Creates and removes a file there.
///
/// # Errors
/// The two times differ, or the folder is not writable.
pub fn check_system_clock(folder: &Path, now: DateTime<Utc>) -> Result<(), ClockDoubt> {
    let disk_time = DateTime::from_timestamp_nanos(read_filesystem_clock_ns(folder)?);
    if (now - disk_time).abs() <= TOLERANCE {
        return Ok(());
    }
    let format_time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC").to_string();
    Err(ClockDoubt::Differs {
        clock: format_time(now),
        disk: format_time(disk_time),
    })
}

/// Returns the ages of `items`, which are in the order of their creation, the newest first. An age below
/// `limit` deletes nothing and need not be exact.
///
/// The age of an item counts from the later of its recorded time and its mtime. It is at most the sum of the plausible
/// intervals between now, the newer items and the item. So no item becomes old because one of the two clocks was years
/// ahead for a while.
///
/// # Errors
/// An item seems to be older than `limit`, but the system clock differs from that of `folder`'s disk, the newest item
/// is dated in the future, or the file of an item cannot be inspected.
pub fn confirm_ages(
    folder: &Path,
    now: DateTime<Utc>,
    limit: TimeDelta,
    items: &[Dated],
) -> Result<Vec<TimeDelta>, ClockDoubt> {
    let recorded_ages: Vec<_> = items.iter().map(|item| now - item.at).collect();
    if recorded_ages.iter().all(|age| *age < limit) {
        return Ok(recorded_ages);
    }

    check_system_clock(folder, now)?;
    let (mut plausible_age, mut newer_time) = (TimeDelta::zero(), now);
    let mut ages = Vec::with_capacity(items.len());
    for Dated { path, at } in items {
        let meta = path.symlink_metadata().at("inspect", path)?;
        // The later of the two times: one of the clocks may have been behind.
        let made_at = DateTime::from_timestamp_nanos(modified_ns(&meta)).max(*at);

        if ages.is_empty() && made_at - now > TOLERANCE {
            return Err(ClockDoubt::Future(path.clone()));
        }

        let interval = newer_time - made_at;
        if interval > TimeDelta::zero() && interval <= MAX_PLAUSIBLE_INTERVAL {
            plausible_age += interval;
        }

        newer_time = made_at;
        ages.push(plausible_age.min(now - made_at));
    }

    Ok(ages)
}

/// Returns the time of the clock of `folder`'s file system, in nanoseconds since 1970. Creates a
/// file to read it, because that clock may differ from the system clock.
pub(crate) fn read_filesystem_clock_ns(folder: &Path) -> Result<i64, IoError> {
    let mut probe = atomic::TempFile::create_in(folder)?;
    let meta = probe.file().metadata().at("inspect", folder)?;
    Ok(modified_ns(&meta))
}

/// Returns the mtime in nanoseconds since 1970, negative for an earlier time, 0 if it is unknown. Programs can set it.
pub fn modified_ns(meta: &Metadata) -> i64 {
    nanoseconds_since_1970(meta.modified())
}

/// Returns the ctime in nanoseconds since 1970: the last change of content, metadata or name. On Windows, the later of
/// mtime and creation time.
pub fn changed_ns(meta: &Metadata) -> i64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let nanos = meta.ctime().saturating_mul(1_000_000_000);
        nanos.saturating_add(meta.ctime_nsec())
    }
    #[cfg(not(unix))]
    {
        nanoseconds_since_1970(meta.modified()).max(nanoseconds_since_1970(meta.created()))
    }
}

/// Returns nanoseconds since 1970, negative for an earlier time; 0 if the time is unknown.
fn nanoseconds_since_1970(at: std::io::Result<std::time::SystemTime>) -> i64 {
    at.map_or(0, |at| match at.duration_since(std::time::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |n| -n),
    })
}
