//! Staging folders: their names, the checks before one is trusted, and the folders that stay after
//! a transaction has ended.

use super::error::JournalError;
use crate::io::{
    FollowedLinks, IoContext, IoError, OrdinaryPath, atomic, beneath, owner, tree, user,
    with_suffix,
};
use std::io;
use std::path::{Path, PathBuf};

/// The suffix of the names of staging folders of restores.
const RESTORE_SUFFIX: &str = ".codex-manager-restore";

/// The name of a staging folder within a home.
pub(super) const NAME_IN_HOME: &str = RESTORE_SUFFIX;

/// The suffix of the names of all other staging folders.
const OTHER_SUFFIX: &str = ".codex-manager-journal";

/// The reason why a staging folder stays after its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptAs {
    /// The files in the folder could not be removed. They only take up space.
    Leftover,
    /// The folder contains files that other processes wrote during the transaction, or may have written.
    Evidence,
}

impl KeptAs {
    /// Returns the suffix that the staging folder's name gets, before `-N`.
    fn name_suffix(self) -> &'static str {
        match self {
            Self::Leftover => ".old",
            Self::Evidence => ".kept",
        }
    }
}

/// Returns the staging folder beside the file or folder `live`, on the same file system.
pub fn staging_folder_beside(live: &Path) -> PathBuf {
    let name = live.file_name().unwrap_or_default().to_string_lossy();
    live.with_file_name(format!(".{name}{RESTORE_SUFFIX}"))
}

/// Returns the staging folder within `live`, for a folder beside which nothing can be created.
pub fn staging_folder_within(live: &Path) -> PathBuf {
    live.join(NAME_IN_HOME)
}

/// Returns true if this is the name that [`staging_folder_within`] gives.
pub fn is_staging_folder_within(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == NAME_IN_HOME)
}

/// Returns the folder in the manager home for the journal of the command `command`. All spellings of the
/// manager home give the same folder.
pub fn journal_folder_of_command(manager_home: &Path, command: &str) -> PathBuf {
    // If the manager home is missing, its spelling is kept, but then there is no journal that could be missed.
    let home = manager_home.canonical_or_self();
    home.join("tmp").join(format!(".{command}{OTHER_SUFFIX}"))
}

/// Returns the staging folder in `folder`, for a transaction whose journal is in the manager home.
pub fn staging_folder_in(folder: &Path) -> PathBuf {
    folder.join(OTHER_SUFFIX)
}

/// Returns true if `folder` is a folder and not a link. False if it is missing, or if its parent cannot
/// be used by this user at all.
///
/// # Errors
/// The folder cannot be examined.
pub fn is_real_folder(folder: &Path) -> Result<bool, IoError> {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};

    match folder.symlink_metadata() {
        Ok(meta) => Ok(meta.is_dir()),
        // A parent that the user cannot enter cannot have had a staging folder of the user either.
        Err(e) if matches!(e.kind(), NotFound | NotADirectory | PermissionDenied) => Ok(false),
        Err(e) => Err(e).at("inspect", folder),
    }
}

/// Creates the staging folder `folder` (0700). Fails if it exists, because it belongs to another transaction.
pub(super) fn create_staging_folder(folder: &Path) -> Result<(), JournalError> {
    atomic::create_private_folder(atomic::parent_of(folder))?;
    // If another process of the user replaced the folder by a link to a live folder, the cleanup would remove the live
    // folder.
    beneath::protect(folder, FollowedLinks::AT_TOP);
    match atomic::make_folder(folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Err(JournalError::FolderExists(folder.to_path_buf()))
        }
        other => {
            other.at("create folder", folder)?;
            owner::remove_access_lists(folder);
            give_to_owner(folder);
            Ok(())
        }
    }
}

/// Gives the new staging folder `folder` the owner of what it replaces, so that this user can recover the transaction
/// of root. The folder above may belong to root.
pub(super) fn give_to_owner(folder: &Path) {
    if let Some(live) = live_entry_beside(folder) {
        owner::copy_owner(&live, folder);
    }
}

/// Returns the entry of which `folder` is [`staging_folder_beside`]; `None` for other staging folders.
fn live_entry_beside(folder: &Path) -> Option<PathBuf> {
    let name = folder.file_name()?.to_string_lossy();
    let live_name = name.strip_prefix('.')?.strip_suffix(RESTORE_SUFFIX)?;
    (!live_name.is_empty()).then(|| folder.with_file_name(live_name))
}

