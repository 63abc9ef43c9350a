//! Installs jobs for the system's own scheduler: systemd user timers, launchd agents, Windows tasks.
//!
//! A job runs this program with absolute paths; no process stays in memory between two runs. The files of
//! a job contain a marker line with the options of the job. A file of the same name without the marker
//! belongs to the user, and is neither replaced nor removed.

mod error;
mod installation;
mod job;
pub(crate) mod launchd;
mod scheduler;
pub mod systemd;
pub(crate) mod windows;
mod xml;

pub use error::ScheduleError;
pub use installation::{
    FileAction, InstalledJob, PlannedJobFile, apply, disable_commands, enable_commands, file_paths,
    find, plan_install, plan_remove, render,
};
pub use job::{JobContext, JobDefinition, JobKind, JobOptions, Trigger, search_path};
pub use scheduler::{Scheduler, SchedulerCommand};
