//! Exchanges two files or folders in one system call.

use std::io;
use std::path::Path;

/// Exchanges `a` and `b` atomically: at no moment is one of them missing.
///
/// Returns `ErrorKind::Unsupported` if the system or the file system cannot do this.
pub(crate) fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).map_err(|errno| {
            if errno == Errno::INVAL || errno == Errno::NOSYS || errno == Errno::NOTSUP {
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
