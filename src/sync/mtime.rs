//! Sets the mtimes of files.

use std::fs::File;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

/// Sets the modification time in nanoseconds since 1970.
pub(super) fn set_mtime(file: &File, ns: i64) -> io::Result<()> {
    let span = Duration::from_nanos(ns.unsigned_abs());
    file.set_modified(if ns >= 0 {
        UNIX_EPOCH + span
    } else {
        UNIX_EPOCH - span
    })
}
