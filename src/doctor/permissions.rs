//! Finds folders of codex-manager that other users can access, and restricts them to the owner.

use crate::config::FILE_NAME as CONFIG_FILE;
use crate::error::{CommandError, Result};
use codex_manager_core::conversations::index;
use codex_manager_core::inventory::{notices, observations, remedies, store};
#[cfg(windows)]
use codex_manager_core::io::access::{self, is_open_to_others};
use codex_manager_core::io::temp_name::TEMP_PREFIX;
use codex_manager_core::io::{IoContext, IoError, OrdinaryPath, links, modes, tree, user};
use codex_manager_core::launch::{program, registry};
use codex_manager_core::{logging, vault};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

/// The names of all files and folders that codex-manager creates at the top of the manager home.
const MANAGER_FILES: [&str; 23] = [
    "backups",
    "profiles",
    "sync",
    "sync.toml",
    "sync-backups",
    "tmp",
    "trash",
    "inventory.json",
    "losses.json",
    notices::FILE_NAME,
    notices::LOCK_NAME,
    "cooldown.json",
    registry::FILE_NAME,
    program::FILE_NAME,
    CONFIG_FILE,
    "config.rejected.toml",
    ".lock",
    logging::FOLDER,
    "history",
    "schedule",
    observations::FOLDER,
    index::FOLDER,
    vault::VAULT_FOLDER,
];

/// Returns true for the name of a file or folder that codex-manager creates at the top of the manager home, including
/// copies of damaged, imported and replaced documents.
pub(super) fn is_manager_file(name: &str) -> bool {
    let copy_suffixes = [".damaged", ".python-backup", ".bak"];
    let stem = copy_suffixes
        .iter()
        .find_map(|suffix| name.split_once(suffix));
    MANAGER_FILES.contains(&stem.map_or(name, |(stem, _)| stem)) || name.starts_with(TEMP_PREFIX)
}

/// Returns true if the homes are the same folder or one is inside the other. The files of Codex and of codex-manager
/// cannot be distinguished then.
pub(crate) fn homes_overlap(codex_home: &Path, manager_home: &Path) -> bool {
    links::lies_in(codex_home, manager_home) || links::lies_in(manager_home, codex_home)
}

/// Returns the manager home and its `backups/`, each if other users can access it. All other files are below these two,
/// so they need no check of their own. Returns none if the homes overlap, or if the disk has no file modes.
pub(crate) fn find_accessible_to_others(codex_home: &Path, manager_home: &Path) -> Vec<PathBuf> {
    // Modes cannot be changed on a disk without modes, about which `machine` warns.
    if homes_overlap(codex_home, manager_home) || modes::exposes_files(manager_home) {
        return Vec::new();
    }

    // Both may be links to another disk.
    let real_backups = store::backups_folder(manager_home).canonical().ok();
    let backups = real_backups.filter(|backups| !homes_overlap(codex_home, backups));
    let folders = manager_home.canonical().into_iter().chain(backups);
    folders
        .filter(|folder| folder.is_dir() && is_open_to_others(folder))
        .collect()
}

#[cfg(not(windows))]
fn is_open_to_others(folder: &Path) -> bool {
    mode_open_to_others(folder).is_some()
}

/// Returns the entries of a folder with names that pass `accepts`, sorted. Returns none if the folder cannot be listed.
pub(super) fn list_entries(folder: &Path, accepts: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = tree::list(folder).unwrap_or_default().into_iter();
    let accepted = entries.filter(|(name, _)| accepts(&name.to_string_lossy()));
    accepted.map(|(name, _)| folder.join(name)).collect()
}

fn read_mode(path: &Path) -> Option<u32> {
    Some(modes::mode_of(&path.metadata().ok()?))
}

/// Returns the permission bits of `path` if the group or other users have any permission, else `None`. Also returns
/// `None` if `path` cannot be inspected, and on Windows.
pub(super) fn mode_open_to_others(path: &Path) -> Option<u32> {
    let mode = read_mode(path)? & 0o777;
    Some(mode).filter(|mode| mode & 0o077 != 0)
}

