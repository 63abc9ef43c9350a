//! Consistency check of an archive's index: members are contiguous, and hold every entry of the
//! manifest once and in order.

use super::manifest::{ArchiveManifest, Member, MemberContents};
use super::sizes::{BLOCK_BYTES, CHUNK_BYTES, padding_bytes};

/// Maximum unpacked size of a member: twice that of a chunk, and more than a group of small files has, even if it ends
/// with a file just below [`super::sizes::LARGE_BYTES`]. Bounds the memory of one thread.
const MAX_MEMBER_BYTES: u64 = 2 * CHUNK_BYTES;

/// Generous upper bound of what deflate adds to incompressible data.
const MAX_OVERHEAD_BYTES: u64 = 64 * 1024;

/// Checks that the members of the index follow each other up to `members_end`, the byte offset at which the members of
/// the manifest itself begin, and hold all entries.
///
/// # Errors
/// Returns the first defect, as a sentence fragment.
pub(crate) fn check_index(
    manifest: &ArchiveManifest,
    members_end: u64,
) -> Result<(), &'static str> {
    let mut covered = CoveredEntries::default();
    let mut offset = 0u64;
    for member in &manifest.members {
        // A gap could hold members that tar programs unpack and this program never checks.
        if member.offset != offset {
            return Err("members are not contiguous");
        }
        offset = offset.checked_add(member.len).ok_or("a length overflows")?;

        if member.len == 0 || member.size == 0 {
            return Err("an empty member");
        }
        if member.size > MAX_MEMBER_BYTES || member.len > member.size + MAX_OVERHEAD_BYTES {
            return Err("an oversized member");
        }

        covered.check_member(manifest, member)?;
    }

    let structure_count = (manifest.folders.len() + manifest.links.len()) as u64;
    let is_complete = covered.missing_bytes == 0
        && offset == members_end
        && covered.file_count == manifest.files.len() as u64
        && covered.structure_count == structure_count;
    if is_complete {
        Ok(())
    } else {
        Err("the members do not hold all entries of the manifest")
    }
}

/// The entries of the manifest that the members checked so far hold.
#[derive(Default)]
struct CoveredEntries {
    file_count: u64,
    /// The number of folders and links.
    structure_count: u64,
    /// The position of the large file whose header was checked last.
    large_file: Option<u64>,
    /// The content of that large file for which no chunk was checked yet, in bytes.
    missing_bytes: u64,
}

impl CoveredEntries {
    /// Checks that the entries of `member` are the next ones of the manifest, and counts them as covered.
    fn check_member(
        &mut self,
        manifest: &ArchiveManifest,
        member: &Member,
    ) -> Result<(), &'static str> {
        if !matches!(member.holds, MemberContents::Chunk(..)) && self.missing_bytes > 0 {
            return Err("a large file ends early");
        }

        match member.holds {
            MemberContents::Structure(first, count)
                if first == self.structure_count && count > 0 =>
            {
                self.structure_count = self.structure_count.saturating_add(count);
            }

            MemberContents::Files(first, count) if first == self.file_count && count > 0 => {
                self.file_count = self.file_count.saturating_add(count);
                let min_bytes = min_tar_bytes(manifest, first, self.file_count);
                // The size of the member limits what its files can claim.
                if min_bytes.is_none_or(|bytes| bytes > member.size) {
                    return Err("files that are larger than their member");
                }
            }

            MemberContents::Head(file) if file == self.file_count => {
                let index = usize::try_from(file).ok();
                let size = index.and_then(|index| manifest.files.size_at(index));
                let size = size.ok_or("a member of a file that the manifest does not list")?;
                // No chunk would follow, so the digest of the file would not be checked.
                if size == 0 {
                    return Err("a header without content");
                }
                (self.large_file, self.missing_bytes) = (Some(file), size);
                self.file_count += 1;
            }

            MemberContents::Chunk(file, _)
                if self.large_file == Some(file) && self.missing_bytes > 0 =>
            {
                let content = self.missing_bytes.min(CHUNK_BYTES);
                self.missing_bytes -= content;
                let is_last = self.missing_bytes == 0;
                let padding = if is_last { padding_bytes(content) } else { 0 };
                if member.size != content + padding {
                    return Err("a chunk has the wrong size");
                }
            }

            MemberContents::Void if member.size.is_multiple_of(BLOCK_BYTES) => {}
            _ => return Err("members are out of order"),
        }

        Ok(())
    }
}

/// Returns the minimum size of the files `first..end` in a tar: for each file a header, the content and its padding.
/// Returns `None` if a file is not listed or the sum overflows.
fn min_tar_bytes(manifest: &ArchiveManifest, first: u64, end: u64) -> Option<u64> {
    let end = usize::try_from(end).ok()?;
    let mut bytes = 0_u64;
    for index in usize::try_from(first).ok()?..end {
        let content_bytes = manifest.files.size_at(index)?;
        let padded_bytes = content_bytes.checked_next_multiple_of(BLOCK_BYTES)?;
        bytes = bytes.checked_add(padded_bytes)?.checked_add(BLOCK_BYTES)?;
    }
    Some(bytes)
}
