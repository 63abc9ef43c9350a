//! The manifest: the list of an archive's entries and gzip members, with digests.

use super::entry::{FolderEntry, LinkEntry};
use super::entry_name::EntryName;
use super::file_list::FileList;
use super::metadata::Metadata;
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::codex::identity::Identity;
use crate::io::document::Document;
use crate::io::hash::{ContentDigest, DigestBytes};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the manifest inside an archive.
pub const MANIFEST_NAME: &str = ".codex-manager/manifest.json";

/// Folder inside an archive for databases from outside the Codex home (`sqlite_home`).
pub const EXTERNAL_DATABASES_FOLDER: &str = ".codex-manager/sqlite";

/// Returns true if a path in an archive is that of a database of Codex, in the home or outside of it.
pub fn is_database_path(path: &Path) -> bool {
    kind_of(path) == HomeEntryKind::Database
        || path.parent() == Some(Path::new(EXTERNAL_DATABASES_FOLDER))
}

/// One gzip member of an archive, as its index lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Byte offset of the member in the archive.
    pub offset: u64,
    /// Compressed size in bytes.
    pub len: u64,
    /// Unpacked size in bytes of the tar stream.
    pub size: u64,
    /// Digest of the compressed bytes.
    #[serde(flatten)]
    pub digest: ContentDigest,
    pub holds: MemberContents,
}

/// The part of the tar stream that a gzip member holds. Numbers are positions in the manifest's
/// lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberContents {
    /// Headers of folders and links: (first, count) in `folders` followed by `links`.
    Structure(u64, u64),
    /// Complete small files: (first, count) in `files`.
    Files(u64, u64),
    /// The header of one large file: its position in `files`.
    Head(u64),
    /// The next 4 MiB of content of the large file at this position in `files`. The last chunk
    /// includes the padding of the tar. The digest covers the file's content up to the end of this
    /// chunk, with the algorithm of the file's digest.
    Chunk(u64, DigestBytes),
    /// A part of a tar entry that readers ignore; see [`ArchiveManifest::void`].
    Void,
}

/// Identity and digest of the archived login. Holds no token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAuth {
    /// Path of the login file in the archive.
    pub path: EntryName,
    #[serde(flatten)]
    pub digest: ContentDigest,
    /// Account of the login. `None` if the file holds no login.
    pub identity: Option<Identity>,
}

/// The document that lists every entry of an archive with its digest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ArchiveManifest {
    /// The metadata that the sidecar repeats.
    pub metadata: Metadata,
    /// The archived login. `None` if the archive has no `auth.json`.
    pub account_auth: Option<AccountAuth>,
    /// Exclude globs of the user (`--exclude`, `backup.exclude`). A restore leaves paths that match them unchanged.
    #[serde(default)]
    pub excluded_globs: Vec<String>,
    /// True if the archive holds only a part of what its mode captures, as the safety backup of a
    /// partial restore does. The home may have had paths that are missing from such an archive.
    #[serde(default)]
    pub partial: bool,
    /// Files that a restore added, in the safety backup of that restore. Restoring the safety
    /// backup removes them.
    #[serde(default)]
    pub undo_removes: Vec<EntryName>,
    /// Top-level links to files that a restore replaced or removed, in the safety backup of that restore. Their targets
    /// may be anywhere. The archive has the content of the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced_links: Vec<LinkEntry>,
    /// Paths that existed in the home and could not be archived. A restore leaves them unchanged.
    #[serde(default)]
    pub skipped: Vec<EntryName>,
    /// The archived texts of the user that look damaged, with the reason. `None` in archives of older versions, which do
    /// not record damage.
    #[serde(default)]
    pub damaged: Option<Vec<(EntryName, String)>>,
    /// Top-level entries that were links to a place outside the home. The archive has the targets in place of the
    /// links.
    #[serde(default)]
    pub linked: Vec<EntryName>,
    /// All folders, parents before children.
    #[serde(default)]
    pub folders: Vec<FolderEntry>,
    /// All symbolic links. Their targets are inside the home.
    #[serde(default)]
    pub links: Vec<LinkEntry>,
    /// Names of large files that became shorter after their tar header was written. Readers ignore their tar entries.
    #[serde(default)]
    pub void: Vec<EntryName>,
    /// Compression effort, from 0; see [`super::gzip_member::Compression::effort`].
    #[serde(default)]
    pub effort: u8,
    /// All files, in the order of the tar stream.
    #[serde(default)]
    pub files: FileList,
    /// The index: all gzip members except those of the manifest, in the order of the archive.
    #[serde(default)]
    pub members: Vec<Member>,
}

impl ArchiveManifest {
    /// Sets the files, and the values in the metadata that follow from the files and the globs.
    pub(in crate::archive) fn set_files(&mut self, files: FileList) {
        self.metadata.files = files.len() as u64;
        self.metadata.bytes = files.total_bytes();
        self.metadata.excludes = !self.excluded_globs.is_empty();
        self.files = files;
    }

    /// Returns the names of all files, then of all links, then of all folders.
    pub(crate) fn entry_names(&self) -> impl Iterator<Item = EntryName> + '_ {
        let files = self.files.iter().map(|f| f.path);
        let links = self.links.iter().map(|l| l.path.clone());
        let folders = self.folders.iter().map(|f| f.path.clone());
        files.chain(links).chain(folders)
    }

    /// Returns true if the archive has a file, link or folder at `path` or below it.
    pub fn has_path(&self, path: &Path) -> bool {
        self.entry_names().any(|n| n.as_path().starts_with(path))
    }

    /// Returns the members. For a chunk, the second value is the byte offset of the chunk in its file, else zero.
    pub(crate) fn members_with_offsets(&self) -> impl Iterator<Item = (&Member, u64)> {
        self.members.iter().scan(0, |next_offset, member| {
            let is_chunk = matches!(member.holds, MemberContents::Chunk(..));
            let offset = if is_chunk { *next_offset } else { 0 };
            *next_offset = if is_chunk { offset + member.size } else { 0 };
            Some((member, offset))
        })
    }
}

impl Document for ArchiveManifest {
    const INDENTED: bool = false;
}
