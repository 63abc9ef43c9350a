//! Applies a plan step by step.
//!
//! Each file is checked again right before it is read and right before it is replaced; if its size or time changed
//! since the plan, the step is left for the next run. A file is replaced by one rename of a complete, durable copy.
//! The order of durable writes is: the copy and the ledger entry that attests it, the name, the state. A run killed
//! between
//! the last two finds both sides equal next time.
//!
//! Order of a run: back up what will be overwritten, publish the deletions ([`publish`]), record the pending index
//! updates, apply the steps (new files in batches, see `batch`), record the state and publish the manifest, prune old
//! snapshots.

mod batch;
mod cloud_check;
mod conflict_copies;
pub(super) mod copying;
mod publish;

use self::copying::{Copier, PlacedFile, StagedCopy, copy_mode};
use super::backup::{self, BackupError, SnapshotFile};
use super::config::SyncConfig;
use super::contents;
use super::identity;
use super::index_updates::{ContentChange, IndexUpdate};
use super::ledger::Ledger;
use super::line_merge;
use super::manifest::ManifestEntry;
use super::pending_index_updates::{self, PendingIndexUpdates};
use super::plan::{
    CopyOp, MergeTarget, ObservedFile, Op, Placement, PlanError, StateUpdate, SyncPlan, SyncStep,
};
use super::rollouts;
use super::scan::{Side, Stat};
use super::scope;
use super::state::{Replica, SideFile, StateJournal, SyncState, SyncedFile};
use crate::history::session_index;
use crate::io::atomic::{self, TempFile};
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, Progress, tree};
use chrono::{DateTime, Utc};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Errors that end a run early. The steps done before are in place and recorded in the state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The user interrupted the run between two files.
    #[error("interrupted")]
    Interrupted,
    /// A read or write failed that all steps depend on, or the disk is full or read-only.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The files to overwrite could not be backed up; nothing was changed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The cloud folder was unmounted or replaced since the plan.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// The run ended early after the files to overwrite had been backed up.
    #[error("{cause}")]
    Stopped {
        /// Name of the snapshot that has the former contents.
        snapshot: String,
        /// The error that ended the run.
        cause: Box<ApplyError>,
    },
}

/// Input of [`apply`] besides the plan.
pub struct ApplyRequest<'a> {
    /// The configuration of this sync.
    pub config: &'a SyncConfig,
    /// The stored state for this pair of Codex home and cloud folder.
    pub replica: &'a Replica,
    /// Called before each change of a file; `false` interrupts the run there.
    pub keep_going: &'a dyn Fn() -> bool,
    /// Receives the number of bytes as they are written.
    pub progress: &'a dyn Progress,
    /// Time of the run, for the name of the snapshot and for pruning.
    pub now: DateTime<Utc>,
}

/// Result of a run.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Indexes of the completed steps of the plan, in ascending order.
    pub done: Vec<usize>,
    /// Steps that were left for the next run: path and reason.
    pub skipped: Vec<(String, String)>,
    /// Local conversations that changed. [`PendingIndexUpdates`] keeps them until the caller has updated Codex's index.
    pub index_updates: Vec<IndexUpdate>,
    /// Name of the snapshot with the former contents; `None` if nothing was overwritten.
    pub snapshot: Option<String>,
    /// Names of the old snapshots that were removed.
    pub pruned: Vec<String>,
    /// Error that kept old snapshots from being removed; the sync itself is complete.
    pub prune_error: Option<BackupError>,
}

