//! The entry at the path of auth.json, which may not be a login.

use crate::codex::auth::{AuthFile, AuthSnapshot, Login};
use crate::io::IoError;
use std::path::Path;

/// The entry at the path of auth.json.
pub(crate) enum AuthJsonState {
    /// A file of readable size, or none.
    File(AuthFile),
    /// Something that cannot be a login: a folder, a pipe, a file far too large. Holds the reason.
    NotAFile(String),
}

impl AuthJsonState {
    /// Reads auth.json, or what is at its path.
    pub(crate) fn read(path: &Path) -> Result<Self, IoError> {
        match AuthFile::read(path) {
            Err(e) if AuthFile::cannot_be_login(&e) => Ok(Self::NotAFile(e.source.to_string())),
            auth => auth.map(Self::File),
        }
    }

    /// Returns the login, if the file holds one.
    pub(crate) fn login(&self) -> Option<&Login> {
        match self {
            Self::File(auth) => auth.login(),
            Self::NotAFile(_) => None,
        }
    }

    pub(crate) fn snapshot(&self) -> Option<&AuthSnapshot> {
        match self {
            Self::File(auth) => auth.snapshot(),
            Self::NotAFile(_) => None,
        }
    }
}
