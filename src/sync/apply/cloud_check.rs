//! Checks that the cloud folder is still mounted, so that no run writes into the bare mount point of an unmounted
//! folder.

use super::error::ApplyError;
use crate::io::atomic;
use crate::sync::manager_folder;
use crate::sync::plan::{CloudContents, PlanError, SyncPlan};
use crate::sync::state::SyncState;
use std::path::Path;

/// Creates the cloud folder on a first sync. Later runs never create it, because a missing folder is not mounted.
pub(super) fn create_at_first_sync(
    plan: &SyncPlan,
    state: &SyncState,
    cloud: &Path,
) -> Result<(), ApplyError> {
    if !state.file.exists && plan.cloud_contents == CloudContents::Empty {
        atomic::create_private_folder(cloud)?;
    }
    Ok(())
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
