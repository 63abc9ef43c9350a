//! Applies the steps of a plan in order, new files in batches.

use super::batch;
use super::error::{ApplyError, StepFailure};
use super::report::ApplyReport;
use super::run::ApplyRun;
use crate::sync::backup::SnapshotFile;
use crate::sync::plan::{Op, SyncStep};

impl ApplyRun<'_> {
    /// Applies all steps. Stops at the first [`StepFailure::Abort`].
    pub(super) fn apply_steps(
        &mut self,
        steps: &[SyncStep],
        report: &mut ApplyReport,
    ) -> Result<(), ApplyError> {
        let mut index = 0;
        while let Some(step) = steps.get(index) {
            let batch = batch::select_next_batch(&steps[index..]);
            if batch.is_empty() {
                let result = self.apply_step(step, report);
                if result.is_err() {
                    self.withdraw_deletion(step);
                }
                report.add_result(index, step, result)?;
                index += 1;
            } else {
                self.apply_batch(index, batch, report)?;
                index += batch.len();
            }
        }
        Ok(())
    }

    fn apply_step(&mut self, step: &SyncStep, report: &mut ApplyReport) -> Result<(), StepFailure> {
        self.placed_files.clear();
        for target in step.ops.iter().flat_map(Op::targets) {
            let is_target =
                |file: &SnapshotFile| file.side() == target.side && file.path == target.path;
            // A file that is overwritten without a backup could not be restored.
            if let Some((_, why)) = self.not_backed_up.iter().find(|(file, _)| is_target(file)) {
                let path = self.request.config.file_path(target.side, &target.path);
                return Err(StepFailure::Skip(format!("{why}: {}", path.display())));
            }
        }

        self.record_resolutions(step)?;
        for op in &step.ops {
            self.request.check_interrupt()?;
            self.apply_op(op)?;
        }
        self.request.check_interrupt()?;
        self.record_step(step, report)
    }

    fn apply_op(&mut self, op: &Op) -> Result<(), StepFailure> {
        match op {
            Op::Copy(copy) => self.apply_copy(copy),
            Op::Merge(merge) => self.apply_merge(merge),
            Op::Rename { from, to } => self.apply_rename(from, to),
            Op::KeepConflictCopy(copy) => self.keep_conflict_copy(copy),
            Op::ReplicateConflictCopy { from, name } => self.replicate_conflict_copy(*from, name),
            Op::DropConflictCopy { side, name } => {
                Ok(self.conflict_copy_folders().remove(*side, name)?)
            }
            Op::Remove(file) => self.apply_remove(file),
        }
    }
}
