//! Reads the properties of several items on threads, because the system may wait without end for one of them.

use std::io;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// Returns the results of `read` for `items`. If it does not return within `limit`, reads all items at the same time,
/// each on its own thread, and leaves out the items that are not read after another `limit`.
pub(super) fn read_within<I, T>(items: &[I], limit: Duration, read: fn(&[I]) -> Vec<T>) -> Vec<T>
where
    I: Copy + Send + 'static,
    T: Send + 'static,
{
    let Ok(reading) = start(items.to_vec(), read) else {
        return read(items);
    };
    if let Ok(results) = reading.recv_timeout(limit) {
        return results;
    }

    let readings = items.iter().map(|item| start(vec![*item], read));
    // All threads run before the first wait.
    let readings: Vec<_> = readings.flatten().collect();
    let deadline = Instant::now() + limit;
    let receive = |reading: Receiver<Vec<T>>| {
        let remaining = deadline.saturating_duration_since(Instant::now());
        reading.recv_timeout(remaining).ok()
    };
    readings.into_iter().filter_map(receive).flatten().collect()
}

/// Reads on a new thread. A thread that waits for the system cannot be ended, so it is left to run.
///
/// # Errors
/// The thread cannot be started.
fn start<I, T>(items: Vec<I>, read: fn(&[I]) -> Vec<T>) -> io::Result<Receiver<Vec<T>>>
where
    I: Send + 'static,
    T: Send + 'static,
{
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(read(&items)))?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_that_is_never_read_is_left_out() {
        fn read(items: &[u32]) -> Vec<u32> {
            while items.contains(&2) {
                thread::park();
            }
            items.to_vec()
        }
        let limit = Duration::from_secs(2);
        assert_eq!(read_within(&[1, 3], limit, read), [1, 3]);
        assert_eq!(read_within(&[1, 2, 3], limit, read), [1, 3]);
    }
}
