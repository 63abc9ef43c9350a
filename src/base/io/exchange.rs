//! Exchanges two files or folders in one system call.

use std::path::Path;
use std::{fs, io};

/// Returns true if `errno` means that the system or the file system does not have the call. On macOS two numbers mean
/// "not supported"; network disks answer either.
#[cfg(unix)]
pub(super) fn is_unsupported(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    let unsupported = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    unsupported.contains(&errno)
}

/// Exchanges `a` and `b` atomically: at no moment is one of them missing.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] if the system or the file system has no such call; another kind if a path is missing,
/// or the two are on different file systems.
pub(crate) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(test)]
    if tests::is_off() {
        return Err(io::ErrorKind::Unsupported.into());
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        let (a, b) = (super::beneath::resolve(a)?, super::beneath::resolve(b)?);
        renameat_with(CWD, &*a, CWD, &*b, RenameFlags::EXCHANGE).map_err(|errno| {
            if is_unsupported(errno) {
                io::Error::new(io::ErrorKind::Unsupported, errno)
            } else {
                errno.into()
            }
        })
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    {
        let _ = (a, b);
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}

/// Returns true if two entries of `folder` can be exchanged, which it tries with two empty folders. Returns false if
/// the system refuses the exchange or the creation of the folders.
///
/// # Errors
/// The probe failed for another reason.
pub fn is_supported(folder: &Path) -> io::Result<bool> {
    use io::ErrorKind::{PermissionDenied, Unsupported};

    let (a, b) = (folder.join("try-a"), folder.join("try-b"));
    // A killed process may have left the folders.
    let _ = (fs::remove_dir(&a), fs::remove_dir(&b));

    let probe = || {
        fs::create_dir(&a)?;
        fs::create_dir(&b)?;
        exchange(&a, &b)
    };
    let result = match probe() {
        Ok(()) => Ok(true),
        // Some sandboxes refuse the call.
        Err(e) if matches!(e.kind(), Unsupported | PermissionDenied) => Ok(false),
        Err(e) => Err(e),
    };

    let _ = (fs::remove_dir(&a), fs::remove_dir(&b));
    result
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        /// Makes this thread work as on a file system without a call for an exchange.
        pub(crate) static UNSUPPORTED: Cell<bool> = const { Cell::new(false) };
    }

    /// If this variable is set, the whole process works without an exchange call.
    pub(crate) const WITHOUT_EXCHANGE: &str = "CODEX_MANAGER_TESTS_WITHOUT_EXCHANGE";

    /// Returns true if no test of this process can exchange two paths in one call.
    pub(crate) fn is_always_off() -> bool {
        cfg!(windows) || std::env::var_os(WITHOUT_EXCHANGE).is_some()
    }

    pub(super) fn is_off() -> bool {
        UNSUPPORTED.get() || is_always_off()
    }
}
