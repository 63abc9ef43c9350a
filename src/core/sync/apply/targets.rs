//! Prepares the targets of file operations: creates their folders, and checks that a target did not change and that the
//! cloud folder is still mounted. A run must not write into the empty mount point of an unmounted folder.

use super::error::{ApplyError, StepFailure, changed_file_failure};
use crate::io::atomic::{self, TempFile};
use crate::io::{IoContext, tree};
use crate::sync::config::SyncConfig;
use crate::sync::plan::{CloudContents, PlanError, SyncPlan};
use crate::sync::sides::{Side, SidePath, is_absent};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The durability of the folders that [`create_folders_above`] creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewFolders {
    /// New folders are durable on return.
    Durable,
    /// The caller makes new folders durable.
    Unsynced,
}

/// Creates the folders above a target, durable on return, and removes a folder without files at its path. Returns the
/// full path.
pub(super) fn prepare_target(
    config: &SyncConfig,
    plan: &SyncPlan,
    to: &SidePath,
) -> Result<PathBuf, StepFailure> {
    create_folders_above(config, plan, to, NewFolders::Durable)?;
    Ok(clear_target_path(config, to))
}

/// Creates the folders above a target. Fails if the cloud folder is no longer mounted, or if a file or a link is in the
/// place of a folder. Sync follows some links at the top level of the home: these count as folders.
pub(super) fn create_folders_above(
    config: &SyncConfig,
    plan: &SyncPlan,
    to: &SidePath,
    new_folders: NewFolders,
) -> Result<(), StepFailure> {
    let root = config.root(to.side);
    if to.side == Side::Local {
        atomic::create_private_folder(root)?;
    } else {
        check_mounted(plan, root).map_err(ApplyError::from)?;
    }

    for (slash, _) in to.path.match_indices('/') {
        let relative = &to.path[..slash];
        let folder = root.join(relative);
        let is_followed_link = || config.follows_link(to.side, relative) && folder.is_dir();

        match fs::symlink_metadata(&folder) {
            Ok(meta) if meta.is_dir() || is_followed_link() => {}
            Ok(_) => {
                let why = format!(
                    "a file or a link is in the place of a folder: {}",
                    folder.display()
                );
                return Err(StepFailure::Skip(why));
            }
            Err(_) if new_folders == NewFolders::Unsynced => {
                atomic::create_unsynced_below(root, &folder)?;
            }
            Err(_) => atomic::create_durable_below(root, &folder)?,
        }
    }
    Ok(())
}

/// Returns the full path of a target. If a folder without files is at that path, removes the folder.
pub(super) fn clear_target_path(config: &SyncConfig, to: &SidePath) -> PathBuf {
    let path = config.file_path(to.side, &to.path);
    // A removal in the same run may have emptied the folder.
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
        // A folder with files stays, and the rename to the target fails.
        tree::remove_empty_folders(&path);
    }
    path
}

/// Fails if anything is at `path`, where the plan found nothing.
pub(super) fn refuse_occupied(path: &Path) -> Result<(), StepFailure> {
    match fs::symlink_metadata(path) {
        Err(e) if is_absent(&e) => Ok(()),
        Err(e) => Err(e).at("inspect", path)?,
        Ok(_) => Err(changed_file_failure(path)),
    }
}

/// Renames a durable file to `target`. Fails if `target` exists: the plan found no file there, so a file that a cloud
/// client created since then is in no backup and must not be replaced.
pub(super) fn rename_new(file: TempFile, target: &Path) -> Result<(), StepFailure> {
    file.publish_unsynced(target)
        .map_err(|e| match e.source.kind() {
            io::ErrorKind::AlreadyExists => changed_file_failure(target),
            _ => e.into(),
        })
}

/// Fails if the cloud folder is gone, or has lost all its manifests or all its content since the plan.
pub(super) fn check_mounted(plan: &SyncPlan, cloud: &Path) -> Result<(), PlanError> {
    if !cloud.is_dir() {
        return Err(PlanError::NoCloud(cloud.to_path_buf()));
    }
    // A lower value is weaker evidence of a mounted folder.
    if CloudContents::read(cloud)? < plan.cloud_contents {
        return Err(PlanError::Unmounted(cloud.to_path_buf()));
    }
    Ok(())
}
