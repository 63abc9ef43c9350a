//! Who takes the files of an archive while it is read.

use super::ArchiveError;
use super::manifest::FileEntry;

/// Takes the files of an archive.
pub trait Sink: Sync {
    /// Whether the content of this file is wanted.
    fn wants(&self, entry: &FileEntry) -> bool;

    /// A part of a wanted file's content. Parts come from several threads and in any order; a small
    /// file, also an empty one, comes in one.
    fn write_chunk(&self, entry: &FileEntry, offset: u64, bytes: &[u8])
    -> Result<(), ArchiveError>;

    /// All parts of a wanted file have come, and they fit its digest.
    fn finish_file(&self, entry: &FileEntry) -> Result<(), ArchiveError>;
}

/// How much of an archive is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it: everything is checked.
    All,
    /// What the wanted files need; they are checked.
    Wanted,
}
