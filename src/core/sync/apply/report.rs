//! The result of a run.

use super::error::{ApplyError, StepFailure};
use crate::sync::backup::BackupError;
use crate::sync::plan::SyncStep;

/// The completed and skipped steps of a run, and the snapshots that it made and removed.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Indexes of the completed steps of the plan, in ascending order.
    pub done: Vec<usize>,
    /// Steps that were left for the next run: path and reason.
    pub skipped: Vec<(String, String)>,
    /// Name of the snapshot with the former contents; `None` if nothing was overwritten.
    pub snapshot: Option<String>,
    /// Names of the old snapshots that were removed.
    pub pruned: Vec<String>,
    /// The reason why old snapshots were not removed. The sync itself is complete.
    pub prune_error: Option<BackupError>,
}

impl ApplyReport {
    /// Adds the result of the step with this index in the plan. Returns the error of [`StepFailure::Abort`].
    pub(super) fn add_result(
        &mut self,
        index: usize,
        step: &SyncStep,
        result: Result<(), StepFailure>,
    ) -> Result<(), ApplyError> {
        match result {
            Ok(()) => self.done.push(index),
            Err(StepFailure::Skip(why)) => self.skipped.push((step.path.clone(), why)),
            Err(StepFailure::Abort(error)) => return Err(error),
        }
        Ok(())
    }
}
