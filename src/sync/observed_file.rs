//! A file as a plan saw it.

use super::config::SyncConfig;
use super::scan::ListedFile;
use super::sides::{Side, Stat};
use std::path::PathBuf;

/// A file with the size and time that the plan observed. An op skips it if these have changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// The side that has the file.
    pub side: Side,
    /// Path relative to the root of the side, with `/`.
    pub path: String,
    /// Size and modification time at the scan.
    pub stat: Stat,
}

impl ObservedFile {
    /// Returns the file that the scan of this side listed.
    pub(crate) fn from_listed(side: Side, listed: &ListedFile) -> Self {
        Self {
            side,
            path: listed.path.clone(),
            stat: listed.stat,
        }
    }

    /// Returns the full path of the file.
    pub(crate) fn full_path(&self, config: &SyncConfig) -> PathBuf {
        config.file_path(self.side, &self.path)
    }
}
