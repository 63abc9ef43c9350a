//! Free space of disks, their file systems, and whether they can be written to.

use super::file_id;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// The error of an operation that needs more space than its disk has. Nothing was written yet.
#[derive(Debug, thiserror::Error)]
#[error("not enough disk space ({needed_bytes} bytes are needed, {free_bytes} are free): {}", folder.display())]
pub struct NoSpace {
    pub folder: PathBuf,
    pub needed_bytes: u64,
    pub free_bytes: u64,
}

/// Fails if the disk of `folder` reports less free space than `needed_bytes`.
pub fn require_free_space(folder: &Path, needed_bytes: u64) -> Result<(), NoSpace> {
    match free_bytes(folder).filter(|free| *free < needed_bytes) {
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
pub fn free_bytes(path: &Path) -> Option<u64> {
    #[cfg(target_vendor = "apple")]
    {
        // On macOS, statvfs counts blocks with 32 bits: a disk of more than 16 TB would look full.
        let stat = rustix::fs::statfs(path).ok()?;
        // Some file systems, such as ramfs, report no size at all.
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_bsize.into()))
    }
    #[cfg(all(unix, not(target_vendor = "apple")))]
    {
        let stat = rustix::fs::statvfs(path).ok()?;
        // Some file systems, such as ramfs, report no size at all.
        (stat.f_blocks > 0).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(windows)]
    {
        fs4::available_space(path).ok()
    }
}

/// Returns the number of files and folders that an ordinary user can still create on the disk of `path`; `None` if the
/// file system has no fixed number of inodes.
pub(crate) fn free_inodes(path: &Path) -> Option<u64> {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    let (total, free) = rustix::fs::statvfs(path)
        .map(|stat| (stat.f_files, stat.f_favail))
        .ok()?;
    // On macOS, statvfs counts inodes with 32 bits.
    #[cfg(target_vendor = "apple")]
    let (total, free) = rustix::fs::statfs(path)
        .map(|stat| (stat.f_files, stat.f_ffree))
        .ok()?;
    // Windows has no inodes.
    #[cfg(windows)]
    let (_, total, free) = (path, 0, 0);
    (total > 0).then_some(free)
}

/// Returns true if the permissions of a folder and its disk allow this process to create files in it. Writes nothing.
/// Always true on Windows.
pub fn is_writable(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::Access;
        rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        true
    }
}

/// Returns the disk space that a file uses, in bytes, but at most its size. It is less than the size if the file has
/// holes or the file system compresses it, but not on Windows.
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

/// Returns the name of the network file system that `path` is on, such as "NFS"; `None` for a local disk, or if the
/// system does not report it.
pub fn network_file_system(path: &Path) -> Option<&'static str> {
    name_network_file_system(&file_system_type(path)?)
}

/// Returns the name of the network file system for a type that Linux or macOS reports; `None` for a local one.
fn name_network_file_system(file_system_type: &str) -> Option<&'static str> {
    match file_system_type.split('.').next().unwrap_or_default() {
        "nfs" | "nfs4" => Some("NFS"),
        "cifs" | "smb3" | "smbfs" => Some("SMB"),
        "afs" => Some("AFS"),
        "afpfs" => Some("AFP"),
        "ceph" => Some("Ceph"),
        "9p" => Some("9P"),
        "webdav" => Some("WebDAV"),
        // FUSE also has local disks, such as NTFS.
        "fuse" | "fuseblk" | "macfuse" | "osxfuse" => Some("FUSE"),
        _ => None,
    }
}

/// Returns the type of the file system of the existing `path`: on Linux from the list of mounts. `None` on Windows.
pub fn file_system_type(path: &Path) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;

        let dev = path.metadata().ok()?.dev();
        let device = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let mounts = super::file_open::read_to_string("/proc/self/mountinfo").ok()?;

        mounts.lines().find_map(|line| {
            let (mount_fields, type_fields) = line.split_once(" - ")?;
            // The third field is the device.
            let is_match = mount_fields.split(' ').nth(2) == Some(&device);
            is_match.then(|| type_fields.split(' ').next().unwrap_or_default().to_owned())
        })
    }
    #[cfg(target_vendor = "apple")]
    {
        let name = rustix::fs::statfs(path).ok()?.f_fstypename;
        #[allow(clippy::cast_sign_loss, reason = "the bytes of a C string")]
        let bytes = name.iter().map(|c| *c as u8).take_while(|byte| *byte != 0);
        String::from_utf8(bytes.collect()).ok()
    }
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = path;
        None
    }
}

/// Returns true if two existing paths are on one file system.
pub fn is_same_file_system(a: &Path, b: &Path) -> bool {
    let device = |path| file_id::read_device_and_inode(path).map(|(device, _)| device);
    device(a).is_some_and(|device_of_a| device(b) == Some(device_of_a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_bytes_returns_the_free_space_of_the_disk_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).is_some_and(|bytes| bytes > 0));
    }

    #[test]
    fn a_file_is_on_the_same_file_system_as_its_folder_unless_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, b"text").unwrap();
        assert!(is_same_file_system(folder.path(), &file));
        assert!(!is_same_file_system(
            folder.path(),
            &folder.path().join("missing")
        ));
    }

    #[test]
    fn network_file_systems_are_recognized_by_their_type() {
        assert_eq!(name_network_file_system("smbfs"), Some("SMB"));
        assert_eq!(name_network_file_system("fuse.sshfs"), Some("FUSE"));
        for local in ["apfs", "smbfs2", "ext4", ""] {
            assert_eq!(name_network_file_system(local), None, "{local}");
        }
    }
}
