//! Reading ahead on a thread of its own: what gives bytes slowly works while they are used.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The size of one buffer.
const BUFFER_BYTES: usize = 256 * 1024;

/// How many full buffers may wait.
const BUFFERS: usize = 4;

/// Reads its source on another thread, at most a megabyte ahead. An error comes where it was met,
/// and ends the reading. Dropped, it stops and waits for the thread: the source is closed then.
#[derive(Debug)]
pub struct ReadAhead {
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    empty: SyncSender<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
    used: usize,
}

impl ReadAhead {
    /// Begins to read `source`.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn new(source: impl Read + Send + 'static) -> io::Result<Self> {
        let (give, full) = sync_channel(BUFFERS);
        // Room for every buffer there is: nobody waits to give one back.
        let (empty, take) = sync_channel(BUFFERS + 2);
        let thread = std::thread::Builder::new()
            .name("read-ahead".into())
            .spawn(move || fill(source, &give, &take))?;
        Ok(Self {
            full: Some(full),
            empty,
            thread: Some(thread),
            current: Vec::new(),
            used: 0,
        })
    }
}

fn fill(mut source: impl Read, give: &SyncSender<io::Result<Vec<u8>>>, take: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = take.try_recv().unwrap_or_default();
        buffer.resize(BUFFER_BYTES, 0);
        let result = read_full(&mut source, &mut buffer);
        let (len, error) = match result {
            Ok(len) => (len, None),
            Err((len, error)) => (len, Some(error)),
        };
        let ends = len < BUFFER_BYTES;
        buffer.truncate(len);
        let given = (len == 0 || give.send(Ok(buffer)).is_ok())
            && error.is_none_or(|e| give.send(Err(e)).is_ok());
        if ends || !given {
            return;
        }
    }
}

/// Reads until `buffer` is full or the source ends; the bytes before an error are not lost.
fn read_full(source: &mut impl Read, buffer: &mut [u8]) -> Result<usize, (usize, io::Error)> {
    let mut len = 0;
    while len < buffer.len() {
        match source.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((len, e)),
        }
    }
    Ok(len)
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.current.len() {
            // The thread is gone: that was the end, or an error that has been given.
            let Some(next) = self.full.as_ref().and_then(|full| full.recv().ok()) else {
                return Ok(0);
            };
            let spent = std::mem::replace(&mut self.current, next?);
            let _ = self.empty.try_send(spent);
            self.used = 0;
        }
        let n = buffer.len().min(self.current.len() - self.used);
        buffer[..n].copy_from_slice(&self.current[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.full = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives `left` bytes in odd pieces, then fails or ends.
    struct Source {
        left: usize,
        fails: bool,
    }

    impl Read for Source {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.left == 0 && self.fails {
                return Err(io::Error::other("broken"));
            }
            let n = buffer.len().min(self.left).min(77_777);
            for (i, byte) in buffer[..n].iter_mut().enumerate() {
                *byte = u8::try_from((self.left - i) % 251).unwrap();
            }
            self.left -= n;
            Ok(n)
        }
    }

    #[test]
    fn gives_what_the_source_gives() {
        for size in [0, 1, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES * 9 + 5] {
            let source = || Source {
                left: size,
                fails: false,
            };
            let (mut plain, mut ahead) = (Vec::new(), Vec::new());
            source().read_to_end(&mut plain).unwrap();
            ReadAhead::new(source())
                .unwrap()
                .read_to_end(&mut ahead)
                .unwrap();
            assert!(plain == ahead, "{size}");
        }
    }

    #[test]
    fn an_error_comes_after_the_bytes_before_it() {
        let source = Source {
            left: BUFFER_BYTES + 3,
            fails: true,
        };
        let mut bytes = Vec::new();
        let error = ReadAhead::new(source)
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap_err();
        assert_eq!(error.to_string(), "broken");
        assert_eq!(bytes.len(), BUFFER_BYTES + 3);
    }

    #[test]
    fn dropped_early_it_ends() {
        let mut ahead = ReadAhead::new(io::repeat(7)).unwrap();
        ahead.read_exact(&mut [0; 10]).unwrap();
    }
}
