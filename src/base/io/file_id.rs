//! The identity of a file, which survives a rename and a reboot.

use super::atomic;
use super::io_error::{IoContext, IoError};
use super::ordinary_path::OrdinaryPath;
use serde::{Deserialize, Serialize};
use std::fs::{DirEntry, Metadata};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Identifies a file, folder or link among those that exist on one file system at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// The serial number of the volume on Windows. `None` on other systems, where the number of a
    /// file system may change with a reboot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    volume: Option<u64>,
    /// The inode, or the file index on Windows.
    ino: u64,
    /// The creation time in nanoseconds since 1970, on systems where it never changes. Some file
    /// systems reuse inode numbers at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    born: Option<i64>,
}

impl FileId {
    /// Reads the identity of the file or link at `path`, to recognize it later; `None` if nothing is there.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub fn read(path: &Path) -> Result<Option<Self>, IoError> {
        let Some((id, _)) = stat(path)? else {
            return Ok(None);
        };
        // On an overlay, a file moved out of a lower layer is copied: it keeps its inode number, but has a new birth
        // time.
        let parent = atomic::parent_of(path);
        let born = if is_overlay(parent) { None } else { id.born };
        Ok(Some(Self { born, ..id }))
    }

    /// Creates the identity of a file of which only the inode number was recorded.
    pub fn from_inode(ino: u64) -> Self {
        Self {
            volume: None,
            ino,
            born: None,
        }
    }

    /// Returns true if both identities are of the same file. Birth times are compared only if both have one.
    pub fn is_same(self, other: Self) -> bool {
        self.ino == other.ino
            && self.volume == other.volume
            && self.born.zip(other.born).is_none_or(|(a, b)| a == b)
    }
}

/// Reads the identity and metadata of the file at `path`; `None` if there is no file. Does not follow a link.
///
/// # Errors
/// The metadata cannot be read.
pub fn stat(path: &Path) -> Result<Option<(FileId, Metadata)>, IoError> {
    let meta = path.symlink_metadata();
    match meta.and_then(|meta| Ok((read_id(path, &meta)?, meta))) {
        Ok(id_and_meta) => Ok(Some(id_and_meta)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e).at("inspect", path),
    }
}

/// Like [`stat`], for a directory entry. On Linux the system need not resolve the path.
pub(crate) fn stat_entry(entry: &DirEntry) -> std::io::Result<(FileId, Metadata)> {
    let meta = entry.metadata()?;
    // Only Windows needs the path.
    let path = if cfg!(windows) {
        entry.path()
    } else {
        PathBuf::new()
    };
    Ok((read_id(&path, &meta)?, meta))
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
fn read_id(_path: &Path, meta: &Metadata) -> std::io::Result<FileId> {
    use std::os::unix::fs::MetadataExt;
    // On other systems, programs can set this time, or it changes with the file.
    let is_fixed = cfg!(target_os = "linux");
    let creation_time = if is_fixed { meta.created().ok() } else { None };
    Ok(FileId {
        volume: None,
        ino: meta.ino(),
        born: creation_time
            .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
            .and_then(|since| i64::try_from(since.as_nanos()).ok()),
    })
}

#[cfg(windows)]
fn read_id(path: &Path, _meta: &Metadata) -> std::io::Result<FileId> {
    let info = read_information(path, FILE_FLAG_OPEN_REPARSE_POINT)?;
    // No creation time: Windows gives a new file the creation time of a file that had the same name moments before.
    Ok(FileId {
        volume: Some(info.volume_serial_number()),
        ino: info.file_index(),
        born: None,
    })
}

/// Returns the numbers of the device and of the file or folder, which are valid until the next
/// restart; `None` if they cannot be read. Follows links.
pub fn read_device_and_inode(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        path.metadata().ok().map(|meta| (meta.dev(), meta.ino()))
    }
    #[cfg(windows)]
    {
        let info = read_information(path, 0).ok()?;
        Some((info.volume_serial_number(), info.file_index()))
    }
}

pub fn is_overlay(folder: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        /// From the kernel's `magic.h`.
        const OVERLAYFS_SUPER_MAGIC: u64 = 0x794c_7630;

        rustix::fs::statfs(folder)
            .is_ok_and(|s| u64::try_from(s.f_type).is_ok_and(|kind| kind == OVERLAYFS_SUPER_MAGIC))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        false
    }
}

/// Opens a link itself instead of its target.
#[cfg(windows)]
const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;

/// Opens the file or folder with additional `flags` and reads its numbers.
#[cfg(windows)]
fn read_information(path: &Path, flags: u32) -> std::io::Result<winapi_util::file::Information> {
    use std::fs::OpenOptions;
    use std::os::windows::fs::OpenOptionsExt;
    use winapi_util::file;
    /// Needed to open a folder.
    const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
    let mut options = OpenOptions::new();
    // No access rights, so that files that others have open or protect can be identified.
    options.access_mode(0);
    options.custom_flags(FILE_FLAG_BACKUP_SEMANTICS | flags);
    file::information(&options.open(path)?)
}

pub fn is_same_folder(first: &Path, second: &Path) -> bool {
    let real_path = |path: &Path| path.canonical().ok();
    first == second || real_path(first).is_some_and(|first| real_path(second) == Some(first))
}

/// Returns true if the regular file at `path` has more than one hard link. Follows a symbolic link. Always false on
/// Windows, where the standard library does not count links.
pub fn has_second_link(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // The link count of a folder grows with its subfolders.
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.nlink() > 1)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_id_survives_a_rename_and_differs_for_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let is_noted = |noted: FileId, name: &str| {
            let found = stat(&at(name)).unwrap();
            found.is_some_and(|(id, _)| noted.is_same(id))
        };
        atomic::write(&at("a"), b"one").unwrap();
        let one = FileId::read(&at("a")).unwrap().unwrap();
        fs::hard_link(at("a"), at("second")).unwrap();
        atomic::rename(&at("a"), &at("b")).unwrap();
        assert!(is_noted(one, "b"));
        assert!(is_noted(one, "second"));
        assert!(!is_noted(one, "a"));
        assert_eq!(FileId::read(&at("a")).unwrap(), None);
        // A new file at the same name may have the times of the first.
        atomic::write(&at("a"), b"two").unwrap();
        assert!(!is_noted(one, "a"));
        fs::create_dir(at("folder")).unwrap();
        let within = FileId::read(&at("folder")).unwrap().unwrap();
        assert!(!is_noted(within, ""));
        assert!(is_noted(within, "folder"));
    }

    #[test]
    fn hard_links_have_one_inode_and_two_spellings_of_a_path_are_the_same_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        atomic::write(&at("a"), b"two").unwrap();
        atomic::write(&at("b"), b"one").unwrap();
        fs::hard_link(at("b"), at("second")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        assert_eq!(
            read_device_and_inode(&at("b")),
            read_device_and_inode(&at("second"))
        );
        assert_ne!(
            read_device_and_inode(&at("a")),
            read_device_and_inode(&at("b"))
        );
        assert_eq!(read_device_and_inode(&at("none")), None);
        let other_spelling = at("folder").join("../folder");
        assert!(is_same_folder(&at("folder"), &other_spelling));
        assert!(!is_same_folder(&at("folder"), folder.path()));
    }
}
