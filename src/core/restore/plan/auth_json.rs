//! The entry at the path of auth.json, which may not be a login.

use crate::accounts::Profiles;
use crate::codex::{AuthFile, AuthSnapshot, Login};
use crate::io::{IoError, SecretBytes, Timestamp};
use std::path::{Path, PathBuf};

/// The entry at the path of auth.json.
pub(crate) enum AuthJsonState {
    /// A file that is small enough for a login, or no file.
    File(AuthFile),
    /// An entry that cannot be a login, such as a folder, a pipe or a huge file.
    NotAFile,
}

impl AuthJsonState {
    /// Reads the entry at `path`.
    ///
    /// # Errors
    /// The entry exists, but cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, IoError> {
        match AuthFile::read(path) {
            Err(e) if AuthFile::cannot_be_login(&e) => Ok(Self::NotAFile),
            auth => auth.map(Self::File),
        }
    }

    /// Returns the login, if the file holds one.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.file()?.login()
    }

    /// Returns the content of the file, if it could be read.
    pub(crate) fn bytes(&self) -> Option<&SecretBytes> {
        self.file()?.bytes()
    }

    pub(crate) fn snapshot(&self) -> Option<&AuthSnapshot> {
        self.file()?.snapshot()
    }

    fn file(&self) -> Option<&AuthFile> {
        match self {
            Self::File(auth) => Some(auth),
            Self::NotAFile => None,
        }
    }

    /// Copies the entry at `path`, from which this state was read, into the quarantine folder of `profiles`. Returns
    /// the path of the copy; `None` if there is no content to keep.
    pub(crate) fn quarantine(
        &self,
        path: &Path,
        profiles: &Profiles,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, IoError> {
        match (self, self.bytes()) {
            (_, Some(bytes)) => profiles.quarantine_bytes(bytes).map(Some),
            (Self::NotAFile, None) => profiles.copy_to_quarantine(path, now),
            (Self::File(_), None) => Ok(None),
        }
    }
}
