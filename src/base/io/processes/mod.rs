//! The processes of this machine: their program, user and open files, and asking them to end.
//!
//! Linux reads `/proc`; other systems use the crate `sysinfo`, which does not list open files.
//! `Process::name` is `None` if this user may not inspect the process, if it is a zombie, or if `sysinfo` cannot read
//! it in time.

mod ending;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod table;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod table;
#[cfg(any(test, not(target_os = "linux")))]
mod time_limit;

pub(crate) use ending::terminate_all;
pub use ending::{EndTarget, kill};
pub use table::{Process, start_time, started_at};
pub(crate) use table::{find_lock_holder, is_stopped};

use std::collections::BTreeMap;

#[derive(Debug)]
pub struct ProcessTable {
    processes: BTreeMap<u32, Process>,
}

impl ProcessTable {
    pub fn read() -> Self {
        let processes = table::read_all().into_iter();
        let processes = processes.map(|process| (process.pid(), process));
        Self {
            processes: processes.collect(),
        }
    }

    /// Returns all processes, ordered by id.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// Returns the parent of `pid`, the parent of that, and so on.
    pub fn ancestors(&self, pid: u32) -> Vec<u32> {
        let mut ancestors: Vec<u32> = Vec::new();
        let mut current = pid;
        while let Some(parent) = self.get(current).and_then(Process::parent) {
            // The processes were read one after the other, so ids that were reused meanwhile can form a circle.
            if parent == pid || ancestors.contains(&parent) {
                break;
            }
            ancestors.push(parent);
            current = parent;
        }
        ancestors
    }
}

/// Creates a command that waits for the end of its input, for tests.
#[cfg(test)]
pub(crate) fn waiting_program() -> std::process::Command {
    let mut command;
    if cfg!(windows) {
        command = std::process::Command::new("cmd");
        command.args(["/c", "pause"]);
    } else {
        command = std::process::Command::new("cat");
    }
    command.stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::null());
    command
}

/// Converts a process id for system calls; `None` if no process can have this id.
#[cfg(unix)]
pub(crate) fn to_pid(id: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(id).ok()?)
}
