//! Does what a plan says.
//!
//! Every file is looked at again right before it is read and right before it is replaced: one that is
//! no longer as the plan saw it is left for the next run. A file is replaced by one rename of a whole,
//! durable copy, and what the ledger says of it is durable before that. The state learns of a step when
//! it is done; a run that is killed in between finds both sides equal next time.

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

/// Why applying ended early. What the report would have held is in place and known to the state.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The user stopped it, between two files.
    #[error("interrupted")]
    Interrupted,
    /// The file system refused something without which nothing can go on.
    #[error(transparent)]
    Io(#[from] IoError),
    /// What would be overwritten could not be kept first; nothing was changed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The cloud folder is not there any more, or not the one that it was.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// It ended when what would be overwritten had been kept.
    #[error("{cause}")]
    Stopped {
        /// The name of the snapshot.
        snapshot: String,
        /// Why.
        cause: Box<ApplyError>,
    },
}

/// What applying is given.
pub struct ApplyRequest<'a> {
    /// The configuration.
    pub config: &'a SyncConfig,
    /// The pair's state.
    pub replica: &'a Replica,
    /// Asked before every single change of a file; `false` ends the run there.
    pub keep_going: &'a dyn Fn() -> bool,
    /// Told of bytes as they are written.
    pub progress: &'a dyn Progress,
    /// Names the backup.
    pub now: DateTime<Utc>,
}

/// What was done.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Which steps of the plan, by index.
    pub done: Vec<usize>,
    /// Steps that were left for the next run, and why.
    pub skipped: Vec<(String, String)>,
    /// Conversations that changed here. They are noted in [`PendingIndexUpdates`] until the caller has made them
    /// known.
    pub arrivals: Vec<IndexUpdate>,
    /// The name of the backup, where one was needed.
    pub snapshot: Option<String>,
    /// Old snapshots that were removed, by name.
    pub pruned: Vec<String>,
    /// Why old snapshots were left; the sync itself is done.
    pub prune_error: Option<BackupError>,
}

impl ApplyReport {
    /// Takes what became of a step.
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

/// Why an op was not done.
enum StepFailure {
    /// The file is no longer as it was planned with, or cannot be used.
    Skip(String),
    /// Nothing can go on.
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
            // A cloud client removes files at any moment.
            Self::Skip(format!("removed meanwhile: {}", e.path.display()))
        } else {
            Self::Skip(format!("{e}: {}", e.source))
        }
    }
}

/// What is said of a file that is no longer as it was planned with.
fn changed_meanwhile(path: &Path) -> StepFailure {
    StepFailure::Skip(format!("changed meanwhile: {}", path.display()))
}

/// Gives a durable file its name in a place that was planned as empty: what a client puts there at the
/// last moment is in no backup.
fn publish_new(file: TempFile, target: &Path) -> Result<(), StepFailure> {
    file.publish_unsynced(target)
        .map_err(|e| match e.source.kind() {
            io::ErrorKind::AlreadyExists => changed_meanwhile(target),
            _ => e.into(),
        })
}

/// Applies a plan. `state` is the one that the plan was made from; the caller holds its lock.
///
/// # Errors
/// See [`ApplyError`]; one that comes after something was kept is [`ApplyError::Stopped`].
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
    // Known from the first sight on, whatever becomes of this run.
    let met_peers =
        !state.has_other_machines && identity::has_remote_manifests(request.config, &state);
    state.has_other_machines |= met_peers;
    if state.needs_rewrite || met_peers {
        request.replica.write(&mut state)?;
    }
    let mut not_backed_up = Vec::new();
    if request.config.backup.before_overwrite {
        let made = backup::back_up_plan(plan, request)?;
        (report.snapshot, not_backed_up) = (made.name, made.not_copied);
    }
    publish::publish_deletions(plan, &mut state, request)?;
    let coming: Vec<_> = plan.steps.iter().filter_map(arrival_from).collect();
    PendingIndexUpdates::of(request.replica).record(&coming)?;
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
        let ended = run.apply_all(&plan.steps, report);
        let synced = run.journal.sync();
        ended?;
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

