//! A path of a home with the reason why it is not archived as usual.

use crate::io::json_path::serialize_displayed;
use crate::io::tree::FolderSize;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A path that is excluded, skipped or damaged, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PathNote {
    /// Path relative to the home, possibly one that no archive can hold. JSON replaces invalid Unicode.
    #[serde(serialize_with = "serialize_displayed")]
    pub path: PathBuf,
    /// The reason for the user, in lower case.
    pub reason: String,
    /// The size of an excluded folder, if it was measured.
    #[serde(flatten)]
    pub size: Option<FolderSize>,
}

impl PathNote {
    pub(super) fn new(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            reason: reason.into(),
            size: None,
        }
    }

    /// Sorts the notes by path and reason, and keeps only the first note of each path.
    pub(super) fn sort_and_dedup(mut notes: Vec<Self>) -> Vec<Self> {
        notes.sort();
        notes.dedup_by(|again, first| again.path == first.path);
        notes
    }
}
