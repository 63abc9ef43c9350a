//! Owners, access lists and attributes of new files. A command that root runs in the home of a user, as with `sudo` or
//! in a container, gives each new file and folder the owner of its folder, so that the user can still use it. What
//! replaces an entry keeps the owner, the group, the access lists and the attributes of that entry.

use super::events;
use super::user::is_root;
use std::fs::File;
#[cfg(unix)]
use std::fs::Metadata;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Gives the new entry `created` the owner and the group of `model`, and on Linux its access lists and the attributes of
/// the user (`user.*`). A missing `model` changes nothing. Returns false if the system refuses any of them.
pub(crate) fn copy_access(model: &Path, created: &Path) -> bool {
    let is_owner_kept = copy_owner(model, created);
    let is_kept = copy_attributes(model, created) && is_owner_kept;
    copy_setgid(model, created);
    is_kept
}

/// Like [`copy_access`], with a warning in the log instead of a result.
pub fn copy_access_or_warn(model: &Path, created: &Path) {
    if !copy_access(model, created) {
        events::warn!(
            "cannot keep the owner or the access list of {}",
            model.display()
        );
    }
}

/// Gives the new entry `created` the owner and the group of `model`. Returns false if the system refuses either.
pub(crate) fn copy_owner(model: &Path, created: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::{AtFlags, CWD, Gid, Uid, chownat};
        use std::os::unix::fs::MetadataExt;

        let (Ok(model), Ok(meta)) = (model.symlink_metadata(), created.symlink_metadata()) else {
            return true;
        };
        if (model.uid(), model.gid()) == (meta.uid(), meta.gid()) {
            return true;
        }
        let Ok(path) = super::beneath::resolve(created) else {
            return false;
        };
        let group = Some(Gid::from_raw(model.gid()));
        let change = |owner| chownat(CWD, &*path, owner, group, AtFlags::SYMLINK_NOFOLLOW);
        // Users may give their files to their groups, but to no other user.
        let result = change(Some(Uid::from_raw(model.uid())));
        if result.is_err() {
            let _ = change(None);
        }
        result.is_ok()
    }
    #[cfg(not(unix))]
    {
        let _ = (model, created);
        true
    }
}

/// Gives the new file or folder `created` the access lists of `model` and the attributes that the user gave it. Returns
/// false if the system refuses any of them. Does nothing except on Linux.
pub(crate) fn copy_attributes(model: &Path, created: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        linux::copy_attributes(model, created)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (model, created);
        true
    }
}

/// Gives the new entry `created` the owner and the group of `folder`, and the access lists that the folder gives to new
/// entries, as if it had been created there. Does what the system permits.
pub(crate) fn inherit_access(folder: &Path, created: &Path) {
    copy_owner(folder, created);
    #[cfg(target_os = "linux")]
    linux::inherit_access_list(folder, created);
    copy_setgid(folder, created);
}

/// Gives the new folder `created` the bit of `model` by which new files have the group of their folder.
fn copy_setgid(model: &Path, created: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        const SETGID: u32 = 0o2000;

        let read_folder = |path: &Path| path.symlink_metadata().ok().filter(Metadata::is_dir);
        if let (Some(model), Some(meta)) = (read_folder(model), read_folder(created))
            && let mode = meta.permissions().mode()
            && model.permissions().mode() & SETGID & !mode != 0
            && let Ok(entry) = super::beneath::resolve_entry(created)
        {
            let _ = std::fs::set_permissions(&entry, PermissionsExt::from_mode(mode | SETGID));
        }
    }
    #[cfg(not(unix))]
    let _ = (model, created);
}

/// Removes the access lists that the new folder `folder` got from the folder above it, so that nothing in it gets them.
pub(crate) fn remove_access_lists(folder: &Path) {
    #[cfg(target_os = "linux")]
    linux::remove_access_lists(folder);
    #[cfg(not(target_os = "linux"))]
    let _ = folder;
}

/// Access lists and extended attributes, which other systems keep in other ways.
#[cfg(target_os = "linux")]
mod linux {
    use crate::io::{beneath, modes};
    use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, setxattr};
    use std::ffi::CStr;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    const ACCESS_LIST: &CStr = c"system.posix_acl_access";
    const LIST_OF_NEW_ENTRIES: &CStr = c"system.posix_acl_default";

    /// The kernel's limit for a value, and for all names of a file.
    const MAX_BYTES: usize = 65_536;

    fn read_whole(
        read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<Vec<u8>> {
        let mut bytes = vec![0; MAX_BYTES];
        let len = read(&mut bytes)?;
        bytes.truncate(len);
        Ok(bytes)
    }

    fn read(path: &Path, name: &CStr) -> rustix::io::Result<Vec<u8>> {
        read_whole(|bytes| lgetxattr(path, name, bytes))
    }

    /// `entry` is from [`beneath::resolve_entry`].
    fn write(entry: &Path, name: &CStr, value: &[u8]) -> bool {
        setxattr(entry, name, value, XattrFlags::empty()).is_ok()
    }

    pub(super) fn remove_access_lists(folder: &Path) {
        for name in [ACCESS_LIST, LIST_OF_NEW_ENTRIES] {
            // Most folders have none.
            let _ = lremovexattr(folder, name);
        }
    }

    pub(super) fn copy_attributes(model: &Path, created: &Path) -> bool {
        let Ok(names) = read_whole(|bytes| llistxattr(model, bytes)) else {
            return true;
        };
        let Ok(meta) = created.symlink_metadata() else {
            return true;
        };
        let is_copied = |name: &&CStr| {
            name.to_bytes().starts_with(b"user.")
                || *name == ACCESS_LIST
                || (*name == LIST_OF_NEW_ENTRIES && meta.is_dir())
        };
        let names = names.split_inclusive(|byte| *byte == 0);
        let names = names.filter_map(|name| CStr::from_bytes_with_nul(name).ok());
        let mut copied = names.filter(is_copied).peekable();
        // Most files have none, and links cannot have any.
        if copied.peek().is_none() || meta.is_symlink() {
            return true;
        }
        let Ok(entry) = beneath::resolve_entry(created) else {
            return false;
        };
        // All are tried.
        let is_lost =
            |name: &&CStr| !read(model, name).is_ok_and(|value| write(&entry, name, &value));
        copied.filter(is_lost).count() == 0
    }

    pub(super) fn inherit_access_list(folder: &Path, created: &Path) {
        let (Ok(list), Ok(meta)) = (
            read(folder, LIST_OF_NEW_ENTRIES),
            created.symlink_metadata(),
        ) else {
            return;
        };
        let Ok(entry) = beneath::resolve_entry(created) else {
            return;
        };
        if meta.is_symlink() || !write(&entry, ACCESS_LIST, &list) {
            return;
        }
        if meta.is_dir() {
            write(&entry, LIST_OF_NEW_ENTRIES, &list);
        }
        // As at a creation, the list gives no more than the mode of the entry.
        let of_list = created
            .symlink_metadata()
            .map_or(0, |meta| modes::mode_of(&meta));
        let mode = modes::mode_of(&meta) & of_list;
        let _ = fs::set_permissions(&entry, Permissions::from_mode(mode));
    }
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
