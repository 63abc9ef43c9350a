//! A child process whose standard output is read as a stream, with cancellation and a limit on the
//! time without progress.
//!
//! The child stays in the process group of this process: Ctrl-C on a terminal reaches both, and a
//! program that it starts (ssh) may ask on the terminal. Reads end early when the user interrupts
//! this process or the limit has passed; the child is then asked to end, and killed if it does not.

use super::child_streams::{self, StderrTail};
#[cfg(unix)]
use super::processes::to_pid;
use super::progress::is_interrupted;
use super::tree::{self, FolderActivity};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

const CHUNK_BYTES: usize = 128 * 1024;

/// The number of unread chunks at which no more output of the child is read.
const MAX_UNREAD_CHUNKS: usize = 8;

/// The interval at which interruption and the limit are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The interval at which the end of the child is checked.
const END_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The time that the child has to end by itself after SIGINT. restic removes its lock in that time.
#[cfg(unix)]
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit for reading the rest of standard error after the child has ended.
const STDERR_DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The reason why this process ended the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    Interrupted,
    NoProgress,
}

#[derive(Debug)]
pub struct ChildEnd {
    /// The exit status; `None` if it could not be obtained.
    pub status: Option<ExitStatus>,
    /// The end of standard error.
    pub stderr: String,
    /// Set if this process ended the child.
    pub stop: Option<StopReason>,
}

/// A time limit until the first progress. Applies only if `is_failing` accepts the standard error.
#[derive(Debug, Clone, Copy)]
struct StartLimit {
    timeout: Duration,
    is_failing: fn(&str) -> bool,
}

/// A running child. Dropping it ends the child.
#[derive(Debug)]
pub struct PipedChild {
    child: Child,
    chunks: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    /// The number of bytes of `chunk` that were read.
    chunk_position: usize,
    stderr: StderrTail,
    progress_timeout: Duration,
    last_progress: Instant,
    output_is_progress: bool,
    start_limit: Option<StartLimit>,
    /// The folder in which changes count as progress, with its state at the last check.
    written_folder: Option<(PathBuf, FolderActivity)>,
    stop: Option<StopReason>,
    status: Option<ExitStatus>,
    /// Ends the child if this process is killed, because Windows does not.
    #[cfg(windows)]
    _job: Option<super::job::ChildJob>,
}

