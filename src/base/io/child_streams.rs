//! A started child process whose output is read by threads, so that no call waits without a limit.

use super::events;
use std::io::{self, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The number of bytes that are kept from the end of standard error.
const MAX_STDERR_BYTES: usize = 16 * 1024;

const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct StartedChild {
    pub(super) child: Child,
    /// The pieces of standard output that the thread sends: lines or chunks.
    pub(super) output: Receiver<Vec<u8>>,
    pub(super) stderr: StderrTail,
    /// `None` if Windows refused to create the job.
    #[cfg(windows)]
    pub(super) job: Option<super::job::ChildJob>,
}

/// Starts `command`, on Windows in a job of its own. A thread runs `send_output`, whose sender blocks while
/// `max_unread` messages wait to be received.
pub(super) fn spawn(
    command: &mut Command,
    stdin: Stdio,
    max_unread: usize,
    send_output: fn(ChildStdout, &SyncSender<Vec<u8>>),
) -> io::Result<StartedChild> {
    command
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());

    #[cfg(windows)]
    let (mut child, job) = super::job::ChildJob::spawn(command)?;
    #[cfg(not(windows))]
    let mut child = command.spawn()?;
    events::debug!("started {}", command.get_program().to_string_lossy());

    let (sender, output) = sync_channel(max_unread);
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stderr_tail = thread::Builder::new()
        .spawn(move || stdout.map(|stdout| send_output(stdout, &sender)))
        .and_then(|_| StderrTail::spawn_reader(stderr));
    match stderr_tail {
        Ok(stderr) => Ok(StartedChild {
            child,
            output,
            stderr,
            #[cfg(windows)]
            job,
        }),
        Err(e) => {
            // Without readers the child would block on its output.
            let _ = child.kill();
            let _ = child.wait();
            Err(e)
        }
    }
}

/// The end of a child's standard error.
#[derive(Debug)]
pub(super) struct StderrTail {
    last_bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl StderrTail {
    fn spawn_reader(stream: Option<impl Read + Send + 'static>) -> io::Result<Self> {
        let last_bytes = Arc::new(Mutex::new(Vec::new()));
        let tail = Arc::clone(&last_bytes);
        let reader = thread::Builder::new().spawn(move || {
            if let Some(mut stream) = stream {
                collect_tail(&mut stream, &tail);
            }
        })?;
        Ok(Self { last_bytes, reader })
    }

    /// Returns the last [`MAX_STDERR_BYTES`] of the output so far.
    pub(super) fn read_so_far(&self) -> String {
        let bytes = self.last_bytes.lock().map(|bytes| bytes.clone());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// Waits at most `timeout` for the end of the stream, which a descendant of the child may keep open. Then returns
    /// the same as [`Self::read_so_far`].
    pub(super) fn wait_for_end(&self, timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        while !self.reader.is_finished() && Instant::now() < deadline {
            thread::sleep(DRAIN_POLL_INTERVAL);
        }
        self.read_so_far()
    }
}

fn collect_tail(stream: &mut impl Read, tail: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        let Ok(mut tail) = tail.lock() else { return };
        tail.extend_from_slice(&buffer[..n]);
        let excess = tail.len().saturating_sub(MAX_STDERR_BYTES);
        // The reason of a failure is in the last lines.
        tail.drain(..excess);
    }
}
