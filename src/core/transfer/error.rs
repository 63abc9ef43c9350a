//! The errors of exports and imports.

use crate::accounts::{LeaseError, ProfileError};
use crate::io::{DocumentError, IoError, LockHolder, NoSpace};
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Another process holds an account.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A folder cannot be imported as the home of a Python codex-manager.
    #[error(transparent)]
    PythonHome(#[from] PythonHomeError),
    #[error("the file already exists: {}", .0.display())]
    Exists(PathBuf),
    /// The login of a profile, or an archive, changed while the export was written. The text is the name of the profile
    /// or the path of the archive.
    #[error("changed during the export: {0}")]
    Changed(String),
    /// Codex held its lock on the live login until the wait timed out.
    #[error("{} did not release its lock on the login in time: {}", LockHolder::find(.0), .0.display())]
    Locked(PathBuf),
    /// A passphrase or key is invalid. The text is the whole message.
    #[error("{0}")]
    BadKey(String),
    /// The file is encrypted with a passphrase, and no passphrase was given.
    #[error("the export is encrypted with a passphrase: {}", .0.display())]
    NeedsPassphrase(PathBuf),
    /// The file is encrypted with the public key of a recipient, and no private key was given.
    #[error("the export is encrypted with a public key: {}", .0.display())]
    NeedsIdentity(PathBuf),
    /// The passphrase or key does not decrypt the export.
    #[error("{reason}: {}", path.display())]
    WrongKey { path: PathBuf, reason: &'static str },
    /// The passphrase takes more work to check than an import accepts. codex-manager writes a lower factor.
    #[error("the work factor of the passphrase is above 18: {}", .0.display())]
    TooCostly(PathBuf),
    /// The file is not an export.
    #[error("not an export of codex-manager ({reason}): {}", path.display())]
    Foreign {
        path: PathBuf,
        /// The first deviation from the format.
        reason: String,
    },
    /// The export is corrupt, or contains something that codex-manager never writes.
    #[error("the export is damaged ({detail}): {}", path.display())]
    Damaged { path: PathBuf, detail: String },
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

/// An error in the content of an export, before the path of the export is added to it.
#[derive(Debug)]
pub(super) enum PackageError {
    /// Becomes [`TransferError::Damaged`].
    Damaged(String),
    /// Becomes [`TransferError::Foreign`].
    Foreign(String),
    /// Becomes [`TransferError::Newer`].
    Newer(u64),
    /// An error that has nothing to do with the content, such as a full disk or an interruption.
    Other(TransferError),
}

impl PackageError {
    /// Adds the path of the export.
    pub(super) fn into_transfer_error(self, path: &Path) -> TransferError {
        let path = path.to_path_buf();
        match self {
            Self::Damaged(detail) => TransferError::Damaged { path, detail },
            Self::Foreign(reason) => TransferError::Foreign { path, reason },
            Self::Newer(found) => TransferError::Newer { path, found },
            Self::Other(error) => error,
        }
    }
}

/// A modified block of an encrypted export, or a truncated file, makes the read fail. So an error of a read means that
/// the export is damaged.
impl From<io::Error> for PackageError {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<TransferError> for PackageError {
    fn from(error: TransferError) -> Self {
        Self::Other(error)
    }
}

impl From<IoError> for PackageError {
    fn from(error: IoError) -> Self {
        Self::Other(error.into())
    }
}

impl From<NoSpace> for PackageError {
    fn from(error: NoSpace) -> Self {
        Self::Other(error.into())
    }
}

/// The reason why a folder is not imported. Only [`Taken`](PythonHomeError::Taken) can occur after archives were
/// already copied.
#[derive(Debug, thiserror::Error)]
pub enum PythonHomeError {
    #[error("no such folder: {}", .0.display())]
    Missing(PathBuf),
    #[error("this is the manager home, where archives of the Python codex-manager are read in place: {}", .0.display())]
    IsManagerHome(PathBuf),
    /// The folder contains the manager home, so the import would write into its own source.
    #[error("the folder contains the manager home: {}", .0.display())]
    HoldsManagerHome(PathBuf),
    #[error("the folder is a manager home of this codex-manager, not of the Python codex-manager: {}", .0.display())]
    NotPython(PathBuf),
    #[error("not a home of the Python codex-manager (no archive in backups/, no account in cooldown.json): {}", .0.display())]
    Empty(PathBuf),
    #[error("another process created this file during the import: {}", .0.display())]
    Taken(PathBuf),
}
