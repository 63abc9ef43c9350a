//! Batches of new files. The files of a small batch are made durable by concurrent fsync calls, those of a large batch
//! by one call per file system.
//!
//! The order of durable writes is: the copies, the ledger, the names, the folders, the state. Outside of a batch, the
//! ledger entry of a file comes before the copy. A run that is killed in between leaves the same traces for each file
//! of the batch.

use super::copying::{PlacedFile, StagedCopy};
use super::error::{ApplyError, StepFailure};
use super::report::ApplyReport;
use super::run::ApplyRun;
use super::targets::{NewFolders, clear_target_path, create_folders_above, rename_new};
use crate::io::{atomic, limits, parallel, tree_sync};
use crate::sync::plan::{CopyOp, Op, SyncStep};
use crate::sync::rollouts;
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;

/// Maximum number of files in a small batch, which is synced file by file.
const MAX_SMALL_BATCH_FILES: usize = 128;
/// Maximum number of files in a batch. Each is open until it has its name.
const MAX_BATCH_FILES: usize = 4096;
/// Maximum number of bytes in a batch, unless it has a single file.
const MAX_BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// Number of copying threads. Independent of the number of processors: the threads wait for fsync, and a disk commits
/// concurrent fsync calls together.
const COPY_THREADS: usize = 16;

/// Returns the steps at the beginning of `steps` that form one batch: each copies a single file to a new path. Empty if
/// the first step does anything else.
pub(super) fn select_next_batch(steps: &[SyncStep]) -> &[SyncStep] {
    // A step of a large first sync would otherwise fail with EMFILE: each staged copy keeps its file open.
    let max_files = (limits::max_open_files() / 2).clamp(MAX_SMALL_BATCH_FILES, MAX_BATCH_FILES);
    let mut bytes = 0_u64;
    let mut batch_len = 0;
    for step in steps.iter().take(max_files) {
        bytes = bytes.saturating_add(step.bytes);
        let is_full = batch_len > 0 && bytes > MAX_BATCH_BYTES;
        if is_full || as_copy_to_new_path(step).is_none() {
            break;
        }
        batch_len += 1;
    }
    &steps[..batch_len]
}

fn as_copy_to_new_path(step: &SyncStep) -> Option<&CopyOp> {
    match step.ops.as_slice() {
        [Op::Copy(copy)] if copy.replaced_stat.is_none() => Some(copy),
        _ => None,
    }
}

/// A copy under its final name. The name is durable once the folder is synced.
struct NamedFile {
    target: PathBuf,
    placed: PlacedFile,
}

