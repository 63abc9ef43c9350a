//! Ordered parallel work: results arrive in the order of the jobs, with a bound on unfinished jobs.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The number of worker threads: one per processor, from two to eight. Each uses a few megabytes.
pub(crate) fn threads() -> usize {
    thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        // Two also on one processor, so that one can compute while the other waits for the disk.
        .clamp(2, 8)
}

/// Runs `background` on another thread and `foreground` on this one. If no thread can be started, runs
/// `background` afterwards.
pub(crate) fn run_both<A: Send, B>(
    background: impl Fn() -> A + Sync,
    foreground: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, &background);
        let foreground = foreground();
        let background = match beside {
            Ok(beside) => beside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => background(),
        };
        (background, foreground)
    })
}

/// Accepts jobs; see [`run_ordered`].
pub(crate) struct Submitter<'a, J, R>(SubmitTo<'a, J, R>);

enum SubmitTo<'a, J, R> {
    /// Worker threads process the jobs.
    Threads {
        jobs: SyncSender<(J, SyncSender<R>)>,
        order: SyncSender<Receiver<R>>,
    },
    /// Jobs run on the submitting thread, one by one.
    Caller(&'a dyn Fn(J) -> Result<(), ConsumerFailed>),
}

impl<J, R> std::fmt::Debug for Submitter<'_, J, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitter").finish_non_exhaustive()
    }
}

/// The consumer of the results has failed, so further jobs are useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumerFailed;

impl<J, R> Submitter<'_, J, R> {
    /// Submits a job; waits while `in_flight` jobs are unfinished.
    pub(crate) fn submit(&self, job: J) -> Result<(), ConsumerFailed> {
        match &self.0 {
            SubmitTo::Threads { jobs, order } => {
                let (result, receiver) = sync_channel(1);
                // The order first: its channel is the bound on unfinished jobs, and the consumer
                // reads from it.
                order.send(receiver).map_err(|_| ConsumerFailed)?;
                jobs.send((job, result)).map_err(|_| ConsumerFailed)
            }
            SubmitTo::Caller(work) => work(job),
        }
    }
}

/// Runs the jobs that `produce` submits with `work` on [`threads`] threads, and passes the results to
/// `take` in the order of the jobs. At most `in_flight` jobs and results exist at a time.
///
/// If the system starts fewer threads, the jobs run on those; if it starts none, on the caller's thread.
///
/// # Errors
/// Returns the error of `take`, else that of `produce`. After an error of `take`, `produce` gets [`ConsumerFailed`].
pub(crate) fn run_ordered<J: Send, R: Send, P, E: Send>(
    in_flight: usize,
    work: impl Fn(J) -> R + Sync,
    take: impl FnMut(R) -> Result<(), E> + Send,
    produce: impl FnOnce(&Submitter<'_, J, R>) -> Result<P, E>,
) -> Result<P, E> {
    run_ordered_on(threads(), in_flight, work, take, produce)
}

/// Like [`run_ordered`], for jobs that are known beforehand.
///
/// # Errors
/// Returns the error of `take`. No further job begins then.
pub(crate) fn run_each_ordered<J: Send, R: Send, E: Send>(
    in_flight: usize,
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(J) -> R + Sync,
    take: impl FnMut(R) -> Result<(), E> + Send,
) -> Result<(), E> {
    run_ordered(in_flight, work, take, |submitter| {
        let mut jobs = jobs.into_iter();
        // The error of `take` is returned.
        let _ = jobs.try_for_each(|job| submitter.submit(job));
        Ok(())
    })
}

/// Like [`run_ordered`], with a given number of threads, for work that waits for disks more than it
/// computes.
///
/// # Errors
/// As [`run_ordered`].
pub(crate) fn run_ordered_on<J: Send, R: Send, P, E: Send>(
    threads: usize,
    in_flight: usize,
    work: impl Fn(J) -> R + Sync,
    take: impl FnMut(R) -> Result<(), E> + Send,
    produce: impl FnOnce(&Submitter<'_, J, R>) -> Result<P, E>,
) -> Result<P, E> {
    let (jobs, queue) = sync_channel::<(J, SyncSender<R>)>(in_flight);
    let (order, results) = sync_channel::<Receiver<R>>(in_flight);
    let queue = Mutex::new(queue);
    let take = Mutex::new(take);
    thread::scope(|scope| {
        let taking = thread::Builder::new().spawn_scoped(scope, || {
            let mut take = take.lock().unwrap_or_else(PoisonError::into_inner);
            for result in results {
                // A worker that panicked drops its sender; the scope passes the panic on.
                let Ok(result) = result.recv() else {
                    return Ok(());
                };
                take(result)?;
            }
            Ok(())
        });
        let worker = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((job, result)) = next else { return };
                // The receiver may be gone after an error.
                let _ = result.send(work(job));
            }
        };
        let started = |_: &usize| {
            let worker = thread::Builder::new().spawn_scoped(scope, worker);
            worker.is_ok()
        };
        match taking {
            Ok(taking) if (0..threads).take_while(started).count() > 0 => {
                let produced = produce(&Submitter(SubmitTo::Threads { jobs, order }));
                let taken = taking
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                taken.and(produced)
            }
            _ => {
                // The consumer ends, if it still runs.
                drop((jobs, order));
                run_on_caller(&work, &take, produce)
            }
        }
    })
}

/// Like [`run_ordered`], but runs everything on the calling thread.
fn run_on_caller<J, R, P, E>(
    work: &impl Fn(J) -> R,
    take: &Mutex<impl FnMut(R) -> Result<(), E>>,
    produce: impl FnOnce(&Submitter<'_, J, R>) -> Result<P, E>,
) -> Result<P, E> {
    let failed = RefCell::new(None);
    let job = |job| {
        if failed.borrow().is_some() {
            return Err(ConsumerFailed);
        }
        let result = work(job);
        let mut take = take.lock().unwrap_or_else(PoisonError::into_inner);
        take(result).map_err(|error| {
            *failed.borrow_mut() = Some(error);
            ConsumerFailed
        })
    };
    let produced = produce(&Submitter(SubmitTo::Caller(&job)));
    failed.into_inner().map_or(produced, Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        // Also with one thread, and without any.
        for threads in [8, 1, 0] {
            let mut taken = Vec::new();
            let work =
                |n: u64| (0..(n * 7919) % 5000).fold(n * 2, |sum, _| std::hint::black_box(sum));
            let sum = run_ordered_on(
                threads,
                4,
                work,
                |r| {
                    taken.push(r);
                    Ok::<(), ()>(())
                },
                |submit| (0..500).try_for_each(|n| submit.submit(n)).map_err(|_| ()),
            );
            assert_eq!(sum, Ok(()));
            assert_eq!(taken, (0..500).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_failing_consumer_stops_the_producer() {
        for threads in [8, 1, 0] {
            let result = run_ordered_on(
                threads,
                4,
                |n: u64| n,
                |n| if n < 10 { Ok(()) } else { Err("full") },
                |submit| {
                    (0..)
                        .try_for_each(|n| submit.submit(n))
                        .map_err(|ConsumerFailed| "stopped")
                },
            );
            assert_eq!(result, Err("full"), "{threads}");
        }
    }
}
