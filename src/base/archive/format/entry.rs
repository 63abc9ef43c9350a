//! One file, folder or link of an archive or of a scanned home.

use super::entry_name::EntryName;
use super::inode_stamp::InodeStamp;
use crate::io::hash::ContentDigest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One file of an archive or of a scanned home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path relative to the Codex home.
    pub path: EntryName,
    /// Size of the content in bytes.
    pub size: u64,
    pub mode: u32,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i64,
    /// Digest of the content. `None` in archives of the Python tool, and before the file is read.
    #[serde(flatten)]
    pub digest: Option<ContentDigest>,
    /// Inode identity when the file was read. Equal stamps mean an unchanged file, unless they are the default.
    #[serde(default)]
    pub stamp: InodeStamp,
}

/// One folder of an archive or of a scanned home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderEntry {
    /// Path relative to the Codex home.
    pub path: EntryName,
    pub mode: u32,
    /// Modification time in nanoseconds since 1970.
    pub mtime: i64,
}

/// A symbolic link whose target is inside the Codex home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEntry {
    /// Path relative to the Codex home.
    pub path: EntryName,
    /// Target of the link. Absolute targets inside the home are stored as relative ones.
    #[serde(with = "crate::io::json_path")]
    pub target: PathBuf,
}