impl ApplyRun<'_> {
    /// Applies the steps of one batch; `first_index` is the index of the first step in the plan. After an interruption,
    /// every file that has its final name is durable and recorded. If syncing a folder or writing the
    /// state fails, such a file may not be recorded; the next run finds both sides equal.
    pub(super) fn apply_batch(
        &mut self,
        first_index: usize,
        steps: &[SyncStep],
        report: &mut ApplyReport,
    ) -> Result<(), ApplyError> {
        // Each step of a batch has one copy, so the lists below have the order of `steps`.
        let copies: Vec<&CopyOp> = steps.iter().filter_map(as_copy_to_new_path).collect();
        let is_small = copies.len() <= MAX_SMALL_BATCH_FILES;

        let mut staged = self.stage_copies(&copies)?;
        let temp_paths = staged.iter().flatten().map(|copy| copy.temp.path());
        if is_small || !tree_sync::sync_file_systems(temp_paths) {
            staged = sync_each_copy(staged);
        }

        // A full disk ends the run, but the copies before the failure still get their names.
        let mut outcome = Ok(());
        let staged = take_until_abort(staged, &mut outcome);

        // All ledger lines are durable before the first name: a file that no machine attests would stop other machines.
        for ((step, copy), staged_copy) in steps.iter().zip(&copies).zip(&staged) {
            if let Ok(staged_copy) = staged_copy {
                self.record_resolutions(step)?;
                self.record_in_ledger(copy, &staged_copy.entry)?;
                self.record_name_changes(staged_copy)?;
            }
        }
        self.ledger.sync()?;

        let named_files = staged.into_iter().map(|copy| self.place_copy(copy?));
        let mut named_files = take_until_abort(named_files, &mut outcome);
        self.sync_folders(&mut named_files, is_small, &mut outcome);

        // The files have their names now, so an interruption is reported only after they are recorded.
        outcome = outcome.and_then(|()| self.request.check_interrupt());
        for ((index, step), named_file) in (first_index..).zip(steps).zip(named_files) {
            let recorded = match named_file {
                Ok(NamedFile { placed, .. }) => {
                    self.placed_files = vec![placed];
                    self.record_step(step)
                }
                Err(failure) => Err(failure),
            };
            report.add_result(index, step, recorded)?;
        }
        outcome
    }

    /// Copies the files to temp files beside their targets, and returns the results in the order of `copies`. Neither
    /// the temp files nor new folders are durable on return.
    fn stage_copies(&self, copies: &[&CopyOp]) -> Result<Vec<StageResult>, ApplyError> {
        let config = self.request.config;
        let mut jobs = Vec::with_capacity(copies.len());
        // Folders are prepared once per batch.
        let mut prepared_folders = HashSet::new();
        for copy in copies {
            self.request.check_interrupt()?;
            let folder = (copy.to.side, rollouts::parent_folder(&copy.to.path));
            let preparation = if prepared_folders.contains(&folder) {
                Ok(())
            } else {
                create_folders_above(config, self.plan, &copy.to, NewFolders::Unsynced)
            };
            if preparation.is_ok() {
                prepared_folders.insert(folder);
            }

            let target = preparation.map(|()| clear_target_path(config, &copy.to));
            jobs.push((*copy, target));
        }

        let file_copier = self.copier;
        Ok(run_in_threads(jobs, |(copy, target)| {
            file_copier.stage(copy, target?)
        }))
    }

    /// Renames a durable copy to its target. The name is durable once the folder is synced.
    fn place_copy(&self, staged: StagedCopy) -> NameResult {
        self.request.check_interrupt()?;
        rename_new(staged.temp, &staged.target)?;
        Ok(NamedFile {
            target: staged.target,
            placed: staged.placed,
        })
    }

    /// Makes the names of the files durable: those of a large batch by one call per file system. For a small batch, or
    /// if that call fails, syncs the folder of each file and the folders above it up to the root, which may be new. If
    /// a folder cannot be synced, its files become failures. An error that ends the run goes to `outcome`.
    fn sync_folders(
        &self,
        files: &mut [NameResult],
        is_small: bool,
        outcome: &mut Result<(), ApplyError>,
    ) {
        let named_files = files.iter().flatten();
        let target_folders = named_files.map(|file| atomic::parent_of(&file.target));
        if !is_small && tree_sync::sync_file_systems(target_folders) {
            return;
        }

        // A folder that cannot be synced may lose these names in a power cut, so the files are not recorded as synced.
        for (folder, indexes) in self.list_folders_to_sync(files) {
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

    /// Returns the folders of the files and the folders above them up to the root, each with the indexes of its files.
    fn list_folders_to_sync(&self, files: &[NameResult]) -> BTreeMap<PathBuf, Vec<usize>> {
        let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            let Ok(NamedFile { target, placed }) = file else {
                continue;
            };

            let root = self.request.config.root(placed.to.side);
            let mut ancestors = atomic::parent_of(target).ancestors();
            // A followed link of the user can lead out of the root. Then only the folder itself is synced.
            let folder = ancestors.next();
            let above = ancestors.take_while(|folder| folder.starts_with(root));
            for folder in folder.into_iter().chain(above) {
                folders.entry(folder.to_path_buf()).or_default().push(index);
            }
        }
        folders
    }
}

type StageResult = Result<StagedCopy, StepFailure>;
type NameResult = Result<NamedFile, StepFailure>;

/// Makes each staged copy durable by its own fsync call. A copy that cannot be synced becomes a failure.
fn sync_each_copy(copies: Vec<StageResult>) -> Vec<StageResult> {
    run_in_threads(copies, |staged| {
        let staged = staged?;
        staged.temp.sync()?;
        Ok(staged)
    })
}

/// Runs `work` for each job, in up to [`COPY_THREADS`] threads, and returns the results in the order of the jobs.
fn run_in_threads<J: Send, R: Send>(jobs: Vec<J>, work: impl Fn(J) -> R + Sync) -> Vec<R> {
    let threads = COPY_THREADS.min(jobs.len());
    let max_in_flight = jobs.len();
    let mut results = Vec::with_capacity(jobs.len());
    let collect = |result| -> Result<(), Infallible> {
        results.push(result);
        Ok(())
    };
    let submit_all = |submitter: &parallel::Submitter<'_, J>| {
        // `submit` fails only if `collect` has failed, and `collect` never fails.
        let _ = jobs.into_iter().try_for_each(|job| submitter.submit(job));
        Ok(())
    };
    let Ok(()) = parallel::run_ordered_on(threads, max_in_flight, work, collect, submit_all);
    results
}

/// Returns the results before the first [`StepFailure::Abort`], whose error goes to `outcome`. Takes no result after it
/// from `results`.
fn take_until_abort<T>(
    results: impl IntoIterator<Item = Result<T, StepFailure>>,
    outcome: &mut Result<(), ApplyError>,
) -> Vec<Result<T, StepFailure>> {
    let mut results_before = Vec::new();
    for result in results {
        if let Err(StepFailure::Abort(error)) = result {
            *outcome = Err(error);
            break;
        }
        results_before.push(result);
    }
    results_before
}
