//! The layout of `.codex-manager`, the folder in the cloud folder that belongs to this program.

use std::path::{Path, PathBuf};

pub(super) const MANAGER_FOLDER: &str = ".codex-manager";
const MACHINES_FOLDER: &str = "machines";
/// Name of the folder of conflict copies, in the folder of a state and in [`MANAGER_FOLDER`].
pub(super) const CONFLICT_COPIES_FOLDER: &str = "forks";

pub(super) fn manifests_folder(cloud: &Path) -> PathBuf {
    cloud.join(MANAGER_FOLDER).join(MACHINES_FOLDER)
}

pub(super) fn conflict_copies_folder(cloud: &Path) -> PathBuf {
    cloud.join(MANAGER_FOLDER).join(CONFLICT_COPIES_FOLDER)
}

/// Returns the path of a conflict copy, relative to the cloud folder.
pub(super) fn conflict_copy_path(name: &str) -> String {
    format!("{MANAGER_FOLDER}/{CONFLICT_COPIES_FOLDER}/{name}")
}

/// Returns the path of a manifest, relative to the cloud folder, for messages.
pub(super) fn manifest_path(name: &str) -> String {
    format!("{MANAGER_FOLDER}/{MACHINES_FOLDER}/{name}")
}

/// Returns the program's folders in the cloud folder, the outermost first: the whole folder, the manifests, the
/// conflict copies.
pub(super) fn list_folders(cloud: &Path) -> [PathBuf; 3] {
    [
        cloud.join(MANAGER_FOLDER),
        manifests_folder(cloud),
        conflict_copies_folder(cloud),
    ]
}

/// Returns the first of the program's folders in the cloud folder that is a link or a file. Writing through a
/// link would put files elsewhere.
pub(super) fn find_unusable_folder(cloud: &Path) -> Option<PathBuf> {
    let is_no_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
    list_folders(cloud).into_iter().find(is_no_folder)
}
