//! What a run leaves for the next one and tells other machines: what it is about to delete before that is
//! done, all else at its end.

use super::{ApplyError, ApplyReport, ApplyRequest, cloud_check};
use crate::io::atomic;
use crate::sync::decisions;
use crate::sync::identity;
use crate::sync::ledger::{Ledger, Noted};
use crate::sync::manifest;
use crate::sync::plan::{StateUpdate, SyncPlan};
use crate::sync::restored;
use crate::sync::state::{Deletion, State};
use crate::sync::vouching;

/// Tells the other machines what is about to be deleted in the cloud folder, and notes it here: whatever is
/// killed then, what is missing there is not taken for lost, neither here nor there.
pub(super) fn publish_deletions(
    plan: &SyncPlan,
    state: &mut State,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    let deleted = plan
        .steps
        .iter()
        .filter_map(|step| match &step.state_update {
            StateUpdate::PublishDeletion(digest) => Some((&step.key, digest.to_string())),
            _ => None,
        });
    let deleted: Vec<_> = deleted.collect();
    if deleted.is_empty() {
        return Ok(());
    }
    let before = state.published.clone();
    for (key, digest) in deleted {
        let known = state.deleted.get(key);
        // A run that was killed has told of it already.
        if known.is_none_or(|known| known.digest != digest) {
            state.deleted.insert(key.clone(), Deletion::of(digest));
        }
    }
    let Noted {
        mut files, earlier, ..
    } = Ledger::read(&request.replica.folder)?;
    vouching::for_what_is_there(&mut files, earlier, &request.config.cloud);
    let said = identity::word(&files, state, request.config)?;
    if state.published != before {
        request.replica.write(state)?;
    }
    cloud_check::check_mounted(plan, &request.config.cloud)?;
    let path = identity::manifest_of(request.config, state);
    Ok(said.write(&request.config.cloud, &path)?)
}

/// What the run leaves for the next one and for other machines.
pub(super) fn publish_manifest(
    plan: &SyncPlan,
    report: &ApplyReport,
    before: &State,
    mut state: State,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    if !(request.keep_going)() {
        return Err(ApplyError::Interrupted);
    }
    for (key, last) in &plan.recorded_equal {
        // What was written to meanwhile may not be what was read. Where nothing else is to be done, Codex
        // may be at work.
        if !last.is_still(request.config)? {
            continue;
        }
        // Both sides have it: it is not deleted any more.
        state.deleted.remove(key);
        state.files.insert(key.clone(), last.clone());
    }
    state.histories.extend(plan.histories.iter().cloned());
    if plan.is_complete {
        state.notes = plan.notes_digest();
        let left = [&plan.waiting, &plan.skipped, &report.skipped];
        state.has_gaps &= !plan.conflicts.is_empty() || left.iter().any(|list| !list.is_empty());
    }
    for key in &plan.forgotten {
        state.files.remove(key);
    }
    for (key, digest) in &plan.deletions {
        let deletion = Deletion::of(digest.clone());
        state.deleted.insert(key.clone(), deletion);
    }
    for word in &plan.learned_resolutions {
        decisions::take(word, &mut state.resolved);
    }
    let Noted {
        mut files, earlier, ..
    } = Ledger::read(&request.replica.folder)?;
    files.extend(plan.attested.iter().cloned());
    let earlier = vouching::for_what_is_there(&mut files, earlier, &request.config.cloud);
    vouching::drop_gone(&mut files, plan, &state, &request.config.cloud);
    vouching::for_known(&mut state, &mut files, request)?;
    let changed = !before.exists
        || state.files != before.files
        || state.resolved != before.resolved
        || state.deleted != before.deleted
        || state.histories != before.histories
        || state.has_peers != before.has_peers
        || state.notes != before.notes
        || state.has_gaps != before.has_gaps
        || state.torn != before.torn
        || !plan.steps.is_empty();
    let said = identity::word(&files, &mut state, request.config)?;
    if changed || state.published != before.published {
        request.replica.write(&mut state)?;
    }
    if let Some(mark) = state.restored.as_ref().filter(|_| !state.has_gaps) {
        restored::settle(&request.replica.folder, mark)?;
    }
    Ledger::compact(&request.replica.folder, &files, &earlier)?;
    if !(request.keep_going)() {
        return Err(ApplyError::Interrupted);
    }
    cloud_check::check_mounted(plan, &request.config.cloud)?;
    said.write(
        &request.config.cloud,
        &identity::manifest_of(request.config, &state),
    )?;
    for temp in &plan.leftover_temps {
        atomic::sweep(atomic::parent_of(temp));
    }
    let own = [request.replica.folder.clone(), request.replica.forks()];
    for folder in manifest::folders(&request.config.cloud).iter().chain(&own) {
        atomic::sweep(folder);
    }
    Ok(())
}
