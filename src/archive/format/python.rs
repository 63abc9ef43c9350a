//! Archives of the Python codex-manager (1.x to 23.x), read in place.
//!
//! An archive is a tar.gz of the home's top-level entries with a copy of its sidecar as the last
//! entry. It has no digests; instead, gzip's CRC, names, kinds and SQLite's integrity check are
//! checked.

use super::contents::ArchiveContents;
use super::entry::{FileEntry, FolderEntry, LinkEntry};
use super::entry_name::EntryName;
use super::inode_stamp::InodeStamp;
use super::metadata::Metadata;
use super::path_checks::{CaseClashScope, check_names};
use super::python_sidecar::parse_sidecar;
use super::tar_stream::{EntryContent, RawEntry, RawKind};
use crate::archive::error::ArchiveError;
use crate::io::document::{self, Document};
use std::fs;
use std::path::{Path, PathBuf};

/// An archive that unpacks to more than this and to more than [`MAX_RATIO`] times its size is
/// refused. Conversations compress by ten, zeros by a thousand.
const RATIO_COUNTS_FROM_BYTES: u64 = 1 << 30;
const MAX_RATIO: u64 = 300;

/// An archive with more entries than this and fewer than [`MIN_ENTRY_BYTES`] bytes per entry is
/// refused, because every name is kept in memory. Real headers, which differ in name and checksum,
/// need more.
const ENTRIES_COUNT_FROM: u64 = 20_000;
const MIN_ENTRY_BYTES: u64 = 4;

/// Description and entries of an archive of the Python tool.
#[derive(Debug)]
pub struct PythonArchive {
    /// The sidecar converted to this program's metadata.
    pub metadata: Metadata,
    /// The entries of the archive, without digests.
    pub contents: ArchiveContents,
}

/// Returns true if this entry is the copy of the sidecar inside the archive.
pub(crate) fn is_description(name: &EntryName) -> bool {
    name.as_path().components().count() == 1
        && name.as_path().to_string_lossy().ends_with(".metadata.json")
}

/// Collects the entries of an archive without a manifest.
pub(crate) struct PythonScan<'a> {
    archive: &'a Path,
    packed: u64,
    bytes: u64,
    entries: u64,
    contents: ArchiveContents,
    description: Option<Metadata>,
    /// The first entry with a name that is reserved for this program.
    reserved: Option<EntryName>,
}

impl<'a> PythonScan<'a> {
    /// Creates a scan of an archive with `packed` compressed bytes.
    pub(crate) fn new(archive: &'a Path, packed: u64) -> Self {
        Self {
            archive,
            packed,
            bytes: 0,
            entries: 0,
            contents: ArchiveContents::default(),
            description: None,
            reserved: None,
        }
    }

    pub(crate) fn entry(
        &mut self,
        entry: &RawEntry,
        content: &mut EntryContent<'_>,
    ) -> Result<(), ArchiveError> {
        let name = entry.name.clone();
        // Uses the size in the header, before any content is unpacked.
        self.bytes = entry.content_at.saturating_add(entry.size);
        self.entries += 1;
        if self.entries > ENTRIES_COUNT_FROM && self.entries > self.packed / MIN_ENTRY_BYTES {
            return Err(ArchiveError::damaged(
                self.archive,
                format!(
                    "{} bytes claim to hold {} entries",
                    self.packed, self.entries
                ),
            ));
        }
        if self.bytes > RATIO_COUNTS_FROM_BYTES && self.bytes / self.packed.max(1) > MAX_RATIO {
            return Err(ArchiveError::damaged(
                self.archive,
                format!("{} bytes claim to hold {}", self.packed, self.bytes),
            ));
        }
        if name.is_reserved() {
            // An archive of this program that another tool compressed again: its manifest comes
            // last.
            self.reserved.get_or_insert(name);
            return Ok(());
        }
        match &entry.kind {
            RawKind::File if is_description(&name) => {
                let bytes = content.read_all(Metadata::MAX_BYTES)?;
                self.description = bytes.and_then(|b| parse_sidecar(&b));
            }
            RawKind::File => self.contents.files.push(&FileEntry {
                path: name,
                size: entry.size,
                mode: entry.mode & 0o777,
                mtime: entry.mtime_ns,
                sha256: None,
                stamp: InodeStamp::default(),
            }),
            RawKind::Folder => self.contents.folders.push(FolderEntry {
                path: name,
                mode: entry.mode & 0o777,
                mtime: entry.mtime_ns,
            }),
            RawKind::Link(target) => {
                self.contents.links.push(LinkEntry {
                    path: name,
                    target: target.clone(),
                });
            }
        }
        Ok(())
    }

    /// Completes the scan and checks all names.
    ///
    /// # Errors
    /// The archive is not one of the Python tool, or has an unsafe entry.
    pub(crate) fn finish(self) -> Result<PythonArchive, ArchiveError> {
        let Self {
            archive,
            contents,
            description,
            reserved,
            ..
        } = self;
        if let Some(name) = reserved {
            return Err(ArchiveError::unsafe_entry(
                archive,
                &name,
                "a name reserved for codex-manager",
            ));
        }
        // Early versions wrote the metadata only beside the archive, later ones also inside.
        let metadata = description
            .or_else(|| read_sidecar(&super::names::sidecar_path(archive)?))
            .ok_or_else(|| ArchiveError::Foreign(archive.to_path_buf()))?;
        let (files, folders) = (&contents.files, &contents.folders);
        check_names(
            archive,
            files,
            folders,
            &contents.links,
            CaseClashScope::AllNames,
        )?;
        Ok(PythonArchive { metadata, contents })
    }
}

/// Reads a sidecar of the Python tool. Returns `None` if it is missing or another document.
fn read_sidecar(path: &Path) -> Option<Metadata> {
    parse_sidecar(&document::read_bytes::<Metadata>(path).ok()??)
}

/// Returns the archives in the subfolders of `backups/` that the Python tool uses, as pairs of
/// archive and sidecar. At least one file of each pair exists.
pub(crate) fn nested_archives(backups: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for folder in ["auth", "sessions"] {
        for account in folders_in(&backups.join(folder)) {
            let Ok(entries) = fs::read_dir(&account) else {
                continue;
            };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let base = name
                    .strip_suffix(".tar.gz")
                    .or_else(|| name.strip_suffix(".metadata.json"))
                    .filter(|base| *base == "latest" || base.starts_with("backup-"));
                if let Some(base) = base {
                    found.push((
                        account.join(format!("{base}.tar.gz")),
                        account.join(format!("{base}.metadata.json")),
                    ));
                }
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.is_dir())
                .collect()
        })
        .unwrap_or_default()
}
