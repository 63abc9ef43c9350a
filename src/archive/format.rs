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
