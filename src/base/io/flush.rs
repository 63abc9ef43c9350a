//! Flushes open files to the disk.

use std::fs::File;
use std::io;

/// Makes the content and the attributes of `file` durable.
#[allow(clippy::disallowed_methods, reason = "the flush itself")]
pub fn sync_all(file: &File) -> io::Result<()> {
    fall_back_to_fsync(file, file.sync_all())
}

/// Makes the content of `file` durable, and only those attributes that are needed to read it (`fdatasync`).
#[allow(clippy::disallowed_methods, reason = "the flush itself")]
pub(crate) fn sync_data(file: &File) -> io::Result<()> {
    fall_back_to_fsync(file, file.sync_data())
}

/// Makes the names in a folder durable. Succeeds without effect on a disk that cannot flush folders, such as some
/// network disks.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &File) -> io::Result<()> {
    match sync_all(folder) {
        Err(e) if is_unsupported(&e) => Ok(()),
        flushed => flushed,
    }
}

/// Calls fsync(2) if the disk refused the call with the result `sync_result`. On macOS the standard library also asks
/// the drive to empty its cache (`F_FULLFSYNC`), which SMB and exFAT refuse.
fn fall_back_to_fsync(file: &File, sync_result: io::Result<()>) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    if sync_result.as_ref().is_err_and(is_unsupported) {
        return Ok(rustix::fs::fsync(file)?);
    }
    let _ = file;
    sync_result
}

/// Returns true if the disk does not support a flush, and false if it failed to write.
#[cfg(unix)]
fn is_unsupported(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    errno.is_some_and(|errno| super::exchange::is_unsupported(errno) || errno == Errno::NOTTY)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn is_unsupported_is_false_for_write_errors() {
        for (errno, expected) in [
            (Errno::NOTSUP, true),
            (Errno::NOTTY, true),
            (Errno::IO, false),
            (Errno::NOSPC, false),
        ] {
            assert_eq!(is_unsupported(&errno.into()), expected, "{errno}");
        }
    }
}
