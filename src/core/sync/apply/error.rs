//! Errors of a run, and failures of one step.

use crate::io::IoError;
use crate::sync::backup::BackupError;
use crate::sync::plan::PlanError;
use std::io;
use std::path::Path;

/// An error that ends a run early. The files of the completed steps are in place. The next run finds files that the
/// state does not record yet.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The user interrupted the run between two files.
    #[error("interrupted")]
    Interrupted,
    /// A file that all steps depend on cannot be read or written, or the disk is full or read-only.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The files to overwrite could not be backed up; nothing was changed.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The cloud folder was unmounted or replaced since the plan.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// The run ended early after the files to overwrite had been backed up.
    #[error("{cause}")]
    Stopped {
        /// Name of the snapshot that has the former contents.
        snapshot: String,
        /// The error that ended the run.
        cause: Box<ApplyError>,
    },
}

pub(super) enum StepFailure {
    /// The run leaves the step for the next run and goes on. The text is the reason, for output.
    Skip(String),
    /// The run ends.
    Abort(ApplyError),
}

impl From<ApplyError> for StepFailure {
    fn from(e: ApplyError) -> Self {
        Self::Abort(e)
    }
}

impl From<IoError> for StepFailure {
    fn from(e: IoError) -> Self {
        if e.is_no_space() || e.source.kind() == io::ErrorKind::ReadOnlyFilesystem {
            Self::Abort(e.into())
        } else if e.is_not_found() {
            // Cloud clients remove files at any moment, so this is no reason to end the run.
            Self::Skip(format!("removed in the meantime: {}", e.path.display()))
        } else {
            Self::Skip(format!("{e}: {}", e.source))
        }
    }
}

pub(super) fn changed_file_failure(path: &Path) -> StepFailure {
    StepFailure::Skip(format!("changed in the meantime: {}", path.display()))
}
