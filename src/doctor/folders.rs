//! Findings about folders, and texts about paths.

use super::check::Check;
use super::permissions;
use std::path::{Path, PathBuf};

/// Returns the advice for a folder that cannot be listed.
pub(super) fn advice_to_make_readable(path: &Path) -> String {
    let advice = permissions::advice_to_take_ownership(path);
    advice.unwrap_or("make it readable, and check its disk".to_owned())
}

/// Returns the finding that a file or a dangling link is in the place of a folder.
pub(super) fn not_a_folder_check(id: &'static str, path: &Path) -> Check {
    let message = format!("not a folder, or a dangling link: {}", path.display());
    Check::fail(id, message).advised("mount its disk, or move it away")
}

/// Returns the number of paths and the first path, such as "3, first PATH". Returns a single path without a number.
pub(super) fn summarize_paths(paths: &[PathBuf]) -> String {
    let first = paths.first().map(|p| p.display().to_string());
    let first = first.unwrap_or_default();
    match paths.len() {
        0 | 1 => first,
        n => format!("{n}, first {first}"),
    }
}