impl ApplyReport {
    /// Adds the result of a step. Returns the error if it ends the run.
    fn add(
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

/// Failure of one step.
enum StepFailure {
    /// The step is left for the next run, for this reason: a file changed since the plan or cannot be used.
    Skip(String),
    /// No further step is possible; the run ends.
    Abort(ApplyError),
}

impl From<ApplyError> for StepFailure {
    fn from(e: ApplyError) -> Self {
        Self::Abort(e)
    }
}

impl From<IoError> for StepFailure {
    fn from(e: IoError) -> Self {
        if e.is_no_space() || e.source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Self::Abort(e.into())
        } else if e.is_not_found() {
            // Cloud clients remove files at any moment, so this is no reason to end the run.
            Self::Skip(format!("removed meanwhile: {}", e.path.display()))
        } else {
            Self::Skip(format!("{e}: {}", e.source))
        }
    }
}

/// The failure for a file that changed since the plan.
fn changed_meanwhile(path: &Path) -> StepFailure {
    StepFailure::Skip(format!("changed meanwhile: {}", path.display()))
}

/// Gives a durable file its name, and fails if a file exists there. The plan found the path free, so a file that a cloud
/// client created at the last moment is in no backup and must not be replaced.
fn rename_new(file: TempFile, target: &Path) -> Result<(), StepFailure> {
    file.publish_unsynced(target)
        .map_err(|e| match e.source.kind() {
            io::ErrorKind::AlreadyExists => changed_meanwhile(target),
            _ => e.into(),
        })
}

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
    match apply_steps(plan, state, request, &mut report) {
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

fn apply_steps(
    plan: &SyncPlan,
    mut state: SyncState,
    request: &ApplyRequest<'_>,
    report: &mut ApplyReport,
) -> Result<(), ApplyError> {
    let before = state.clone();
    cloud_check::create_at_first_sync(plan, &state, &request.config.cloud)?;
    cloud_check::check_mounted(plan, &request.config.cloud)?;
    // Recorded before anything else, even if this run is killed: from now on files without attestation are not trusted.
    let found_other_machines =
        !state.has_other_machines && identity::has_remote_manifests(request.config, &state);
    state.has_other_machines |= found_other_machines;
    if state.needs_rewrite || found_other_machines {
        request.replica.write(&mut state)?;
    }
    let mut not_backed_up = Vec::new();
    if request.config.backup.before_overwrite {
        let snapshot = backup::back_up_plan(plan, request)?;
        (report.snapshot, not_backed_up) = (snapshot.name, snapshot.not_copied);
    }
    publish::publish_deletions(plan, &mut state, request)?;
    let updates: Vec<_> = plan.steps.iter().filter_map(index_update_of).collect();
    PendingIndexUpdates::of(request.replica).record(&updates)?;
    {
        let mut run = ApplyRun {
            request,
            copier: Copier {
                config: request.config,
                progress: request.progress,
            },
            journal: request.replica.journal()?,
            ledger: Ledger::open(&request.replica.folder)?,
            state: &mut state,
            not_backed_up,
            plan,
            placed: Vec::new(),
        };
        let outcome = run.apply_all(&plan.steps, report);
        // Also after a failure: the steps that were done stay recorded.
        let synced = run.journal.sync();
        outcome?;
        synced?;
    }
    publish::publish_manifest(plan, report, &before, state, request)?;
    if request.config.backup.before_overwrite {
        match backup::prune(request.config, request.now, report.snapshot.as_deref()) {
            Ok(pruned) => report.pruned = pruned,
            Err(error) => report.prune_error = Some(error),
        }
    }
    Ok(())
}

/// Returns the update of Codex's index that a step requires, if it changes a local conversation.
fn index_update_of(step: &SyncStep) -> Option<IndexUpdate> {
    let StateUpdate::Synced { local, .. } = &step.state_update else {
        return None;
    };
    if !rollouts::is_key(&step.key) {
        return None;
    }
    let moved = step.ops.iter().any(|op| match op {
        Op::Rename { from, .. } | Op::Remove(from) => from.side == Side::Local,
        _ => false,
    });
    let is_affected = moved || step.change != ContentChange::Unchanged;
    is_affected
        .then(|| rollouts::id(&step.key))
        .flatten()
        .map(|id| IndexUpdate {
            id,
            path: local.path.clone(),
            change: step.change,
            moved,
        })
}

struct ApplyRun<'a> {
    request: &'a ApplyRequest<'a>,
    copier: Copier<'a>,
    journal: StateJournal,
    ledger: Ledger,
    state: &'a mut SyncState,
    /// Files that could not be backed up, with the reason; they are not overwritten.
    not_backed_up: Vec<(SnapshotFile, String)>,
    plan: &'a SyncPlan,
    /// Files that the current step has written.
    placed: Vec<PlacedFile>,
}

impl ApplyRun<'_> {
    fn check_interrupt(&self) -> Result<(), ApplyError> {
        if (self.request.keep_going)() {
            Ok(())
        } else {
            Err(ApplyError::Interrupted)
        }
    }

    fn apply_all(
        &mut self,
        steps: &[SyncStep],
        report: &mut ApplyReport,
    ) -> Result<(), ApplyError> {
        let mut index = 0;
        while let Some(step) = steps.get(index) {
            let batch = batch::batch_prefix(&steps[index..]);
            if batch.is_empty() {
                let result = self.apply_step(step, report);
                if result.is_err() {
                    self.withdraw_deletion(step);
                }
                report.add(index, step, result)?;
                index += 1;
            } else {
                self.apply_batch(index, batch, report)?;
                index += batch.len();
            }
        }
        Ok(())
    }

