//! Errors of restoring a snapshot.

use crate::io::IoError;
use crate::io::quantity::pluralize;
use crate::sync::backup::BackupError;
use crate::sync::plan::PlanError;
use std::path::PathBuf;

/// An error of restoring a snapshot. Nothing was changed, except for [`SyncRestoreError::Stopped`].
#[derive(Debug, thiserror::Error)]
pub enum SyncRestoreError {
    /// The backup folder has no snapshot of this name.
    #[error("no such snapshot: {}", .0.display())]
    NoSuchSnapshot(PathBuf),
    #[error("no snapshots in the backup folder: {}", .0.display())]
    NoSnapshots(PathBuf),
    /// All snapshots have only versions that were replaced in the vault.
    #[error("no snapshot has files of this machine: {}", .0.display())]
    NoLocalFiles(PathBuf),
    /// The given name cannot be the name of an entry in the backup folder.
    #[error("{name:?} is not the name of a snapshot in {}", folder.display())]
    Outside {
        folder: PathBuf,
        /// The name as given on the command line.
        name: String,
    },
    /// The snapshot contains a path outside of itself, or one whose destination is blocked.
    #[error("{path:?} cannot be restored ({why}): {}", snapshot.display())]
    Unsafe {
        snapshot: PathBuf,
        path: String,
        /// The objection to the path, as a clause.
        why: String,
    },
    /// A file of the snapshot is missing or damaged.
    #[error("a file of the snapshot is damaged ({why}): {}", path.display())]
    Damaged {
        /// Path of the file in the snapshot.
        path: PathBuf,
        /// The defect of the file, as a clause.
        why: String,
    },
    /// The restore failed after it had begun to put files in place.
    #[error("restored {done} of {}, then stopped: {cause}; {}", pluralize(*all, "file"), safety.as_ref().map_or_else(|| "no file was replaced".to_owned(), |name| format!("the replaced files are in {name}")))]
    Stopped {
        done: usize,
        /// Number of files to restore.
        all: usize,
        /// Name of the snapshot of the replaced files, if any file was replaced.
        safety: Option<String>,
        cause: Box<SyncRestoreError>,
    },
    /// Another process wrote to a destination after its former content was backed up.
    #[error("a file changed during the restore and was left as it is: {}", .0.display())]
    Changed(PathBuf),
    /// The cloud folder must not be written to.
    #[error(transparent)]
    Cloud(#[from] PlanError),
    /// The snapshot cannot be read, or the safety snapshot cannot be written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Io(#[from] IoError),
}
