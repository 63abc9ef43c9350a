//! A thread that works for a picker, so that typing never waits.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Answers a request. Runs on a separate thread.
pub(crate) type Task<Q, A> = Box<dyn FnMut(&Q) -> A + Send>;

/// Answers requests on a thread. A newer request replaces one that has not begun. After a drop of the worker, the
/// thread ends with the current request.
pub(super) struct Worker<Q, A> {
    requests: Sender<Q>,
    answers: Receiver<(Q, A)>,
    /// The newest request. It may be answered.
    newest: Option<Q>,
    is_waiting: bool,
}

impl<Q, A> Worker<Q, A>
where
    Q: Clone + PartialEq + Send + 'static,
    A: Send + 'static,
{
    /// Starts the thread. Returns `None` if the system grants none.
    pub(super) fn start(mut task: Task<Q, A>) -> Option<Self> {
        let (requests, received_requests) = channel::<Q>();
        let (answer_sender, answers) = channel();

        let answer_requests = move || {
            while let Ok(mut request) = received_requests.recv() {
                // Only the newest request is answered.
                while let Ok(newer) = received_requests.try_recv() {
                    request = newer;
                }
                let answer = task(&request);
                if answer_sender.send((request, answer)).is_err() {
                    break;
                }
            }
        };

        thread::Builder::new().spawn(answer_requests).ok()?;
        Some(Self {
            requests,
            answers,
            newest: None,
            is_waiting: false,
        })
    }

    /// Requests an answer, unless the last request was the same.
    pub(super) fn request(&mut self, request: &Q) {
        if self.newest.as_ref() != Some(request) {
            self.is_waiting = self.requests.send(request.clone()).is_ok();
            self.newest = Some(request.clone());
        }
    }

    /// Ignores the answer to the newest request.
    pub(super) fn ignore_answer(&mut self) {
        self.newest = None;
        self.is_waiting = false;
    }

    /// Returns the newest request with its answer, once; `None` until the answer has arrived. Drops older answers.
    pub(super) fn poll_answer(&mut self) -> Option<(Q, A)> {
        while self.is_waiting {
            let (request, answer) = self.answers.try_recv().ok()?;
            if self.newest.as_ref() == Some(&request) {
                self.is_waiting = false;
                return Some((request, answer));
            }
        }
        None
    }

    /// Returns true while the answer to the newest request is missing.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn only_the_newest_request_is_answered() {
        let (release, released) = channel::<()>();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (begin, first_began) = channel::<()>();
        let seen = Arc::clone(&log);
        let mut worker = Worker::start(Box::new(move |n: &u32| {
            seen.lock().unwrap().push(*n);
            begin.send(()).unwrap();
            released.recv().unwrap();
            n * 10
        }))
        .unwrap();
        worker.request(&1);
        first_began.recv().unwrap();
        for n in [2, 3, 3] {
            worker.request(&n);
        }
        release.send(()).unwrap();
        first_began.recv().unwrap();
        release.send(()).unwrap();
        let answer = loop {
            assert!(worker.is_waiting());
            if let Some(answer) = worker.poll_answer() {
                break answer;
            }
            thread::yield_now();
        };
        assert_eq!(answer, (3, 30));
        assert_eq!(worker.poll_answer(), None);
        assert_eq!(*log.lock().unwrap(), [1, 3]);
    }
}
