//! Compares the tar content of one unpacked member with the manifest.
//!
//! A member must contain exactly what the index lists. Any other byte is refused, because a tar program would unpack it
//! although no digest covers it.

use super::entry::FileEntry;
use super::entry_name::EntryName;
use super::manifest::ArchiveManifest;
use super::sizes::padding_bytes;
use super::tar_stream::{RawEntry, RawKind, for_each_entry, read_single_header};
use crate::archive::error::ContentError;

/// Checks a member with the headers of `count` folders and links. `first` is the position of the first header, counted
/// over the folders of the manifest and then over its links.
pub(crate) fn check_folders_and_links(
    bytes: &[u8],
    manifest: &ArchiveManifest,
    first: u64,
    count: u64,
) -> Result<(), ContentError> {
    let folders = &manifest.folders;
    let mut index = usize::try_from(first).unwrap_or(usize::MAX);
    let end_index = index.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    let mut entry_end = 0;

    for_each_entry(bytes, &mut |entry, _content| {
        let is_listed = match &entry.kind {
            RawKind::Folder => folders.get(index).is_some_and(|f| f.path == entry.name),
            // Links are numbered after all folders.
            RawKind::Link(target) => index
                .checked_sub(folders.len())
                .and_then(|link_index| manifest.links.get(link_index))
                .is_some_and(|l| l.path == entry.name && l.target == *target),
            RawKind::File => false,
        };

        index += 1;
        // A folder or link has no content, so it ends with its header.
        entry_end = entry.content_offset;
        if is_listed && entry.size == 0 {
            Ok(())
        } else {
            Err(unexpected_entry_error(&entry.name))
        }
    })?;

    if index == end_index {
        check_end_of_member(bytes, entry_end)
    } else {
        Err(ContentError::damaged(
            "a folder or link is missing or extra",
        ))
    }
}

/// Checks a member with complete small files against `listed_files`, and passes the content of each file to `on_file`.
pub(crate) fn read_small_files(
    bytes: &[u8],
    mut listed_files: impl Iterator<Item = FileEntry>,
    mut on_file: impl FnMut(&FileEntry, &[u8]) -> Result<(), ContentError>,
) -> Result<(), ContentError> {
    let mut entry_end = 0;
    for_each_entry(bytes, &mut |entry, content| {
        let listed_file = listed_files.next();
        let Some(file) = listed_file.filter(|file| matches_manifest(&entry, file)) else {
            return Err(unexpected_entry_error(&entry.name));
        };

        // `matches_manifest` has checked the size, and `index_check` limits it to the size of a member.
        let file_bytes = content.read_all(file.size)?.unwrap_or_default();
        let is_intact = file.digest.is_some_and(|digest| digest.is_of(&file_bytes));
        if !is_intact {
            return Err(wrong_digest_error(&file));
        }

        let content_end = entry.content_offset + file.size;
        entry_end = content_end + padding_bytes(file.size);
        if !is_zero_filled(bytes, content_end, entry_end) {
            return Err(hidden_data_error(&file));
        }

        on_file(&file, &file_bytes)
    })?;

    match listed_files.next() {
        None => check_end_of_member(bytes, entry_end),
        Some(file) => Err(ContentError::damaged(format!("{} is missing", file.path))),
    }
}

/// Checks a member with the tar header of a large file.
pub(crate) fn check_large_file_header(bytes: &[u8], file: &FileEntry) -> Result<(), ContentError> {
    let entry = read_single_header(bytes)?;
    if matches_manifest(&entry, file) {
        Ok(())
    } else {
        Err(unexpected_entry_error(&entry.name))
    }
}

/// Returns the content in a chunk of `file`, without the tar padding. `offset` is the byte offset of the chunk in the
/// file.
///
/// # Errors
/// The padding is not zero.
pub(crate) fn read_chunk_content<'a>(
    bytes: &'a [u8],
    file: &FileEntry,
    offset: u64,
) -> Result<&'a [u8], ContentError> {
    let remaining = usize::try_from(file.size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let (content, padding) = bytes.split_at(remaining.min(bytes.len()));
    if padding.iter().any(|b| *b != 0) {
        return Err(hidden_data_error(file));
    }
    Ok(content)
}

/// Returns the error of an entry that is not the one in the manifest.
pub(crate) fn unexpected_entry_error(name: &EntryName) -> ContentError {
    ContentError::unsafe_entry(name, "not the entry that the manifest lists")
}

/// Returns the error of a file whose content differs from its digest in the manifest.
pub(crate) fn wrong_digest_error(file: &FileEntry) -> ContentError {
    let path = &file.path;
    ContentError::damaged(format!("the content of {path} does not match its digest"))
}

fn hidden_data_error(file: &FileEntry) -> ContentError {
    ContentError::damaged(format!("unexpected data after {}", file.path))
}

/// Fails unless the last entry of a member ends with the member.
fn check_end_of_member(bytes: &[u8], last_entry_end: u64) -> Result<(), ContentError> {
    if last_entry_end == bytes.len() as u64 {
        Ok(())
    } else {
        let detail = "unexpected data after the entries of a member";
        Err(ContentError::damaged(detail))
    }
}

/// Returns true if the bytes `from..to` exist and are zero.
fn is_zero_filled(bytes: &[u8], from: u64, to: u64) -> bool {
    let range = usize::try_from(from).ok().zip(usize::try_from(to).ok());
    range
        .and_then(|(from, to)| bytes.get(from..to))
        .is_some_and(|bytes_in_range| bytes_in_range.iter().all(|b| *b == 0))
}

/// Returns true if the tar entry is `file` by kind, name and size.
fn matches_manifest(entry: &RawEntry, file: &FileEntry) -> bool {
    matches!(entry.kind, RawKind::File) && entry.name == file.path && entry.size == file.size
}
