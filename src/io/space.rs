//! Free space and the kind of disks.

use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// A disk has less free space than an operation needs. Checked before anything is written.
#[derive(Debug, thiserror::Error)]
#[error("not enough disk space ({needed_bytes} bytes are needed, {free_bytes} are free): {}", folder.display())]
pub struct NoSpace {
    /// A folder on the full disk.
    pub folder: PathBuf,
    pub needed_bytes: u64,
    pub free_bytes: u64,
}

/// Fails if `free_bytes`, the free space on the disk of `folder`, is known and less than `needed_bytes`.
pub(crate) fn require(
    folder: &Path,
    needed_bytes: u64,
    free_bytes: Option<u64>,
) -> Result<(), NoSpace> {
    match free_bytes.filter(|free| *free < needed_bytes) {
        None => Ok(()),
        Some(free_bytes) => Err(NoSpace {
            folder: folder.to_path_buf(),
            needed_bytes,
            free_bytes,
        }),
    }
}

/// Returns the free space in bytes for an ordinary user on the disk of `path`; `None` if the system
/// does not report it.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(target_vendor = "apple")]
    {
        // statvfs counts blocks with 32 bits there: a disk of more than 16 TB would look full.
        let stat = rustix::fs::statfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_bsize.into()))
    }
    #[cfg(all(unix, not(target_vendor = "apple")))]
    {
        let stat = rustix::fs::statvfs(path).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(windows)]
    {
        fs4::available_space(path).ok()
    }
}

/// Returns the disk space of a file in bytes: without holes, and compressed if its disk compresses. At
/// most its size.
pub(crate) fn stored_bytes(meta: &Metadata) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // `st_blocks` counts 512-byte units on every disk.
        meta.len().min(meta.blocks().saturating_mul(512))
    }
    #[cfg(not(unix))]
    {
        meta.len()
    }
}

/// Returns the network file system that `path` is on; `None` for a local disk, or if the system does not
/// report it.
pub(crate) fn network_kind(path: &Path) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the numbers of linux/magic.h have 32 bits, whatever the type"
        )]
        let magic = rustix::fs::statfs(path).ok()?.f_type as u32;
        match magic {
            0x6969 => Some("NFS"),
            0x517b | 0xff53_4d42 | 0xfe53_4d42 => Some("SMB"),
            0x5346_414f => Some("AFS"),
            0x00c3_6400 => Some("Ceph"),
            0x0102_1997 => Some("9P"),
            // FUSE also has local disks, such as NTFS, but the kernel does not tell which.
            0x6573_5546 => Some("FUSE"),
            _ => None,
        }
    }
    #[cfg(target_vendor = "apple")]
    {
        let name = rustix::fs::statfs(path).ok()?.f_fstypename;
        #[allow(clippy::cast_sign_loss, reason = "the bytes of a C string")]
        let name: Vec<u8> = name.iter().map(|c| *c as u8).collect();
        network_kind_of_name(name.split(|byte| *byte == 0).next()?)
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = path;
        None
    }
}

/// Returns the network file system of this name in statfs(2) of macOS.
#[cfg(any(test, target_vendor = "apple"))]
fn network_kind_of_name(name: &[u8]) -> Option<&'static str> {
    match name {
        b"nfs" => Some("NFS"),
        b"smbfs" => Some("SMB"),
        b"afpfs" => Some("AFP"),
        b"webdav" => Some("WebDAV"),
        b"macfuse" | b"osxfuse" => Some("FUSE"),
        _ => None,
    }
}

/// Returns the type of the file system of the existing `path` from the list of mounts; `None` on other systems than
/// Linux.
pub(crate) fn disk_kind(path: &Path) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let dev = path.metadata().ok()?.dev();
        let wanted = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let mounts = super::file_open::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().find_map(|line| {
            let (mount, disk) = line.split_once(" - ")?;
            let is_here = mount.split(' ').nth(2) == Some(&wanted);
            is_here.then(|| disk.split(' ').next().unwrap_or_default().to_owned())
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        None
    }
}

/// Returns true if `folder` is on an overlay file system.
pub(crate) fn is_overlay(folder: &Path) -> bool {
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

/// Returns the id of the file system of an existing path; `None` where the system reports none. The id
/// is valid until the next restart.
pub(crate) fn read_disk_id(path: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some(path.metadata().ok()?.dev())
    }
    #[cfg(windows)]
    {
        let handle = winapi_util::Handle::from_path_any(path).ok()?;
        let found = winapi_util::file::information(handle).ok()?;
        Some(found.volume_serial_number())
    }
}

/// Returns true if two existing paths are on one file system.
pub(crate) fn is_same_file_system(a: &Path, b: &Path) -> bool {
    matches!((read_disk_id(a), read_disk_id(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_free_space_on_the_disk_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"text").unwrap();
        assert!(free_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
        assert!(is_same_file_system(folder.path(), &file));
        assert!(!is_same_file_system(
            folder.path(),
            &folder.path().join("missing")
        ));
    }

    #[test]
    fn network_kind_of_name_recognizes_network_file_systems() {
        assert_eq!(network_kind_of_name(b"smbfs"), Some("SMB"));
        assert_eq!(network_kind_of_name(b"apfs"), None);
        assert_eq!(network_kind_of_name(b"smbfs2"), None);
    }
}
