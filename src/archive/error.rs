//! The error of every operation on an archive.

use super::format::entry_name::EntryName;
use crate::codex::database::DatabaseError;
use crate::io::IoError;
use std::path::{Path, PathBuf};

/// An error while an archive is written, read or verified.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A file operation failed. The error names the operation and the path.
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
    /// The file is an archive neither of this program nor of the Python codex-manager.
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
    /// A disk has less free space than the operation needs. Checked before anything is written.
    #[error("not enough disk space ({needed_bytes} bytes are needed, {free_bytes} are free): {}", folder.display())]
    NoSpace {
        /// A folder on the full disk.
        folder: PathBuf,
        /// Bytes that the operation needs in `folder`.
        needed_bytes: u64,
        /// Bytes that are free in `folder`.
        free_bytes: u64,
    },
    /// The user pressed Ctrl-C, or the process was asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl ArchiveError {
    /// Returns true for errors of the machine or the user: I/O, disk space, interruption. They
    /// prove nothing about the archive.
    pub(crate) fn is_environmental(&self) -> bool {
        match self {
            Self::Io(_) | Self::Interrupted | Self::NoSpace { .. } => true,
            Self::Database(e) => e.is_of_machine(),
            _ => false,
        }
    }

    /// Returns an [`ArchiveError::Damaged`] for the archive at `path`.
    pub(crate) fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged {
            archive: path.to_path_buf(),
            detail: detail.into(),
        }
    }

    /// Returns an [`ArchiveError::Unsafe`] for the entry `name` of the archive at `path`.
    pub(crate) fn unsafe_entry(path: &Path, name: &EntryName, reason: &'static str) -> Self {
        Self::Unsafe {
            archive: path.to_path_buf(),
            entry: name.to_string(),
            reason,
        }
    }
}