/// Returns the id of the user whose files the staging folder `folder` is for. `None` on Windows.
pub(super) fn read_owner_of_live(folder: &Path) -> Option<u32> {
    let owner_of_entry = live_entry_beside(folder).and_then(|live| user::read_owner(&live));
    // The entry is missing if a restore creates it.
    owner_of_entry.or_else(|| user::read_owner(atomic::parent_of(folder)))
}

/// Returns true if `path` is among the files that the staging folder `folder` is for. Both are without links.
pub(super) fn is_staging_folder_for(folder: &Path, path: &Path) -> bool {
    let below = path.strip_prefix(atomic::parent_of(folder));
    let Some(first) = below.ok().and_then(|below| below.iter().next()) else {
        return false;
    };
    let name = folder.file_name().unwrap_or_default();
    name == NAME_IN_HOME
        || name == OTHER_SUFFIX
        || staging_folder_beside(&folder.with_file_name(first)) == folder
}

/// Returns the manager home of the journal of a command in `folder`; `None` for other staging folders.
pub(super) fn manager_home_of_journal(folder: &Path) -> Option<&Path> {
    let name = folder.file_name()?.to_string_lossy();
    let is_of_command = name != OTHER_SUFFIX && name.ends_with(OTHER_SUFFIX);
    folder.parent()?.parent().filter(|_| is_of_command)
}

/// Returns true if this is the absolute path of a folder with the name of a staging folder.
pub(super) fn is_staging_folder_path(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().as_encoded_bytes();
    let name_ends_with = |suffix: &str| name.ends_with(suffix.as_bytes());
    folder.is_absolute() && (name_ends_with(RESTORE_SUFFIX) || name_ends_with(OTHER_SUFFIX))
}

/// Returns a free path beside the staging folder `folder`, for files that stay after the transaction.
pub(super) fn find_free_path(folder: &Path, kept_as: KeptAs) -> PathBuf {
    let suffix = kept_as.name_suffix();
    let mut paths = (1_u64..).map(|n| with_suffix(folder, &format!("{suffix}-{n}")));
    // The caller holds the lock of the staging folder, so two commands cannot get the same name.
    let free_path = paths.find(|path| path.symlink_metadata().is_err());
    // The numbers do not run out, so the default is never used.
    free_path.unwrap_or_else(|| folder.to_path_buf())
}

/// Returns the reason why a folder was kept, from its name; `None` if it does not have the name of a kept staging
/// folder.
pub fn parse_kept_name(folder: &Path) -> Option<KeptAs> {
    let name = folder.file_name()?.to_string_lossy();
    let mut staging_suffixes = [RESTORE_SUFFIX, OTHER_SUFFIX].into_iter();
    let (_, kept_suffix) = staging_suffixes.find_map(|suffix| name.rsplit_once(suffix))?;
    [KeptAs::Leftover, KeptAs::Evidence]
        .into_iter()
        .find(|kept_as| {
            let number = kept_suffix.strip_prefix(kept_as.name_suffix());
            let number = number.and_then(|number| number.strip_prefix('-'));
            number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        })
}

/// Returns the folders beside the staging folder `folder` that its transactions left, sorted by path.
pub fn list_kept_folders(folder: &Path) -> Vec<(PathBuf, KeptAs)> {
    let name_prefix = folder.file_name().unwrap_or_default().as_encoded_bytes();
    let entries = tree::list(atomic::parent_of(folder)).unwrap_or_default();

    let mut kept_folders: Vec<_> = entries
        .into_iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(name_prefix))
        .filter_map(|(name, _)| {
            let kept_as = parse_kept_name(Path::new(&name))?;
            Some((folder.with_file_name(&name), kept_as))
        })
        .collect();
    kept_folders.sort_by(|a, b| a.0.cmp(&b.0));
    kept_folders
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn kept_folders_are_listed_by_name_and_a_new_one_gets_the_first_free_number() {
        let root = tempfile::tempdir().unwrap();
        let folder = staging_folder_beside(&root.path().join("x"));
        let name = |suffix: &str| with_suffix(&folder, suffix);
        for suffix in [".old-17", ".kept-2", ".old-mine", ".kept-", ""] {
            fs::create_dir(name(suffix)).unwrap();
        }
        let listed = [
            (name(".kept-2"), KeptAs::Evidence),
            (name(".old-17"), KeptAs::Leftover),
        ];
        assert_eq!(list_kept_folders(&folder), listed);
        assert_eq!(find_free_path(&folder, KeptAs::Evidence), name(".kept-1"));
        assert_eq!(find_free_path(&folder, KeptAs::Leftover), name(".old-1"));
    }
}
