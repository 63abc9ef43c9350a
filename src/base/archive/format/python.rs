//! Archives of the Python codex-manager (1.x to 23.x), read in place.
//!
//! An archive is a tar.gz of the home's top-level entries. Later versions add a copy of its sidecar as the last entry.
//! It has no digests. Instead, readers check gzip's CRC, the names and the kinds of entries, and the databases by
//! SQLite's integrity check.

use super::entry::{FileEntry, FolderEntry, LinkEntry};
use super::entry_name::EntryName;
use super::inode_stamp::InodeStamp;
use super::manifest::ArchiveManifest;
use super::metadata::Metadata;
use super::path_checks::check_names;
use super::sidecar::parse_python_sidecar;
use super::tar_stream::{EntryContent, RawEntry, RawKind};
use crate::archive::error::{ArchiveError, ContentError};
use crate::io::document::{self, Document};
use crate::io::tree;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// An archive is refused if it unpacks to more than this and to more than [`MAX_RATIO`] times its size. Conversations
/// compress by ten, zeros by a thousand.
const MAX_BYTES_AT_ANY_RATIO: u64 = 1 << 30;
const MAX_RATIO: u64 = 300;

/// An archive is refused if it has more entries than this and fewer than [`MIN_ENTRY_BYTES`] compressed bytes per
/// entry, because every name is kept in memory. Real headers need more bytes, because their names and checksums differ.
const MAX_ENTRIES_OF_ANY_SIZE: u64 = 20_000;
const MIN_ENTRY_BYTES: u64 = 4;

/// Returns true for the name of the sidecar's copy inside an archive.
pub(crate) fn is_sidecar_copy(name: &EntryName) -> bool {
    name.as_path().components().count() == 1
        && name.as_path().to_string_lossy().ends_with(".metadata.json")
}

/// Collects the entries of an archive without a manifest.
#[derive(Default)]
pub(crate) struct PythonScan {
    packed_bytes: u64,
    entry_count: u64,
    /// The entries so far, without digests.
    manifest: ArchiveManifest,
    /// The content of the sidecar's copy.
    metadata: Option<Metadata>,
    /// The first entry with a name that is reserved for this program.
    reserved_name: Option<EntryName>,
}

impl PythonScan {
    /// Creates a scan of an archive with `packed_bytes` compressed bytes.
    pub(crate) fn new(packed_bytes: u64) -> Self {
        Self {
            packed_bytes,
            ..Self::default()
        }
    }

    /// Adds an entry. Reads the content only of the sidecar's copy.
    ///
    /// # Errors
    /// The archive claims to hold far more than its size allows, or reading fails.
    pub(crate) fn add_entry(
        &mut self,
        entry: &RawEntry,
        content: &mut EntryContent<'_>,
    ) -> Result<(), ContentError> {
        let name = entry.name.clone();
        self.entry_count += 1;
        self.check_claimed_size(entry)?;

        if name.is_manager_name() {
            // No error yet, because another tool may have compressed an archive of this program again. The manifest
            // comes last then.
            self.reserved_name.get_or_insert(name);
            return Ok(());
        }

        let (mode, mtime) = (entry.mode & 0o777, entry.mtime_ns);
        match &entry.kind {
            RawKind::File if is_sidecar_copy(&name) => {
                let bytes = content.read_all(Metadata::MAX_BYTES)?;
                // The last copy counts, as for a tar program that unpacks one over the other.
                self.metadata = bytes.and_then(|b| parse_python_sidecar(&b));
            }
            RawKind::File => self.manifest.files.push(&FileEntry {
                path: name,
                size: entry.size,
                mode,
                mtime,
                digest: None,
                stamp: InodeStamp::default(),
            }),
            RawKind::Folder => self.manifest.folders.push(FolderEntry {
                path: name,
                mode,
                mtime,
            }),
            RawKind::Link(target) => self.manifest.links.push(LinkEntry {
                path: name,
                target: target.clone(),
            }),
        }

        Ok(())
    }

    /// Fails if the entries so far, the last of which is `entry`, are more than the archive can hold. Uses the size in
    /// the header of `entry`, before any content is unpacked.
    fn check_claimed_size(&self, entry: &RawEntry) -> Result<(), ContentError> {
        let (packed, count) = (self.packed_bytes, self.entry_count);
        let has_too_many = count > MAX_ENTRIES_OF_ANY_SIZE && count > packed / MIN_ENTRY_BYTES;
        let bytes = entry.content_offset.saturating_add(entry.size);
        let is_too_large = bytes > MAX_BYTES_AT_ANY_RATIO && bytes / packed.max(1) > MAX_RATIO;

        if has_too_many || is_too_large {
            let message =
                format!("{packed} compressed bytes claim to hold {count} entries of {bytes} bytes");
            return Err(ContentError::damaged(message));
        }
        Ok(())
    }

    /// Completes the scan of the archive at `path` and checks all names.
    ///
    /// # Errors
    /// The archive is not one of the Python tool, or has an unsafe entry.
    pub(crate) fn finish(self, path: &Path) -> Result<ArchiveManifest, ContentError> {
        if let Some(name) = self.reserved_name {
            let message = "a name reserved for codex-manager";
            return Err(ContentError::unsafe_entry(&name, message));
        }

        // Early versions wrote the metadata only beside the archive, later ones also inside.
        let metadata = self
            .metadata
            .or_else(|| read_sidecar(&super::names::sidecar_path(path)?))
            .ok_or_else(|| ArchiveError::Foreign(path.to_path_buf()))?;

        check_names(&self.manifest)?;
        Ok(ArchiveManifest {
            metadata,
            ..self.manifest
        })
    }
}

/// Reads a sidecar of the Python tool. Returns `None` if it is missing or another document.
fn read_sidecar(path: &Path) -> Option<Metadata> {
    parse_python_sidecar(&document::read_bytes::<Metadata>(path).ok()??)
}

/// Returns the archives of the Python tool in the subfolders of `backups/`, sorted, as pairs of archive path and
/// sidecar path. At least one file of each pair exists.
pub fn list_nested_archives(backups: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut archives = Vec::new();
    // Early versions kept one folder per account in each of these.
    let accounts = ["auth", "sessions"].map(|folder| list_paths(&backups.join(folder)));

    for path in accounts.iter().flatten().flat_map(|path| list_paths(path)) {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let base = name
            .strip_suffix(".tar.gz")
            .or_else(|| name.strip_suffix(".metadata.json"))
            .filter(|base| *base == "latest" || base.starts_with("backup-"));
        if let Some(base) = base {
            archives.push((
                path.with_file_name(format!("{base}.tar.gz")),
                path.with_file_name(format!("{base}.metadata.json")),
            ));
        }
    }

    // An archive and its sidecar give the same pair.
    archives.sort();
    archives.dedup();
    archives
}

/// Returns the paths of the entries of a folder. Returns none if the path is no folder, or cannot be listed.
fn list_paths(folder: &Path) -> Vec<PathBuf> {
    let entries = tree::list(folder).unwrap_or_default().into_iter();
    entries.map(|(name, _kind)| folder.join(name)).collect()
}
