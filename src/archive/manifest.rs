//! The manifest: what an archive holds, with digests.

use super::entry_name::EntryName;
use super::file_list::FileList;
use super::metadata::Metadata;
use crate::codex::identity::Identity;
use crate::io::hash::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The manifest's name inside the archive.
pub const MANIFEST_NAME: &str = ".codex-manager/manifest.json";

/// The folder inside the archive for databases that lay outside the home.
pub const EXTERNAL_DATABASES_FOLDER: &str = ".codex-manager/sqlite";

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
    /// The digest of its content. None in archives of the Python tool.
    #[serde(default)]
    pub sha256: Option<Sha256Digest>,
    /// What told it from an earlier state of itself when it was taken.
    #[serde(default)]
    pub stamp: InodeStamp,
}

/// Tells a file from an earlier state of it, beside size and modification time: what no program
/// sets at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InodeStamp {
    /// When the inode last changed, in nanoseconds since 1970; 0 where that is not known, which
    /// never counts as unchanged.
    #[serde(default)]
    pub ctime: i64,
    /// The inode's number.
    #[serde(default)]
    pub ino: u64,
    /// The device it is on.
    #[serde(default)]
    pub dev: u64,
}

impl InodeStamp {
    /// That of a file.
    pub fn of(meta: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let ctime = meta
                .ctime()
                .saturating_mul(1_000_000_000)
                .saturating_add(meta.ctime_nsec());
            Self {
                ctime,
                ino: meta.ino(),
                dev: meta.dev(),
            }
        }
        #[cfg(not(unix))]
        {
            let _ = meta;
            Self::default()
        }
    }

    /// This stamp if any change after `began` (nanoseconds since 1970) gives another one, else one
    /// that never counts as unchanged. Systems stamp with a clock that stands still for some
    /// milliseconds: a file may change again within the moment that it was read in.
    #[must_use]
    pub fn if_unambiguous(self, began: i64) -> Self {
        const SECOND: i64 = 1_000_000_000;
        // File systems that count whole seconds, or two.
        let grain = if self.ctime % SECOND == 0 {
            2 * SECOND
        } else {
            0
        };
        if self.ctime.saturating_add(grain) < began {
            self
        } else {
            Self::default()
        }
    }
}

/// One gzip member of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its first byte in the archive.
    pub offset: u64,
    /// Its bytes in the archive.
    pub len: u64,
    /// Its bytes of the tar stream.
    pub size: u64,
    /// The digest of its bytes in the archive.
    pub sha256: Sha256Digest,
    /// What it holds.
    pub holds: MemberContents,
}

/// What a gzip member holds of the tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberContents {
    /// Headers of so many entries of `folders`, then `links`, from this one on.
    Structure(u64, u64),
    /// So many whole files of `files`, from this one on.
    Files(u64, u64),
    /// The header of one large file of `files`.
    Head(u64),
    /// The next 4 MiB of the content of the file before it, the last with the tar's padding; and
    /// the digest of the file's content up to its end.
    Chunk(u64, Sha256Digest),
    /// Part of an entry that counts for nothing.
    Void,
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
    #[serde(with = "super::entry_name::link_target")]
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
pub struct ArchiveManifest {
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
    /// How hard it was compressed, from 0.
    #[serde(default)]
    pub effort: u8,
    /// Files, in the order of the tar.
    #[serde(default)]
    pub files: FileList,
    /// The gzip members, without that of the manifest.
    #[serde(default)]
    pub members: Vec<Member>,
}
