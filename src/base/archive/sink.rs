//! The interface between the reader of an archive and the code that stores its files.

use super::error::ArchiveError;
use super::format::FileEntry;

/// Receives the files of an archive while it is read.
pub trait Sink: Sync {
    /// Returns true if the content of this file is to be passed to [`Sink::write_chunk`].
    fn wants(&self, entry: &FileEntry) -> bool;

    /// Stores `bytes` of a wanted file at the byte `offset` of that file. Several threads call this, with the chunks in
    /// any order. An empty file has one empty chunk. Each chunk but the last of a file has 512 bytes or more.
    fn write_chunk(&self, entry: &FileEntry, offset: u64, bytes: &[u8])
    -> Result<(), ArchiveError>;

    /// Completes a wanted file. The reader calls this after all chunks were passed on and matched the digest of the
    /// file, if it has one.
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
