//! Plans the removal of rollouts that rewinds began after the archive was made. Codex continues the newest rollout of a
//! conversation, so these rollouts would hide the restored older state.

use super::live_files::LiveFiles;
use super::request::RestoreRequest;
use super::request::RestoreTarget;
use super::restore_plan::RestorePlan;
use crate::archive::{EntryName, parse_rollout_name};
use crate::codex::rollout::parse_rollout_id;
use crate::history::rollout;
use crate::restore::error::RestoreError;
use std::collections::HashSet;

/// Adds the rollouts of the conversation of `--session` that are newer than the archived ones to the removals of the
/// plan. Does nothing for `--merge` and `--to`.
///
/// # Errors
/// [`RestoreError::Continued`] if a fork in the home continues a rollout that would be removed.
pub(crate) fn plan_removal_of_later_rollouts(
    request: &RestoreRequest<'_>,
    plan: &mut RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    let Some(thread_id) = request.selection.thread_id() else {
        return Ok(());
    };

    if plan.merge || request.target == RestoreTarget::Elsewhere {
        return Ok(());
    }

    let is_of_thread = |name: &EntryName| {
        parse_rollout_name(name.as_path()).is_some_and(|file| file.id() == Some(&thread_id))
    };

    let archived = plan.writes.iter().filter(is_of_thread);
    let archived_ids = archived.filter_map(|name| parse_rollout_id(name.as_path()));
    // The ids of rollouts are UUIDs that begin with a time, so their order is the order of creation.
    let newest_archived_id = archived_ids.max();

    let is_later = |name: &EntryName| parse_rollout_id(name.as_path()) > newest_archived_id;
    let unrestored = live.names.without(&plan.writes);
    let later_rollouts: Vec<_> = unrestored
        .iter()
        .filter(is_of_thread)
        .filter(is_later)
        .collect();
    if later_rollouts.is_empty() {
        return Ok(());
    }

    let later_ids = later_rollouts
        .iter()
        .filter_map(|name| parse_rollout_id(name.as_path()));
    let later_ids: HashSet<_> = later_ids.collect();

    let is_other_rollout =
        |name: &EntryName| !is_of_thread(name) && parse_rollout_name(name.as_path()).is_some();
    for fork in live.names.iter().filter(is_other_rollout) {
        // A rollout that cannot be read counts as one that continues none of them.
        let head = rollout::read_head(&request.folder.join(fork.as_path()));
        let continued_id = head.ok().flatten().and_then(|meta| meta.base_id());
        if continued_id.is_some_and(|id| later_ids.contains(&id.to_lowercase())) {
            return Err(RestoreError::Continued(fork.as_path().to_path_buf()));
        }
    }

    plan.removed.extend(later_rollouts);
    Ok(())
}
