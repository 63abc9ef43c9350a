//! Sizes and limits of the archive format, specified in `docs/archive-format.md`.

/// Minimum size of a large file. A large file has members of its own; small files of one folder share members.
pub(crate) const LARGE_BYTES: u64 = 1024 * 1024;

/// Size of the tar data from which a member of small files takes no further file.
pub(crate) const GROUP_BYTES: usize = 1024 * 1024;

/// Size of the content of a large file in one member. A multiple of [`BLOCK_BYTES`].
pub(crate) const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// Returns the sizes of the chunks of a large file, in bytes and without the tar padding.
pub(crate) fn chunk_sizes(file_bytes: u64) -> impl Iterator<Item = u64> {
    let count = file_bytes.div_ceil(CHUNK_BYTES);
    (0..count).map(move |number| CHUNK_BYTES.min(file_bytes - number * CHUNK_BYTES))
}

/// Block size of the tar format.
pub(crate) const BLOCK_BYTES: u64 = 512;

/// Maximum number of members in progress at a time. Bounds the memory use.
pub(crate) const MAX_MEMBERS_IN_FLIGHT: usize = 4;

/// Permission bits that every unpacked folder gets in addition to its archived mode: without them no file could be
/// created in the folder.
pub const OWNER_ACCESS_MODE: u32 = 0o700;

/// A manifest above this size must not unpack to more than [`MAX_MANIFEST_RATIO`] times its compressed size. Bounds the
/// memory that a small hostile archive can claim.
pub(crate) const LARGE_MANIFEST_BYTES: u64 = 16 << 20;
const MAX_MANIFEST_RATIO: u64 = 32;

/// Returns the maximum unpacked size of a manifest whose members have `packed_bytes` bytes.
pub(crate) fn max_manifest_bytes(packed_bytes: u64) -> u64 {
    packed_bytes
        .saturating_mul(MAX_MANIFEST_RATIO)
        .max(LARGE_MANIFEST_BYTES)
}

/// Returns the minimum compressed size of a part of a large manifest. Keeps the compression ratio of the manifest well
/// below [`MAX_MANIFEST_RATIO`].
pub(crate) fn min_packed_bytes(part_bytes: usize) -> usize {
    part_bytes / 24
}

/// Returns the number of padding bytes after tar content of `size` bytes.
pub(crate) fn padding_bytes(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES) - size
}
