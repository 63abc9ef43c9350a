//! Checks that the cloud folder is still mounted. Without them, a run would write into the bare mount point of an
//! unmounted folder.

use super::ApplyError;
use crate::io::atomic;
use crate::sync::manifest;
use crate::sync::plan::{CloudContents, PlanError, SyncPlan};
use crate::sync::state::SyncState;
use std::path::Path;

/// Creates the cloud folder on a first sync. Later runs never create it, because a missing folder is not mounted.
pub(super) fn create_at_first_sync(
    plan: &SyncPlan,
    state: &SyncState,
    cloud: &Path,
) -> Result<(), ApplyError> {
    if !state.exists && plan.cloud_contents == CloudContents::Empty {
        atomic::create_durable_folder(cloud)?;
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

/// Checks the same as [`check_mounted`] with two `stat` calls in the normal case; called before each file.
pub(super) fn check_mounted_quickly(plan: &SyncPlan, cloud: &Path) -> Result<(), PlanError> {
    let [_, manifests, _] = manifest::folders(cloud);
    let has_manifests = plan.cloud_contents < CloudContents::Manifests || manifests.is_dir();
    if has_manifests && cloud.is_dir() {
        return Ok(());
    }
    check_mounted(plan, cloud)
}
