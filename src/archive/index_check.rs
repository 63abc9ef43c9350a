//! Whether the index of an archive makes sense: its members follow each other without a gap, and hold
//! every entry once and in order.

use super::ArchiveError;
use super::format::{BLOCK_BYTES, CHUNK_BYTES, padding_of};
use super::manifest::{ArchiveManifest, MemberContents};
use std::path::Path;

/// No member unpacks to more than this: a chunk, or a group that ends with a file below the limit for
/// large ones. Bounds what one thread holds.
const MAX_MEMBER_BYTES: u64 = 2 * CHUNK_BYTES;

/// What deflate adds at most to what it cannot compress, generously.
const MAX_OVERHEAD_BYTES: u64 = 64 * 1024;

/// Checks the index; `end` is where the manifest begins.
pub(super) fn check(path: &Path, manifest: &ArchiveManifest, end: u64) -> Result<(), ArchiveError> {
    let wrong = |what: &str| {
        Err(ArchiveError::damaged(
            path,
            format!("the index is wrong: {what}"),
        ))
    };
    let structure = (manifest.folders.len() + manifest.links.len()) as u64;
    let (mut offset, mut files, mut structures) = (0u64, 0u64, 0u64);
    // The large file whose chunks come next, and how much of it is still to come.
    let (mut open, mut left) = (None, 0u64);
    for member in &manifest.members {
        if member.offset != offset {
            return wrong("members do not follow each other");
        }
        let Some(next) = offset.checked_add(member.len) else {
            return wrong("a length");
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
                    return wrong("files that their member has no room for");
                }
            }
            MemberContents::Head(file) if file == files => {
                let size = usize::try_from(file)
                    .ok()
                    .and_then(|i| manifest.files.size(i));
                let Some(size) = size else {
                    return wrong("a file that is not listed");
                };
                // Nothing would come after it that is checked.
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
                    return wrong("a chunk of another size");
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
        wrong("it does not hold what the manifest lists")
    }
}

/// What the files from `first` on, up to `end`, take at least in a tar: a header each, the content and
/// what fills its last block. `None` where one of them is not listed, or it is too much.
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
