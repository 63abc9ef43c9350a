//! The errors of jobs.

use crate::io::IoError;
use std::path::PathBuf;

/// The reason why a job cannot be installed, removed or shown.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A file at the path of a job has no marker line.
    #[error("codex-manager did not create this file and leaves it unchanged: {}", .0.display())]
    Foreign(PathBuf),
    /// A path or the value of a variable contains characters that the scheduler's file format cannot represent.
    #[error("a job cannot contain this text, because {reason}: {text:?}")]
    Unwritable { reason: &'static str, text: String },
    #[error("the home folder of the user is unknown")]
    NoHome,
    #[error(transparent)]
    Io(#[from] IoError),
}
