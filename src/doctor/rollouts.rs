//! The rollouts of a home, and the folders of them that cannot be listed.

use codex_manager_core::codex::{ARCHIVED_SESSIONS, RolloutName, SESSIONS};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the first folder of conversations that exists and cannot be listed.
pub(super) fn find_unlistable_folder(home: &Path) -> Option<PathBuf> {
    let mut folders = [SESSIONS, ARCHIVED_SESSIONS]
        .map(|name| home.join(name))
        .into_iter();
    folders.find(|folder| folder.symlink_metadata().is_ok() && fs::read_dir(folder).is_err())
}

pub(super) fn iter_rollouts(home: &Path) -> impl Iterator<Item = (PathBuf, RolloutName)> {
    let folders = [SESSIONS, ARCHIVED_SESSIONS].map(|folder| home.join(folder));
    let entries = folders
        .into_iter()
        // sessions/ may be a link to another disk, which Codex follows.
        .flat_map(|folder| walkdir::WalkDir::new(folder).follow_links(true));
    let files = entries.flatten().filter(|e| e.file_type().is_file());

    files.filter_map(|entry| {
        let rollout = RolloutName::parse(entry.path())?;
        Some((entry.into_path(), rollout))
    })
}
