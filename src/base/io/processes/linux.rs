//! Processes as `/proc` shows them. Each method reads its file on demand.

#![allow(
    clippy::disallowed_methods,
    reason = "the files in /proc belong to the system and never block"
)]

use crate::io::user;
use chrono::{DateTime, Utc};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process that ran when the table was read. Each method reads the system again, so after the end of the process it
/// may describe another process with the same id.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    folder: PathBuf,
}

pub(super) fn read_all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            Some(Process {
                pid: entry.file_name().to_str()?.parse().ok()?,
                folder: entry.path(),
            })
        })
        .collect()
}

/// Returns the process that holds a lock (`flock`) on the file at `path`; `None` if the system does not show it.
pub(crate) fn find_lock_holder(path: &Path) -> Option<Process> {
    let path = fs::canonicalize(path).ok()?;
    let inode = fs::metadata(&path).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pids = locks
        .lines()
        .filter_map(|line| parse_lock_holder(line, inode));
    let mut processes = pids.map(|pid| Process {
        pid,
        folder: format!("/proc/{pid}").into(),
    });
    // Files of several file systems may have the same inode number.
    processes.find(|process| !process.open_files_beneath(&[&path]).is_empty())
}

/// Returns the process id in a line of `/proc/locks` if it is about an `flock` on a file with this inode number.
fn parse_lock_holder(line: &str, inode: u64) -> Option<u32> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_number, "FLOCK", _kind, _access, pid, file, ..] = fields[..] else {
        return None;
    };
    let (_device, file_inode) = file.rsplit_once(':')?;
    let is_of_file = file_inode.parse() == Ok(inode);
    pid.parse().ok().filter(|_| is_of_file)
}

/// Returns the start time of a process in a unit of the system; `None` for a zombie or a process that has ended.
///
/// Ids are reused; id and start time together identify a process.
pub fn start_time(pid: u32) -> Option<u64> {
    ProcStat::read(pid).filter(|stat| !stat.has_ended)?.started
}

/// Returns true if a signal or a debugger stopped the process.
pub(crate) fn is_stopped(pid: u32) -> bool {
    ProcStat::read(pid).is_some_and(|stat| stat.is_stopped)
}

/// Returns the start time of a process, accurate to about a second.
pub fn started_at(pid: u32) -> Option<DateTime<Utc>> {
    /// The unit of process times in `/proc`, the same on every processor that Codex supports.
    const TICKS_PER_SECOND: i64 = 100;
    let ticks = i64::try_from(start_time(pid)?).ok()?;
    let system_stat = fs::read_to_string("/proc/stat").ok()?;
    let boot_seconds = system_stat
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?;
    let boot_seconds: i64 = boot_seconds.trim().parse().ok()?;
    DateTime::from_timestamp(boot_seconds + ticks / TICKS_PER_SECOND, 0)
}

/// The used fields of `/proc/<pid>/stat`.
struct ProcStat {
    has_ended: bool,
    is_stopped: bool,
    parent: Option<u32>,
    started: Option<u64>,
}

impl ProcStat {
    fn read(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The second field is the program's name in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;

        Some(Self {
            // `Z` is a zombie, `t` a process that a debugger stopped.
            has_ended: matches!(state, "Z" | "X"),
            is_stopped: matches!(state, "T" | "t"),
            parent: fields.next().and_then(|pid| pid.parse().ok()),
            // The start time is field 22; this iterator begins after field 4.
            started: fields.nth(17).and_then(|ticks| ticks.parse().ok()),
        })
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the id of the process that started this one, or that adopted it.
    pub(crate) fn parent(&self) -> Option<u32> {
        ProcStat::read(self.pid)?.parent.filter(|pid| *pid > 0)
    }

    /// Returns the start time; see [`super::start_time`].
    pub(crate) fn start_time(&self) -> Option<u64> {
        start_time(self.pid)
    }

    pub(crate) fn is_of_this_user(&self) -> bool {
        fs::metadata(&self.folder).is_ok_and(|meta| user::other_owner(&meta).is_none())
    }

    /// Returns the path of the running program, even if the file was replaced since.
    pub(crate) fn program(&self) -> Option<PathBuf> {
        let program = fs::read_link(self.folder.join("exe")).ok()?;
        Some(strip_deleted_suffix(program))
    }

    pub fn name(&self) -> Option<OsString> {
        self.program()?.file_name().map(OsStr::to_os_string)
    }

    /// Returns the command line, beginning with the program name. One empty argument if the system does not show it.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        let line = fs::read(self.folder.join("cmdline")).unwrap_or_default();
        line.strip_suffix(b"\0")
            .unwrap_or(&line)
            .split(|byte| *byte == 0)
            .map(|argument| OsStr::from_bytes(argument).to_os_string())
            .collect()
    }

    /// Returns a variable of the initial environment of the process; an empty one counts as unset.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        let environment = fs::read(self.folder.join("environ")).ok()?;
        environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
            .find(|value| !value.is_empty())
            .map(|value| OsStr::from_bytes(value).to_os_string())
    }

    pub(crate) fn working_folder(&self) -> Option<PathBuf> {
        fs::read_link(self.folder.join("cwd")).ok()
    }

    /// Returns the regular files beneath `folders` that the process has open; empty if the system does not show them.
    pub(crate) fn open_files_beneath(&self, folders: &[&Path]) -> Vec<PathBuf> {
        self.list_open_files(folders, |_| true).unwrap_or_default()
    }

    /// Returns the regular files beneath `folders` that the process has open for writing; `None` if the system does
    /// not show them.
    pub fn files_open_for_writing(&self, folders: &[&Path]) -> Option<Vec<PathBuf>> {
        self.list_open_files(folders, |number| {
            let info = fs::read_to_string(self.folder.join("fdinfo").join(number));
            info.is_ok_and(|info| is_writable(&info))
        })
    }

    /// Returns the regular files beneath `folders` that are open with a descriptor that `is_wanted` accepts.
    fn list_open_files(
        &self,
        folders: &[&Path],
        is_wanted: impl Fn(&OsStr) -> bool,
    ) -> Option<Vec<PathBuf>> {
        let mut files: Vec<_> = fs::read_dir(self.folder.join("fd"))
            .ok()?
            .flatten()
            .filter_map(|fd| {
                let target = fs::read_link(fd.path()).ok()?;
                let is_beneath = folders.iter().any(|folder| target.starts_with(folder));
                let is_selected = is_beneath && is_wanted(&fd.file_name());
                let is_file = is_selected && fs::metadata(fd.path()).is_ok_and(|m| m.is_file());
                is_file.then(|| strip_deleted_suffix(target))
            })
            .collect();

        files.sort();
        files.dedup();
        Some(files)
    }
}

/// Returns true if the octal flags in `fdinfo` allow writing.
fn is_writable(info: &str) -> bool {
    const ACCESS_MODE: u32 = 0o3;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & ACCESS_MODE != 0)
}

/// Removes the suffix with which the kernel marks a deleted file.
fn strip_deleted_suffix(path: PathBuf) -> PathBuf {
    let bytes = path.into_os_string().into_vec();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes).to_vec();
    PathBuf::from(OsString::from_vec(bytes))
}
