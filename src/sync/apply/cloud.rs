//! Whether the cloud folder is still the one that a plan was made for.

use super::ApplyError;
use crate::io::{IoContext, atomic};
use crate::sync::plan::{Plan, PlanError};
use crate::sync::state::State;
use std::fs;
use std::path::Path;

/// The cloud folder is made by the first sync alone: one that is gone, or that nothing is in any more, was
/// unmounted since the plan was made.
pub(super) fn still_there(plan: &Plan, state: &State, cloud: &Path) -> Result<(), ApplyError> {
    if !state.exists {
        return Ok(atomic::create_durable_folder(cloud)?);
    }
    if !cloud.is_dir() {
        return Err(PlanError::NoCloud(cloud.to_path_buf()).into());
    }
    let known = plan.unchanged;
    if known > 0 && fs::read_dir(cloud).at("list", cloud)?.next().is_none() {
        let cloud = cloud.to_path_buf();
        let missing = known;
        return Err(PlanError::Hollow {
            missing,
            known,
            cloud,
        }
        .into());
    }
    Ok(())
}
