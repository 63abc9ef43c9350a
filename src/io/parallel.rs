//! Work on several threads whose results are taken in the order in which it was given, with a bound
//! on how much is under way.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How many threads to use: one for each processor, at most eight. Each holds a few megabytes.
pub fn threads() -> usize {
    thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .clamp(2, 8)
}

/// Takes jobs; see [`ordered`].
#[derive(Debug)]
pub struct Submitter<J, R> {
    jobs: SyncSender<(J, SyncSender<R>)>,
    order: SyncSender<Receiver<R>>,
}

/// Whoever takes the results has failed: there is no use in going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl<J, R> Submitter<J, R> {
    /// Gives a job; waits while too much is under way.
    pub fn submit(&self, job: J) -> Result<(), Stopped> {
        let (result, receiver) = sync_channel(1);
        self.order.send(receiver).map_err(|_| Stopped)?;
        self.jobs.send((job, result)).map_err(|_| Stopped)
    }
}

/// Lets `produce` give jobs, does them by `work` on [`threads`] threads, and gives the results to
/// `take` in the order of the jobs. At most `in_flight` jobs and results exist at a time.
///
/// # Errors
/// That of `take`, else that of `produce`. `produce` learns of the former by [`Stopped`].
pub fn ordered<J, R, P, E>(
    in_flight: usize,
    work: impl Fn(J) -> R + Sync,
    take: impl FnMut(R) -> Result<(), E> + Send,
    produce: impl FnOnce(&Submitter<J, R>) -> Result<P, E>,
) -> Result<P, E>
where
    J: Send,
    R: Send,
    E: Send,
{
    ordered_on(threads(), in_flight, work, take, produce)
}

/// The same on as many threads as are asked for: for work that waits for disks more than it computes.
///
/// # Errors
/// As [`ordered`].
pub fn ordered_on<J, R, P, E>(
    threads: usize,
    in_flight: usize,
    work: impl Fn(J) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E> + Send,
    produce: impl FnOnce(&Submitter<J, R>) -> Result<P, E>,
) -> Result<P, E>
where
    J: Send,
    R: Send,
    E: Send,
{
    let (jobs, queue) = sync_channel::<(J, SyncSender<R>)>(in_flight);
    let (order, results) = sync_channel::<Receiver<R>>(in_flight);
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((job, result)) = next else { return };
                    // Nobody may want it any more.
                    let _ = result.send(work(job));
                }
            });
        }
        let taking = scope.spawn(move || {
            for result in results {
                // A worker that panicked drops its sender; the scope passes the panic on.
                let Ok(result) = result.recv() else {
                    return Ok(());
                };
                take(result)?;
            }
            Ok(())
        });
        let produced = produce(&Submitter { jobs, order });
        let taken = taking
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        taken.and(produced)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        let mut taken = Vec::new();
        let work = |n: u64| (0..(n * 7919) % 5000).fold(n * 2, |sum, _| std::hint::black_box(sum));
        let sum = ordered(
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

    #[test]
    fn a_taker_that_fails_stops_the_producer() {
        let result = ordered(
            4,
            |n: u64| n,
            |n| if n < 10 { Ok(()) } else { Err("full") },
            |submit| {
                (0..)
                    .try_for_each(|n| submit.submit(n))
                    .map_err(|Stopped| "stopped")
            },
        );
        assert_eq!(result, Err("full"));
    }
}
