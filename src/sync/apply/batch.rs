//! New files, many at a time: what makes them durable is waited for together.
//!
//! The order is that of a single file: whole durable copies first, then the ledger, then the names,
//! then the folders, then the state. A run that is killed in between leaves what one leaves that is
//! killed in a single file, for as many files as a batch has.

use super::copying::{PlacedFile, StagedCopy};
use super::{ApplyError, ApplyReport, ApplyRun, StepFailure, publish_new};
use crate::io::atomic;
use crate::io::parallel::{self, ConsumerFailed};
use crate::sync::plan::{CopyOp, Op, SyncStep};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// At most so many files are under way.
const MAX_BATCH_FILES: usize = 128;
/// At most so many bytes, unless a single file has more.
const MAX_BATCH_BYTES: u64 = 64 * 1024 * 1024;
/// How many threads copy, whatever the number of processors: they wait for the disk, and that makes
/// durable together what is waited for together.
const COPY_THREADS: usize = 16;

/// The steps at the beginning of `steps` that can be done together: each puts one file in a place where
/// none is.
pub(super) fn batch_prefix(steps: &[SyncStep]) -> &[SyncStep] {
    let mut bytes = 0_u64;
    let fit = steps.iter().take(MAX_BATCH_FILES).enumerate();
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

/// A file that has its name.
struct NamedFile {
    target: PathBuf,
    placed: PlacedFile,
}

impl ApplyRun<'_> {
    /// Does the steps that [`beginning`] gave; `first` is the index of the first one. Where this ends
    /// early, what has its name is durable and known to the state before it returns.
    pub(super) fn apply_batch(
        &mut self,
        first: usize,
        steps: &[SyncStep],
        report: &mut ApplyReport,
    ) -> Result<(), ApplyError> {
        let copies: Vec<&CopyOp> = steps.iter().filter_map(new_copy).collect();
        let mut ended = Ok(());
        let staged = take_until_abort(self.stage_all(&copies)?, &mut ended);
        for ((step, copy), staged) in steps.iter().zip(&copies).zip(&staged) {
            if let Ok(staged) = staged {
                self.note_cancelled_deletions(step)?;
                self.attest(copy, &staged.written)?;
                self.note_names(staged)?;
            }
        }
        self.ledger.sync()?;
        let named = staged.into_iter().map(|staged| self.publish_name(staged?));
        let mut named = take_until_abort(named, &mut ended);
        sync_folders(&mut named, &mut ended);
        ended = ended.and_then(|()| self.check_interrupt());
        for ((index, step), named) in (first..).zip(steps).zip(named) {
            let learned = named.and_then(|NamedFile { placed, .. }| {
                self.placed = vec![placed];
                self.record_step(step, report)
            });
            report.add(index, step, learned)?;
        }
        ended
    }

    /// Durable copies beside their places, in the order of `copies`.
    fn stage_all(
        &self,
        copies: &[&CopyOp],
    ) -> Result<Vec<Result<StagedCopy, StepFailure>>, ApplyError> {
        let mut jobs = Vec::with_capacity(copies.len());
        for copy in copies {
            self.check_interrupt()?;
            jobs.push((*copy, self.prepare_target(&copy.to)));
        }
        let shared = self.copier;
        let mut staged = Vec::with_capacity(jobs.len());
        let done = parallel::ordered_on(
            COPY_THREADS.min(jobs.len()),
            jobs.len(),
            |(copy, place): (&CopyOp, Result<PathBuf, StepFailure>)| {
                let staged = shared.stage(copy, place?)?;
                staged.temp.sync()?;
                Ok(staged)
            },
            |copy| {
                staged.push(copy);
                Ok(())
            },
            |threads| jobs.into_iter().try_for_each(|job| threads.submit(job)),
        );
        debug_assert_eq!(
            done,
            Ok::<(), ConsumerFailed>(()),
            "taking them does not fail"
        );
        Ok(staged)
    }

    /// Gives a durable copy its name; that is durable when its folder is.
    fn publish_name(&self, staged: StagedCopy) -> Result<NamedFile, StepFailure> {
        self.check_interrupt()?;
        publish_new(staged.temp, &staged.target)?;
        Ok(NamedFile {
            target: staged.target,
            placed: staged.placed,
        })
    }
}

/// The results before the first after which nothing can go on; that one ends the run.
fn take_until_abort<T>(
    results: impl IntoIterator<Item = Result<T, StepFailure>>,
    ended: &mut Result<(), ApplyError>,
) -> Vec<Result<T, StepFailure>> {
    let mut before = Vec::new();
    for result in results {
        if let Err(StepFailure::Abort(error)) = result {
            *ended = Err(error);
            break;
        }
        before.push(result);
    }
    before
}

/// Makes the names of files durable, once for each folder. Files whose names may not be are not done.
fn sync_folders(files: &mut [Result<NamedFile, StepFailure>], ended: &mut Result<(), ApplyError>) {
    let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Ok(NamedFile { target, .. }) = file {
            let folder = atomic::parent_of(target).to_path_buf();
            folders.entry(folder).or_default().push(index);
        }
    }
    for (folder, of_it) in folders {
        let Err(error) = atomic::sync_folder(&folder) else {
            continue;
        };
        let why = match error.into() {
            StepFailure::Skip(why) => why,
            StepFailure::Abort(error) => {
                let why = error.to_string();
                *ended = Err(error);
                why
            }
        };
        for index in of_it {
            files[index] = Err(StepFailure::Skip(why.clone()));
        }
    }
}
