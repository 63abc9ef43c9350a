//! Batches of new files. Few files are synced by fsync calls that run at the same time, many by one call
//! per file system.
//!
//! The order of durable writes is: the copies, the ledger, the names, the folders, the state. A single file differs
//! only in that its ledger entry comes before its copy. A run killed in between leaves the same traces for each file of
//! the batch.

use super::copying::{PlacedFile, StagedCopy};
use super::error::{ApplyError, StepFailure};
use super::report::ApplyReport;
use super::run::ApplyRun;
use super::targets::{NewFolders, prepare_folder, prepare_place, rename_new};
use crate::io::parallel::{self, ConsumerFailed};
use crate::io::{atomic, limits, tree_sync};
use crate::sync::plan::{CopyOp, Op, SyncStep};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// Maximum number of files in a batch that is synced file by file.
const MAX_FEW_FILES: usize = 128;
/// Maximum number of files in a batch. Each is open until it has its name.
const MAX_BATCH_FILES: usize = 4096;
/// Maximum number of bytes in a batch, unless it has a single file.
const MAX_BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// Number of copying threads. Independent of the number of processors: the threads wait for fsync, and a disk commits
/// concurrent fsync calls together.
const COPY_THREADS: usize = 16;

/// Returns the first steps of `steps` that can be one batch: each only copies one file to a new path. Empty if the first
/// step does more.
pub(super) fn take_batch(steps: &[SyncStep]) -> &[SyncStep] {
    let mut bytes = 0_u64;
    // A step of a large first sync would otherwise fail with EMFILE: each staged copy keeps its file open.
    let max_files = (limits::max_open_files() / 2).clamp(MAX_FEW_FILES, MAX_BATCH_FILES);
    let fit = steps.iter().take(max_files).enumerate();
    let fit = fit.take_while(|(index, step)| {
        bytes = bytes.saturating_add(step.bytes);
        copy_of_new_file(step).is_some() && (*index == 0 || bytes <= MAX_BATCH_BYTES)
    });
    &steps[..fit.count()]
}

fn copy_of_new_file(step: &SyncStep) -> Option<&CopyOp> {
    match step.ops.as_slice() {
        [Op::Copy(copy)] if copy.over.is_none() => Some(copy),
        _ => None,
    }
}

/// A copy under its final name; durable once its folder is synced.
struct NamedFile {
    target: PathBuf,
    placed: PlacedFile,
}

