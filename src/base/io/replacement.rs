//! Checks that a rename can replace the file at a path. A folder that is writable does not prove it.

use super::{atomic, user};
use std::fs::Metadata;
use std::path::Path;

/// The reason why no rename can replace a file, as the predicate of a sentence about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Irreplaceable {
    #[error("is a mount point")]
    MountPoint,
    #[error("is immutable or append-only")]
    Protected,
    #[error("is in a folder that is immutable or append-only")]
    FolderProtected,
    /// The folder has the sticky bit, as `/tmp` has.
    #[error("belongs to another user, in a folder where only the owner may replace a file")]
    OfOtherUser,
}

/// Checks that a rename can replace the file or link at `path`, as far as that depends on more than the permissions of
/// the folder. Does not follow a link. A path without a file has its folder checked.
///
/// # Errors
/// No rename can replace it.
pub(crate) fn check_replaceable(path: &Path) -> Result<(), Irreplaceable> {
    let folder = atomic::parent_of(path);
    let (flags, folder_flags) = (EntryFlags::read(path), EntryFlags::read(folder));
    if flags.is_mount_point {
        return Err(Irreplaceable::MountPoint);
    }
    if flags.is_protected {
        return Err(Irreplaceable::Protected);
    }
    if folder_flags.is_protected {
        return Err(Irreplaceable::FolderProtected);
    }
    match (path.symlink_metadata(), folder.metadata()) {
        (Ok(file), Ok(folder)) if is_kept_by_sticky_bit(&file, &folder) => {
            Err(Irreplaceable::OfOtherUser)
        }
        _ => Ok(()),
    }
}

/// Returns true if the file or folder at `path` is a mount point, as a container makes of a single file. Does not
/// follow a link. False if there is nothing.
pub fn is_mount_point(path: &Path) -> bool {
    EntryFlags::read(path).is_mount_point
}

/// Returns true if this process may read and write the regular file at `path`, or if nothing is there. Follows a link,
/// and writes nothing. Always true on Windows.
pub(crate) fn is_writable_file(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::Access;
        let is_writable = |path: &Path| {
            path.is_file() && rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).is_ok()
        };
        path.symlink_metadata().is_err() || is_writable(path)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        true
    }
}

fn is_kept_by_sticky_bit(file: &Metadata, folder: &Metadata) -> bool {
    #[cfg(unix)]
    let is_sticky = std::os::unix::fs::MetadataExt::mode(folder) & 0o1000 != 0;
    #[cfg(not(unix))]
    let is_sticky = false;
    let is_of_other = |meta| user::other_owner(meta).is_some();
    is_sticky && !user::is_root() && is_of_other(file) && is_of_other(folder)
}

/// The state of a file or folder beside its mode.
#[derive(Debug, Default)]
struct EntryFlags {
    is_mount_point: bool,
    is_protected: bool,
}

impl EntryFlags {
    #[cfg(target_os = "linux")]
    fn read(path: &Path) -> Self {
        use rustix::fs::{AtFlags, CWD, StatxAttributes as Attributes, StatxFlags, statx};

        let stat = |path| {
            statx(
                CWD,
                path,
                AtFlags::SYMLINK_NOFOLLOW,
                StatxFlags::BASIC_STATS,
            )
        };
        let Ok(found) = stat(path) else {
            return Self::default();
        };
        // A kernel before 5.8 does not tell mount points. On an overlay, files and folders differ by their device.
        let is_told = found.stx_attributes_mask.contains(Attributes::MOUNT_ROOT);
        let device = |stat: &rustix::fs::Statx| (stat.stx_dev_major, stat.stx_dev_minor);
        let folder = atomic::parent_of(path);
        let is_on_other_device =
            || stat(folder).is_ok_and(|folder| device(&folder) != device(&found));
        Self {
            is_mount_point: if is_told {
                found.stx_attributes.contains(Attributes::MOUNT_ROOT)
            } else {
                is_on_other_device() && !super::file_id::is_overlay(folder)
            },
            is_protected: found
                .stx_attributes
                .intersects(Attributes::IMMUTABLE | Attributes::APPEND),
        }
    }

    #[cfg(target_vendor = "apple")]
    fn read(path: &Path) -> Self {
        use std::os::macos::fs::MetadataExt;

        /// `UF_IMMUTABLE`, `UF_APPEND`, `SF_IMMUTABLE` and `SF_APPEND` of the system's `stat.h`.
        const PROTECTED: u32 = 0x0006_0006;

        let Ok(meta) = path.symlink_metadata() else {
            return Self::default();
        };
        let folder = atomic::parent_of(path).metadata();
        Self {
            is_mount_point: folder.is_ok_and(|folder| folder.st_dev() != meta.st_dev()),
            is_protected: meta.st_flags() & PROTECTED != 0,
        }
    }

    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    fn read(_path: &Path) -> Self {
        Self::default()
    }
}
