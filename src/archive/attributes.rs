//! Modes and modification times of staged files and folders.

use crate::io::{IoContext, IoError, beneath, modes};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Copies the permission bits and the modification time.
pub(crate) fn copy_attributes(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = from.metadata().at("read", from)?;
    set_permissions(to, meta.permissions())?;
    set_modified(to, meta.modified().at("read", from)?)
}

/// Sets the permission bits and the modification time.
pub(crate) fn set_attributes(path: &Path, mode: u32, mtime_ns: i64) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    let nanos = Duration::from_nanos(mtime_ns.unsigned_abs());
    let at = if mtime_ns >= 0 {
        UNIX_EPOCH + nanos
    } else {
        UNIX_EPOCH - nanos
    };
    set_modified(path, at)
}

fn set_permissions(path: &Path, permissions: fs::Permissions) -> Result<(), IoError> {
    let set = beneath::reach(path).and_then(|path| fs::set_permissions(path, permissions));
    modes::ignore_refusal(set).at("set the mode of", path)
}

fn set_modified(path: &Path, at: SystemTime) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
        // By name, not by descriptor: the mode may forbid opening the file.
        let (secs, nanos) = match at.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
            // A time before 1970 with a fraction belongs to the second that begins before it.
            Err(before) => match (
                before.duration().as_secs(),
                before.duration().subsec_nanos(),
            ) {
                (secs, 0) => (-secs.cast_signed(), 0),
                (secs, nanos) => (-secs.cast_signed() - 1, 1_000_000_000 - nanos),
            },
        };
        let time = Timespec {
            tv_sec: secs,
            tv_nsec: i64::from(nanos),
        };
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: time,
        };
        beneath::reach(path)
            .and_then(|path| Ok(utimensat(CWD, &*path, &times, AtFlags::empty())?))
            .at("set the time of", path)
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        /// Granted for read-only files too.
        const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
        /// Needed to open a folder.
        const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
        fs::OpenOptions::new()
            .access_mode(FILE_WRITE_ATTRIBUTES)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)
            .and_then(|f| f.set_times(fs::FileTimes::new().set_modified(at)))
            .at("set the time of", path)
    }
}
