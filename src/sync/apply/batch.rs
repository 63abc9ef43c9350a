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
use super::targets::{prepare_target, rename_new};
use crate::io::atomic;
use crate::io::limits;
use crate::io::parallel::{self, ConsumerFailed};
use crate::io::tree;
use crate::sync::plan::{CopyOp, Op, SyncStep};
use std::collections::BTreeMap;
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

/// Returns the first steps of `steps` that can be one batch: each creates exactly one new file.
pub(super) fn batch_prefix(steps: &[SyncStep]) -> &[SyncStep] {
    let mut bytes = 0_u64;
    let max_files = (limits::open_files() / 2).clamp(MAX_FEW_FILES, MAX_BATCH_FILES);
    let fit = steps.iter().take(max_files).enumerate();
    let fit = fit.take_while(|(index, step)| {
        bytes = bytes.saturating_add(step.bytes);
        new_copy(step).is_some() && (*index == 0 || bytes <= MAX_BATCH_BYTES)
    });
    &steps[..fit.count()]
}

fn new_copy(step: &SyncStep) -> Option<&CopyOp> {
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
    /// Applies the steps of one [`batch_prefix`]; `first` is the index of the first step in the plan. After an
    /// interruption, all files with their final name are durable and recorded. After a failed folder sync or state
    /// write they may be unrecorded; the next run finds both sides equal.
    pub(super) fn apply_batch(
        &mut self,
        first: usize,
        steps: &[SyncStep],
        report: &mut ApplyReport,
    ) -> Result<(), ApplyError> {
        let copies: Vec<&CopyOp> = steps.iter().filter_map(new_copy).collect();
        let mut outcome = Ok(());
        let are_few = copies.len() <= MAX_FEW_FILES;
        let mut staged = self.stage_all(&copies, are_few)?;
        let files = staged.iter().flatten().map(|staged| staged.temp.as_file());
        if !are_few && !tree::sync_file_systems(files) {
            staged = sync_each(staged);
        }
        let staged = take_until_abort(staged, &mut outcome);
        for ((step, copy), staged) in steps.iter().zip(&copies).zip(&staged) {
            if let Ok(staged) = staged {
                self.record_cancelled_deletions(step)?;
                self.record_in_ledger(copy, &staged.entry)?;
                self.record_name_changes(staged)?;
            }
        }
        self.ledger.sync()?;
        let named = staged.into_iter().map(|staged| self.publish_name(staged?));
        let mut named = take_until_abort(named, &mut outcome);
        sync_folders(&mut named, &mut outcome);
        // The files have their names now, so an interruption is reported only after they are recorded.
        outcome = outcome.and_then(|()| self.check_interrupt());
        for ((index, step), named) in (first..).zip(steps).zip(named) {
            let recorded = named.and_then(|NamedFile { placed, .. }| {
                self.placed = vec![placed];
                self.record_step(step, report)
            });
            report.add(index, step, recorded)?;
        }
        outcome
    }

    /// Makes temp copies beside their targets, in the order of `copies`. They are durable if `synced`.
    fn stage_all(
        &self,
        copies: &[&CopyOp],
        synced: bool,
    ) -> Result<Vec<Result<StagedCopy, StepFailure>>, ApplyError> {
        let mut jobs = Vec::with_capacity(copies.len());
        for copy in copies {
            self.check_interrupt()?;
            jobs.push((
                *copy,
                prepare_target(self.request.config, self.plan, &copy.to),
            ));
        }
        let shared = self.copier;
        Ok(in_threads(
            jobs,
            |(copy, place): (&CopyOp, Result<PathBuf, StepFailure>)| {
                let staged = shared.stage(copy, place?)?;
                if synced {
                    staged.temp.sync()?;
                }
                Ok(staged)
            },
        ))
    }

    /// Gives a durable copy its name, which is durable once the folder is synced.
    fn publish_name(&self, staged: StagedCopy) -> Result<NamedFile, StepFailure> {
        self.check_interrupt()?;
        rename_new(staged.temp, &staged.target)?;
        Ok(NamedFile {
            target: staged.target,
            placed: staged.placed,
        })
    }
}

type StageResult = Result<StagedCopy, StepFailure>;

/// Makes the staged copies durable one by one; each that cannot be synced becomes a failure.
fn sync_each(staged: Vec<StageResult>) -> Vec<StageResult> {
    in_threads(staged, |staged| {
        let staged = staged?;
        staged.temp.sync()?;
        Ok(staged)
    })
}

/// Runs `work` for each job, in [`COPY_THREADS`] threads, and returns the results in the order of the jobs.
fn in_threads<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let mut results = Vec::with_capacity(jobs.len());
    let done = parallel::ordered_on(
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

/// Syncs the folder of each file, once per folder. Files whose folder cannot be synced become failures.
fn sync_folders(
    files: &mut [Result<NamedFile, StepFailure>],
    outcome: &mut Result<(), ApplyError>,
) {
    let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Ok(NamedFile { target, .. }) = file {
            let folder = atomic::parent_of(target).to_path_buf();
            folders.entry(folder).or_default().push(index);
        }
    }
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
