//! The reason why a transaction failed or cannot be recovered.

use crate::codex::Holder;
use crate::io::similar::join_first_names;
use crate::io::{DocumentError, IoError, LockHolder};
use std::path::{Path, PathBuf};

/// The direction of an exchange: back to the old state, or forward to the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Back,
    Forward,
}

/// The reason why a transaction failed or cannot be finished.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// An I/O error. The steps were undone if that was possible; otherwise the journal stays, and
    /// the next command finishes or undoes them.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Another process works with this journal.
    #[error("{holder} is changing the same files: {}", folder.display())]
    InProgress { folder: PathBuf, holder: LockHolder },
    /// The folder has the name of a staging folder but is not a private folder of this user, nor, for root, of the
    /// owner of the files that it is for. Nothing was changed.
    #[error("the folder has the name of a staging folder but is not a private folder of this user or of the owner of the home: {}", .0.display())]
    ForeignFolder(PathBuf),
    /// The staging folder of another transaction exists. Nothing was changed.
    #[error("the staging folder of another command exists: {}", .0.display())]
    FolderExists(PathBuf),
    /// The journal of an interrupted transaction is damaged. Nothing was changed.
    #[error("the journal of an interrupted command is damaged ({detail}): {}", path.display())]
    DamagedJournal { path: PathBuf, detail: String },
    /// One step would move away an entry that another step puts in place. Nothing was changed.
    #[error("two steps change the same path: {}", .0.display())]
    ConflictingSteps(PathBuf),
    /// Processes use the folder whose files would be exchanged. Nothing was changed.
    #[error("the Codex home is in use by {}", format_holders(.0))]
    Busy(Vec<Holder>),
    /// Files of the replaced state were written while the new one was prepared. The old state is live.
    #[error("files were written during the command: {}", format_first_paths(files))]
    WrittenMeanwhile {
        /// The live paths of the files.
        files: Vec<PathBuf>,
        /// The folders that the new state was moved to, because files in it were written too.
        kept: Vec<PathBuf>,
    },
    /// Processes opened the folder during the exchange. The old state is live again.
    #[error(
        "the change was undone, because the Codex home was opened during the command by {}",
        format_holders(holders)
    )]
    OpenedMeanwhile {
        holders: Vec<Holder>,
        /// The folders that the new state was moved to, because these processes may have written to it.
        kept: Vec<PathBuf>,
    },
    /// An interrupted transaction cannot be finished now. Nothing was changed.
    #[error(transparent)]
    Deferred(#[from] RecoveryObstacle),
}

/// The reason why an interrupted transaction cannot be finished now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryObstacle {
    /// Processes use the folder, so no file in it may be exchanged.
    #[error("the interrupted change of {} cannot be finished while it is in use by {}", .home.display(), format_holders(.holders))]
    InUse {
        /// The folder that was being replaced.
        home: PathBuf,
        holders: Vec<Holder>,
    },
    /// The files at the paths are neither the old nor the new ones; the folders may have been
    /// copied.
    #[error("the interrupted change of {} cannot be finished: files or their staged copies changed after the interruption: {}; the staging folder: {}", .home.display(), format_first_paths(.changed), .folder.display())]
    Unrecognized {
        /// The folder that was being replaced.
        home: PathBuf,
        /// The staging folder with the journal.
        folder: PathBuf,
        /// The live paths.
        changed: Vec<PathBuf>,
    },
    /// A staging folder is missing, because its disk is not mounted, for example.
    #[error("an interrupted command cannot be finished: its staging folder is missing: {}", .folder.display())]
    MissingFolder {
        folder: PathBuf,
        /// The staging folder with the journal.
        journal: PathBuf,
    },
}

impl RecoveryObstacle {
    /// Returns the folder that may be half changed, if it is known.
    pub fn half_changed_home(&self) -> Option<&Path> {
        match self {
            Self::InUse { home, .. } | Self::Unrecognized { home, .. } => Some(home),
            Self::MissingFolder { .. } => None,
        }
    }
}

fn format_first_paths(paths: &[PathBuf]) -> String {
    let paths = paths.iter().map(|path| path.display().to_string());
    join_first_names(&paths.collect::<Vec<_>>())
}

pub fn format_holders(holders: &[Holder]) -> String {
    let holders = holders.iter().map(ToString::to_string);
    holders.collect::<Vec<_>>().join(", ")
}
