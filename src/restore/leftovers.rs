//! Replaced folders that a restore could not remove, because a file in them is immutable or belongs
//! to another user. They only take up space, so they get a name that no restore uses, and later
//! commands try again.

use super::disk_probes;
use super::staging_folder::{
    FOLDER_SUFFIX, check_private_folder, folder_beside, folder_within, is_real_folder,
};
use crate::codex::config::CodexConfig;
use crate::io::atomic::{self, with_suffix};
use crate::io::tree;
use std::fs;
use std::path::{Path, PathBuf};

/// The suffix of the names of such folders, before `-N`.
const LEFTOVER_SUFFIX: &str = ".old";

/// Renames a folder, so that it blocks no later restore, and tries again to remove it. Returns its
/// path if it still exists.
#[allow(
    clippy::disallowed_methods,
    reason = "needs no fsync: a leftover is found under either name"
)]
pub(super) fn rename_and_remove(folder: &Path) -> Option<PathBuf> {
    let names = (1..1000).map(|n| with_suffix(folder, &format!("{LEFTOVER_SUFFIX}-{n}")));
    let mut free = names.filter(|name| name.symlink_metadata().is_err());
    let renamed = free.find(|name| fs::rename(folder, name).is_ok());
    let place = renamed.unwrap_or_else(|| folder.to_path_buf());
    tree::remove(&place).is_err().then_some(place)
}

/// Returns true if this is the name of a leftover folder.
pub(super) fn is_leftover_name(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let number = name
        .rsplit_once(LEFTOVER_SUFFIX)
        .filter(|(begin, _)| begin.ends_with(FOLDER_SUFFIX))
        .and_then(|(_, end)| end.strip_prefix('-'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Tries again to remove the leftovers of restores in `folder`. Costs one listing of its parent.
pub(super) fn retry_removal(folder: &Path) {
    for leftover in list(folder) {
        if is_real_folder(&leftover) && check_private_folder(&leftover).is_ok() {
            let _ = tree::remove(&leftover);
        }
    }
}

/// Returns the staging folders of restores of `home` on other disks or in other folders: at the
/// targets of its links, in its mounts, and in the folder of its databases.
pub(super) fn separate_restore_folders(home: &Path) -> Vec<PathBuf> {
    let home = &home.canonicalize().unwrap_or_else(|_| home.to_path_buf());
    let mut places = Vec::new();
    for (name, kind) in tree::list(home).unwrap_or_default() {
        let Ok(target) = home.join(name).canonicalize() else {
            continue;
        };
        if kind.is_symlink() && !target.starts_with(home) {
            places.extend([folder_beside(&target), folder_within(&target)]);
        }
    }
    let mounts = disk_probes::mounts_in(home).unwrap_or_default();
    places.extend(mounts.iter().map(|mount| folder_within(mount)));
    let databases = CodexConfig::read(home).sqlite_home;
    places.extend(databases.map(|folder| folder_within(&home.join(folder))));
    places
}

/// Returns the leftovers of restores in `folder`, sorted.
pub(super) fn list(folder: &Path) -> Vec<PathBuf> {
    let begin = with_suffix(folder, LEFTOVER_SUFFIX);
    let begin = begin.file_name().unwrap_or_default().as_encoded_bytes();
    let entries = fs::read_dir(atomic::parent_of(folder));
    let entries = entries.into_iter().flatten().flatten();
    let mut leftovers: Vec<_> = entries
        .filter(|e| e.file_name().as_encoded_bytes().starts_with(begin))
        .map(|e| e.path())
        .filter(|path| is_leftover_name(path))
        .collect();
    leftovers.sort();
    leftovers
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn leftovers_with_any_number_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x.codex-manager-restore");
        for number in [2, 17] {
            let leftovers = with_suffix(&place, &format!(".old-{number}"));
            atomic::create_private_folder(&leftovers.join("new")).unwrap();
        }
        fs::create_dir(folder.path().join("x.codex-manager-restore.old-mine")).unwrap();
        retry_removal(&place);
        let left: Vec<_> = tree::list(folder.path()).unwrap();
        let left: Vec<_> = left.iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["x.codex-manager-restore.old-mine"]);
    }
}
