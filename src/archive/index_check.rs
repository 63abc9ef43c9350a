//! Consistency check of an archive's index: members are contiguous, and hold every entry of the
//! manifest once and in order.

use super::error::ArchiveError;
use super::format::{BLOCK_BYTES, CHUNK_BYTES, padding_of};
use super::manifest::{ArchiveManifest, MemberContents};
use std::path::Path;

/// Maximum unpacked size of a member: a chunk, or a group that ends with a file just below
/// [`super::format::LARGE_BYTES`]. Bounds the memory of one thread.
const MAX_MEMBER_BYTES: u64 = 2 * CHUNK_BYTES;

/// Generous upper bound of what deflate adds to incompressible data.
const MAX_OVERHEAD_BYTES: u64 = 64 * 1024;

/// Checks the index of `manifest`. `end` is the byte offset of the manifest in the archive.
pub(super) fn check(path: &Path, manifest: &ArchiveManifest, end: u64) -> Result<(), ArchiveError> {
    let wrong = |what: &str| {
        Err(ArchiveError::damaged(
            path,
            format!("the index is wrong: {what}"),
        ))
    };
    let structure = (manifest.folders.len() + manifest.links.len()) as u64;
    let (mut offset, mut files, mut structures) = (0u64, 0u64, 0u64);
    // The large file whose chunks follow, and its bytes that are still missing.
    let (mut open, mut left) = (None, 0u64);
    for member in &manifest.members {
        if member.offset != offset {
            return wrong("members do not follow each other");
        }
        let Some(next) = offset.checked_add(member.len) else {
            return wrong("a length overflows");
        };
        offset = next;
        if member.len == 0 || member.size == 0 {
            return wrong("an empty member");
        }
        if member.size > MAX_MEMBER_BYTES || member.len > member.size + MAX_OVERHEAD_BYTES {
            return wrong("an oversized member");
        }
        if !matches!(member.holds, MemberContents::Chunk(..)) && left > 0 {
            return wrong("a large file ends early");
        }
        match member.holds {
            MemberContents::Structure(first, count) if first == structures && count > 0 => {
                structures = structures.saturating_add(count);
            }
            MemberContents::Files(first, count) if first == files && count > 0 => {
                files = files.saturating_add(count);
                let needed = bytes_of(manifest, first, files);
                if needed.is_none_or(|bytes| bytes > member.size) {
                    return wrong("files that are larger than their member");
                }
            }
            MemberContents::Head(file) if file == files => {
                let size = usize::try_from(file)
                    .ok()
                    .and_then(|i| manifest.files.size(i));
                let Some(size) = size else {
                    return wrong("a file that is not listed");
                };
                // No chunk would follow, so no digest of it would be checked.
                if size == 0 {
                    return wrong("a header without content");
                }
                (open, left) = (Some(file), size);
                files += 1;
            }
            MemberContents::Chunk(file, _) if open == Some(file) && left > 0 => {
                let content = left.min(CHUNK_BYTES);
                left -= content;
                let padding = if left == 0 { padding_of(content) } else { 0 };
                if member.size != content + padding {
                    return wrong("a chunk has the wrong size");
                }
            }
            MemberContents::Void if member.size % BLOCK_BYTES == 0 => {}
            _ => return wrong("members are out of order"),
        }
    }
    let complete = left == 0
        && offset == end
        && files == manifest.files.len() as u64
        && structures == structure;
    if complete {
        Ok(())
    } else {
        wrong("it does not match the entries of the manifest")
    }
}

/// Returns the minimum tar size of the files `first..end`: a header each, the content and its
/// padding. `None` if a file is not listed or the sum overflows.
fn bytes_of(manifest: &ArchiveManifest, first: u64, end: u64) -> Option<u64> {
    let end = usize::try_from(end).ok()?;
    let mut bytes = 0_u64;
    for place in usize::try_from(first).ok()?..end {
        let content = manifest.files.size(place)?;
        let blocks = content.checked_next_multiple_of(BLOCK_BYTES)?;
        bytes = bytes.checked_add(blocks)?.checked_add(BLOCK_BYTES)?;
    }
    Some(bytes)
}
