//! Extracts one file of an archive without a name on the disk.

use super::ArchiveError;
use super::entry::FileEntry;
use super::reader::ArchiveReader;
use super::sink::{Extent, Sink};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::progress::Silent;
use crate::io::{IoContext, position};
use std::fs::File;
use std::io::Seek;

/// Returns the content of the file of this kind, of which a home has one, such as `auth.json`. It is empty if the
/// archive has no such file. The temp file has no name and is gone when it is closed.
///
/// # Errors
/// The archive or the temp file cannot be read or written.
pub(crate) fn extract(archive: &ArchiveReader, kind: HomeEntryKind) -> Result<File, ArchiveError> {
    let mut file = tempfile::tempfile().at("create a temp file in", std::env::temp_dir())?;
    let is_wanted = |entry: &FileEntry| kind_of(entry.path.as_path()) == kind;
    let sink = SingleFileSink {
        is_wanted,
        file: &file,
    };
    archive.read(Extent::Wanted, &sink, &Silent)?;
    file.rewind().at("read", archive.path())?;
    Ok(file)
}

/// Writes the content of a file of the archive into `to`.
///
/// # Errors
/// The archive cannot be read, or `to` cannot be written.
pub(crate) fn extract_entry(
    archive: &ArchiveReader,
    entry: &FileEntry,
    to: &File,
) -> Result<(), ArchiveError> {
    let is_wanted = |found: &FileEntry| found.path == entry.path;
    let sink = SingleFileSink {
        is_wanted,
        file: to,
    };
    archive.read(Extent::Wanted, &sink, &Silent)
}

/// Writes the one file that is wanted into `file`.
struct SingleFileSink<'a, F> {
    is_wanted: F,
    file: &'a File,
}

impl<F: Fn(&FileEntry) -> bool + Sync> Sink for SingleFileSink<'_, F> {
    fn wants(&self, entry: &FileEntry) -> bool {
        (self.is_wanted)(entry)
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        let path = entry.path.as_path();
        Ok(position::write_all_at(self.file, bytes, offset).at("write", path)?)
    }
}