/// Returns true if other users can replace files in a folder: they may write to the folder, and it is not sticky.
fn is_writable_by_others(folder: &Path) -> bool {
    const STICKY: u32 = 0o1000;
    read_mode(folder).is_some_and(|mode| mode & 0o022 != 0 && mode & STICKY == 0)
}

/// Like [`mode_open_to_others`], but returns `None` on a disk without file modes, about which another check warns.
pub(super) fn mode_to_restrict(path: &Path) -> Option<u32> {
    mode_open_to_others(path).filter(|_| !modes::exposes_files(path))
}

/// Removes all permissions of the group and of other users from a folder; the owner keeps all permissions.
///
/// # Errors
/// The path is a symbolic link or no folder, or its mode cannot be set.
pub(crate) fn restrict_to_owner(folder: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use rustix::fs::{Mode, OFlags};
        use std::os::unix::fs::PermissionsExt;

        // The folder is opened first. A link that replaces it after that is not followed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(folder, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .at("open", folder)?;
        let file = fs::File::from(file);
        let meta = file.metadata().at("get the metadata of", folder)?;
        // The special bits and the permissions of the owner stay.
        let mode = meta.permissions().mode() & 0o7700;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .at("set the mode of", folder)
    }
    #[cfg(windows)]
    {
        access::restrict_to_owner(folder).at("set the access list of", folder)
    }
}

/// Returns true if another user owns the path. Only root could set its mode.
pub(crate) fn belongs_to_other_user(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| user::other_owner(&meta).is_some())
}

/// Returns the advice for a folder that cannot be listed.
pub(super) fn advice_to_make_readable(path: &Path) -> String {
    let advice = remedies::describe_taking_ownership(path);
    advice.unwrap_or("make it readable, and check its disk".to_owned())
}

/// Removes the permissions of other users from a manager home in which other users could replace files, such as logins.
/// A sticky folder such as `/tmp`, or a folder with files of other programs, stays unchanged. Returns true if the mode
/// was changed.
///
/// # Errors
/// Another user owns the folder, or its mode cannot be set.
pub(crate) fn tighten_manager_home(folder: &Path) -> Result<bool> {
    if !is_writable_by_others(folder) {
        return Ok(false);
    }
    if belongs_to_other_user(folder) {
        return Err(CommandError::refused(format!(
            "another user owns the manager home, and others can write to it: {}",
            folder.display()
        ))
        .hint("choose another folder: --manager-home DIR; nothing was changed"));
    }

    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    if !names.all(|name| is_manager_file(&name.to_string_lossy())) {
        return Ok(false);
    }

    restrict_to_owner(folder)?;
    // A disk without modes ignores the change.
    Ok(!is_writable_by_others(folder))
}

/// Fails if the manager home, or its folder of indexes, temporary files, archives or profiles, is a symbolic link of
/// another user. Links of this user and of root are accepted, because they may lead to another disk.
///
/// # Errors
/// Another user owns such a link.
pub(crate) fn refuse_links_of_others(home: &Path) -> Result<()> {
    const ROOT: u32 = 0;
    let folders = ["", index::FOLDER, "tmp", "backups", "profiles"];
    for folder in folders.map(|name| home.join(name)) {
        // Removes the separator at the end, with which the system would follow a link.
        let folder: PathBuf = folder.components().collect();
        let link = folder.symlink_metadata().ok().filter(Metadata::is_symlink);
        let other_owner = link.and_then(|link| user::other_owner(&link));
        if other_owner.is_some_and(|owner| owner != ROOT) {
            let folder_text = folder.display();
            return Err(CommandError::refused(format!(
                "a link of another user is in the place of a folder of codex-manager: {folder_text}"
            ))
            .hint("run the command as that user, or remove the link; nothing was changed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_documents_are_manager_files() {
        for name in [
            "cooldown.json.python-backup-2",
            "inventory.json.damaged",
            "sync.toml.bak",
            ".codex-manager-tmp-x",
            ".lock",
        ] {
            assert!(is_manager_file(name), "{name}");
        }
        assert!(!is_manager_file("notes.txt"));
    }
}
