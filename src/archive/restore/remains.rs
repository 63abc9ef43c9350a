//! What restores replaced and could not remove: a file of another user, an immutable one. It only takes
//! room, so it gets a name that no restore looks at, and later commands try again.

use super::swap::{FOLDER_SUFFIX, check_ours, is_pending};
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
fn is_named_remains(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let number = name
        .rsplit_once(REMAINS_SUFFIX)
        .filter(|(begin, _)| begin.ends_with(FOLDER_SUFFIX))
        .and_then(|(_, end)| end.strip_prefix('-'));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Tries again to remove what restores in `folder` could not remove. Costs one look where there is
/// nothing.
pub(super) fn retry(folder: &Path) {
    if is_pending(&with_suffix(folder, &format!("{REMAINS_SUFFIX}-1"))) {
        for remains in of(folder) {
            if check_ours(&remains).is_ok() {
                let _ = tree::remove(&remains);
            }
        }
    }
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
