//! New files, many at a time: what makes them durable is waited for together.
//!
//! The order is that of a single file: whole durable copies first, then the ledger, then the names,
//! then the folders, then the state. A run that is killed in between leaves what one leaves that is
//! killed in a single file, for as many files as a batch has.

use super::copying::{Placed, Staged};
use super::{ApplyError, Obstacle, Report, Run, name_new};
use crate::io::atomic;
use crate::io::parallel::{self, ConsumerFailed};
use crate::sync::plan::{Copy, Op, Step};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// At most so many files are under way.
const FILES: usize = 128;
/// At most so many bytes, unless a single file has more.
const BYTES: u64 = 64 * 1024 * 1024;
/// How many threads copy, whatever the number of processors: they wait for the disk, and that makes
/// durable together what is waited for together.
const THREADS: usize = 16;

/// The steps at the beginning of `steps` that can be done together: each puts one file in a place where
/// none is.
pub(super) fn beginning(steps: &[Step]) -> &[Step] {
    let mut bytes = 0_u64;
    let fit = steps.iter().take(FILES).enumerate();
    let fit = fit.take_while(|(index, step)| {
        bytes = bytes.saturating_add(step.bytes);
        new_copy(step).is_some() && (*index == 0 || bytes <= BYTES)
    });
    &steps[..fit.count()]
}

fn new_copy(step: &Step) -> Option<&Copy> {
    match step.ops.as_slice() {
        [Op::Copy(copy)] if copy.over.is_none() => Some(copy),
        _ => None,
    }
}

/// A file that has its name.
struct Named {
    target: PathBuf,
    placed: Placed,
}

impl Run<'_> {
    /// Does the steps that [`beginning`] gave; `first` is the index of the first one. Where this ends
    /// early, what has its name is durable and known to the state before it returns.
    pub(super) fn batch(
        &mut self,
        first: usize,
        steps: &[Step],
        report: &mut Report,
    ) -> Result<(), ApplyError> {
        let copies: Vec<&Copy> = steps.iter().filter_map(new_copy).collect();
        let mut ended = Ok(());
        let staged = until_fatal(self.stage_all(&copies)?, &mut ended);
        for ((step, copy), staged) in steps.iter().zip(&copies).zip(&staged) {
            if let Ok(staged) = staged {
                self.note_overtaken(step)?;
                self.vouch(copy, &staged.written)?;
                self.note_names(staged)?;
            }
        }
        self.ledger.sync()?;
        let named = staged.into_iter().map(|staged| self.name(staged?));
        let mut named = until_fatal(named, &mut ended);
        sync_folders(&mut named, &mut ended);
        ended = ended.and_then(|()| self.go_on());
        for ((index, step), named) in (first..).zip(steps).zip(named) {
            let learned = named.and_then(|Named { placed, .. }| {
                self.placed = vec![placed];
                self.learn(step, report)
            });
            report.take(index, step, learned)?;
        }
        ended
    }

    /// Durable copies beside their places, in the order of `copies`.
    fn stage_all(&self, copies: &[&Copy]) -> Result<Vec<Result<Staged, Obstacle>>, ApplyError> {
        let mut jobs = Vec::with_capacity(copies.len());
        for copy in copies {
            self.go_on()?;
            jobs.push((*copy, self.place(&copy.to)));
        }
        let shared = self.copier;
        let mut staged = Vec::with_capacity(jobs.len());
        let done = parallel::ordered_on(
            THREADS.min(jobs.len()),
            jobs.len(),
            |(copy, place): (&Copy, Result<PathBuf, Obstacle>)| {
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
    fn name(&self, staged: Staged) -> Result<Named, Obstacle> {
        self.go_on()?;
        name_new(staged.temp, &staged.target)?;
        Ok(Named {
            target: staged.target,
            placed: staged.placed,
        })
    }
}

/// The results before the first after which nothing can go on; that one ends the run.
fn until_fatal<T>(
    results: impl IntoIterator<Item = Result<T, Obstacle>>,
    ended: &mut Result<(), ApplyError>,
) -> Vec<Result<T, Obstacle>> {
    let mut before = Vec::new();
    for result in results {
        if let Err(Obstacle::Fatal(error)) = result {
            *ended = Err(error);
            break;
        }
        before.push(result);
    }
    before
}

/// Makes the names of files durable, once for each folder. Files whose names may not be are not done.
fn sync_folders(files: &mut [Result<Named, Obstacle>], ended: &mut Result<(), ApplyError>) {
    let mut folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        if let Ok(Named { target, .. }) = file {
            let folder = atomic::parent_of(target).to_path_buf();
            folders.entry(folder).or_default().push(index);
        }
    }
    for (folder, of_it) in folders {
        let Err(error) = atomic::sync_folder(&folder) else {
            continue;
        };
        let why = match error.into() {
            Obstacle::Left(why) => why,
            Obstacle::Fatal(error) => {
                let why = error.to_string();
                *ended = Err(error);
                why
            }
        };
        for index in of_it {
            files[index] = Err(Obstacle::Left(why.clone()));
        }
    }
}
