//! Errors of reading a configuration.

use crate::io::settings::SettingsError;
use std::path::PathBuf;

/// An error of reading a configuration. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SyncConfigError {
    /// The file does not exist.
    #[error("the configuration does not exist: {}", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read, or a key has an invalid value.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Two folders overlap that must be separate.
    #[error("{inner} is inside {outer}: {}", path.display())]
    Overlap {
        inner: String,
        outer: String,
        path: PathBuf,
    },
}