/// What a step changes of a conversation here.
fn arrival_from(step: &SyncStep) -> Option<IndexUpdate> {
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
    let is_one = moved || step.change != ContentChange::Unchanged;
    is_one
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
    /// What is in no snapshot, and why: nothing takes its place.
    not_backed_up: Vec<(SnapshotFile, String)>,
    plan: &'a SyncPlan,
    /// What the step under way has put into its places.
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
            let together = batch::batch_prefix(&steps[index..]);
            if together.is_empty() {
                let result = self.apply_step(step, report);
                if result.is_err() {
                    self.withdraw_deletion(step);
                }
                report.add(index, step, result)?;
                index += 1;
            } else {
                self.apply_batch(index, together, report)?;
                index += together.len();
            }
        }
        Ok(())
    }

    fn apply_step(&mut self, step: &SyncStep, report: &mut ApplyReport) -> Result<(), StepFailure> {
        self.placed.clear();
        for seen in step.ops.iter().flat_map(Op::victims) {
            let is_it = |kept: &SnapshotFile| {
                kept.cloud == (seen.side == Side::Remote) && kept.path == seen.path
            };
            if let Some((_, why)) = self.not_backed_up.iter().find(|(kept, _)| is_it(kept)) {
                let path = self.request.config.file_path(seen.side, &seen.path);
                return Err(StepFailure::Skip(format!("{why}: {}", path.display())));
            }
        }
        self.note_cancelled_deletions(step)?;
        for op in &step.ops {
            self.check_interrupt()?;
            self.apply_op(op)?;
        }
        self.check_interrupt()?;
        self.record_step(step, report)
    }

    /// A file that could not be deleted is not called deleted. Should that not be written down, the file is
    /// compared anew, and what is found ends it.
    fn withdraw_deletion(&mut self, step: &SyncStep) {
        if matches!(step.state_update, StateUpdate::PublishDeletion(_)) {
            self.state.deleted.remove(&step.key);
        }
    }

    /// Notes that the deletions of a file are over before it is in the cloud folder again, durably when
    /// the journal is: once both sides have it, nobody would think of them any more.
    fn note_cancelled_deletions(&mut self, step: &SyncStep) -> Result<(), IoError> {
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

    /// The state and the report learn of a step that is done.
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
        report.arrivals.extend(arrival_from(step));
        Ok(())
    }

    /// The state learns what both sides hold now. What has changed since the plan is not what was
    /// synced: what the step has not put into its place counts as it was planned with.
    fn record_synced(
        &mut self,
        step: &SyncStep,
        local: &Placement,
        remote: &Placement,
    ) -> Result<(), StepFailure> {
        let place = |side, standing: &Placement| {
            let mut placed = self.placed.iter();
            let placed =
                placed.find(|placed| (placed.to.0, &placed.to.1) == (side, &standing.path));
            let stat = placed.map(|placed| placed.stat).or(standing.stat)?;
            Some(SideFile {
                path: standing.path.clone(),
                stat,
            })
        };
        let (Some(local), Some(remote)) = (place(Side::Local, local), place(Side::Remote, remote))
        else {
            return Ok(());
        };
        let known = || {
            let last = self.state.files.get(&step.key)?;
            // Of what is another text on both sides than at the last sync nothing is known.
            let is_it = last.local.stat == local.stat || last.remote.stat == remote.stat;
            last.contents.filter(|_| is_it)
        };
        let contents = self.placed.first().map_or_else(known, |placed| placed.text);
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
        // Written again after a deletion: it is not deleted any more.
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

    /// Whether the place still holds what was planned with.
    fn check_target_unchanged(path: &Path, over: Option<Stat>) -> Result<(), StepFailure> {
        let taken = fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file());
        if !taken && Stat::at(path)? == over {
            Ok(())
        } else {
            Err(changed_meanwhile(path))
        }
    }

    fn copy(&mut self, copy: &CopyOp) -> Result<(), StepFailure> {
        let target = self.prepare_target(&copy.to)?;
        let staged = self.copier.stage(copy, target)?;
        self.attest(copy, &staged.written)?;
        self.note_names(&staged)?;
        self.place(staged, copy.over)
    }

    /// Notes which conversations get other names by a file that is about to come here.
    fn note_names(&self, staged: &StagedCopy) -> Result<(), IoError> {
        let (side, path) = &staged.placed.to;
        if *side == Side::Remote || path != session_index::FILE_NAME {
            return Ok(());
        }
        let ids = pending_index_updates::changed_names(&staged.target, staged.temp.path())?;
        PendingIndexUpdates::of(self.request.replica).record_renamed(ids)
    }

    /// Notes in the ledger what is about to be copied.
    fn attest(&mut self, copy: &CopyOp, written: &ManifestEntry) -> Result<(), IoError> {
        if copy.from.side == Side::Remote {
            if copy.expect.is_none() {
                // Nobody vouched for it: from now on this machine does.
                self.ledger.record(&copy.from.path, written)?;
            }
            if copy.to.0 == Side::Local {
                self.ledger.record_download(&copy.from.path, written)?;
            }
        }
        if copy.to.0 == Side::Remote {
            self.ledger.record(&copy.to.1, written)?;
        }
        Ok(())
    }

    /// The lines must be those that the plan was made with: a version that a client cut meanwhile is left
    /// for the next run, and so are the others.
    fn merge(
        &mut self,
        versions: &[(ObservedFile, Sha256Digest)],
        to: &[MergeTarget],
        is_one_text: bool,
    ) -> Result<(), StepFailure> {
        let still = |run: &Self| {
            let each = versions
                .iter()
                .map(|(seen, _)| run.copier.check_unchanged(seen));
            each.collect::<Result<Vec<_>, _>>()
        };
        let paths = still(self)?;
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
            let written = ManifestEntry {
                size,
                mtime_ns,
                digest: contents::raw_digest(temp.path()).at("read", &target)?,
                history: None,
            };
            let like = over.map(|_| target.as_path());
            copy_mode(temp.file(), &target, like).at("set mode", &target)?;
            let text = is_one_text.then_some((written.size, written.digest));
            staged.push(StagedCopy::new(temp, target, place.clone(), written, text)?);
        }
        still(self)?;
        for (staged, MergeTarget { place, over, .. }) in staged.into_iter().zip(to) {
            if place.0 == Side::Remote {
                self.ledger.record(&place.1, &staged.written)?;
            }
            self.note_names(&staged)?;
            self.place(staged, *over)?;
        }
        Ok(())
    }

    /// Puts a whole file in its place, when what the ledger says of it is durable.
    fn place(&mut self, staged: StagedCopy, over: Option<Stat>) -> Result<(), StepFailure> {
        self.check_interrupt()?;
        self.ledger.sync()?;
        self.check_interrupt()?;
        staged.temp.sync()?;
        if over.is_some() {
            // Making it durable may have taken long.
            Self::check_target_unchanged(&staged.target, over)?;
            staged.temp.replace_synced(&staged.target)?;
        } else {
            publish_new(staged.temp, &staged.target)?;
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
            // The version is listed under its key; a machine that looks for it there finds it.
            let digest = contents::raw_digest(&source).at("read", &source)?;
            let written = ManifestEntry {
                size: from.stat.size,
                mtime_ns: from.stat.mtime_ns,
                digest,
                history: None,
            };
            self.copier.check_unchanged(from)?;
            self.ledger.record(&to.1, &written)?;
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

    /// A rename to another disk: one of the two folders of conversations may be a link or a mount. A
    /// run that is killed in between leaves two files of one conversation.
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
            // It is gone already: as wished.
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

    /// A path that may be written to, with its folders made: no link on the way leads elsewhere, but
    /// those that the owner of the home has at its top.
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
            let leads = || {
                let owners = to.0 == Side::Local && scope::follows_link(relative, &config.roots);
                owners && folder.is_dir()
            };
            match fs::symlink_metadata(&folder) {
                Ok(meta) if meta.is_dir() || leads() => {}
                Ok(_) => {
                    let why = format!("in the way of a folder: {}", folder.display());
                    return Err(StepFailure::Skip(why));
                }
                Err(_) => atomic::create_durable_below(root, &folder)?,
            }
        }
        let place = config.file_path(to.0, &to.1);
        if fs::symlink_metadata(&place).is_ok_and(|meta| meta.is_dir()) {
            // One with files in it stays, and is in the way.
            tree::remove_hollow(&place);
        }
        Ok(place)
    }
}