fn send_chunks(mut stdout: ChildStdout, sender: &SyncSender<Vec<u8>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        match stdout.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => {
                chunk.truncate(n);
                if sender.send(chunk).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

impl PipedChild {
    /// Starts `command` with `input` as its standard input. `limit` is the longest time without progress.
    pub fn spawn(command: &mut Command, input: Stdio, limit: Duration) -> io::Result<Self> {
        let started = child_streams::spawn(command, input, MAX_UNREAD_CHUNKS, send_chunks)?;

        Ok(Self {
            #[cfg(windows)]
            _job: started.job,
            child: started.child,
            chunks: started.output,
            chunk: Vec::new(),
            chunk_position: 0,
            stderr: started.stderr,
            progress_timeout: limit,
            last_progress: Instant::now(),
            output_is_progress: true,
            start_limit: None,
            written_folder: None,
            stop: None,
            status: None,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Makes only [`PipedChild::mark_progress`] count as progress, and not output by itself.
    pub fn expect_marks(&mut self) {
        self.output_is_progress = false;
    }

    /// Ends the child after `timeout` if it has made no progress at all and `is_failing` accepts its
    /// standard error.
    pub fn set_start_timeout(&mut self, timeout: Duration, is_failing: fn(&str) -> bool) {
        let limit = StartLimit {
            timeout,
            is_failing,
        };
        self.start_limit = Some(limit);
    }

    /// Makes changes in `folder` count as progress, for a child that writes files without output.
    pub fn expect_changes_in(&mut self, folder: &Path) {
        self.written_folder = Some((folder.to_path_buf(), FolderActivity::default()));
    }

    /// Restarts the time limit, because the child has made progress.
    pub fn mark_progress(&mut self) {
        self.last_progress = Instant::now();
        self.start_limit = None;
    }

    /// Waits for the child to end and returns its status and standard error. Discards unread output. Ends the child if
    /// the user interrupts this process or the limit passes.
    pub fn finish(mut self) -> ChildEnd {
        // A child that writes into a full pipe would never end.
        let _ = io::copy(&mut self, &mut io::sink());

        while self.stop.is_none() && self.poll_status().is_none() {
            thread::sleep(END_POLL_INTERVAL);
            self.check_limits();
        }

        self.interrupt_and_wait();
        ChildEnd {
            status: self.status,
            stderr: self.stderr.wait_for_end(STDERR_DRAIN_TIMEOUT),
            stop: self.stop,
        }
    }

    /// Sets `stop` if the user interrupts this process or a limit has passed.
    fn check_limits(&mut self) {
        if self.stop.is_some() {
            return;
        }

        if is_interrupted() {
            self.stop = Some(StopReason::Interrupted);
        } else if self.is_failing_to_start() {
            self.stop = Some(StopReason::NoProgress);
        } else if self.last_progress.elapsed() >= self.progress_timeout {
            if self.detect_folder_change() {
                self.mark_progress();
            } else {
                self.stop = Some(StopReason::NoProgress);
            }
        }
    }

    fn detect_folder_change(&mut self) -> bool {
        let Some((folder, last_activity)) = &mut self.written_folder else {
            return false;
        };
        let activity = tree::read_activity(folder);
        let has_changed = activity != *last_activity;
        *last_activity = activity;
        has_changed
    }

    /// Returns true if the child has made no progress within the limit, and its standard error shows that its start
    /// fails.
    fn is_failing_to_start(&self) -> bool {
        self.start_limit.is_some_and(|limit| {
            let is_over = self.last_progress.elapsed() >= limit.timeout;
            is_over && (limit.is_failing)(&self.stderr.read_so_far())
        })
    }

    fn poll_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Asks the child to end, and kills it after `END_TIMEOUT`; on Windows at once. Discards its output meanwhile.
    fn interrupt_and_wait(&mut self) {
        if self.poll_status().is_some() {
            return;
        }

        #[cfg(unix)]
        if let Some(pid) = to_pid(self.child.id()) {
            // restic 0.14 cleans up on SIGINT only. The id still belongs to the child, which is not reaped yet.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);

            let deadline = Instant::now() + END_TIMEOUT;
            while self.poll_status().is_none() && Instant::now() < deadline {
                // A child that writes into a full pipe would never end.
                self.chunks.try_iter().for_each(drop);
                thread::sleep(END_POLL_INTERVAL);
            }
        }

        if self.poll_status().is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }
}

impl Read for PipedChild {
    /// Reads the next bytes of standard output.
    ///
    /// # Errors
    /// The user interrupted this process, or the limit has passed. [`PipedChild::finish`] returns the reason.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk_position == self.chunk.len() {
            self.check_limits();
            if let Some(stop) = self.stop {
                // Not `ErrorKind::Interrupted`: callers would try again.
                return Err(io::Error::other(match stop {
                    StopReason::Interrupted => "interrupted",
                    StopReason::NoProgress => "no progress within the time limit",
                }));
            }

            match self.chunks.recv_timeout(POLL_INTERVAL) {
                Ok(chunk) => {
                    if self.output_is_progress {
                        self.mark_progress();
                    }
                    (self.chunk, self.chunk_position) = (chunk, 0);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }

        let available = &self.chunk[self.chunk_position..];
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.chunk_position += count;
        Ok(count)
    }
}

impl Drop for PipedChild {
    fn drop(&mut self) {
        self.interrupt_and_wait();
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> PipedChild {
        let mut command = Command::new("sh");
        let command = command.args(["-c", script]);
        PipedChild::spawn(command, Stdio::null(), limit).expect("sh starts")
    }

    #[test]
    fn stdout_and_stderr_are_returned_completely() {
        let mut child = shell("echo out; echo err >&2; exit 3", Duration::from_secs(60));
        let mut text = String::new();
        child.read_to_string(&mut text).unwrap();
        let end = child.finish();
        assert_eq!((text.as_str(), end.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(end.status.unwrap().code(), Some(3));
        assert_eq!(end.stop, None);
    }

    #[test]
    fn a_child_without_progress_is_asked_to_end() {
        // Not a shell: it cannot catch a signal that it ignored from its start, as the jobs of a script do.
        let script = "$SIG{INT} = sub { print STDERR qq(asked\\n); exit 9 }; syswrite STDOUT, qq(begun\\n); \
                      sleep 60 while 1";
        let mut command = Command::new("perl");
        let command = command.args(["-e", script]);
        let limit = Duration::from_secs(60);
        let mut child = PipedChild::spawn(command, Stdio::null(), limit).expect("perl starts");
        // It has set its handler, however busy the machine is.
        let mut text = [0; 6];
        child.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"begun\n");
        child.progress_timeout = Duration::from_millis(100);
        assert!(child.read(&mut text).is_err());
        let end = child.finish();
        assert_eq!(end.stop, Some(StopReason::NoProgress));
        assert_eq!(end.stderr, "asked\n");
    }

    #[test]
    fn a_child_that_fails_from_the_beginning_is_ended_early() {
        // Ending early takes a fraction of the long limit, also on a busy machine.
        let run = |script: &str, limit| {
            let mut child = shell(script, Duration::from_secs(limit));
            child.set_start_timeout(Duration::from_millis(100), |text| text.contains("retrying"));
            let begun = Instant::now();
            let end = child.finish();
            assert_eq!(end.stop, Some(StopReason::NoProgress));
            begun.elapsed() >= Duration::from_secs(limit)
        };
        let wait = "while :; do sleep 0.01; done";
        assert!(!run(&format!("echo retrying >&2; {wait}"), 60));
        assert!(run(wait, 3), "silence alone is no failure");
        // The pause lets the output arrive before the error, also on a busy machine.
        let begun_first = format!("echo begun; sleep 1; echo retrying >&2; {wait}");
        assert!(run(&begun_first, 5));
    }

    #[test]
    fn changes_in_the_folder_are_progress() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file").display().to_string();
        // Together longer than the limit, which a slow disk does not reach between two changes.
        let script = format!("for i in 1 2 3 4 5 6 7 8; do echo >> '{file}'; sleep 0.8; done");
        let mut child = shell(&script, Duration::from_secs(6));
        child.expect_changes_in(folder.path());
        assert_eq!(child.finish().stop, None);
        let mut child = shell("exec sleep 600", Duration::from_millis(400));
        child.expect_changes_in(folder.path());
        assert_eq!(child.finish().stop, Some(StopReason::NoProgress));
    }

    #[test]
    fn output_is_no_progress_after_expect_marks() {
        let mut child = shell(
            "while :; do echo same; sleep 0.01; done",
            Duration::from_millis(200),
        );
        child.expect_marks();
        assert_eq!(child.finish().stop, Some(StopReason::NoProgress));
    }
}
