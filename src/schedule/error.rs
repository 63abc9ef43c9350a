//! The reason why a job cannot be installed, removed or shown.

use crate::io::IoError;
use std::path::PathBuf;

/// The reason why a job cannot be installed, removed or shown.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A file at the path of a job has no marker line.
    #[error("codex-manager did not create this file and leaves it unchanged: {}", .0.display())]
    Foreign(PathBuf),
    /// A path or variable that the scheduler's file format cannot represent.
    #[error("a {format} cannot contain this text ({why}): {text:?}")]
    Unwritable {
        /// The term for a job; see `Scheduler::job_term`.
        format: &'static str,
        why: &'static str,
        /// The path or value of the variable.
        text: String,
    },
    #[error("the home folder of the user is unknown")]
    NoHome,
    /// A file cannot be read, written or removed.
    #[error(transparent)]
    Io(#[from] IoError),
}
