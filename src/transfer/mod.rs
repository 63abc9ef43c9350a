//! The manager home as one file, for another machine.
//!
//! The format is in `docs/export-format.md`: a tar, sealed by `age` where it holds a secret. A login
//! in it is the owner copy: it leaves the profile that it was in.
//!
//! - [`manifest`] what is in an export, and what may be;
//! - [`seal`] encryption;
//! - [`export`] gathers and writes it, [`handover`] moves the ownership of logins;
//! - [`reading`] checks all of it before anything is changed;
//! - [`merge`] takes it over, [`profiles`] decides which login is newer.
//!
//! [`python_home`] takes over the home of a Python codex-manager, which is a folder.

pub mod export;
pub mod handover;
pub mod manifest;
pub mod merge;
pub mod profiles;
pub mod python_home;
pub mod reader;
pub mod seal;

use crate::accounts::lease::LeaseError;
use crate::accounts::profile::ProfileError;
use crate::io::IoError;
use crate::io::document::DocumentError;
use std::path::{Path, PathBuf};

/// Why there was no export or import.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A profile cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A login is in use.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// A document cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A folder is no home of the Python codex-manager that can be imported.
    #[error(transparent)]
    PythonHome(#[from] python_home::PythonHomeError),
    /// There is such a file already.
    #[error("there is a file of that name: {}", .0.display())]
    Exists(PathBuf),
    /// A login was renewed or used, or an archive replaced, while the export was written.
    #[error("it changed while it was exported: {0}")]
    Changed(String),
    /// Codex holds the live login for too long.
    #[error("Codex holds the login for too long: {}", .0.display())]
    Locked(PathBuf),
    /// What was given cannot be a key.
    #[error("{0}")]
    BadKey(String),
    /// The file is encrypted and no key was given; whether a passphrase opens it.
    #[error("the export is encrypted: {}", .0.display())]
    NeedsKey(PathBuf, bool),
    /// The key does not open it.
    #[error("{reason}: {}", path.display())]
    WrongKey {
        /// The export.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// It is no export.
    #[error("not an export of codex-manager ({reason}): {}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// It is not as it was written, or not as we would write it.
    #[error("the export is damaged ({detail}): {}", path.display())]
    Damaged {
        /// The export.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A newer version wrote it.
    #[error("written by a newer codex-manager (schema {found}): {}", path.display())]
    Newer {
        /// The export.
        path: PathBuf,
        /// The schema number it carries.
        found: u64,
    },
    /// There is not enough room.
    #[error("not enough disk space ({needed_bytes} bytes are needed, {free_bytes} are free): {}", folder.display())]
    NoSpace {
        /// Where.
        folder: PathBuf,
        /// What it takes.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl TransferError {
    fn damaged(path: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            detail: detail.into(),
        }
    }
}
