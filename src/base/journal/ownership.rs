//! Decides whether a staging folder belongs to this user, and whether its journal may change what it names.

use super::document::{JournalFile, LOCK_NAME};
use super::error::JournalError;
use super::folder;
use super::policy::RecoveryPolicy;
use crate::io::{IoContext, IoError, ListedPath, OrdinaryPath, links, tree, user};
#[cfg(unix)]
use crate::io::{file_open, modes};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

const ROOT: u32 = 0;

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
        let is_of_owner = || user == ROOT && folder::read_owner_of_live(folder) == Some(meta.uid());
        let is_private =
            !modes::is_open_to_others(meta.mode()) && (meta.uid() == user || is_of_owner());

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

/// Fails if the `journal` in `folder` changes files that its staging folders are not for. A home that was unpacked or
/// downloaded may contain a journal, and its steps would exchange any file of this user.
///
/// # Errors
/// A path has `..` or is outside of these folders; or this process is root, and the journal of a user names a folder of
/// another one.
pub(super) fn check_paths(journal_path: &Path, journal: &JournalFile) -> Result<(), JournalError> {
    let mut real_parents = HashMap::new();
    let mut resolve = |path: &Path| -> Option<PathBuf> {
        let is_plain = !path.components().any(|part| part == Component::ParentDir);
        let (parent, name) = path.parent().zip(path.file_name())?;
        let real_parent = || {
            let existing = parent.canonical();
            existing.unwrap_or_else(|_| links::resolve_links(parent))
        };
        let is_absolute = path.is_absolute();
        (is_plain && is_absolute).then(|| {
            let parents = real_parents.entry(parent.to_path_buf());
            parents.or_insert_with(real_parent).join(name)
        })
    };

    let folders = journal.folders.iter();
    let folders: Vec<PathBuf> = folders.filter_map(|folder| resolve(&folder.0)).collect();
    if let Some(foreign) = find_folder_of_other_user(&folders) {
        return Err(JournalError::ForeignFolder(foreign.to_path_buf()));
    }

    // `prune` moves archives within a folder of the manager home, which may be a link.
    let ListedPath(home) = &journal.home;
    let is_in_manager_home = folders.first().is_some_and(|first| {
        let manager_home = folder::manager_home_of_journal(first);
        manager_home.is_some()
            && home.parent().and_then(|p| p.canonical().ok()).as_deref() == manager_home
    });
    let moved_within = is_in_manager_home.then(|| links::resolve_links(home));

    let is_expected = |path: &PathBuf| {
        let mut folders = folders.iter();
        folders
            .any(|folder| path.starts_with(folder) || folder::is_staging_folder_for(folder, path))
            || moved_within
                .as_ref()
                .is_some_and(|home| path.starts_with(home))
    };
    let steps = journal.steps.iter();
    let step_paths = steps.flat_map(|step| [&step.live, &step.staged]);
    // The recovery removes the folders, so they must be plain paths, too.
    let mut paths = journal
        .folders
        .iter()
        .map(|folder| &folder.0)
        .chain(step_paths);
    match paths.find(|path| !resolve(path).is_some_and(|real| is_expected(&real))) {
        Some(other) => Err(JournalError::DamagedJournal {
            path: journal_path.to_path_buf(),
            detail: format!(
                "it names a path outside of the changed folders, {}",
                other.display()
            ),
        }),
        None => Ok(()),
    }
}

/// For root: returns the first of the staging `folders` that is not for files of the user who owns the first folder.
/// Root itself may change files of all users.
fn find_folder_of_other_user(folders: &[PathBuf]) -> Option<&Path> {
    let owner = user::read_owner(folders.first()?).filter(|owner| *owner != ROOT);
    if !user::is_root() || owner.is_none() {
        return None;
    }
    let mut folders = folders.iter().filter(|folder| folder.exists());
    let is_of_other = |folder: &&PathBuf| {
        user::read_owner(folder) != owner || folder::read_owner_of_live(folder) != owner
    };
    folders.find(is_of_other).map(PathBuf::as_path)
}
