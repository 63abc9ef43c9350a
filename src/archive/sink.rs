//! Interface between an archive that is read and the code that stores its files.

use super::error::ArchiveError;
use super::format::FileEntry;

/// Receives the files of an archive while it is read.
pub trait Sink: Sync {
    /// Returns true if the content of this file is to be passed to [`Sink::write_chunk`].
    fn wants(&self, entry: &FileEntry) -> bool;

    /// Receives `bytes` of a wanted file at byte `offset`. Chunks come from several threads in any order. An empty file
    /// comes as one empty chunk.
    fn write_chunk(&self, entry: &FileEntry, offset: u64, bytes: &[u8])
    -> Result<(), ArchiveError>;

    /// Called after all chunks of a wanted file were passed on and matched its digest, if it has one.
    fn finish_file(&self, _entry: &FileEntry) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// The part of an archive that is read and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All members of the archive.
    All,
    /// The members with content of wanted files; all members of an archive without an index.
    Wanted,
}
