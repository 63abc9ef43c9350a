//! The numbers of the archive format: see `docs/archive-format.md`.

use libdeflater::CompressionLvl;

/// A file of at least this size has members of its own; smaller ones of a folder share some.
pub const LARGE_BYTES: u64 = 1024 * 1024;

/// A member of small files is closed once it holds this much.
pub const GROUP_BYTES: usize = 1024 * 1024;

/// How much of a large file's content is in one member. A multiple of the tar's block.
pub const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// The block that a tar stream is made of.
pub const BLOCK_BYTES: u64 = 512;

/// How many members are under way at a time: bounds the memory.
pub const IN_FLIGHT: usize = 4;

/// What the owner of a folder may do with it, whatever its mode says: or nothing could be put into it
/// when it is unpacked.
pub const OWNER_ACCESS_MODE: u32 = 0o700;

/// A manifest larger than this must not unpack to more than [`MAX_MANIFEST_RATIO`] times its size, or
/// a small archive could take much memory.
const MANIFEST_RATIO_COUNTS_FROM_BYTES: u64 = 16 << 20;
const MAX_MANIFEST_RATIO: u64 = 32;

/// To how much a manifest may unpack that takes `packed` bytes of the archive.
pub fn max_manifest_bytes(packed: u64) -> u64 {
    packed
        .saturating_mul(MAX_MANIFEST_RATIO)
        .max(MANIFEST_RATIO_COUNTS_FROM_BYTES)
}

/// How many bytes of the archive a part of a large manifest takes at least, well within the limit.
pub fn min_packed_bytes(part: usize) -> usize {
    part / 24
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Compression {
    /// Larger and faster.
    Fast,
    /// The balance.
    #[default]
    Default,
    /// Smaller and slower.
    Best,
}

impl Compression {
    pub(super) fn level(self) -> CompressionLvl {
        let level = match self {
            Self::Fast => 2,
            Self::Default => 6,
            Self::Best => 7,
        };
        CompressionLvl::new(level).unwrap_or_default()
    }

    /// As a number that is larger for smaller archives.
    pub fn effort(self) -> u8 {
        match self {
            Self::Fast => 0,
            Self::Default => 1,
            Self::Best => 2,
        }
    }
}

/// How many zeros follow content of this size in a tar.
pub fn padding_of(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_BYTES) - size
}
