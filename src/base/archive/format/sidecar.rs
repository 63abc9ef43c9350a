//! Reading the sidecar of an archive, written by this program or by the Python codex-manager.

use super::metadata::Metadata;
use super::python_sidecar;
use crate::io::document::{self, DocumentError, DocumentState};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The reason why a sidecar cannot be used. The archive can be restored without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarProblem {
    Missing,
    /// The file is not a valid sidecar. Carries the parse error.
    Damaged(String),
    /// The sidecar is valid, but describes the size or digest of another archive.
    #[serde(rename = "of_another")]
    Mismatch,
    /// The sidecar has a newer schema, with this number.
    Newer(u64),
    /// The file cannot be read, which proves nothing about its content. Carries the system's error.
    Unreadable(String),
}

impl SidecarProblem {
    /// Returns true if the problem can disappear without a change of the file.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Newer(_) | Self::Unreadable(_))
    }
}

/// Reads a sidecar of this program or of the Python tool.
///
/// # Errors
/// Returns the reason why the sidecar cannot be used.
pub fn read(path: &Path) -> Result<Metadata, SidecarProblem> {
    match document::read_bytes::<Metadata>(path) {
        Ok(Some(bytes)) => parse(path, &bytes),
        Ok(None) => Err(SidecarProblem::Missing),
        Err(e) => Err(SidecarProblem::Unreadable(e.source.to_string())),
    }
}

/// Parses a sidecar of this program or of the Python tool; `path` is used in errors only.
///
/// # Errors
/// Returns the reason why the sidecar cannot be used.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Metadata, SidecarProblem> {
    match document::parse(path, bytes) {
        Ok(DocumentState::Good(metadata)) => Ok(metadata),
        Ok(DocumentState::Damaged(detail)) => {
            python_sidecar::parse_sidecar(bytes).ok_or(SidecarProblem::Damaged(detail))
        }
        Ok(DocumentState::Absent) => Err(SidecarProblem::Missing),
        Err(DocumentError::Newer { found, .. }) => Err(SidecarProblem::Newer(found)),
        Err(DocumentError::Io(e)) => Err(SidecarProblem::Unreadable(e.source.to_string())),
    }
}
