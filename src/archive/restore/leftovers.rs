//! What restores replaced and could not remove: a file of another user, an immutable one. It only takes
//! room, so it gets a name that no restore looks at, and later commands try again.

use super::stage;
use super::swap::{FOLDER_SUFFIX, check_ours, folder_beside, folder_within, is_pending};
use crate::codex::config::CodexConfig;
use crate::io::atomic::{self, with_suffix};
use crate::io::tree;
use std::fs;
use std::path::{Path, PathBuf};

/// How the names of folders end that could not be removed.
const REMAINS_SUFFIX: &str = ".old";

/// Gives a folder a name that no restore looks at, so that nobody has to wait for it, and tries again
/// to remove it. Gives where it is, if it still is.
#[allow(
    clippy::disallowed_methods,
    reason = "to be found under either name is good enough"
)]
pub(super) fn set_aside(folder: &Path) -> Option<PathBuf> {
    let names = (1..1000).map(|n| with_suffix(folder, &format!("{REMAINS_SUFFIX}-{n}")));
    let mut free = names.filter(|name| name.symlink_metadata().is_err());
    let aside = free.find(|name| fs::rename(folder, name).is_ok());
    let place = aside.unwrap_or_else(|| folder.to_path_buf());
    tree::remove(&place).is_err().then_some(place)
}

/// Whether this is the name of what a restore could not remove.
pub(super) fn is_named_remains(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let number = name
        .rsplit_once(REMAINS_SUFFIX)
        .filter(|(begin, _)| begin.ends_with(FOLDER_SUFFIX))
        .and_then(|(_, end)| end.strip_prefix('-'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Tries again to remove what restores in `folder` could not remove. Costs a listing of what is beside
/// that.
pub(super) fn retry(folder: &Path) {
    for remains in of(folder) {
        if is_pending(&remains) && check_ours(&remains).is_ok() {
            let _ = tree::remove(&remains);
        }
    }
}

/// Where restores of `home` work apart from beside it and in it: at what its links lead to, in what is
/// mounted in it, and where its settings put databases.
pub(super) fn places_apart(home: &Path) -> Vec<PathBuf> {
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
    let mounts = stage::mounts_in(home).unwrap_or_default();
    places.extend(mounts.iter().map(|mount| folder_within(mount)));
    let databases = CodexConfig::read(home).sqlite_home;
    places.extend(databases.map(|folder| folder_within(&home.join(folder))));
    places
}

/// What restores in `folder` could not remove.
pub(super) fn of(folder: &Path) -> Vec<PathBuf> {
    let begin = with_suffix(folder, REMAINS_SUFFIX);
    let begin = begin.file_name().unwrap_or_default().as_encoded_bytes();
    let entries = fs::read_dir(atomic::parent_of(folder));
    let entries = entries.into_iter().flatten().flatten();
    let mut remains: Vec<_> = entries
        .filter(|e| e.file_name().as_encoded_bytes().starts_with(begin))
        .map(|e| e.path())
        .filter(|path| is_named_remains(path))
        .collect();
    remains.sort();
    remains
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_stands_aside_under_any_number_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x.codex-manager-restore");
        for number in [2, 17] {
            let remains = with_suffix(&place, &format!(".old-{number}"));
            atomic::create_private_folder(&remains.join("new")).unwrap();
        }
        fs::create_dir(folder.path().join("x.codex-manager-restore.old-mine")).unwrap();
        retry(&place);
        let left: Vec<_> = tree::list(folder.path()).unwrap();
        let left: Vec<_> = left.iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["x.codex-manager-restore.old-mine"]);
    }
}