    fn apply_step(&mut self, step: &SyncStep, report: &mut ApplyReport) -> Result<(), StepFailure> {
        self.placed.clear();
        for seen in step.ops.iter().flat_map(Op::victims) {
            let is_it = |file: &SnapshotFile| {
                file.cloud == (seen.side == Side::Remote) && file.path == seen.path
            };
            if let Some((_, why)) = self.not_backed_up.iter().find(|(file, _)| is_it(file)) {
                let path = self.request.config.file_path(seen.side, &seen.path);
                return Err(StepFailure::Skip(format!("{why}: {}", path.display())));
            }
        }
        self.record_cancelled_deletions(step)?;
        for op in &step.ops {
            self.check_interrupt()?;
            self.apply_op(op)?;
        }
        self.check_interrupt()?;
        self.record_step(step, report)
    }

    /// Withdraws the published deletion of a file that could not be deleted. If the run is killed before the state is
    /// written, the next run compares the file again and withdraws the deletion then.
    fn withdraw_deletion(&mut self, step: &SyncStep) {
        if matches!(step.state_update, StateUpdate::PublishDeletion(_)) {
            self.state.deleted.remove(&step.key);
        }
    }

    /// Cancels the deletions of a file before the step re-creates it in the cloud folder. The journal is durable before
    /// the file exists: once both sides have it, no later run would find a reason to cancel them.
    fn record_cancelled_deletions(&mut self, step: &SyncStep) -> Result<(), IoError> {
        let ids = self
            .plan
            .cancelled_deletions
            .get(&step.key)
            .into_iter()
            .flatten();
        for id in ids.clone() {
            self.journal.record_resolution(id)?;
        }
        self.state.resolutions.extend(ids.clone().cloned());
        if ids.count() > 0 {
            self.journal.sync()?;
        }
        Ok(())
    }

    /// Records a completed step in the state and in the report.
    fn record_step(
        &mut self,
        step: &SyncStep,
        report: &mut ApplyReport,
    ) -> Result<(), StepFailure> {
        match &step.state_update {
            StateUpdate::Synced { local, remote } => self.record_synced(step, local, remote)?,
            StateUpdate::PublishDeletion(_) | StateUpdate::Forget => {
                self.journal.record_gone(&step.key)?;
                self.state.files.remove(&step.key);
            }
            StateUpdate::None => {}
        }
        report.index_updates.extend(index_update_of(step));
        Ok(())
    }

    /// Records that both sides have the same version. Files that the step did not write are recorded with the stat of
    /// the plan, not with the present one, so that a change since the plan counts as a change in the next run.
    fn record_synced(
        &mut self,
        step: &SyncStep,
        local: &Placement,
        remote: &Placement,
    ) -> Result<(), StepFailure> {
        let place = |side, placement: &Placement| {
            let mut placed = self.placed.iter();
            let placed =
                placed.find(|placed| (placed.to.0, &placed.to.1) == (side, &placement.path));
            let stat = placed.map(|placed| placed.stat).or(placement.stat)?;
            Some(SideFile {
                path: placement.path.clone(),
                stat,
            })
        };
        let (Some(local), Some(remote)) = (place(Side::Local, local), place(Side::Remote, remote))
        else {
            return Ok(());
        };
        let recorded_contents = || {
            let last = self.state.files.get(&step.key)?;
            // The recorded digest is valid only while one side still has the file of the last sync.
            let is_valid = last.local.stat == local.stat || last.remote.stat == remote.stat;
            last.contents.filter(|_| is_valid)
        };
        let contents = self
            .placed
            .first()
            .map_or_else(recorded_contents, |placed| placed.text);
        let last = SyncedFile {
            local,
            remote,
            contents,
        };
        let history = step.ops.iter().find_map(|op| match op {
            Op::Copy(copy) => copy.history.as_deref(),
            _ => None,
        });
        self.journal.record(&step.key, &last, history)?;
        if let Some(history) = history {
            let key = step.key.clone();
            self.state.histories.insert(key, history.clone());
        }
        // The file exists again, so its deletion is over.
        self.state.deleted.remove(&step.key);
        self.state.files.insert(step.key.clone(), last);
        Ok(())
    }

