//! The times of writes, by the clock of the file system that they were made on.

use crate::io::{IoContext, IoError, atomic, tree};
use std::fs::Metadata;
use std::path::Path;

/// Returns the time of the clock of `folder`'s file system, in nanoseconds since 1970. Creates a
/// file for it, because that clock may differ from the system's.
pub(super) fn filesystem_clock_ns(folder: &Path) -> Result<i64, IoError> {
    let probe = folder.join("clock");
    drop(atomic::create_private(&probe)?);
    let meta = probe.symlink_metadata().at("look at", &probe)?;
    tree::remove(&probe)?;
    Ok(modified_ns(&meta))
}

/// Returns the mtime in nanoseconds. Programs can set it.
pub(super) fn modified_ns(meta: &Metadata) -> i64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        nanoseconds(meta.mtime(), meta.mtime_nsec())
    }
    #[cfg(not(unix))]
    {
        since_1970(meta.modified())
    }
}

/// Returns the ctime in nanoseconds: the last change of content, metadata or name. Elsewhere than
/// on Unix, the later of mtime and birth time.
pub(super) fn changed_ns(meta: &Metadata) -> i64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        nanoseconds(meta.ctime(), meta.ctime_nsec())
    }
    #[cfg(not(unix))]
    {
        since_1970(meta.modified()).max(since_1970(meta.created()))
    }
}

#[cfg(unix)]
fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

#[cfg(not(unix))]
fn since_1970(at: std::io::Result<std::time::SystemTime>) -> i64 {
    let since_ns = at
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    since_ns.map_or(0, |since_ns| {
        i64::try_from(since_ns.as_nanos()).unwrap_or(i64::MAX)
    })
}

/// Returns true if the file was written after `since_ns`. Needs both times, because a program can
/// set an mtime in the future.
pub(super) fn is_written_since(meta: &Metadata, since_ns: i64) -> bool {
    modified_ns(meta) > since_ns && changed_ns(meta) > since_ns
}
