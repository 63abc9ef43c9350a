//! Owners of new files. A command that root runs in the home of a user, as with `sudo` or in a container, gives each
//! new file and folder the owner of its folder, so that the user can still use it.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Held while any folder is created and gets its owner. Otherwise another thread that unpacks the same archive could
/// create entries in the folder too early, and they would belong to root. One lock serves all folders.
static NEW_FOLDERS: Mutex<()> = Mutex::new(());

fn lock_folder_creation() -> MutexGuard<'static, ()> {
    NEW_FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the file that this process has just created at `path` the owner of its folder. Does nothing if this process is
/// not root, if the folder belongs to root, or if the system refuses it, as in a container.
pub(crate) fn inherit_owner(created: &File, path: &Path) {
    if is_root() {
        let _guard = lock_folder_creation();
        inherit_owner_locked(created, path);
    }
}

/// Same as [`inherit_owner`], for a caller that runs as root and holds the lock.
fn inherit_owner_locked(created: &File, path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        if let Some(Ok(folder)) = path.parent().map(Path::metadata)
            && folder.uid() != 0
        {
            let _ = fchown(created, Some(folder.uid()), Some(folder.gid()));
        }
    }
    #[cfg(not(unix))]
    let _ = (created, path);
}

/// Creates the folder `path` by `create`, with the owner of the folder above it.
pub(crate) fn create_folder_with_owner(
    path: &Path,
    create: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    if !is_root() {
        return create();
    }
    let _guard = lock_folder_creation();
    create()?;
    inherit_folder_owner_locked(path);
    Ok(())
}

/// Like [`inherit_owner`], for a new folder.
pub(crate) fn inherit_folder_owner(path: &Path) {
    if is_root() {
        let _guard = lock_folder_creation();
        inherit_folder_owner_locked(path);
    }
}

/// Same as [`inherit_folder_owner`], for a caller that runs as root and holds the lock.
fn inherit_folder_owner_locked(path: &Path) {
    #[cfg(unix)]
    {
        use rustix::fs::{Mode, OFlags, open};

        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let created =
            super::beneath::resolve(path).and_then(|path| Ok(open(&*path, flags, Mode::empty())?));
        if let Ok(created) = created {
            inherit_owner_locked(&created.into(), path);
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Creates the file `path` (0600) with the owner of its folder, if this process runs as root and the name is free. Call
/// it before opening the file for creation: a later change of the owner could affect a file that another user has
/// linked there.
///
/// # Errors
/// Those of [`super::beneath::resolve`].
pub(crate) fn create_file_if_missing(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if is_root() && path.symlink_metadata().is_err() {
        use std::os::unix::fs::OpenOptionsExt;

        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(0o600);

        // The open that follows reports what is wrong.
        if let Ok(file) = options.open(super::beneath::resolve(path)?) {
            inherit_owner(&file, path);
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
