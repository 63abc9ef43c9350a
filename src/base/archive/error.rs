//! The error of every operation on an archive.

use super::format::EntryName;
use crate::codex::database::DatabaseError;
use crate::io::IoError;
use crate::io::space::NoSpace;
use std::io;
use std::path::{Path, PathBuf};

/// An error while an archive is written, read or verified.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Io(#[from] IoError),
    /// A database could not be copied, opened or checked.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The archive ends early, cannot be decoded, or its content contradicts its manifest.
    #[error("the archive is damaged ({detail}): {}", archive.display())]
    Damaged {
        archive: PathBuf,
        /// A description of the damage for the user, in lower case.
        detail: String,
    },
    /// The archive has an entry that a restore must not write.
    #[error("refused an unsafe entry in the archive ({reason}: {entry}): {}", archive.display())]
    Unsafe {
        archive: PathBuf,
        /// The entry's name as shown to the user; invalid UTF-8 is replaced.
        entry: String,
        /// The rule that the entry breaks, in lower case.
        reason: &'static str,
    },
    /// The file is not an archive of this program or of the Python codex-manager.
    #[error("not an archive of codex-manager: {}", .0.display())]
    Foreign(PathBuf),
    /// A newer version wrote the archive.
    #[error("the archive was written by a newer codex-manager (schema {found}): {}", archive.display())]
    Newer {
        archive: PathBuf,
        /// The schema number in the archive's manifest.
        found: u64,
    },
    /// A restore replaced the Codex home while it was archived.
    #[error("the Codex home was replaced while it was archived: {}", .0.display())]
    Replaced(PathBuf),
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// The user pressed Ctrl-C, or the process was asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// Returns true for errors of the machine or the user: I/O, disk space, interruption. They
    /// prove nothing about the archive.
    pub fn is_environmental(&self) -> bool {
        match self {
            Self::Io(_) | Self::Interrupted | Self::NoSpace(_) => true,
            Self::Database(e) => e.is_caused_by_machine(),
            _ => false,
        }
    }

    /// Returns an [`ArchiveError::Damaged`] for the archive at `path`.
    pub fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged {
            archive: path.to_path_buf(),
            detail: detail.into(),
        }
    }
}

/// An error of code that sees the content of an archive, but does not know its path.
#[derive(Debug)]
pub enum ContentError {
    /// As [`ArchiveError::Damaged`].
    Damaged(String),
    /// As [`ArchiveError::Unsafe`].
    Unsafe { entry: String, reason: &'static str },
    /// An error of the receiver of the content, or an interruption.
    Other(ArchiveError),
}

impl ContentError {
    pub(crate) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged(detail.into())
    }

    pub(crate) fn unsafe_entry(name: &EntryName, reason: &'static str) -> Self {
        let entry = name.to_string();
        Self::Unsafe { entry, reason }
    }

    /// Converts to an [`ArchiveError`] of the archive at `path`.
    pub fn into_archive_error(self, path: &Path) -> ArchiveError {
        match self {
            Self::Damaged(detail) => ArchiveError::damaged(path, detail),
            Self::Unsafe { entry, reason } => ArchiveError::Unsafe {
                archive: path.to_path_buf(),
                entry,
                reason,
            },
            Self::Other(error) => error,
        }
    }
}

/// Decoders report invalid bytes as read errors. [`ArchiveFile`](super::format::archive_file::ArchiveFile) records the
/// read errors of the disk, so the remaining errors are damage.
impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<ArchiveError> for ContentError {
    fn from(error: ArchiveError) -> Self {
        Self::Other(error)
    }
}