impl ApplyRun<'_> {
    /// Applies the steps of one [`take_batch`]; `first` is the index of the first step in the plan. After an
    /// interruption, all files with their final name are durable and recorded. After a failed folder sync or state
    /// write they may be unrecorded; the next run finds both sides equal.
    pub(super) fn apply_batch(
        &mut self,
        first: usize,
        steps: &[SyncStep],
        report: &mut ApplyReport,
    ) -> Result<(), ApplyError> {
        let copies: Vec<&CopyOp> = steps.iter().filter_map(copy_of_new_file).collect();
        let mut outcome = Ok(());
        let are_few = copies.len() <= MAX_FEW_FILES;
        let mut staged = self.stage_all(&copies, are_few)?;
        let temps = staged.iter().flatten().map(|staged| staged.temp.path());
        if !are_few && !tree_sync::sync_file_systems(temps) {
            staged = sync_each(staged);
        }
        // A full disk ends the run, but copies that are complete by then keep their names.
        let staged = take_until_abort(staged, &mut outcome);
        // All ledger lines are durable before the first name: a file that no machine attests would stop other machines.
        for ((step, copy), staged) in steps.iter().zip(&copies).zip(&staged) {
            if let Ok(staged) = staged {
                self.record_resolutions(step)?;
                self.record_in_ledger(copy, &staged.entry)?;
                self.record_name_changes(staged)?;
            }
        }
        self.ledger.sync()?;
        let named = staged.into_iter().map(|staged| self.publish_name(staged?));
        let mut named = take_until_abort(named, &mut outcome);
        self.sync_folders(&mut named, are_few, &mut outcome);
        // The files have their names now, so an interruption is reported only after they are recorded.
        outcome = outcome.and_then(|()| self.request.check_interrupt());
        for ((index, step), named) in (first..).zip(steps).zip(named) {
            let recorded = named.and_then(|NamedFile { placed, .. }| {
                self.placed = vec![placed];
                self.record_step(step, report)
            });
            report.add(index, step, recorded)?;
        }
        outcome
    }

    /// Makes temp copies beside their targets, in the order of `copies`. They are durable if they are few.
    fn stage_all(&self, copies: &[&CopyOp], are_few: bool) -> Result<Vec<StageResult>, ApplyError> {
        let new_folders = if are_few {
            NewFolders::Durable
        } else {
            NewFolders::Unsynced
        };
        let config = self.request.config;
        let mut jobs = Vec::with_capacity(copies.len());
        // Folders are prepared once per batch.
        let mut prepared = HashSet::new();
        for copy in copies {
            self.request.check_interrupt()?;
            let folder = (
                copy.to.0,
                copy.to.1.rsplit_once('/').map(|(folder, _)| folder),
            );
            let mut result = Ok(());
            if !prepared.contains(&folder) {
                result = prepare_folder(config, self.plan, &copy.to, new_folders);
                if result.is_ok() {
                    prepared.insert(folder);
                }
            }
            jobs.push((*copy, result.map(|()| prepare_place(config, &copy.to))));
        }
        let shared = self.copier;
        Ok(run_in_threads(
            jobs,
            |(copy, place): (&CopyOp, Result<PathBuf, StepFailure>)| {
                let staged = shared.stage(copy, place?)?;
                if are_few {
                    staged.temp.sync()?;
                }
                Ok(staged)
            },
        ))
    }

    /// Gives a durable copy its name, which is durable once the folder is synced.
    fn publish_name(&self, staged: StagedCopy) -> Result<NamedFile, StepFailure> {
        self.request.check_interrupt()?;
        rename_new(staged.temp, &staged.target)?;
        Ok(NamedFile {
            target: staged.target,
            placed: staged.placed,
        })
    }

    /// Syncs the folders of the files: a few by one call each, many by one call per file system. If the latter fails, syncs
    /// each folder and each one above it, which may be new. Files whose folder cannot be synced become failures; an error
    /// that ends the run goes to `outcome`.
    fn sync_folders(
        &self,
        files: &mut [Result<NamedFile, StepFailure>],
        are_few: bool,
        outcome: &mut Result<(), ApplyError>,
    ) {
        let targets = files
            .iter()
            .flatten()
            .map(|file| atomic::parent_of(&file.target));
        if !are_few && tree_sync::sync_file_systems(targets) {
            return;
        }
        let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            let Ok(NamedFile { target, placed }) = file else {
                continue;
            };
            let root = self.request.config.root(placed.to.0);
            let above = atomic::parent_of(target).ancestors();
            let above = above.take_while(|folder| folder.starts_with(root));
            let parent = std::iter::once(atomic::parent_of(target));
            let above = above.skip(1).take(if are_few { 0 } else { usize::MAX });
            for folder in parent.chain(above) {
                folders.entry(folder.to_path_buf()).or_default().push(index);
            }
        }
        // A folder that cannot be flushed may lose these names in a power cut, so they are not recorded as synced.
        for (folder, indexes) in folders {
            let Err(error) = atomic::sync_folder(&folder) else {
                continue;
            };
            let why = match error.into() {
                StepFailure::Skip(why) => why,
                StepFailure::Abort(error) => {
                    let why = error.to_string();
                    *outcome = Err(error);
                    why
                }
            };
            for index in indexes {
                files[index] = Err(StepFailure::Skip(why.clone()));
            }
        }
    }
}

type StageResult = Result<StagedCopy, StepFailure>;

/// Makes the staged copies durable one by one; each that cannot be synced becomes a failure.
fn sync_each(staged: Vec<StageResult>) -> Vec<StageResult> {
    run_in_threads(staged, |staged| {
        let staged = staged?;
        staged.temp.sync()?;
        Ok(staged)
    })
}

/// Runs `work` for each job, in [`COPY_THREADS`] threads, and returns the results in the order of the jobs.
fn run_in_threads<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let mut results = Vec::with_capacity(jobs.len());
    let done = parallel::run_ordered_on(
        COPY_THREADS.min(jobs.len()),
        jobs.len(),
        work,
        |result| {
            results.push(result);
            Ok(())
        },
        |threads| jobs.into_iter().try_for_each(|job| threads.submit(job)),
    );
    debug_assert_eq!(
        done,
        Ok::<(), ConsumerFailed>(()),
        "the consumer never fails"
    );
    results
}

/// Returns the results before the first [`StepFailure::Abort`], whose error goes to `outcome`.
fn take_until_abort<T>(
    results: impl IntoIterator<Item = Result<T, StepFailure>>,
    outcome: &mut Result<(), ApplyError>,
) -> Vec<Result<T, StepFailure>> {
    let mut before = Vec::new();
    for result in results {
        if let Err(StepFailure::Abort(error)) = result {
            *outcome = Err(error);
            break;
        }
        before.push(result);
    }
    before
}
