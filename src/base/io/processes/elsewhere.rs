//! Processes as `sysinfo` shows them. All properties are read when the table is read.

use super::time_limit::read_within;
use chrono::{DateTime, Utc};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

/// The time limit for reading the memory of processes, which usually takes milliseconds. wine 8 may wait for the memory
/// of a process without end.
const MEMORY_TIMEOUT: Duration = Duration::from_secs(5);

/// A process at the time of the snapshot.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    parent: Option<u32>,
    started: u64,
    is_own: bool,
    memory: ProcessMemory,
}

/// The properties that Windows has only in the memory of the process. Empty if this user may not read it, or if it was
/// not read within [`MEMORY_TIMEOUT`].
#[derive(Debug, Default)]
struct ProcessMemory {
    program: Option<PathBuf>,
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    working_folder: Option<PathBuf>,
}

/// Reads `properties` of the processes, besides the id, parent, status and start time.
fn read_system(processes: ProcessesToUpdate<'_>, properties: ProcessRefreshKind) -> System {
    let mut system = System::new();
    // With `true`, it also drops ended processes, which a new `System` does not have.
    system.refresh_processes_specifics(processes, true, properties);
    system
}

pub(super) fn read_all() -> Vec<Process> {
    let with_user = ProcessRefreshKind::nothing().with_user(UpdateKind::Always);
    let system = read_system(ProcessesToUpdate::All, with_user);

    let own_user = system
        .process(Pid::from_u32(std::process::id()))
        .and_then(|process| process.user_id().cloned());

    let pids: Vec<Pid> = system.processes().keys().copied().collect();
    let memories = read_within(&pids, MEMORY_TIMEOUT, read_memories);
    let mut memories: HashMap<Pid, ProcessMemory> = memories.into_iter().collect();

    system
        .processes()
        .values()
        .filter(|process| !has_ended(process))
        .map(|process| Process {
            pid: process.pid().as_u32(),
            parent: process.parent().map(Pid::as_u32),
            started: process.start_time(),
            // Two unknown users are not the same user.
            is_own: own_user.is_some() && process.user_id() == own_user.as_ref(),
            memory: memories.remove(&process.pid()).unwrap_or_default(),
        })
        .collect()
}

fn read_memories(pids: &[Pid]) -> Vec<(Pid, ProcessMemory)> {
    let properties = ProcessRefreshKind::nothing()
        .with_exe(UpdateKind::Always)
        .with_cmd(UpdateKind::Always)
        .with_environ(UpdateKind::Always)
        .with_cwd(UpdateKind::Always);
    let system = read_system(ProcessesToUpdate::Some(pids), properties);

    let to_memory = |process: &sysinfo::Process| ProcessMemory {
        program: process.exe().map(Path::to_path_buf),
        arguments: process.cmd().to_vec(),
        environment: process.environ().to_vec(),
        working_folder: process.cwd().map(Path::to_path_buf),
    };
    let processes = system.processes().iter();
    processes
        .map(|(pid, process)| (*pid, to_memory(process)))
        .collect()
}

fn has_ended(process: &sysinfo::Process) -> bool {
    matches!(
        process.status(),
        ProcessStatus::Zombie | ProcessStatus::Dead
    )
}

/// Reads the status and the start time of one process, and returns the result of `read` for it; `None` if there is no
/// such process.
pub(super) fn read_one<T>(pid: u32, read: impl FnOnce(&sysinfo::Process) -> T) -> Option<T> {
    let pid = Pid::from_u32(pid);
    let properties = ProcessRefreshKind::nothing();
    let system = read_system(ProcessesToUpdate::Some(&[pid]), properties);
    system.process(pid).map(read)
}

/// Returns the start time of a process in a unit of the system; `None` for a zombie or a process that has ended.
///
/// Ids are reused; id and start time together identify a process.
pub fn start_time(pid: u32) -> Option<u64> {
    read_one(pid, |process| {
        (!has_ended(process)).then(|| process.start_time())
    })?
}

/// Returns the process that holds a lock on the file at `path`: not known on this system.
pub(crate) fn find_lock_holder(_path: &Path) -> Option<Process> {
    None
}

/// Returns true if a signal or a debugger stopped the process. False if the system does not report it.
pub(crate) fn is_stopped(pid: u32) -> bool {
    read_one(pid, |process| process.status() == ProcessStatus::Stop) == Some(true)
}

/// Returns the start time of a process, accurate to about a second.
pub fn started_at(pid: u32) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(start_time(pid)?).ok()?, 0)
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn parent(&self) -> Option<u32> {
        self.parent
    }

    /// Returns the start time; see [`super::start_time`].
    pub(crate) fn start_time(&self) -> Option<u64> {
        Some(self.started)
    }

    pub(crate) fn is_of_this_user(&self) -> bool {
        self.is_own
    }

    pub(crate) fn program(&self) -> Option<PathBuf> {
        self.memory.program.clone()
    }

    pub fn name(&self) -> Option<OsString> {
        let program = self.memory.program.as_ref()?;
        program.file_name().map(OsStr::to_os_string)
    }

    /// Returns the command line, beginning with the program name.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        self.memory.arguments.clone()
    }

    /// Returns a variable of the initial environment of the process; an empty one counts as unset.
    pub fn variable(&self, name: &str) -> Option<OsString> {
        let is_wanted =
            |stored: &str| stored == name || (cfg!(windows) && stored.eq_ignore_ascii_case(name));
        let mut entries = self.memory.environment.iter().filter_map(|entry| {
            let (stored, value) = entry.to_str()?.split_once('=')?;
            (is_wanted(stored) && !value.is_empty()).then(|| value.into())
        });
        entries.next()
    }

    pub(crate) fn working_folder(&self) -> Option<PathBuf> {
        self.memory.working_folder.clone()
    }

    /// Returns the regular files beneath `folders` that the process has open: not known on this system.
    pub(crate) fn open_files_beneath(&self, _folders: &[&Path]) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Returns the regular files beneath `folders` that the process has open for writing: not known on this system.
    pub fn files_open_for_writing(&self, _folders: &[&Path]) -> Option<Vec<PathBuf>> {
        None
    }
}
