//! Probes the file systems that a restore works on: mount points, letter case, and the exchange of folders.

#[cfg(target_os = "linux")]
use crate::io::file_open;
use crate::io::{IoContext, IoError, atomic, exchange, space, tree};
use std::path::{Path, PathBuf};

/// Returns true if the whole home can be exchanged in one system call: the home is on the file system of `beside`,
/// contains no mount points, and the system supports the call. Also returns true if there is no home yet.
pub(crate) fn can_exchange_whole_home(home: &Path, beside: &Path) -> Result<bool, IoError> {
    if !home.exists() {
        return Ok(true);
    }
    Ok(space::is_same_file_system(home, beside)
        && list_mounts(home)?.is_empty()
        && exchange::is_supported(beside).at("probe", beside)?)
}

/// Returns true if `folder` ignores letter case. Creates and removes a file to find out: the system has no call for
/// this, and folders of one disk may differ.
pub(crate) fn probe_ignores_case(folder: &Path) -> Result<bool, IoError> {
    let probe = folder.join("case-probe");
    drop(atomic::create_private(&probe)?);
    let ignores = folder.join("CASE-PROBE").symlink_metadata().is_ok();
    tree::remove(&probe)?;
    Ok(ignores)
}

/// The index of the mount point among the fields of a line of `/proc/self/mountinfo`.
#[cfg(target_os = "linux")]
const MOUNT_POINT_FIELD: usize = 4;

/// Returns the mount points at and below `folder`. The path of `folder` must have no symbolic links. An exchange or a
/// removal of a folder that contains a mount point would reach into another file system.
///
/// # Errors
/// The list of mounts cannot be read. The caller must then not remove or exchange anything.
#[cfg(target_os = "linux")]
pub fn list_mounts(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    // A bind mount has the device number of its parent, so only the list of mounts shows it.
    let list_path = Path::new("/proc/self/mountinfo");
    let mounts = file_open::read(list_path).at("read the list of mounts", list_path)?;
    Ok(mounts
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b' ').nth(MOUNT_POINT_FIELD))
        .map(|escaped| PathBuf::from(OsString::from_vec(unescape_octal(escaped))))
        .filter(|mount| mount.starts_with(folder))
        .collect())
}

/// Decodes the octal escapes of the list of mounts: a backslash and three digits, such as `\040` for a space.
#[cfg(target_os = "linux")]
fn unescape_octal(mut escaped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(escaped.len());
    while let [first, rest @ ..] = escaped {
        let digits = escaped.strip_prefix(b"\\").and_then(|s| s.get(..3));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(decoded.unwrap_or(*first));
        escaped = if decoded.is_some() { &rest[3..] } else { rest };
    }
    plain
}

#[cfg(not(target_os = "linux"))]
pub fn list_mounts(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    // On Windows, a mounted volume is a link.
    if cfg!(windows) || !folder.exists() {
        return Ok(Vec::new());
    }
    find_mounts_by_device(folder, &space::is_same_file_system)
}

/// Finds the folders on another file system than their parent, for systems without a list of mounts in a file.
#[cfg(any(test, not(target_os = "linux")))]
fn find_mounts_by_device(
    folder: &Path,
    is_same_device: &dyn Fn(&Path, &Path) -> bool,
) -> Result<Vec<PathBuf>, IoError> {
    let mut mounts = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !is_same_device(&folder, atomic::parent_of(&folder)) {
            mounts.push(folder.clone());
        }

        let entries = match tree::list(&folder) {
            // Nothing in it is exchanged or removed.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => continue,
            entries => entries.at("list", &folder)?,
        };
        let below = entries.into_iter().filter(|(_, kind)| kind.is_dir());
        folders.extend(below.map(|(name, _)| folder.join(name)));
    }

    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_on_another_device_than_the_one_above_is_a_mount() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("home/skills/disk/inner")).unwrap();
        std::fs::write(at("home/skills/file"), "text").unwrap();
        let device = |path: &Path| path.starts_with(at("home/skills/disk"));
        let is_same = |a: &Path, b: &Path| device(a) == device(b);
        let mounts = |path: &str| find_mounts_by_device(&at(path), &is_same).unwrap();
        assert_eq!(mounts("home"), [at("home/skills/disk")]);
        assert_eq!(mounts("home/skills/disk"), [at("home/skills/disk")]);
        assert_eq!(mounts("home/skills/disk/inner"), [""; 0].map(PathBuf::from));
    }
}