    fn apply_op(&mut self, op: &Op) -> Result<(), StepFailure> {
        match op {
            Op::Copy(copy) => self.copy(copy),
            Op::Merge {
                versions,
                to,
                is_one_text,
            } => self.merge(versions, to, *is_one_text),
            Op::Rename { from, to } => self.rename(from, to),
            Op::KeepConflictCopy { from, name, digest } => {
                self.keep_conflict_copy(from, name, digest)
            }
            Op::ReplicateConflictCopy { from, name } => self.replicate_conflict_copy(*from, name),
            Op::DropConflictCopy { side, name } => self.drop_conflict_copy(*side, name),
            Op::Remove(seen) => self.remove(seen),
        }
    }

    /// Fails if the target is not as the plan observed it.
    fn check_target_unchanged(path: &Path, over: Option<Stat>) -> Result<(), StepFailure> {
        let is_special = fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file());
        if !is_special && Stat::at(path)? == over {
            Ok(())
        } else {
            Err(changed_meanwhile(path))
        }
    }

    fn copy(&mut self, copy: &CopyOp) -> Result<(), StepFailure> {
        let target = self.prepare_target(&copy.to)?;
        let staged = self.copier.stage(copy, target)?;
        self.record_in_ledger(copy, &staged.entry)?;
        self.record_name_changes(&staged)?;
        self.place(staged, copy.over)
    }

    /// Records the conversations that get another name from `session_index.jsonl`, before it is replaced, so that
    /// Codex's lists are updated even if the run is killed.
    fn record_name_changes(&self, staged: &StagedCopy) -> Result<(), IoError> {
        let (side, path) = &staged.placed.to;
        if *side == Side::Remote || path != session_index::FILE_NAME {
            return Ok(());
        }
        let ids = pending_index_updates::changed_names(&staged.target, staged.temp.path())?;
        PendingIndexUpdates::of(self.request.replica).record_renamed(ids)
    }

    /// Records a copy in the ledger before it gets its name: uploads are attested, downloads are remembered so that a
    /// killed run does not turn them into local edits.
    fn record_in_ledger(&mut self, copy: &CopyOp, entry: &ManifestEntry) -> Result<(), IoError> {
        if copy.from.side == Side::Remote {
            if copy.expect.is_none() {
                // No machine attests the remote version: this one does from now on.
                self.ledger.record(&copy.from.path, entry)?;
            }
            if copy.to.0 == Side::Local {
                self.ledger.record_download(&copy.from.path, entry)?;
            }
        }
        if copy.to.0 == Side::Remote {
            self.ledger.record(&copy.to.1, entry)?;
        }
        Ok(())
    }

    /// Merges lines. Fails before writing anything if a version has other bytes than the plan read, for example because
    /// a cloud client truncated it meanwhile.
    fn merge(
        &mut self,
        versions: &[(ObservedFile, Sha256Digest)],
        to: &[MergeTarget],
        is_one_text: bool,
    ) -> Result<(), StepFailure> {
        let recheck = |run: &Self| {
            let each = versions
                .iter()
                .map(|(seen, _)| run.copier.check_unchanged(seen));
            each.collect::<Result<Vec<_>, _>>()
        };
        let paths = recheck(self)?;
        let merge = line_merge::merge(&paths)?;
        for ((_, planned), (path, read)) in versions.iter().zip(paths.iter().zip(&merge.digests)) {
            if planned != read {
                return Err(changed_meanwhile(path));
            }
        }
        let times = versions.iter().map(|(seen, _)| seen.stat.mtime_ns);
        let mtime_ns = times.max().unwrap_or(0);
        let mut staged = Vec::new();
        for MergeTarget { place, over, first } in to {
            let target = self.prepare_target(place)?;
            let mut temp = self.copier.create_temp(place.0, &target)?;
            merge.write(*first, temp.file()).at("merge", &target)?;
            let size = merge.bytes_from(*first);
            self.request.progress.add_bytes(size);
            let entry = ManifestEntry {
                size,
                mtime_ns,
                digest: contents::raw_digest(temp.path()).at("read", &target)?,
                history: None,
            };
            // A new merged file has no single source, so `copy_mode` finds no file and uses 0600.
            let like = over.map(|_| target.as_path());
            copy_mode(temp.file(), &target, like).at("set mode", &target)?;
            let text = is_one_text.then_some((entry.size, entry.digest));
            staged.push(StagedCopy::new(temp, target, place.clone(), entry, text)?);
        }
        recheck(self)?;
        for (staged, MergeTarget { place, over, .. }) in staged.into_iter().zip(to) {
            if place.0 == Side::Remote {
                self.ledger.record(&place.1, &staged.entry)?;
            }
            self.record_name_changes(&staged)?;
            self.place(staged, *over)?;
        }
        Ok(())
    }

    /// Gives a complete copy its name, after making the ledger and the copy durable.
    fn place(&mut self, staged: StagedCopy, over: Option<Stat>) -> Result<(), StepFailure> {
        self.check_interrupt()?;
        self.ledger.sync()?;
        self.check_interrupt()?;
        staged.temp.sync()?;
        if over.is_some() {
            // Checked again because fsync can take long.
            Self::check_target_unchanged(&staged.target, over)?;
            staged.temp.replace_synced(&staged.target)?;
        } else {
            rename_new(staged.temp, &staged.target)?;
            atomic::sync_folder(atomic::parent_of(&staged.target))?;
        }
        self.placed.push(staged.placed);
        Ok(())
    }

    fn rename(&mut self, from: &ObservedFile, to: &str) -> Result<(), StepFailure> {
        let source = self.copier.check_unchanged(from)?;
        let to = (from.side, to.to_owned());
        let target = self.prepare_target(&to)?;
        Self::check_target_unchanged(&target, None)?;
        if from.side == Side::Remote {
            // A rename keeps the key, so manifests record_in_ledger the file already. The entry attests its new path too.
            let digest = contents::raw_digest(&source).at("read", &source)?;
            let entry = ManifestEntry {
                size: from.stat.size,
                mtime_ns: from.stat.mtime_ns,
                digest,
                history: None,
            };
            self.copier.check_unchanged(from)?;
            self.ledger.record(&to.1, &entry)?;
            self.ledger.sync()?;
        }
        match atomic::rename_new(&source, &target) {
            Err(e) if e.source.kind() == io::ErrorKind::CrossesDevices => {
                self.move_across_disks(from, to, target)
            }
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(changed_meanwhile(&target))
            }
            renamed => {
                renamed?;
                atomic::sync_folder(atomic::parent_of(&source))?;
                Ok(())
            }
        }
    }

    /// Moves a file to another disk by a copy and a removal: `sessions` or `archived_sessions` can be a link or a mount.
    /// A run killed in between leaves two files of one conversation, which the next plan folds into one.
    fn move_across_disks(
        &mut self,
        from: &ObservedFile,
        to: (Side, String),
        target: PathBuf,
    ) -> Result<(), StepFailure> {
        let copy = CopyOp {
            from: from.clone(),
            to,
            over: None,
            mtime_ns: from.stat.mtime_ns,
            expect: None,
            history: None,
        };
        let staged = self.copier.stage(&copy, target)?;
        self.place(staged, None)?;
        self.remove(from)
    }

    fn remove(&mut self, seen: &ObservedFile) -> Result<(), StepFailure> {
        let path = match self.copier.check_unchanged(seen) {
            Ok(path) => path,
            // Removed already, which is the intended result.
            Err(_)
                if !self
                    .request
                    .config
                    .file_path(seen.side, &seen.path)
                    .exists() =>
            {
                return Ok(());
            }
            Err(left) => return Err(left),
        };
        fs::remove_file(&path).at("remove", &path)?;
        atomic::sync_folder(atomic::parent_of(&path))?;
        Ok(())
    }

    /// Returns the full path of a target and creates its folders. Fails if a link is on the way, except for links at the
    /// top of the home, which the user placed there and which are followed.
    fn prepare_target(&self, to: &(Side, String)) -> Result<PathBuf, StepFailure> {
        let config = self.request.config;
        let root = config.root(to.0);
        if to.0 == Side::Local {
            atomic::create_durable_folder(root)?;
        } else {
            cloud_check::check_mounted_quickly(self.plan, root).map_err(ApplyError::from)?;
        }
        for (end, _) in to.1.match_indices('/') {
            let relative = &to.1[..end];
            let folder = root.join(relative);
            let is_followed_link = || {
                let is_user_link =
                    to.0 == Side::Local && scope::follows_link(relative, &config.scope.roots);
                is_user_link && folder.is_dir()
            };
            match fs::symlink_metadata(&folder) {
                Ok(meta) if meta.is_dir() || is_followed_link() => {}
                Ok(_) => {
                    let why = format!("not a folder, or a link to one: {}", folder.display());
                    return Err(StepFailure::Skip(why));
                }
                Err(_) => atomic::create_durable_below(root, &folder)?,
            }
        }
        let place = config.file_path(to.0, &to.1);
        if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_dir()) {
            // Removes empty folders only; one with files stays, and placing the file fails.
            tree::remove_empty_folders(&place);
        }
        Ok(place)
    }
}
