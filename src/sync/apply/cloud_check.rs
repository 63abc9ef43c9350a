//! Whether the cloud folder is still the one that a plan was made for.

use super::ApplyError;
use crate::io::atomic;
use crate::sync::manifest;
use crate::sync::plan::{CloudContents, PlanError, SyncPlan};
use crate::sync::state::SyncState;
use std::path::Path;

/// Makes the cloud folder where this is the first sync: nobody else does, and nothing after that.
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

/// One that is gone, or in which is nothing of what was in it, was unmounted since the plan was made.
pub(super) fn check_mounted(plan: &SyncPlan, cloud: &Path) -> Result<(), PlanError> {
    if !cloud.is_dir() {
        return Err(PlanError::NoCloud(cloud.to_path_buf()));
    }
    if CloudContents::read(cloud)? < plan.cloud_contents {
        return Err(PlanError::Unmounted(cloud.to_path_buf()));
    }
    Ok(())
}

/// The same at a glance, to be asked before each file.
pub(super) fn check_mounted_quickly(plan: &SyncPlan, cloud: &Path) -> Result<(), PlanError> {
    let [_, words, _] = manifest::folders(cloud);
    let is_there = plan.cloud_contents < CloudContents::Manifests || words.is_dir();
    if is_there && cloud.is_dir() {
        return Ok(());
    }
    check_mounted(plan, cloud)
}
