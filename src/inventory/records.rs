//! `inventory.json`: every known record. An index: it is rebuilt from the records when it is lost.

use crate::archive::metadata::Metadata;
use crate::archive::scan::mtime_ns_of;
use crate::io::clock::{self, Timestamp};
use crate::io::document::Document;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::fs;

/// What tells a file from an earlier state of it, without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its size.
    pub bytes: u64,
    /// Its modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl FileStamp {
    /// The stamp of a file.
    pub fn of(meta: &fs::Metadata) -> Self {
        Self {
            bytes: meta.len(),
            mtime_ns: mtime_ns_of(meta),
        }
    }

    /// The modification time.
    pub fn modified_at(&self) -> DateTime<Utc> {
        clock::from_unix_nanos(i128::from(self.mtime_ns))
    }
}

/// One archive under `backups/`, or a record that has no archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchiveRecord {
    /// The path of the archive relative to `backups/`, with `/`.
    pub path: String,
    /// The archive as it was when this was noted; absent where only the sidecar exists.
    #[serde(default)]
    pub archive: Option<FileStamp>,
    /// The sidecar as it was; absent where only the archive exists.
    #[serde(default)]
    pub sidecar: Option<FileStamp>,
    /// What the sidecar, or the archive itself, says.
    pub metadata: Metadata,
    /// What is wrong with it: "no sidecar", "no archive", "damaged: …".
    #[serde(default)]
    pub problem: Option<String>,
    /// What the last `verify` of this very file found.
    #[serde(default)]
    pub verified: Option<Verified>,
}

/// The result of reading every byte of an archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// When that was.
    pub at: Timestamp,
    /// Whether nothing was wrong.
    pub ok: bool,
}

/// One legacy `*_auth.json` file that `normalize` read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LegacyRecord {
    /// Where it lies.
    pub source_path: String,
    /// The file as it was when it was read.
    pub file: FileStamp,
    /// The digest of its bytes.
    pub sha256: String,
    /// The name that an archive of it would have.
    pub archive_name: String,
    /// What follows from its name and time.
    pub metadata: Metadata,
    /// Why it holds no login of the account that its name tells of: "empty", "not JSON", "no login
    /// in it", "holds a login of …". Absent when it does hold one.
    #[serde(default)]
    pub problem: Option<String>,
}

impl LegacyRecord {
    /// Whether the record says anything about quota: a file that was from the future when it was
    /// read does not.
    pub fn decides(&self) -> bool {
        self.metadata
            .quota_end_detected_at
            .is_some_and(|at| at <= self.metadata.created_at)
    }
}

/// The document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InventoryFile {
    /// Archives, ordered by path.
    #[serde(default)]
    pub archives: Vec<ArchiveRecord>,
    /// Legacy files, ordered by path.
    #[serde(default)]
    pub legacy: Vec<LegacyRecord>,
}

impl Document for InventoryFile {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}
