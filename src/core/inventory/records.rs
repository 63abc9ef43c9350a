//! `inventory.json`: the records of archives and legacy files. An index, rebuilt from `backups/` if
//! lost.

use crate::archive::metadata::Metadata;
use crate::archive::sidecar::SidecarProblem;
use crate::io::clock::Timestamp;
use crate::io::disk_clock::modified_ns;
use crate::io::document::Document;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs;

/// Size and mtime, which detect a changed file without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    pub bytes: u64,
    /// The mtime in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl FileStamp {
    pub(crate) fn of(meta: &fs::Metadata) -> Self {
        Self {
            bytes: meta.len(),
            mtime_ns: modified_ns(meta),
        }
    }

    pub(crate) fn modified_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.mtime_ns)
    }
}

/// An archive below `backups/`, or a record without an archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// The path of the archive relative to `backups/`, with `/`.
    pub path: String,
    /// The stamp of the archive; null if only the sidecar exists.
    #[serde(default)]
    pub archive: Option<FileStamp>,
    /// The stamp of the sidecar; null if only the archive exists.
    #[serde(default)]
    pub sidecar: Option<FileStamp>,
    /// The metadata from the sidecar, else from the archive.
    pub metadata: Metadata,
    /// The problem found when both files were listed; see [`ArchiveRecord::problem`].
    #[serde(default, rename = "problem")]
    pub listed_problem: Option<ArchiveProblem>,
    /// The result of the last `verify` of exactly this file.
    #[serde(default)]
    pub verified: Option<VerifyRecord>,
}

impl ArchiveRecord {
    /// Returns the known problem. A bad result of `verify` takes precedence over a lost sidecar.
    pub fn problem(&self) -> Option<&ArchiveProblem> {
        let was_found_damaged = self.verified.as_ref().is_some_and(|verified| !verified.ok);
        match &self.listed_problem {
            None | Some(ArchiveProblem::Sidecar(_)) if was_found_damaged => {
                Some(&ArchiveProblem::FoundDamaged)
            }
            listed_problem => listed_problem.as_ref(),
        }
    }

    /// Returns true if the archive exists, could be read, and has no known damage. A bad sidecar does not matter.
    pub fn is_usable(&self) -> bool {
        let is_undamaged = matches!(self.problem(), None | Some(ArchiveProblem::Sidecar(_)));
        self.archive.is_some() && is_undamaged
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveProblem {
    /// The sidecar is bad; the archive has no known problem and carries the metadata itself.
    Sidecar(SidecarProblem),
    /// The archive of this sidecar is missing.
    NoArchive,
    Damaged(String),
    /// `verify` read the archive and found damage.
    FoundDamaged,
    /// The archive could not be read this time, so its condition is unknown.
    Unreadable(String),
}

impl ArchiveProblem {
    /// Returns true if the problem may disappear although the files stay the same.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Sidecar(problem) => problem.is_transient(),
            Self::Unreadable(_) => true,
            Self::NoArchive | Self::Damaged(_) | Self::FoundDamaged => false,
        }
    }
}

/// The result of reading every byte of an archive. Does not depend on its sidecar.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyRecord {
    /// The time at which `verify` read the archive.
    pub at: Timestamp,
    /// True if no damage was found.
    pub ok: bool,
}

/// A legacy `*_auth.json` file that `normalize` read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegacyRecord {
    /// The absolute path of the file.
    pub source_path: String,
    /// The stamp of the file when it was read.
    pub file: FileStamp,
    /// The SHA-256 of the file, in hex.
    pub sha256: String,
    /// The name for an archive of the file.
    pub archive_name: String,
    /// The metadata inferred from the name and the mtime of the file.
    pub metadata: Metadata,
    /// The reason why the file holds no login of the account in its name: "empty", "not JSON", "no login
    /// in it", "holds a login of …". Null if the file holds such a login.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Returns true if the metadata of a legacy file show when a quota ended. A time that was in the future when the file
/// was read shows nothing.
pub(super) fn implies_quota_end(metadata: &Metadata) -> bool {
    let ended = metadata.quota_end_detected_at;
    ended.is_some_and(|at| at <= metadata.created_at)
}

/// The content of `inventory.json`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InventoryFile {
    /// The archives below `backups/`, ordered by path.
    pub archives: Vec<ArchiveRecord>,
    /// The verified archives in the trash, with their paths before the prune, so that an undo can restore the results
    /// of `verify`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trashed: Vec<ArchiveRecord>,
    /// The files read by `normalize`, ordered by path.
    pub legacy: Vec<LegacyRecord>,
}

impl Document for InventoryFile {
    // Half the bytes with thousands of archives, and every command that lists archives reads it.
    const INDENTED: bool = false;
}
