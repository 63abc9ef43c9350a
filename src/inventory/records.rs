//! `inventory.json`: every known record. An index: it is rebuilt from the records when it is lost.

use crate::archive::metadata::Metadata;
use crate::archive::scan::mtime_ns_of;
use crate::archive::sidecar::SidecarProblem;
use crate::io::clock::{self, Timestamp};
use crate::io::document::Document;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
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
    /// What was wrong when the two were looked at; see [`ArchiveRecord::problem`].
    #[serde(default, rename = "problem", deserialize_with = "problem_or_text")]
    pub seen: Option<ArchiveProblem>,
    /// What the last `verify` of this very file found.
    #[serde(default)]
    pub verified: Option<VerifyRecord>,
}

impl ArchiveRecord {
    /// What is wrong by all that is known: what `verify` found weighs more than a lost sidecar.
    pub fn problem(&self) -> Option<&ArchiveProblem> {
        let is_bad = self.verified.as_ref().is_some_and(|verified| !verified.ok);
        match &self.seen {
            None | Some(ArchiveProblem::Sidecar(_)) if is_bad => {
                Some(&ArchiveProblem::FoundDamaged)
            }
            seen => seen.as_ref(),
        }
    }

    /// Whether it has an archive that can be put back as far as is known: its sidecar does not matter.
    pub fn is_usable(&self) -> bool {
        let is_whole = matches!(self.problem(), None | Some(ArchiveProblem::Sidecar(_)));
        self.archive.is_some() && is_whole
    }
}

/// What is wrong with an archive or its sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveProblem {
    /// The archive is whole as far as is known, and describes itself: its sidecar does not.
    Sidecar(SidecarProblem),
    /// There is only a sidecar.
    NoArchive,
    /// The archive is damaged.
    Damaged(String),
    /// `verify` read it through and found it damaged.
    FoundDamaged,
    /// The archive cannot be read here and now, which says nothing about it.
    Unreadable(String),
}

impl ArchiveProblem {
    /// Whether it may be gone the next time, though the files are the same.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Sidecar(problem) => problem.may_pass(),
            Self::Unreadable(_) => true,
            Self::NoArchive | Self::Damaged(_) | Self::FoundDamaged => false,
        }
    }
}

/// Before there was [`ArchiveProblem`], what was wrong was noted in words, a transient error like damage: who
/// reads them looks again.
fn problem_or_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ArchiveProblem>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum StoredProblem {
        Known(ArchiveProblem),
        InWords(String),
    }
    let noted = Option::<StoredProblem>::deserialize(from)?;
    Ok(noted.map(|noted| match noted {
        StoredProblem::Known(problem) => problem,
        StoredProblem::InWords(text) => ArchiveProblem::Unreadable(text),
    }))
}

/// The result of reading every byte of an archive, whatever its sidecar is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyRecord {
    /// When that was.
    pub at: Timestamp,
    /// Whether nothing was wrong with it.
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
