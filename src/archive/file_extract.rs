//! Extracts chosen files of an archive for reading, without their attributes.

use super::ArchiveError;
use super::entry::FileEntry;
use super::reader::ArchiveReader;
use super::sink::{Extent, Sink};
use crate::io::progress::Progress;
use crate::io::{IoContext, position, sharing};
use std::fs::OpenOptions;
use std::path::PathBuf;

/// Extracts the files to which `place` gives a path. Their folders have to exist, and be private. Chunks are
/// written as they come, so memory holds only those in flight.
///
/// # Errors
/// The archive cannot be read or is damaged, a file cannot be written, or the user interrupts.
pub(crate) fn extract(
    archive: &ArchiveReader,
    place: impl Fn(&FileEntry) -> Option<PathBuf> + Sync,
    progress: &dyn Progress,
) -> Result<(), ArchiveError> {
    archive.read(Extent::Wanted, &PlaceSink { place }, progress)
}

/// Writes each file to the path that `place` returns for it; leaves out files without one.
pub(super) struct PlaceSink<F> {
    pub(super) place: F,
}

impl<F: Fn(&FileEntry) -> Option<PathBuf> + Sync> Sink for PlaceSink<F> {
    fn wants(&self, entry: &FileEntry) -> bool {
        (self.place)(entry).is_some()
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        let Some(path) = (self.place)(entry) else {
            return Ok(());
        };
        let mut options = OpenOptions::new();
        let options = options.truncate(false).write(true);
        let file = sharing::open_or_create(options, &path);
        let file = file.at("create", &path)?;
        Ok(position::write_all_at(&file, bytes, offset).at("write", &path)?)
    }
}
