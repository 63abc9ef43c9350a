//! Applies a plan step by step.
//!
//! Each file is checked again right before it is read and right before it is replaced; if its size or time changed
//! since the plan, the step is left for the next run. A file is replaced by one rename of a complete, durable copy. The
//! order of durable writes is: the copy and the ledger entry that attests the copy, the name, the state. If a run is
//! killed between the last two, the next run finds both sides equal.
//!
//! Order of a run: back up what will be overwritten, publish the deletions ([`publish`]), record the pending index
//! updates, apply the steps (new files in batches, see `batch`), record the state and publish the manifest, prune old
//! snapshots.

mod attestation;
mod batch;
mod copying;
mod error;
mod file_ops;
mod publish;
mod report;
mod request;
mod run;
mod targets;

pub use error::ApplyError;
pub use report::ApplyReport;
pub use request::ApplyRequest;
pub use run::index_update_of;

use self::copying::Copier;
use self::run::ApplyRun;
use self::targets::check_mounted;
use super::backup::{self, SnapshotFile};
use super::ledger::Ledger;
use super::pending_index_updates::PendingIndexUpdates;
use super::plan::{CloudContents, SyncPlan, SyncStep};
use super::snapshot_writer;
use super::state::SyncState;
use crate::io::atomic;

/// Applies a plan. `state` is the state that the plan is based on; the caller holds the lock of the replica.
///
/// # Errors
/// See [`ApplyError`]; errors after the backup are wrapped in [`ApplyError::Stopped`].
pub fn apply(
    plan: &SyncPlan,
    state: SyncState,
    request: &ApplyRequest<'_>,
) -> Result<ApplyReport, ApplyError> {
    let mut report = ApplyReport::default();
    match apply_and_fill_report(plan, state, request, &mut report) {
        Ok(()) => Ok(report),
        Err(cause) => Err(match report.snapshot {
            Some(snapshot) => ApplyError::Stopped {
                snapshot,
                cause: Box::new(cause),
            },
            None => cause,
        }),
    }
}

/// Applies a plan. Fills `report` even if an error ends the run, so that the error can name the snapshot of the
/// replaced files.
fn apply_and_fill_report(
    plan: &SyncPlan,
    mut state: SyncState,
    request: &ApplyRequest<'_>,
    report: &mut ApplyReport,
) -> Result<(), ApplyError> {
    // Only the first run creates the cloud folder. Later, a missing folder means that the disk is not mounted.
    if !state.file.exists && plan.cloud_contents == CloudContents::Empty {
        atomic::create_private_folder(&request.config.cloud)?;
    }
    check_mounted(plan, &request.config.cloud)?;

    if state.file.needs_rewrite {
        request.replica.write(&mut state)?;
    }
    // Compared at the end: a run that changes nothing in the state does not write the state file.
    let state_before = state.clone();

    let mut not_backed_up = Vec::new();
    if request.config.backup.before_overwrite {
        let snapshot = snapshot_writer::back_up_plan(plan, request.config, request.now)?;
        (report.snapshot, not_backed_up) = (snapshot.name, snapshot.not_copied);
    }

    publish::publish_deletions(plan, &mut state, request)?;

    // Before the first file: after a kill, the next run finds both sides equal and no reason to update Codex's index.
    let updates: Vec<_> = plan.steps.iter().filter_map(index_update_of).collect();
    PendingIndexUpdates::new(request.replica).record(&updates)?;

    apply_steps(plan, &mut state, request, not_backed_up, report)?;
    publish::publish_manifest(plan, report, &state_before, state, request)?;

    if request.config.backup.before_overwrite {
        match backup::prune_snapshots(request.config, request.now, report.snapshot.as_deref()) {
            Ok(pruned) => {
                report.pruned = pruned.names;
                report.prune_error = pruned.clock_doubt.map(Into::into);
            }
            Err(error) => report.prune_error = Some(error),
        }
    }
    Ok(())
}

/// Applies the steps of a plan. The journal and the ledger are closed on return, because not every system replaces an
/// open file.
fn apply_steps(
    plan: &SyncPlan,
    state: &mut SyncState,
    request: &ApplyRequest<'_>,
    not_backed_up: Vec<(SnapshotFile, String)>,
    report: &mut ApplyReport,
) -> Result<(), ApplyError> {
    let mut run = ApplyRun {
        request,
        copier: Copier {
            config: request.config,
            progress: request.progress,
        },
        journal: request.replica.open_journal()?,
        ledger: Ledger::open(request.replica.run_folder())?,
        state,
        not_backed_up,
        plan,
        placed_files: Vec::new(),
    };
    let outcome = apply_in_order(&mut run, &plan.steps, report);
    // Even after a failure, because the completed steps have to stay recorded.
    let synced = run.journal.sync();
    outcome?;
    Ok(synced?)
}

/// Applies the steps in order, new files in batches. Stops at the first step that ends the run.
fn apply_in_order(
    run: &mut ApplyRun<'_>,
    steps: &[SyncStep],
    report: &mut ApplyReport,
) -> Result<(), ApplyError> {
    let mut index = 0;
    while let Some(step) = steps.get(index) {
        let batch = batch::select_next_batch(&steps[index..]);
        if batch.is_empty() {
            let result = run.apply_step(step);
            if result.is_err() {
                run.withdraw_deletion(step);
            }
            report.add_result(index, step, result)?;
            index += 1;
        } else {
            run.apply_batch(index, batch, report)?;
            index += batch.len();
        }
    }
    Ok(())
}
