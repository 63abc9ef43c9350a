//! Decides whether a staging folder belongs to this user.

use super::document::LOCK_NAME;
use super::error::JournalError;
use super::policy::RecoveryPolicy;
use crate::io::{IoContext, IoError, tree};
#[cfg(unix)]
use crate::io::{file_open, modes};
use std::path::Path;

/// Fails if `folder` does not belong to this user alone, because another user could have written the journal in it.
///
/// On a disk without file modes, owner and mode prove nothing. There, the lock must contain the marker of the policy,
/// which other users cannot guess. So a folder from a disk of another user is not trusted.
pub(super) fn check_own_folder(
    folder: &Path,
    policy: &dyn RecoveryPolicy,
) -> Result<(), JournalError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let meta = folder.symlink_metadata().at("read", folder)?;
        let user = rustix::process::geteuid().as_raw();

        // Root may recover the homes of other users, whose folders keep their owners.
        let is_private =
            !modes::is_open_to_others(meta.mode()) && (meta.uid() == user || user == 0);

        // A file system that cannot be asked counts as one with modes: its folders must be private.
        let lacks_modes = || !modes::has_modes(folder).unwrap_or(true);
        if is_private || (lacks_modes() && is_empty_or_marked(folder, policy)?) {
            return Ok(());
        }
        Err(JournalError::ForeignFolder(folder.to_path_buf()))
    }
    #[cfg(not(unix))]
    {
        let _ = (folder, policy);
        Ok(())
    }
}

/// Returns true if the folder is empty except for its lock, or if the lock has the marker of the policy.
#[cfg(unix)]
fn is_empty_or_marked(folder: &Path, policy: &dyn RecoveryPolicy) -> Result<bool, IoError> {
    if !has_content(folder)? {
        return Ok(true);
    }
    let lock = folder.join(LOCK_NAME);
    let lock_content = file_open::read(&lock).at("read", &lock)?;
    let marker = policy.lock_marker(folder);
    Ok(marker.is_some_and(|marker| marker.as_bytes() == lock_content))
}

/// Returns true if the folder has more than its lock.
pub(super) fn has_content(folder: &Path) -> Result<bool, IoError> {
    let entries = tree::list(folder).at("list", folder)?;
    Ok(entries.iter().any(|(name, _)| name != LOCK_NAME))
}
