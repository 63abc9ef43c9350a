//! Errors of syncing with snapshots.

use crate::io::{DocumentError, IoError};
use crate::sync::plan::PlanError;
use std::path::PathBuf;

/// An error of a sync through snapshots. The run published no snapshot, except with [`RemoteError::Changed`].
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    State(#[from] DocumentError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The newest snapshot of a machine cannot be used.
    #[error("the newest snapshot of {machine} cannot be used: {detail}")]
    Damaged { machine: String, detail: String },
    /// A newer version of this program made the newest snapshot of a machine.
    #[error("a newer codex-manager made the newest snapshot of {0}")]
    Newer(String),
    /// Hard links from the Codex home to the staged tree are impossible.
    #[error("the manager home and the Codex home are on different disks: {}", .0.display())]
    OtherDisk(PathBuf),
    /// A file was rewritten during each publication of the run, so that the snapshots list former content.
    #[error("{0} changed while it was published")]
    Changed(String),
}
