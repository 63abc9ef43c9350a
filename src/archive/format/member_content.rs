//! The tar content of one unpacked member, compared with the manifest.
//!
//! A member contains exactly what the index says: any other byte is refused, because tar programs
//! would unpack it without any digest.

use super::entry::FileEntry;
use super::entry_name::EntryName;
use super::layout::padding_of;
use super::manifest::ArchiveManifest;
use super::tar_stream::{RawEntry, RawKind, for_each_entry, read_head};
use crate::archive::error::ArchiveError;
use crate::io::hash::Sha256Digest;
use std::path::Path;

/// Checks a member with the headers of `count` folders and links from position `first`.
pub(crate) fn check_structure(
    path: &Path,
    bytes: &[u8],
    manifest: &ArchiveManifest,
    first: u64,
    count: u64,
) -> Result<(), ArchiveError> {
    let folders = &manifest.folders;
    let mut next = usize::try_from(first).unwrap_or(usize::MAX);
    let end = next.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    let mut read = 0;
    for_each_entry(bytes, path, &mut |entry, _| {
        let fits = match &entry.kind {
            RawKind::Folder => folders.get(next).is_some_and(|f| f.path == entry.name),
            RawKind::Link(target) => next
                .checked_sub(folders.len())
                .and_then(|i| manifest.links.get(i))
                .is_some_and(|l| l.path == entry.name && l.target == *target),
            RawKind::File => false,
        };
        next += 1;
        read = entry.content_at;
        if fits && entry.size == 0 {
            Ok(())
        } else {
            Err(unexpected_entry(path, &entry.name))
        }
    })?;
    if next == end {
        expect_end(path, bytes, read)
    } else {
        Err(ArchiveError::damaged(path, "folders are missing"))
    }
}

/// Checks a member with the complete small files `listed`, and passes the content of each to `take`.
pub(crate) fn read_small_files(
    path: &Path,
    bytes: &[u8],
    mut listed: impl Iterator<Item = FileEntry>,
    mut take: impl FnMut(&FileEntry, &[u8]) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut read = 0;
    for_each_entry(bytes, path, &mut |entry, content| {
        let file = listed.next().filter(|file| matches_manifest(&entry, file));
        let Some(file) = file else {
            return Err(unexpected_entry(path, &entry.name));
        };
        // The size was compared with the entry, and is at most that of a member.
        let text = content.read_all(file.size)?.unwrap_or_default();
        if file.sha256 != Some(Sha256Digest::of(&text)) {
            return Err(wrong_digest(path, &file));
        }
        let content_end = entry.content_at + file.size;
        read = content_end + padding_of(file.size);
        if !is_zero(bytes, content_end, read) {
            return Err(hidden_data(path, &file));
        }
        take(&file, &text)
    })?;
    match listed.next() {
        None => expect_end(path, bytes, read),
        Some(file) => Err(ArchiveError::damaged(
            path,
            format!("{} is missing", file.path),
        )),
    }
}

/// Checks a member with the header of a large file.
pub(crate) fn check_head(path: &Path, bytes: &[u8], file: &FileEntry) -> Result<(), ArchiveError> {
    let entry = read_head(bytes, path)?;
    if matches_manifest(&entry, file) {
        Ok(())
    } else {
        Err(unexpected_entry(path, &entry.name))
    }
}

/// Returns the part of a chunk of `file` that is content. `offset` is that of the chunk in the file.
/// The padding after the content must be zero.
pub(crate) fn chunk_content<'a>(
    path: &Path,
    bytes: &'a [u8],
    file: &FileEntry,
    offset: u64,
) -> Result<&'a [u8], ArchiveError> {
    let left = file.size.saturating_sub(offset);
    let len = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    let (content, padding) = bytes.split_at(len);
    if padding.iter().any(|b| *b != 0) {
        return Err(hidden_data(path, file));
    }
    Ok(content)
}

/// Returns the error of an entry that is not the one in the manifest.
pub(crate) fn unexpected_entry(path: &Path, name: &EntryName) -> ArchiveError {
    ArchiveError::unsafe_entry(path, name, "not the entry that the manifest lists")
}

/// Returns the error of a file whose content differs from its digest in the manifest.
pub(crate) fn wrong_digest(path: &Path, file: &FileEntry) -> ArchiveError {
    ArchiveError::damaged(
        path,
        format!("the content of {} does not match its digest", file.path),
    )
}

fn hidden_data(path: &Path, file: &FileEntry) -> ArchiveError {
    ArchiveError::damaged(path, format!("hidden data after {}", file.path))
}

/// Fails if data follows the last entry of a member.
fn expect_end(path: &Path, bytes: &[u8], end: u64) -> Result<(), ArchiveError> {
    if end == bytes.len() as u64 {
        Ok(())
    } else {
        Err(ArchiveError::damaged(
            path,
            "hidden data after the entries of a member",
        ))
    }
}

/// Returns true if `bytes` has the range `from..to` and it is zero.
fn is_zero(bytes: &[u8], from: u64, to: u64) -> bool {
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    range
        .and_then(|(from, to)| bytes.get(from..to))
        .is_some_and(|part| part.iter().all(|b| *b == 0))
}

/// Returns true if the tar entry is `file` by kind, name and size.
fn matches_manifest(entry: &RawEntry, file: &FileEntry) -> bool {
    matches!(entry.kind, RawKind::File) && entry.name == file.path && entry.size == file.size
}
