//! The manifest: what an archive holds, with digests.

use super::entry_name::EntryName;
use super::metadata::Metadata;
use crate::codex::identity::Identity;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The manifest's name inside the archive.
pub const MANIFEST_NAME: &str = ".codex-manager/manifest.json";

/// The folder inside the archive for databases that lay outside the home.
pub const OUTSIDE_DATABASES: &str = ".codex-manager/sqlite";

/// The schema number of manifests.
pub const SCHEMA: u64 = 1;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the Codex home.
    pub path: EntryName,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time in nanoseconds since 1970.
    pub mtime: i64,
    /// The digest of its content. Empty where there is none (archives of the Python tool).
    #[serde(default)]
    pub sha256: String,
}

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderEntry {
    /// Relative to the Codex home.
    pub path: EntryName,
    /// Its permission bits.
    pub mode: u32,
    /// Its modification time in nanoseconds since 1970.
    pub mtime: i64,
}

/// One symbolic link that stays inside the home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEntry {
    /// Relative to the Codex home.
    pub path: EntryName,
    /// What it points to, as it was written.
    pub target: PathBuf,
}

/// Which login is in the archive: digests and identity, never its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAuth {
    /// The login's file in the archive.
    pub path: EntryName,
    /// The digest of its bytes.
    pub sha256: String,
    /// Whose it is; absent when the file holds no login.
    pub identity: Option<Identity>,
}

/// The manifest document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u64,
    /// What the sidecar says too.
    pub metadata: Metadata,
    /// The login, where there is one.
    #[serde(default)]
    pub account_auth: Option<AccountAuth>,
    /// What the user asked to leave out (`--exclude`): a restore leaves it alone.
    #[serde(default)]
    pub excluded_globs: Vec<String>,
    /// Whether it holds only some of what its mode captures (a safety backup of a partial
    /// restore): what it lacks says nothing then.
    #[serde(default)]
    pub partial: bool,
    /// Files that the restore added for which this is the safety backup: putting it back removes
    /// them.
    #[serde(default)]
    pub undo_removes: Vec<EntryName>,
    /// What stood in the home and could not be taken: a restore leaves it alone.
    #[serde(default)]
    pub skipped: Vec<EntryName>,
    /// Top-level entries that were links to elsewhere and are archived by content.
    #[serde(default)]
    pub linked: Vec<EntryName>,
    /// Folders, parents first.
    #[serde(default)]
    pub folders: Vec<FolderEntry>,
    /// Links that stay inside the home.
    #[serde(default)]
    pub links: Vec<LinkEntry>,
    /// Entries of the tar that count for nothing: files that shrank while they were read.
    #[serde(default)]
    pub void: Vec<EntryName>,
    /// Files, in the order of the tar.
    #[serde(default)]
    pub files: Vec<FileEntry>,
}
