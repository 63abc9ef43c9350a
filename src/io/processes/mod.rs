//! The processes of this machine: what they run, for whom, what they have open, and asking them to
//! end.
//!
//! Linux tells it in `/proc`; elsewhere the crate `sysinfo` asks the system, which does not say
//! which files a process has open. What belongs to others and cannot be looked into has no name
//! here, and zombies have none either.

mod ending;
#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod table;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod table;

pub use ending::{EndTarget, terminate_all};
pub use table::Process;

use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

/// Every process of this machine.
#[derive(Debug)]
pub struct ProcessTable {
    processes: BTreeMap<u32, Process>,
}

impl ProcessTable {
    /// Those that run now.
    pub fn read() -> Self {
        Self {
            processes: table::all()
                .into_iter()
                .map(|process| (process.pid(), process))
                .collect(),
        }
    }

    /// Each of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.processes.values()
    }

    /// One of them.
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// The parent of `pid`, its parent, and so on, nearest first.
    pub fn ancestors(&self, pid: u32) -> Vec<u32> {
        let mut line: Vec<u32> = Vec::new();
        let mut at = pid;
        while let Some(parent) = self.get(at).and_then(Process::parent) {
            // Read one after the other, processes that come and go can make a circle.
            if parent == pid || line.contains(&parent) {
                break;
            }
            line.push(parent);
            at = parent;
        }
        line
    }
}

/// When a process was started, in a unit of the system's own; `None` once it has ended, also where
/// nobody has taken its exit status yet.
///
/// An id comes back; together with the time it names one process for good.
pub fn started(pid: u32) -> Option<u64> {
    table::started(pid)
}

/// When a process was started by the clock, to about a second.
pub fn started_at(pid: u32) -> Option<DateTime<Utc>> {
    table::started_at(pid)
}

/// Whether a process is stopped, by a signal or a debugger. False where the system does not say.
pub fn is_stopped(pid: u32) -> bool {
    table::is_stopped(pid)
}
