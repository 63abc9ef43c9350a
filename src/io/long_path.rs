//! Files with paths longer than the system accepts in one call.
//!
//! A file in a Codex home may have the longest possible path; in the staging folder beside the home
//! its path is longer still. On Linux such a file is accessed relative to an open folder. Other
//! systems get the full path and report that it is too long.

use std::io;
use std::path::Path;

/// The longest path that Linux accepts in bytes (`PATH_MAX` without the terminating NUL).
#[cfg(target_os = "linux")]
const MOST_BYTES: usize = 4095;

/// Returns true if the path is too long for one system call.
pub(crate) fn is_far(path: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        path.as_os_str().len() > MOST_BYTES
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// Calls `act` with a path that the system accepts in place of `path`. That path is valid only
/// during the call.
///
/// # Errors
/// That of `act`; a folder on the way cannot be opened.
pub fn with<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    #[cfg(target_os = "linux")]
    if is_far(path)
        && let (Some(folder), Some(name)) = (path.parent(), path.file_name())
    {
        use std::os::fd::AsRawFd;
        let folder = linux::open(folder)?;
        let near = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        return act(&near.join(name));
    }
    act(path)
}

/// Like [`with`], for two paths.
///
/// # Errors
/// Those of [`with`].
pub(crate) fn with_both<T>(
    one: &Path,
    other: &Path,
    act: impl FnOnce(&Path, &Path) -> io::Result<T>,
) -> io::Result<T> {
    with(one, |one| with(other, |other| act(one, other)))
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::io;
    use std::os::fd::OwnedFd;
    use std::path::{Path, PathBuf};

    /// The length in bytes of the path segment that is opened per system call.
    const PART_BYTES: usize = 2048;

    /// Opens a folder, part by part of its path.
    pub(super) fn open(folder: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut parts = folder.components().peekable();
        let mut reached: Option<OwnedFd> = None;
        let mut part = PathBuf::new();
        while let Some(name) = parts.next() {
            part.push(name);
            if part.as_os_str().len() < PART_BYTES && parts.peek().is_some() {
                continue;
            }
            reached = Some(match &reached {
                None => openat(CWD, &part, flags, Mode::empty())?,
                Some(above) => openat(above, &part, flags, Mode::empty())?,
            });
            part.clear();
        }
        reached.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}
