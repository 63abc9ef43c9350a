//! Ordered parallel work: results arrive in the order of the jobs, with a bound on unfinished jobs.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

/// Returns the number of worker threads: one per processor, but at least two and at most eight, because each uses a few
/// megabytes.
pub fn thread_count() -> usize {
    thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        // Two also on one processor, so that one can compute while the other waits for the disk.
        .clamp(2, 8)
}

/// Runs `background` on another thread and `foreground` on this one. If no thread can be started, runs
/// `background` afterwards.
pub fn run_both<A: Send, B>(
    background: impl Fn() -> A + Sync,
    foreground: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let background_thread = thread::Builder::new().spawn_scoped(scope, &background);
        let foreground_result = foreground();
        let background_result = match background_thread {
            Ok(background_thread) => background_thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => background(),
        };
        (background_result, foreground_result)
    })
}

/// Accepts jobs; see [`run_ordered`].
pub struct Submitter<'a, J>(&'a dyn Fn(J) -> Result<(), ConsumerFailed>);

/// The consumer of the results has failed, so further jobs are useless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerFailed;

impl<J> Submitter<'_, J> {
    /// Submits a job. Blocks while the limit of unfinished jobs is reached.
    pub fn submit(&self, job: J) -> Result<(), ConsumerFailed> {
        (self.0)(job)
    }
}

/// Runs the jobs that `produce` submits with `work` on [`thread_count`] threads, and passes the results to `consume` in
/// the order of the jobs. At most `max_in_flight` jobs are submitted but not consumed at a time, besides the job that
/// `produce` is submitting and the one that `consume` gets next.
///
/// If the system refuses some of these threads, the jobs run on the others. If it refuses all, or the thread for the
/// results, the jobs run on the caller's thread.
///
/// # Errors
/// Returns the error of `consume`, else the error of `produce`. After an error of `consume`, `produce` gets
/// [`ConsumerFailed`].
pub(crate) fn run_ordered<J: Send, R: Send, P, E: Send>(
    max_in_flight: usize,
    work: impl Fn(J) -> R + Sync,
    consume: impl FnMut(R) -> Result<(), E> + Send,
    produce: impl FnOnce(&Submitter<'_, J>) -> Result<P, E>,
) -> Result<P, E> {
    run_ordered_on(thread_count(), max_in_flight, work, consume, produce)
}

/// Like [`run_ordered`], for jobs that are known beforehand.
///
/// # Errors
/// Returns the error of `consume`. No further job begins then.
pub fn run_each_ordered<J: Send, R: Send, E: Send>(
    max_in_flight: usize,
    jobs: impl IntoIterator<Item = J>,
    work: impl Fn(J) -> R + Sync,
    consume: impl FnMut(R) -> Result<(), E> + Send,
) -> Result<(), E> {
    run_ordered(max_in_flight, work, consume, |submitter| {
        let mut jobs = jobs.into_iter();
        // Fails only after an error of `consume`, which `run_ordered` returns.
        let _ = jobs.try_for_each(|job| submitter.submit(job));
        Ok(())
    })
}

/// Like [`run_ordered`], with a given number of threads, for work that waits for disks more than it
/// computes.
///
/// # Errors
/// As [`run_ordered`].
pub fn run_ordered_on<J: Send, R: Send, P, E: Send>(
    threads: usize,
    max_in_flight: usize,
    work: impl Fn(J) -> R + Sync,
    consume: impl FnMut(R) -> Result<(), E> + Send,
    produce: impl FnOnce(&Submitter<'_, J>) -> Result<P, E>,
) -> Result<P, E> {
    // `consume`, and its first error.
    let consumer = Mutex::new((consume, None));
    // Returns false if no more results are wanted.
    let try_consume = |result: R| {
        let (consume, error) = &mut *lock(&consumer);
        if error.is_none() {
            *error = consume(result).err();
        }
        error.is_none()
    };

    let (work, try_consume) = (&work, &try_consume);
    let produced = thread::scope(|scope| {
        let queue = Queue::start(scope, threads, max_in_flight);
        let submit = |job: J| {
            let Some(queue) = &queue else {
                // Without threads the job runs at once, on the thread of `produce`.
                let goes_on = try_consume(work(job));
                return if goes_on { Ok(()) } else { Err(ConsumerFailed) };
            };

            let result = Arc::new(Mutex::new(None));
            let result_slot = Arc::clone(&result);
            queue.submit(
                Box::new(move || *lock(&result_slot) = Some(work(job))),
                Box::new(move || lock(&result).take().is_some_and(try_consume)),
            )
        };

        let produced = produce(&Submitter(&submit));
        // The threads end with the queue, and the scope waits for them.
        drop(queue);
        produced
    });

    let (_, consumer_error) = consumer
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    consumer_error.map_or(produced, Err)
}

type Work<'a> = Box<dyn FnOnce() + Send + 'a>;
type Consume<'a> = Box<dyn FnOnce() -> bool + Send + 'a>;

/// Jobs without their types, so that threads and channels are compiled once and not for each kind of job.
struct Queue<'a> {
    /// Each job with a sender that reports its end.
    jobs: SyncSender<(Work<'a>, SyncSender<()>)>,
    /// For each job, in the order of submission: a receiver that waits for its end, and the function that takes its
    /// result.
    order: SyncSender<(Receiver<()>, Consume<'a>)>,
}

impl<'a> Queue<'a> {
    /// Starts the threads. Returns `None` if the system refuses the thread for the results, or all other threads.
    fn start(scope: &'a Scope<'a, '_>, threads: usize, max_in_flight: usize) -> Option<Self> {
        let (jobs, job_receiver) = sync_channel::<(Work<'a>, SyncSender<()>)>(max_in_flight);
        let (order, results) = sync_channel::<(Receiver<()>, Consume<'a>)>(max_in_flight);
        let spawn = |run: Work<'a>| thread::Builder::new().spawn_scoped(scope, run).ok();

        spawn(Box::new(move || {
            for (finished, consume) in results {
                // A worker that panicked drops its sender; the scope passes the panic on.
                if finished.recv().is_err() || !consume() {
                    return;
                }
            }
        }))?;

        let job_receiver = Arc::new(Mutex::new(job_receiver));
        let worker = || {
            let job_receiver = Arc::clone(&job_receiver);
            move || {
                loop {
                    let received = lock(&job_receiver).recv();
                    let Ok((work, done)) = received else { return };
                    work();
                    // The receiver may be gone after an error.
                    let _ = done.send(());
                }
            }
        };

        let workers = (0..threads).map_while(|_| spawn(Box::new(worker())));
        (workers.count() > 0).then_some(Self { jobs, order })
    }

    fn submit(&self, work: Work<'a>, consume: Consume<'a>) -> Result<(), ConsumerFailed> {
        let (done, finished) = sync_channel(1);
        // `order` comes first: its channel bounds the number of unfinished jobs, and the consumer reads from it.
        let ordered = self.order.send((finished, consume));
        ordered.map_err(|_| ConsumerFailed)?;
        self.jobs.send((work, done)).map_err(|_| ConsumerFailed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        // Also with one thread, and without any.
        for (threads, max_in_flight) in [(8, 4), (1, 4), (1, 0), (0, 4)] {
            let mut taken = Vec::new();
            let work =
                |n: u64| (0..(n * 7919) % 5000).fold(n * 2, |sum, _| std::hint::black_box(sum));
            let sum = run_ordered_on(
                threads,
                max_in_flight,
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
