//! Reading what stands beside an archive: a sidecar of ours or of the Python codex-manager.

use super::metadata::Metadata;
use super::python;
use crate::io::document::{self, DocumentError, DocumentState};
use crate::io::file_open;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The largest sidecar that is looked at: ours are below 16 kB.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Why a sidecar says nothing of its archive, which describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SidecarProblem {
    /// There is none.
    Missing,
    /// It is no sidecar.
    Damaged(String),
    /// It is good, and describes another archive.
    OfAnother,
    /// It was written by a newer version of this program.
    Newer(u64),
    /// It cannot be read here and now, which says nothing about it.
    Unreadable(String),
}

impl SidecarProblem {
    /// Whether it may be another one the next time, though the file is the same.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Newer(_) | Self::Unreadable(_))
    }
}

/// Reads a sidecar of ours or of the Python tool.
///
/// # Errors
/// What is wrong with it.
pub fn read(path: &Path) -> Result<Metadata, SidecarProblem> {
    let bytes = read_bytes(path)?;
    if let Some(metadata) = python::parse_sidecar(&bytes) {
        return Ok(metadata);
    }
    match document::parse(path, &bytes) {
        Ok(DocumentState::Good(metadata)) => Ok(metadata),
        Ok(DocumentState::Damaged(detail)) => Err(SidecarProblem::Damaged(detail)),
        Ok(DocumentState::Absent) => Err(SidecarProblem::Missing),
        Err(DocumentError::Newer { found, .. }) => Err(SidecarProblem::Newer(found)),
        Err(DocumentError::Io(e)) => Err(SidecarProblem::Unreadable(e.source.to_string())),
    }
}

/// The bytes of a sidecar, which are not many.
pub(super) fn read_bytes(path: &Path) -> Result<Vec<u8>, SidecarProblem> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    let read = file_open::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() > MAX_BYTES => Err(SidecarProblem::Damaged("too large".into())),
        Ok(_) => Ok(bytes),
        Err(e) if e.kind() == ErrorKind::NotFound => Err(SidecarProblem::Missing),
        Err(e) => Err(SidecarProblem::Unreadable(e.to_string())),
    }
}
