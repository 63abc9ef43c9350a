//! The error of an operation on a file, and the texts of errors.

use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {}", path.display())]
pub struct IoError {
    /// The failed action as a verb phrase: `read`, `create folder`.
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

impl IoError {
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
    }

    /// Returns true if the user lacks the permission for the operation, or the file system is read-only.
    pub fn is_access_denied(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
        )
    }

    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        )
    }
}

/// Returns the messages of an error and its causes, separated by colons.
pub fn message_with_causes(error: &dyn std::error::Error) -> String {
    [vec![error.to_string()], list_causes(error)]
        .concat()
        .join(": ")
}

/// Returns `prefix` followed by `text`, or an empty text if `text` is empty.
pub fn prefix_unless_empty(prefix: &str, text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    format!("{prefix}{text}")
}

pub trait IoContext<T> {
    /// `action` is a verb phrase that completes "cannot …".
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, IoError>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, IoError> {
        self.map_err(|source| IoError {
            action,
            path: path.as_ref().to_path_buf(),
            source,
        })
    }
}

/// Returns the messages of the causes of an error, nearest first.
pub fn list_causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source())
        .map(ToString::to_string)
        .collect()
}
