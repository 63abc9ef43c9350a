//! The user of this process, and the links of other users that root follows.

use super::ordinary_path::OrdinaryPath;
use std::borrow::Cow;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Returns true if this process runs as root, which may give files to other users.
pub fn is_root() -> bool {
    #[cfg(unix)]
    {
        rustix::process::geteuid().is_root()
    }
    #[cfg(not(unix))]
    {
        false
    }
}

/// Returns the id of the user who owns a file, if that is not the user of this process. Under sudo, the files of the
/// calling user belong to another user. Always `None` on Windows.
pub fn other_owner(meta: &Metadata) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some(meta.uid()).filter(|owner| *owner != rustix::process::geteuid().as_raw())
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        None
    }
}

/// Returns the id of the user who owns the entry `path`, of a link the link itself. `None` if it cannot be examined, and
/// on Windows.
pub fn read_owner(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.symlink_metadata().ok().map(|meta| meta.uid())
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

/// Returns the path that an operation on `path` should use. For root, this is the target of a link with its links
/// resolved; else `path` itself.
///
/// # Errors
/// `path` is a link that root does not follow ([`check_link`]), or a broken one.
pub(crate) fn followed_path(path: &Path) -> io::Result<Cow<'_, Path>> {
    if !is_root() || !path.is_symlink() {
        return Ok(Cow::Borrowed(path));
    }
    let meta = path.symlink_metadata()?;
    let is_roots = other_owner(&meta).is_none();
    let target = match path.canonical() {
        // A file may be created behind it.
        Err(_) if is_roots => path.with_file_name("").join(path.read_link()?),
        target => target?,
    };
    if is_roots
        || target
            .symlink_metadata()
            .is_ok_and(|target| other_owner(&target) == other_owner(&meta))
    {
        return Ok(Cow::Owned(target));
    }
    let message =
        "root does not follow this link of a user, because its target is not of the same user";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Returns the path without links that an operation on `path` should use. Unlike a check followed by a second look at
/// the link, it gives root the target that was checked.
///
/// # Errors
/// Those of [`followed_path`], or `path` is missing or a broken link.
pub fn real_path(path: &Path) -> io::Result<PathBuf> {
    match followed_path(path)? {
        // Root creates files behind its own broken links.
        Cow::Owned(target) => target.symlink_metadata().map(|_| target),
        Cow::Borrowed(path) => path.canonical(),
    }
}

/// Fails if root must not follow the link `path`: it belongs to a user, and its target does not. The user could have
/// root read or replace files of others. Accepts a path that is missing or no link, and a link of root.
///
/// # Errors
/// Root must not follow the link ([`io::ErrorKind::PermissionDenied`]), or it is a broken one of a user.
pub fn check_link(path: &Path) -> io::Result<()> {
    followed_path(path).map(drop)
}

/// Adds the flag to `options` by which root does not follow a link that has just replaced the file to open.
pub(crate) fn without_late_links(options: &OpenOptions) -> OpenOptions {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "there is no root"))]
    let mut options = options.clone();
    #[cfg(unix)]
    if is_root() {
        use std::os::unix::fs::OpenOptionsExt;
        // Non-blocking, because this replaces the flags of the caller, and a pipe must not stop the program.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    options
}
