//! File modes, and disks that store none: exFAT, FAT, NTFS, most SMB shares, the disks of Windows in WSL.

use super::io_error::IoError;
use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Returns true if files in `folder` can be restricted to their owner. Probes it with a temp file, because the mount
/// options decide and not the type of the file system. Always true on Windows, which has access lists.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn has_modes(folder: &Path) -> Result<bool, IoError> {
    #[cfg(unix)]
    {
        use super::io_error::IoContext;
        use std::os::unix::fs::MetadataExt;

        let file = create_probe_file(folder).at("create a file in", folder)?;
        let meta = file.metadata().at("inspect", folder)?;
        Ok(!is_open_to_others(meta.mode()))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(true)
    }
}

/// Creates an unnamed file in `folder`. If the disk supports it, the file never has a name, so a killed probe leaves
/// nothing.
#[cfg(unix)]
fn create_probe_file(folder: &Path) -> io::Result<File> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Mode, OFlags, open};

        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        // Refused by FUSE, FAT and most disks of a network.
        if let Ok(file) = open(folder, flags, Mode::RUSR | Mode::WUSR) {
            return Ok(file.into());
        }
    }

    let mut builder = tempfile::Builder::new();
    builder.prefix(super::temp_name::TEMP_PREFIX);
    Ok(builder.tempfile_in(folder)?.into_file())
}

/// Returns true if other users can read files that are created in `folder`, or in the nearest existing folder above it,
/// because the disk keeps no modes. False if the folder cannot be written.
pub fn exposes_files(folder: &Path) -> bool {
    let Some(existing) = folder.ancestors().find(|path| path.is_dir()) else {
        return false;
    };
    // In a folder that only its owner may enter, nothing is shared.
    let is_enterable = existing
        .metadata()
        .is_ok_and(|m| is_open_to_others(mode_of(&m)));
    is_enterable && !has_modes(existing).unwrap_or(true)
}

/// Returns true if a mode gives the group or other users any permission.
pub(crate) fn is_open_to_others(mode: u32) -> bool {
    mode & 0o077 != 0
}

/// Returns the mode of a file or folder; on Windows 0600 or 0700.
pub fn mode_of(meta: &Metadata) -> u32 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        meta.mode() & 0o7777
    }
    #[cfg(not(unix))]
    {
        if meta.is_dir() { 0o700 } else { 0o600 }
    }
}

/// Calls `set_permissions` with a mode. It is no error if the disk refuses modes. Does nothing on Windows, where a file
/// inherits the access list of its folder.
pub fn apply_mode(
    mode: u32,
    set_permissions: impl FnOnce(Permissions) -> io::Result<()>,
) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        ignore_refusal(set_permissions(Permissions::from_mode(mode)))
    }
    #[cfg(not(unix))]
    {
        let _ = (mode, set_permissions);
        Ok(())
    }
}

/// Gives the new file `to` the mode of the file `from`. The file stays private if the disk of `from` stores no modes,
/// because such a disk reports every file as open to all and executable.
pub fn copy_mode(from: &Path, to: &File) -> io::Result<()> {
    let meta = from.metadata()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let target_keeps_modes = !is_open_to_others(to.metadata()?.mode());
        // A disk that stores no modes reports all files as executable, which files of users rarely are.
        let may_be_invented = meta.mode() & 0o011 != 0;

        if !target_keeps_modes || (may_be_invented && from.parent().is_some_and(exposes_files)) {
            return Ok(());
        }
    }

    ignore_refusal(to.set_permissions(meta.permissions()))
}

/// Turns a refusal into a success, for a change of the mode of a file that this process has created with 0600. A disk
/// without modes refuses the change or ignores it.
pub fn ignore_refusal(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}
