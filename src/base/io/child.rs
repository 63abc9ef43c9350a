//! A child process with line-based output and guaranteed cleanup.
//!
//! The child has its own process group, on Windows its own job, which is killed as a whole: killing only a wrapper
//! script would leave the wrapped program behind. Only [`ChildGroup::send_line`] can wait without a time limit, if the
//! child does not read. A foreign process that inherited the child's output can at most keep one sleeping thread alive.

use super::child_streams::{self, StderrTail};
#[cfg(unix)]
use super::processes::to_pid;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// The longest line that is returned. Longer ones are skipped.
pub(crate) const MAX_LINE_BYTES: usize = 4 * 1024 * 1024;

/// The number of unread lines at which no more output of the child is read.
const MAX_UNREAD_LINES: usize = 16;

/// The interval at which the state of the child is checked.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The time limit for reading the rest of standard error after the child has ended.
const STDERR_DRAIN_TIMEOUT: Duration = Duration::from_millis(100);

/// The time limit for reaping a killed child.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildOutput {
    /// A line, without its newline.
    Line(Vec<u8>),
    /// The child closed its standard output.
    Closed,
    TimedOut,
}

/// A running child. Dropping it kills its process group and reaps it, unless [`ChildGroup::detach`]
/// was called.
#[derive(Debug)]
pub struct ChildGroup {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Vec<u8>>,
    stderr: StderrTail,
    status: Option<ExitStatus>,
    is_detached: bool,
    /// `None` if Windows refused to create the job.
    #[cfg(windows)]
    job: Option<super::job::ChildJob>,
}

fn send_lines(stdout: ChildStdout, sender: &SyncSender<Vec<u8>>) {
    let mut reader = BufReader::new(stdout);
    while let Ok(Some(line)) = read_line(&mut reader) {
        if sender.send(line).is_err() {
            break;
        }
    }
}

impl ChildGroup {
    /// Starts `command` in a new process group, with pipes for all three streams.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        #[cfg(unix)]
        {
            use std::os::unix::process::CommandExt;
            // Its own group also keeps Ctrl-C of the terminal away: this process decides when the
            // child ends.
            command.process_group(0);
        }

        let mut started =
            child_streams::spawn(command, Stdio::piped(), MAX_UNREAD_LINES, send_lines)?;
        Ok(Self {
            #[cfg(windows)]
            job: started.job,
            stdin: started.child.stdin.take(),
            child: started.child,
            lines: started.output,
            stderr: started.stderr,
            status: None,
            is_detached: false,
        })
    }

    /// Writes a line to the child. If the child or this value has closed the input, the error is
    /// [`io::ErrorKind::BrokenPipe`].
    pub fn send_line(&mut self, line: &str) -> io::Result<()> {
        let Some(stdin) = &mut self.stdin else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        stdin.write_all(format!("{line}\n").as_bytes())?;
        stdin.flush()
    }

    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for the next line of standard output until `deadline`.
    pub fn read_line(&self, deadline: Instant) -> ChildOutput {
        let wait = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(wait) {
            Ok(line) => ChildOutput::Line(line),
            Err(RecvTimeoutError::Timeout) => ChildOutput::TimedOut,
            Err(RecvTimeoutError::Disconnected) => ChildOutput::Closed,
        }
    }

    /// Returns the last 16 KiB of standard error so far. After [`ChildGroup::finish`] nothing is missing, unless
    /// a process that the child started holds the stream open.
    pub fn stderr(&self) -> String {
        match self.status {
            Some(_) => self.stderr.wait_for_end(STDERR_DRAIN_TIMEOUT),
            None => self.stderr.read_so_far(),
        }
    }

    /// Closes the child's input, waits until `deadline` for the child to end, then kills what is left of its
    /// process group. Returns `None` if the child still ran at the deadline.
    pub fn finish(&mut self, deadline: Instant) -> Option<ExitStatus> {
        self.close_input();
        let mut has_ended = self.has_ended();
        while !has_ended && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL.min(deadline.saturating_duration_since(Instant::now())));
            has_ended = self.has_ended();
        }
        self.kill_group();
        if has_ended { self.status } else { None }
    }

    /// Closes the child's input and lets it run on, even beyond this process, for work that must
    /// not be cut off.
    pub(crate) fn detach(&mut self) {
        self.close_input();
        #[cfg(windows)]
        if let Some(job) = self.job.take() {
            job.release();
        }
        self.is_detached = true;
    }

    /// Returns true if the child itself has ended. Does not reap it.
    pub(crate) fn has_ended(&mut self) -> bool {
        if self.status.is_some() {
            return true;
        }

        #[cfg(unix)]
        {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            // The child stays unreaped: otherwise another process could get its id before the group is killed.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            // An error means that there is no such child.
            to_pid(self.child.id())
                .is_none_or(|id| !matches!(waitid(WaitId::Pid(id), options), Ok(None)))
        }
        #[cfg(not(unix))]
        {
            self.status = self.child.try_wait().ok().flatten();
            self.status.is_some()
        }
    }

    fn kill_group(&mut self) {
        #[cfg(windows)]
        // Closing the last handle of a job kills all its processes.
        drop(self.job.take());

        if self.status.is_some() {
            return;
        }

        #[cfg(unix)]
        if let Some(group) = to_pid(self.child.id()) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // Windows may have refused the job that would have ended the child.
        let _ = self.child.kill();

        let deadline = Instant::now() + REAP_TIMEOUT;
        while self.status.is_none() && Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => self.status = Some(status),
                Ok(None) => thread::sleep(POLL_INTERVAL),
                Err(_) => break,
            }
        }
    }
}

