//! Publishes this machine's manifest and records results in the state: the deletions before the run deletes files,
//! everything else at the end of a run.

use super::attestation;
use super::error::ApplyError;
use super::report::ApplyReport;
use super::request::ApplyRequest;
use super::targets::check_mounted;
use crate::io::atomic;
use crate::sync::ledger::Ledger;
use crate::sync::plan::{StateUpdate, SyncPlan};
use crate::sync::state::{Deletion, SyncState};
use crate::sync::{identity, manager_folder, resolutions, restore_marker};

/// Publishes in this machine's manifest, and records in the state, which files the run will delete in the cloud folder.
/// If the run is killed afterwards, other machines treat the missing files as deleted, not as lost.
pub(super) fn publish_deletions(
    plan: &SyncPlan,
    state: &mut SyncState,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    let steps = plan.steps.iter();
    let deletions = steps.filter_map(|step| match &step.state_update {
        StateUpdate::PublishDeletion(digest) => Some((&step.key, digest.to_string())),
        _ => None,
    });
    let deletions: Vec<_> = deletions.collect();
    if deletions.is_empty() {
        return Ok(());
    }

    let digests_before = state.own.published_digests.clone();
    for (key, digest) in deletions {
        let recorded = state.deleted.get(key);
        // A killed run may have published the same deletion. With another id, it would be a second deletion.
        if recorded.is_none_or(|recorded| recorded.digest != digest) {
            let deletion = Deletion::with_random_id(digest);
            state.deleted.insert(key.clone(), deletion);
        }
    }

    let ledger = attestation::read_written_entries(request)?;
    let files = attestation::select_published_entries(&ledger.files, state, request.config)?;
    let encoded = identity::encode_and_record_manifest(&files, state, request.config)?;

    // The state is durable before the manifest; see `publish_manifest`.
    if state.own.published_digests != digests_before {
        request.replica.write(state)?;
    }

    check_mounted(plan, &request.config.cloud)?;
    Ok(identity::write_manifest(&encoded, state, request.config)?)
}

/// Records the changes of the state that no step makes, compacts the ledger, publishes this machine's manifest and
/// removes leftover temp files. `state_before` is the state at the beginning of the run. The state is durable before
/// the manifest: a manifest that the state does not know would look like the manifest of a clone.
pub(super) fn publish_manifest(
    plan: &SyncPlan,
    report: &ApplyReport,
    state_before: &SyncState,
    mut state: SyncState,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    request.check_interrupt()?;
    update_state_without_steps(plan, report, &mut state, request)?;

    let mut ledger = attestation::read_written_entries(request)?;
    attestation::remove_replaced(&mut ledger.files, &state);
    attestation::attest_unlisted(&mut state, &mut ledger.files, request)?;

    let published = attestation::select_published_entries(&ledger.files, &state, request.config)?;
    let encoded = identity::encode_and_record_manifest(&published, &mut state, request.config)?;
    let is_first_sync = !state_before.file.exists;
    if is_first_sync || !plan.steps.is_empty() || state != *state_before {
        request.replica.write(&mut state)?;
    }

    // With gaps, the next runs still need to know that missing files were not deleted.
    if let Some(marker) = &state.restore_marker
        && !state.has_gaps
    {
        restore_marker::clear_marker(&request.replica.folder, marker)?;
    }
    Ledger::compact(
        request.replica.run_folder(),
        &ledger.files,
        &ledger.superseded,
    )?;

    request.check_interrupt()?;
    // Copying many files takes long enough for a disk to be unmounted; the manifest must not go into its mount point.
    check_mounted(plan, &request.config.cloud)?;
    identity::write_manifest(&encoded, &state, request.config)?;

    // Last, because nothing depends on it.
    remove_leftover_temps(plan, request);
    Ok(())
}

/// Updates the state by what needs no step of the plan: files that are equal, forgotten keys, files that both sides
/// lost, and resolutions of other machines. After a complete run, also records the digest of the notes, and that the
/// state has no gaps if nothing is left to do.
fn update_state_without_steps(
    plan: &SyncPlan,
    report: &ApplyReport,
    state: &mut SyncState,
    request: &ApplyRequest<'_>,
) -> Result<(), ApplyError> {
    for (key, last) in &plan.records.recorded_equal {
        // A running Codex may have changed the file since it was read: a plan without steps does not require that
        // Codex is closed.
        if last.is_unchanged(request.config)? {
            let replaced_digest = None;
            state.record_synced(key, last.clone(), replaced_digest);
        }
    }

    if plan.is_complete {
        state.notes_digest = plan.notes_digest();
        // The state has no gaps any more after a complete run that leaves nothing to do.
        let leaves_nothing_to_do = plan.conflicts.is_empty()
            && plan.notices.waiting.is_empty()
            && plan.notices.skipped.is_empty()
            && report.skipped.is_empty();
        if leaves_nothing_to_do {
            state.has_gaps = false;
        }
    }

    for key in &plan.records.forgotten_keys {
        state.files.remove(key);
    }
    for (key, digest) in &plan.records.lost_deletions {
        let deletion = Deletion::with_random_id(digest.to_string());
        state.deleted.insert(key.clone(), deletion);
    }
    for record in &plan.records.learned_resolutions {
        resolutions::merge_record(record, &mut state.resolutions);
    }
    Ok(())
}

fn remove_leftover_temps(plan: &SyncPlan, request: &ApplyRequest<'_>) {
    for temp in &plan.leftover_temps {
        atomic::remove_stale_temps(atomic::parent_of(temp));
    }

    let replica = request.replica;
    let local_folders = [replica.folder.clone(), replica.conflict_copies()];
    let cloud_folders = manager_folder::list_folders(&request.config.cloud);
    for folder in cloud_folders.iter().chain(&local_folders) {
        atomic::remove_stale_temps(folder);
    }
}
