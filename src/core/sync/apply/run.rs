//! A run of [`apply`](super::apply): its open files, and the records of its steps in the state and the ledger.

use super::copying::{Copier, PlacedFile, StagedCopy};
use super::error::StepFailure;
use super::request::ApplyRequest;
use crate::history::session_index;
use crate::io::IoError;
use crate::sync::backup::SnapshotFile;
use crate::sync::index_updates::{ContentChange, IndexUpdate};
use crate::sync::ledger::Ledger;
use crate::sync::manifest::ManifestEntry;
use crate::sync::pending_index_updates::{self, PendingIndexUpdates};
use crate::sync::plan::{CopyOp, Op, Placement, StateUpdate, SyncAction, SyncPlan, SyncStep};
use crate::sync::rollouts;
use crate::sync::sides::{Side, SidePath};
use crate::sync::state::{SideFile, StateJournal, SyncState, SyncedFile};

/// A run with the open files that all steps use.
pub(super) struct ApplyRun<'a> {
    pub(super) request: &'a ApplyRequest<'a>,
    pub(super) copier: Copier<'a>,
    pub(super) journal: StateJournal,
    pub(super) ledger: Ledger,
    pub(super) state: &'a mut SyncState,
    /// Files that could not be backed up, with the reason; they are not overwritten.
    pub(super) not_backed_up: Vec<(SnapshotFile, String)>,
    pub(super) plan: &'a SyncPlan,
    /// Files that the current step has written.
    pub(super) placed_files: Vec<PlacedFile>,
}

impl ApplyRun<'_> {
    /// Withdraws the published deletion of a file that could not be deleted. If the run is killed before it writes the
    /// state, the next run compares the file again and then withdraws the deletion.
    pub(super) fn withdraw_deletion(&mut self, step: &SyncStep) {
        if matches!(step.state_update, StateUpdate::PublishDeletion(_)) {
            self.state.deleted.remove(&step.key);
        }
    }

    /// Records the resolutions that a step publishes. The journal is durable before the file is written: once both
    /// sides have the file, no later run would find a reason to record the resolutions.
    pub(super) fn record_resolutions(&mut self, step: &SyncStep) -> Result<(), IoError> {
        let Some(records) = self.plan.records.published_records.get(&step.key) else {
            return Ok(());
        };
        for record in records {
            self.journal.record_resolution(record)?;
        }
        self.state.resolutions.extend(records.iter().cloned());
        if !records.is_empty() {
            self.journal.sync()?;
        }
        Ok(())
    }

    /// Applies a step whose copies, if any, are not part of a batch.
    pub(super) fn apply_step(&mut self, step: &SyncStep) -> Result<(), StepFailure> {
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
        self.record_step(step)
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

    /// Records a completed step in the state.
    pub(super) fn record_step(&mut self, step: &SyncStep) -> Result<(), StepFailure> {
        match &step.state_update {
            StateUpdate::Synced { local, remote } => self.record_synced(step, local, remote)?,
            StateUpdate::PublishDeletion(_) | StateUpdate::Forget => {
                self.journal.record_gone(&step.key)?;
                self.state.files.remove(&step.key);
            }
            StateUpdate::None => {}
        }
        Ok(())
    }

    /// Returns the file at `placement` after the step. A file that the step did not write gets the stat of the plan,
    /// not the present one, so that a change since the plan counts as a change in the next run. `None` without either.
    fn file_after_step(&self, side: Side, placement: &Placement) -> Option<SideFile> {
        let is_at_placement =
            |file: &&PlacedFile| file.to.side == side && file.to.path == placement.path;
        let placed_file = self.placed_files.iter().find(is_at_placement);
        let stat = placed_file.map(|file| file.stat).or(placement.stat)?;
        Some(SideFile::new(&placement.path, stat))
    }

    /// Records that both sides have the same version.
    fn record_synced(
        &mut self,
        step: &SyncStep,
        local: &Placement,
        remote: &Placement,
    ) -> Result<(), StepFailure> {
        let local = self.file_after_step(Side::Local, local);
        let remote = self.file_after_step(Side::Remote, remote);
        let (Some(local), Some(remote)) = (local, remote) else {
            // A merge writes no side that has all lines, also under another spelling of its name, so there is no stat to
            // record. The next run compares again.
            return Ok(());
        };

        // The recorded text is valid only while one side still has the file of the last sync.
        let is_valid =
            |last: &&SyncedFile| last.local.stat == local.stat || last.remote.stat == remote.stat;
        let valid_record = self.state.files.get(&step.key).filter(is_valid);
        let text = match self.placed_files.first() {
            // All files that a step writes have one text, or the text is unknown.
            Some(placed) => placed.text,
            None => valid_record.and_then(|last| last.text),
        };

        let record = SyncedFile {
            local,
            remote,
            text,
        };

        // A cloud client may restore the content that a copy replaced, so its digest is kept.
        let replaced_digest = step.ops.iter().find_map(|op| match op {
            Op::Copy(copy) => copy.replaced_digest,
            _ => None,
        });
        self.state
            .record_synced(&step.key, record.clone(), replaced_digest);
        let former_digests = self.state.replaced_digests(&step.key);
        Ok(self.journal.record(&step.key, &record, former_digests)?)
    }

    /// Records the conversations that get another name from a staged `session_index.jsonl`, so that Codex's lists are
    /// updated even if the run is killed right after the file is replaced. Does nothing for other files.
    pub(super) fn record_name_changes(&self, staged: &StagedCopy) -> Result<(), IoError> {
        let SidePath { side, path } = &staged.placed.to;
        if *side == Side::Remote || path != session_index::FILE_NAME {
            return Ok(());
        }
        let renamed = pending_index_updates::find_renamed(&staged.target, staged.temp.path())?;
        PendingIndexUpdates::new(self.request.replica).record(&renamed)
    }

    /// Adds a copy to the ledger before the copy gets its name. The entry of an upload attests the file; the entry of a
    /// download keeps the local file from counting as a local edit if the run is killed. Durable after
    /// [`Ledger::sync`].
    pub(super) fn record_in_ledger(
        &mut self,
        copy: &CopyOp,
        entry: &ManifestEntry,
    ) -> Result<(), IoError> {
        if copy.from.side == Side::Remote {
            if copy.expected_digest.is_none() {
                // No machine attests the remote version, so this machine does from now on.
                self.ledger.record_upload(&copy.from.path, entry)?;
            }
            if copy.to.side == Side::Local {
                self.ledger.record_download(&copy.from.path, entry)?;
            }
        }

        if copy.to.side == Side::Remote {
            self.ledger.record_upload(&copy.to.path, entry)?;
        }
        Ok(())
    }
}

/// Returns the update of Codex's index that a step requires; `None` unless the step changes a local conversation.
pub fn index_update_of(step: &SyncStep) -> Option<IndexUpdate> {
    if !rollouts::is_key(&step.key) {
        return None;
    }

    let (path, change) = match &step.state_update {
        StateUpdate::Synced { local, .. } => (&local.path, step.change),
        StateUpdate::Forget if step.action == SyncAction::DeleteLocal => {
            (&step.path, ContentChange::Deleted)
        }
        _ => return None,
    };

    // Codex's row may name a duplicate that is removed.
    let moves_or_removes_file = step.ops.iter().any(|op| match op {
        Op::Rename { from, .. } | Op::Remove(from) => from.side == Side::Local,
        _ => false,
    });
    if !moves_or_removes_file && change == ContentChange::Unchanged {
        return None;
    }

    Some(IndexUpdate {
        id: rollouts::id(&step.key)?,
        path: path.clone(),
        change,
    })
}
