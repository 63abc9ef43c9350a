//! Errors of reading a configuration.

use super::named_folder::NamedFolder;
use crate::io::IoError;
use std::path::PathBuf;

/// An error of reading a configuration. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SyncConfigError {
    /// The file does not exist.
    #[error("the configuration does not exist: {}", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file is not valid TOML.
    #[error("not valid TOML ({reason}): {}", path.display())]
    NotToml {
        path: PathBuf,
        /// The message of the TOML parser.
        reason: String,
    },
    /// A key has an invalid value.
    #[error("{key} {reason}: {}", path.display())]
    Invalid {
        path: PathBuf,
        /// Table and key, as `sync.compare`.
        key: String,
        /// The objection to the value, as a clause.
        reason: String,
    },
    /// Two folders overlap that must be separate.
    #[error("{inner} is inside {outer}: {}", path.display())]
    Overlap {
        inner: Box<NamedFolder>,
        outer: Box<NamedFolder>,
        path: PathBuf,
    },
}
