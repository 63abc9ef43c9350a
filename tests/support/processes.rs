//! Queries processes and sends them signals.
//!
//! Uses `/proc` on Linux, and `ps` elsewhere.

use super::pauses::{poll, wait_until};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A process that is not a zombie.
pub(crate) struct Process {
    /// The id of the process.
    pub(crate) pid: u32,
    /// The id of its parent.
    parent: u32,
    /// The id of its process group.
    pub(crate) group: u32,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may contain any byte; state, parent and group follow the last `)`.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let zombie = fields.next()? == "Z";
        (!zombie).then_some(Self {
            pid,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
        })
    }
}

/// Returns all processes that are not zombies; none on a system without `/proc`.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

/// Returns true if a process exists and is not a zombie.
pub(crate) fn alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        return Process::read(pid).is_some();
    }
    !read_ps_column(pid, "state=").is_empty() && !read_ps_column(pid, "state=").starts_with('Z')
}

/// Waits until all these processes have ended. Returns those that still run after `limit`. Polls,
/// because the end of a process that is not a child gives no event.
pub(crate) fn wait_for_end(pids: &[u32], limit: Duration) -> Vec<u32> {
    let left = || -> Vec<u32> { pids.iter().copied().filter(|pid| alive(*pid)).collect() };
    poll(limit, || left().is_empty().then(Vec::new)).unwrap_or_else(left)
}

/// Waits until each child that another thread of the tests has forked runs its own program. Until then the child has the
/// files of this process open, and a command would skip them as files in use.
pub(crate) fn wait_for_forked_children() {
    let own_pid = std::process::id();
    for child in own_children() {
        wait_until("a forked child starts its program", || {
            !alive(child) || command_line(child) != command_line(own_pid)
        });
    }
}

/// Returns the ids of the children of this process. On Linux it reads only the lists of its threads, because a search
/// among all processes would take a millisecond for each command.
fn own_children() -> Vec<u32> {
    if !Path::new("/proc/thread-self/children").exists() {
        let own_pid = std::process::id();
        let children = all().into_iter().filter(|child| child.parent == own_pid);
        return children.map(|child| child.pid).collect();
    }
    let threads = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let children = lists.flat_map(|list| {
        let pids = list.split_whitespace().map(str::parse);
        pids.map(|pid| pid.expect("a number")).collect::<Vec<u32>>()
    });
    children.collect()
}

/// Returns the command of a program that is searched in these folders, and has none of the variables of this process.
/// The path is absolute: the standard library forks this process, whose memory is large, to search in another `PATH`
/// than its own.
pub(crate) fn command_without_variables(program: &OsStr, search_path: Option<&OsStr>) -> Command {
    let folders = search_path.map(env::split_paths).into_iter().flatten();
    let is_program = |path: &PathBuf| {
        let meta = fs::metadata(path);
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let found = folders.map(|folder| folder.join(program)).find(is_program);
    let mut command = Command::new(found.as_deref().map_or(program, Path::as_os_str));
    command.env_clear();
    command
}

/// Waits until a process has a file open, as before it waits for the lock of the file. Polls, because an open file of
/// another process gives no event.
#[track_caller]
pub(crate) fn wait_for_open_file(pid: u32, path: &Path) {
    let is_open = || {
        assert!(alive(pid), "{pid} opens no {}", path.display());
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|file| file == path))
    };
    wait_until("a process opens a file", is_open);
}

/// Returns the path of a process's program; `None` on a system without `/proc`.
pub(crate) fn executable(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Returns the arguments of a process, separated by NUL or blanks; empty if it does not exist.
pub(crate) fn command_line(pid: u32) -> String {
    if cfg!(target_os = "linux") {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        return OsStr::from_bytes(&line).to_string_lossy().into_owned();
    }
    read_ps_column(pid, "args=")
}

/// Sends a signal (`KILL`, `TERM`…) to a process. Ignores a missing process.
pub(crate) fn signal(name: &str, pid: u32) {
    let _ = kill_process(to_pid(pid), parse_signal(name));
}

/// Stops a process, and waits until it stands still or has ended.
pub(crate) fn stop(pid: u32) {
    signal("STOP", pid);
    wait_until("a process stops", || {
        let state = read_ps_column(pid, "state=");
        state.is_empty() || state.starts_with(['T', 'Z'])
    });
}

/// Sends a signal to every process of a group.
pub(crate) fn signal_group(name: &str, group: u32) {
    let _ = kill_process_group(to_pid(group), parse_signal(name));
}

fn to_pid(pid: u32) -> Pid {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.expect("a process id")
}

fn parse_signal(name: &str) -> Signal {
    match name {
        "CONT" => Signal::CONT,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "QUIT" => Signal::QUIT,
        "STOP" => Signal::STOP,
        "TERM" => Signal::TERM,
        "WINCH" => Signal::WINCH,
        other => panic!("no signal {other}"),
    }
}

fn read_ps_column(pid: u32, column: &str) -> String {
    let printed = Command::new("ps")
        .args(["-ww", "-o", column, "-p", &pid.to_string()])
        .output();
    let text = printed.map(|printed| printed.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}
