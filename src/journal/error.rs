//! The reason why a transaction failed or cannot be recovered.

use crate::codex::process::Holder;
use crate::io::IoError;
use crate::io::document::DocumentError;
use std::path::PathBuf;

/// The state that a recovery leads to: back to the old one, or forward to the new one.
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
    #[error("another restore is running: {}", .0.display())]
    InProgress(PathBuf),
    /// The folder has the name of a staging folder but is not a private folder of this user.
    /// Nothing was changed.
    #[error("the folder has the name of a restore's staging folder but is not a private folder of this user: {}", .0.display())]
    ForeignFolder(PathBuf),
    /// The journal of an interrupted restore is damaged. Nothing was changed.
    #[error("the journal of an interrupted restore is damaged ({detail}): {}", path.display())]
    DamagedJournal {
        /// The path of the journal.
        path: PathBuf,
        /// The problem with its content.
        detail: String,
    },
    /// One step would move away what another puts in place. Nothing was changed.
    #[error("two steps of the restore change the same path: {}", .0.display())]
    ConflictingSteps(PathBuf),
    /// An interrupted restore cannot be finished now. Nothing was changed.
    #[error(transparent)]
    Deferred(#[from] RecoveryObstacle),
}

/// The reason why an interrupted transaction cannot be finished now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryObstacle {
    /// Processes use the folder, and a file of it would be exchanged.
    #[error("the interrupted restore of {} cannot be finished while the home is in use by {}", .home.display(), join_holders(.holders))]
    InUse {
        /// The folder that was being replaced.
        home: PathBuf,
        /// The processes that use it.
        holders: Vec<Holder>,
    },
    /// The files at the paths are neither the old nor the new ones; the folders may have been
    /// copied.
    #[error("the interrupted restore of {} cannot be finished: the files there and in {} are not those in its journal", .home.display(), .folder.display())]
    Unrecognized {
        /// The folder that was being replaced.
        home: PathBuf,
        /// The staging folder with the journal.
        folder: PathBuf,
    },
    /// A staging folder is missing, because its disk is not mounted, for example.
    #[error("an interrupted restore cannot be finished: missing folder {}", .0.display())]
    MissingFolder(PathBuf),
}

/// Returns the processes as a list for a message.
pub(crate) fn join_holders(holders: &[Holder]) -> String {
    holders
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