impl Drop for ChildGroup {
    fn drop(&mut self) {
        if !self.is_detached {
            self.kill_group();
        }
    }
}

/// Returns the next line without its newline. The last line may have none. Skips lines longer than [`MAX_LINE_BYTES`].
/// `None` at the end of the stream.
fn read_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut line = Vec::new();
        // One byte more is the newline, or shows that the line is too long.
        let mut limited = reader.by_ref().take(MAX_LINE_BYTES as u64 + 1);
        if limited.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }

        let has_newline = line.pop_if(|byte| *byte == b'\n').is_some();
        if has_newline || line.len() <= MAX_LINE_BYTES {
            return Ok(Some(line));
        }

        reader.skip_until(b'\n')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_line_skips_lines_that_are_too_long() {
        let mut text = vec![b'x'; MAX_LINE_BYTES + 1];
        text.extend_from_slice(b"\nshort\nlast");
        let mut reader = BufReader::new(&text[..]);
        assert_eq!(read_line(&mut reader).unwrap().unwrap(), b"short");
        assert_eq!(read_line(&mut reader).unwrap().unwrap(), b"last");
        assert_eq!(read_line(&mut reader).unwrap(), None);
    }

    #[cfg(windows)]
    #[test]
    fn dropping_a_child_ends_its_descendants_unless_it_was_detached() {
        use crate::io::processes::{Process, ProcessTable, kill, start_time};
        let deadline = Instant::now() + Duration::from_secs(60);
        let started_child = || {
            let mut command = Command::new("cmd");
            // It starts a program when it has read a byte, because it may run before it is in the job.
            let command = command.args(["/c", "pause & cmd /c pause"]);
            let mut group = ChildGroup::spawn(command).unwrap();
            let input = group.stdin.as_mut().unwrap();
            input.write_all(b"x").unwrap();
            let of_child = |process: &&Process| process.parent() == Some(group.child.id());
            loop {
                let table = ProcessTable::read();
                if let Some(inner) = table.iter().find(of_child) {
                    return (group, inner.pid());
                }
                assert!(Instant::now() < deadline, "it starts no program");
            }
        };
        let (mut group, inner) = started_child();
        // Its input stays open, so that it does not end by itself.
        let input = group.stdin.take();
        assert!(start_time(inner).is_some());
        drop(group);
        while start_time(inner).is_some() {
            assert!(Instant::now() < deadline, "it still runs");
        }
        drop(input);
        let (mut group, inner) = started_child();
        group.job.as_ref().expect("it is in a job");
        let input = group.stdin.take();
        group.detach();
        drop(group);
        assert!(start_time(inner).is_some());
        kill(inner);
        drop(input);
        while start_time(inner).is_some() {
            assert!(Instant::now() < deadline, "it was not killed");
        }
    }
}
