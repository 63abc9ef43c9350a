//! The errors of exports and imports.

use crate::accounts::{LeaseError, ProfileError};
use crate::io::{DocumentError, IoError, NoSpace};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// An operation of the file system failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A profile cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Another process holds an account.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A document cannot be read or written, or is of a newer version.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A folder is no home of the Python codex-manager that can be imported.
    #[error(transparent)]
    PythonHome(#[from] PythonHomeError),
    #[error("the file already exists: {}", .0.display())]
    Exists(PathBuf),
    /// A login was renewed or used, or an archive replaced, while the export was written.
    #[error("changed during the export: {0}")]
    Changed(String),
    /// Codex held its lock on the live login until the wait timed out.
    #[error("Codex did not release its lock on the login in time: {}", .0.display())]
    Locked(PathBuf),
    /// A passphrase or key is invalid; the text says how.
    #[error("{0}")]
    BadKey(String),
    #[error("the export is encrypted: {}", .0.display())]
    NeedsPassphrase(PathBuf),
    /// The file is encrypted for a recipient, and no private key was given.
    #[error("the export is encrypted: {}", .0.display())]
    NeedsIdentity(PathBuf),
    /// The passphrase or key does not decrypt the export.
    #[error("{reason}: {}", path.display())]
    WrongKey {
        path: PathBuf,
        /// The reason, as a sentence fragment.
        reason: &'static str,
    },
    /// The file is not an export.
    #[error("not an export of codex-manager ({reason}): {}", path.display())]
    Foreign {
        path: PathBuf,
        /// The first deviation from the format.
        reason: String,
    },
    /// The export is corrupt, or holds something that this program never writes.
    #[error("the export is damaged ({detail}): {}", path.display())]
    Damaged {
        path: PathBuf,
        /// The damage, as a sentence fragment.
        detail: String,
    },
    /// A newer version wrote the export.
    #[error("written by a newer codex-manager (schema {found}): {}", path.display())]
    Newer {
        path: PathBuf,
        /// The schema number in the export.
        found: u64,
    },
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    #[error("interrupted")]
    Interrupted,
}

/// An error of code that sees the content of an export, but does not know its path.
#[derive(Debug)]
pub(super) enum PackageError {
    /// As [`TransferError::Damaged`].
    Damaged(String),
    /// As [`TransferError::Foreign`].
    Foreign(String),
    /// As [`TransferError::Newer`].
    Newer(u64),
    /// An error of the staging folder, or an interruption.
    Other(TransferError),
}

impl PackageError {
    pub(super) fn damaged(detail: impl Into<String>) -> Self {
        Self::Damaged(detail.into())
    }

    /// Returns the error of the export at `path`.
    pub(super) fn at_path(self, path: &Path) -> TransferError {
        let path = path.to_path_buf();
        match self {
            Self::Damaged(detail) => TransferError::Damaged { path, detail },
            Self::Foreign(reason) => TransferError::Foreign { path, reason },
            Self::Newer(found) => TransferError::Newer { path, found },
            Self::Other(error) => error,
        }
    }
}

/// A modified block of an encrypted export is an error of the read, as is the end of a file that was cut.
impl From<io::Error> for PackageError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl<E: Into<TransferError>> From<E> for PackageError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// The reason why a folder is not imported. Only [`Taken`](PythonHomeError::Taken) occurs after
/// copies were made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PythonHomeError {
    /// The folder does not exist.
    #[error("no such folder: {}", .0.display())]
    Missing(PathBuf),
    /// The folder is the manager home.
    #[error("this is the manager home, where archives of the Python codex-manager are read in place: {}", .0.display())]
    IsManagerHome(PathBuf),
    /// The folder contains the manager home, so that copies would change it.
    #[error("the folder contains the manager home: {}", .0.display())]
    HoldsManagerHome(PathBuf),
    /// The folder is a manager home of this program.
    #[error("a manager home of this program, not of the Python codex-manager: {}", .0.display())]
    NotPython(PathBuf),
    /// The folder has neither archives nor a cooldown file with accounts.
    #[error("not a home of the Python codex-manager (no archive in backups/, no account in cooldown.json): {}", .0.display())]
    Empty(PathBuf),
    /// Another process created a file with the planned name of a copy.
    #[error("another process created it during the import: {}", .0.display())]
    Taken(PathBuf),
}
