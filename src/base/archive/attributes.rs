//! Modes and modification times of staged files and folders.

use crate::io::disk_clock::modified_ns;
use crate::io::{IoContext, IoError, beneath, modes, user};
use std::path::Path;
use std::{fs, io};

/// Copies the permission bits and the modification time of a file or folder. Ignores the mode on a disk that keeps no
/// modes.
pub fn copy_attributes(from: &Path, to: &Path) -> Result<(), IoError> {
    let meta = from.metadata().at("read", from)?;
    set_permissions(to, meta.permissions())?;
    set_modified(to, modified_ns(&meta))
}

/// Sets the permission bits and the modification time of a file or folder. Ignores the mode on Windows and on a
/// disk that keeps no modes.
pub fn set_attributes(path: &Path, mode: u32, mtime_ns: i64) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        set_permissions(path, fs::Permissions::from_mode(mode & 0o777))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    set_modified(path, mtime_ns)
}

fn set_permissions(path: &Path, permissions: fs::Permissions) -> Result<(), IoError> {
    let result = resolve_for_mode(path).and_then(|path| fs::set_permissions(path, permissions));
    modes::ignore_refusal(result).at("set the mode of", path)
}

/// The user of a staging folder must not have root change the mode of another file.
fn resolve_for_mode(path: &Path) -> io::Result<beneath::ResolvedPath<'_>> {
    if user::is_root() {
        beneath::resolve_entry(path)
    } else {
        beneath::resolve(path)
    }
}

fn set_modified(path: &Path, mtime_ns: i64) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

        // By name, not by descriptor: the mode may forbid opening the file.
        let times = Timestamps {
            // The access time stays: nothing has read the file.
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            // A time before 1970 with a fraction belongs to the second that begins before it.
            last_modification: Timespec {
                tv_sec: mtime_ns.div_euclid(1_000_000_000),
                tv_nsec: mtime_ns.rem_euclid(1_000_000_000),
            },
        };

        beneath::resolve(path)
            .and_then(|path| Ok(utimensat(CWD, &*path, &times, AtFlags::empty())?))
            .at("set the time of", path)
    }

    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;
        use std::time::{Duration, UNIX_EPOCH};

        /// Granted for read-only files too.
        const FILE_WRITE_ATTRIBUTES: u32 = 0x100;
        /// Needed to open a folder.
        const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;

        let offset_from_epoch = Duration::from_nanos(mtime_ns.unsigned_abs());
        let modified = if mtime_ns >= 0 {
            UNIX_EPOCH + offset_from_epoch
        } else {
            UNIX_EPOCH - offset_from_epoch
        };

        fs::OpenOptions::new()
            .access_mode(FILE_WRITE_ATTRIBUTES)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)
            .and_then(|f| f.set_times(fs::FileTimes::new().set_modified(modified)))
            .at("set the time of", path)
    }
}
