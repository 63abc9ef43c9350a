//! The staging folders of restores: their names and the checks before one is trusted.

use super::swap::SwapError;
use crate::io::IoContext;
use std::path::{Path, PathBuf};

/// The suffix of the names of staging folders.
pub(super) const FOLDER_SUFFIX: &str = ".codex-manager-restore";

/// Returns the staging folder beside the file or folder `live`, on the same file system.
pub(super) fn folder_beside(live: &Path) -> PathBuf {
    let name = live.file_name().unwrap_or_default().to_string_lossy();
    live.with_file_name(format!(".{name}{FOLDER_SUFFIX}"))
}

/// Returns the staging folder within `home`, for a home beside which nothing can be created.
pub(super) fn folder_within(home: &Path) -> PathBuf {
    home.join(FOLDER_SUFFIX)
}

/// Returns true if `folder` is a folder and not a link. A staging folder exists only while a
/// restore runs or was interrupted.
pub(super) fn is_real_folder(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|m| m.is_dir())
}

/// Fails if `folder` is not a private folder of this user: in any other folder, another user could
/// have written the journal.
pub(super) fn check_private_folder(folder: &Path) -> Result<(), SwapError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = folder.symlink_metadata().at("read", folder)?;
        let user = rustix::process::geteuid().as_raw();
        if meta.mode() & 0o077 != 0 || (meta.uid() != user && user != 0) {
            return Err(SwapError::ForeignFolder(folder.to_path_buf()));
        }
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Returns true if this is the absolute path of a folder with the name of a staging folder.
pub(super) fn has_staging_suffix(folder: &Path) -> bool {
    folder.is_absolute()
        && folder
            .file_name()
            .is_some_and(|n| n.as_encoded_bytes().ends_with(FOLDER_SUFFIX.as_bytes()))
}
