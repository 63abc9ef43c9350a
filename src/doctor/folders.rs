//! The entries of a folder, as findings name them.

use super::permissions;
use crate::io::{shell, tree};
use std::path::{Path, PathBuf};

/// Returns the advice for a folder that cannot be listed.
pub(super) fn advice_to_make_readable(path: &Path) -> String {
    let word = shell::quote_if_needed(&path.to_string_lossy());
    if permissions::belongs_to_other_user(path) {
        return format!("another user owns it; take ownership: sudo chown -R \"$USER\" {word}");
    }
    "make it readable, and check its disk".to_owned()
}

/// Returns the entries of a folder whose names `is_known` rejects, sorted.
pub(super) fn list_unknown_entries(folder: &Path, is_known: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = tree::list(folder).unwrap_or_default().into_iter();
    let unknown = entries.filter(|(name, _)| !is_known(&name.to_string_lossy()));
    unknown.map(|(name, _)| folder.join(name)).collect()
}

/// Returns "3, first PATH", or the only path, for a message.
pub(super) fn summarize_paths(paths: &[PathBuf]) -> String {
    let first = paths.first().map(|p| p.display().to_string());
    let first = first.unwrap_or_default();
    match paths.len() {
        0 | 1 => first,
        n => format!("{n}, first {first}"),
    }
}
