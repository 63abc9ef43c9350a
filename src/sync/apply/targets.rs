//! Target paths of file operations: their folders, the checks before a file gets its name, and the checks that the
//! cloud folder is still mounted, so that no run writes into the bare mount point of an unmounted folder.

use super::error::{ApplyError, StepFailure, changed_file_failure};
use crate::io::atomic::{self, TempFile};
use crate::io::tree;
use crate::sync::config::SyncConfig;
use crate::sync::plan::{CloudContents, PlanError, SyncPlan};
use crate::sync::sides::{Side, Stat};
use crate::sync::{manager_folder, scope};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The durability of the folders that [`prepare_folder`] creates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NewFolders {
    Durable,
    /// The caller syncs new folders.
    Unsynced,
}

/// Creates the folders of a target, which are durable on return, and returns its full path, as [`prepare_folder`] and
/// [`prepare_place`] do.
pub(super) fn prepare_target(
    config: &SyncConfig,
    plan: &SyncPlan,
    to: &(Side, String),
) -> Result<PathBuf, StepFailure> {
    prepare_folder(config, plan, to, NewFolders::Durable)?;
    Ok(prepare_place(config, to))
}

/// Creates the folders of a target. Fails if a component is a file or a link, except for the links at the top level of
/// the home that sync follows, or if the cloud folder is not mounted any more.
pub(super) fn prepare_folder(
    config: &SyncConfig,
    plan: &SyncPlan,
    to: &(Side, String),
    new_folders: NewFolders,
) -> Result<(), StepFailure> {
    let root = config.root(to.0);
    if to.0 == Side::Local {
        atomic::create_private_folder(root)?;
    } else {
        check_mounted_quickly(plan, root).map_err(ApplyError::from)?;
    }
    for (end, _) in to.1.match_indices('/') {
        let relative = &to.1[..end];
        let folder = root.join(relative);
        let is_followed_link = || {
            let is_user_link =
                to.0 == Side::Local && scope::follows_link(relative, &config.scope.roots);
            is_user_link && folder.is_dir()
        };
        match fs::symlink_metadata(&folder) {
            Ok(meta) if meta.is_dir() || is_followed_link() => {}
            Ok(_) => {
                let why = format!("not a folder, or a link to one: {}", folder.display());
                return Err(StepFailure::Skip(why));
            }
            Err(_) if new_folders == NewFolders::Unsynced => {
                atomic::create_below(root, &folder)?;
            }
            Err(_) => atomic::create_durable_below(root, &folder)?,
        }
    }
    Ok(())
}

/// Returns the full path of a target whose folders exist, and removes a folder in its place that has no files.
pub(super) fn prepare_place(config: &SyncConfig, to: &(Side, String)) -> PathBuf {
    let place = config.file_path(to.0, &to.1);
    // A removal in the same run may have emptied it.
    if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_dir()) {
        // Removes empty folders only; one with files stays, and placing the file fails.
        tree::remove_empty_folders(&place);
    }
    place
}

/// Fails if the target is not as the plan observed it.
pub(super) fn check_target_unchanged(path: &Path, over: Option<Stat>) -> Result<(), StepFailure> {
    let is_special = fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file());
    if !is_special && Stat::read(path)? == over {
        Ok(())
    } else {
        Err(changed_file_failure(path))
    }
}

/// Renames a durable file to `target`, and fails if that exists. The plan found the path free, so a file that a cloud
/// client created at the last moment is in no backup and must not be replaced.
pub(super) fn rename_new(file: TempFile, target: &Path) -> Result<(), StepFailure> {
    file.publish_unsynced(target)
        .map_err(|e| match e.source.kind() {
            io::ErrorKind::AlreadyExists => changed_file_failure(target),
            _ => e.into(),
        })
}

/// Fails if the cloud folder is gone, or lost all its manifests or all its content since the plan.
pub(super) fn check_mounted(plan: &SyncPlan, cloud: &Path) -> Result<(), PlanError> {
    if !cloud.is_dir() {
        return Err(PlanError::NoCloud(cloud.to_path_buf()));
    }
    if CloudContents::read(cloud)? < plan.cloud_contents {
        return Err(PlanError::Unmounted(cloud.to_path_buf()));
    }
    Ok(())
}

/// A cheaper, weaker form of [`check_mounted`], called before each file: two `stat` calls find a missing cloud folder
/// or manifest folder. Content that vanished otherwise is found at the end of the run.
pub(super) fn check_mounted_quickly(plan: &SyncPlan, cloud: &Path) -> Result<(), PlanError> {
    let [_, manifests, _] = manager_folder::folders(cloud);
    let has_expected_manifests =
        plan.cloud_contents < CloudContents::Manifests || manifests.is_dir();
    if has_expected_manifests && cloud.is_dir() {
        return Ok(());
    }
    check_mounted(plan, cloud)
}
