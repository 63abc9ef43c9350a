//! Finds files of codex-manager that other users can access, and restricts them to the owner. Files with
//! unknown names, files of the Codex home and files with several hard links are never changed.

use crate::config::FILE_NAME as CONFIG_FILE;
use crate::error::{CommandError, Result};
use codex_manager_core::archive::names;
use codex_manager_core::conversations::index;
use codex_manager_core::inventory::{notices, observations, store, trash};
#[cfg(windows)]
use codex_manager_core::io::access;
use codex_manager_core::io::temp_name::TEMP_PREFIX;
use codex_manager_core::io::{IoError, OrdinaryPath, links, modes, owner, shell, tree};
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
/// copies of damaged and imported documents.
pub(super) fn is_manager_file(name: &str) -> bool {
    let copy_suffixes = [".damaged", ".python-backup"];
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

/// Returns the files and folders of codex-manager in the manager home that other users can access, sorted. Returns none
/// if the homes overlap, or if the disk has no file modes.
///
/// The files in the backups of a sync are not checked, because they keep the modes that a restore gives back.
pub(crate) fn find_accessible_to_others(codex_home: &Path, manager_home: &Path) -> Vec<PathBuf> {
    // Modes cannot be changed on a disk without modes, about which `machine` warns.
    if homes_overlap(codex_home, manager_home) || modes::exposes_files(manager_home) {
        return Vec::new();
    }

    // The home and backups/ may be links to another disk; no other link is followed.
    let Ok(home) = manager_home.canonical() else {
        return Vec::new();
    };

    let backups = store::backups_folder(&home).canonical().ok();
    // On Windows, all other files inherit the access of these two folders.
    #[cfg(windows)]
    let roots: Vec<_> = [Some(&home), backups.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();

    let mut manager_paths = vec![home.clone()];
    manager_paths.extend(list_entries_unless_link(&home, is_manager_file));
    for folder in [observations::FOLDER, index::FOLDER] {
        manager_paths.extend(list_entries_unless_link(&home.join(folder), |_| true));
    }

    let is_password_file = |name: &str| name == vault::password::PASSWORD_FILE;
    manager_paths.extend(list_entries_unless_link(
        &home.join(vault::VAULT_FOLDER),
        is_password_file,
    ));

    if let Some(backups) = backups.filter(|backups| !homes_overlap(codex_home, backups)) {
        manager_paths.push(backups.clone());
        let trash = backups.join(trash::FOLDER);
        manager_paths.extend(list_entries_unless_link(&backups, is_archive_file));
        for discarded in list_entries_unless_link(&trash, |_| true) {
            manager_paths.extend(list_entries_unless_link(&discarded, is_archive_file));
            manager_paths.push(discarded);
        }
    }

    for profile in list_entries_unless_link(&home.join("profiles"), |_| true) {
        manager_paths.extend(list_entries_unless_link(&profile, is_profile_file));
        let is_login_file = |name: &str| Path::new(name).extension().is_some_and(|e| e == "json");
        manager_paths.extend(list_entries_unless_link(
            &profile.join("history"),
            is_login_file,
        ));
        manager_paths.push(profile);
    }

    manager_paths.retain(|path| {
        path.symlink_metadata()
            .is_ok_and(|meta| is_private_entry(&meta))
    });
    #[cfg(windows)]
    manager_paths.retain(|path| roots.contains(path) && access::is_open_to_others(path));
    #[cfg(not(windows))]
    manager_paths.retain(|path| mode_open_to_others(path).is_some());

    manager_paths.sort();
    manager_paths.dedup();
    manager_paths
}

/// Returns the entries of a folder with names that pass `accepts`, sorted. Returns none if `folder` is a link.
fn list_entries_unless_link(folder: &Path, accepts: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    if !folder.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Vec::new();
    }
    list_entries(folder, accepts)
}

/// Returns the entries of a folder with names that pass `accepts`, sorted. Returns none if the folder cannot be listed.
pub(super) fn list_entries(folder: &Path, accepts: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = tree::list(folder).unwrap_or_default().into_iter();
    let accepted = entries.filter(|(name, _)| accepts(&name.to_string_lossy()));
    accepted.map(|(name, _)| folder.join(name)).collect()
}

fn is_archive_file(name: &str) -> bool {
    names::is_archive_name(name)
        || names::is_sidecar_name(name)
        || name == trash::FOLDER
        || name.starts_with(TEMP_PREFIX)
}

fn is_profile_file(name: &str) -> bool {
    ["auth.json", "profile.json"]
        .iter()
        .any(|profile_file| name.starts_with(profile_file))
        || name == "history"
}

/// Returns true if no other name shares the mode of the entry: for a folder, and for a file with one hard link.
fn is_private_entry(meta: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // A mode is the same for all hard links, and another link may be in a folder of another program.
        meta.is_dir() || (meta.is_file() && meta.nlink() == 1)
    }
    #[cfg(not(unix))]
    {
        meta.is_dir() || meta.is_file()
    }
}

fn read_mode(path: &Path) -> Option<u32> {
    Some(modes::mode_of(&path.metadata().ok()?))
}

/// Returns the permission bits of `path` if the group or other users have any permission, else `None`. Also returns
/// `None` if `path` cannot be inspected, and on Windows.
pub(crate) fn mode_open_to_others(path: &Path) -> Option<u32> {
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

/// Removes all permissions of the group and of other users; the owner keeps all permissions. Changes nothing for a file
/// with several hard links.
///
/// # Errors
/// The path is a symbolic link, or its mode cannot be set.
pub(crate) fn restrict_to_owner(path: &Path) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use codex_manager_core::io::IoContext;
        use rustix::fs::{Mode, OFlags};
        use std::os::unix::fs::PermissionsExt;

        // Opened first, so that a link put there meanwhile is not followed. A pipe would block without NONBLOCK.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .at("open", path)?;
        let file = fs::File::from(file);
        let meta = file.metadata().at("get the metadata of", path)?;

        if !is_private_entry(&meta) {
            return Ok(());
        }

        // The special bits and the permissions of the owner stay.
        let mode = meta.permissions().mode() & 0o7700;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .at("set the mode of", path)
    }
    #[cfg(windows)]
    {
        use codex_manager_core::io::IoContext;
        access::restrict_to_owner(path).at("set the access list of", path)
    }
}

/// Returns true if another user owns the path, so that its mode cannot be set.
pub(crate) fn belongs_to_other_user(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| owner::other_owner(&meta).is_some())
}

/// Returns the advice for a path that another user owns; `None` if the user owns it, and on Windows.
pub(super) fn advice_to_take_ownership(path: &Path) -> Option<String> {
    let quoted_path = shell::quote_if_needed(&path.to_string_lossy());
    belongs_to_other_user(path).then(|| {
        format!("another user owns it; take ownership: sudo chown -R \"$USER\" {quoted_path}")
    })
}

/// Returns the advice for a folder that cannot be listed.
pub(super) fn advice_to_make_readable(path: &Path) -> String {
    let advice = advice_to_take_ownership(path);
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
    Ok(true)
}

/// Fails if a folder of the manager home, or the manager home itself, is a symbolic link of another user. Links of this
/// user and of root are accepted, because they may lead to another disk.
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
        let other_owner = link.and_then(|link| owner::other_owner(&link));
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
            ".codex-manager-tmp-x",
            ".lock",
        ] {
            assert!(is_manager_file(name), "{name}");
        }
        assert!(!is_manager_file("notes.txt"));
    }
}
