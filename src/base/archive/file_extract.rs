//! Extracts chosen files of an archive for reading, without their attributes.

use super::entry::FileEntry;
use super::error::ArchiveError;
use super::reader::ArchiveReader;
use super::sink::{Extent, Sink};
use crate::codex::home::{HomeEntryKind, kind_of};
use crate::io::progress::Silent;
use crate::io::{IoContext, IoError, position, sharing};
use std::fs::{File, OpenOptions};
use std::io::Seek;
use std::path::{Path, PathBuf};

/// Extracts the first file of this kind to an unnamed temp file. A home should have at most one file of the kind, such
/// as `auth.json`. The temp file is empty if the archive has no such file.
pub fn extract_to_temp_file(
    archive: &ArchiveReader,
    kind: HomeEntryKind,
) -> Result<File, ArchiveError> {
    let mut file = tempfile::tempfile().at("create a temp file in", std::env::temp_dir())?;
    let mut files = archive.contents().files.iter();
    if let Some(entry) = files.find(|entry| kind_of(entry.path.as_path()) == kind) {
        extract_entry(archive, &entry, &file)?;
    }
    file.rewind().at("read", archive.path())?;
    Ok(file)
}

/// Writes the content of one file of the archive to the start of `to`. Checks the content against its digest, if the
/// archive has digests.
///
/// # Errors
/// The archive cannot be read or is damaged, `to` cannot be written, or the user interrupts.
pub fn extract_entry(
    archive: &ArchiveReader,
    entry: &FileEntry,
    to: &File,
) -> Result<(), ArchiveError> {
    let sink = SingleFileSink { entry, file: to };
    archive.read(Extent::Wanted, &sink, &Silent)
}

struct SingleFileSink<'a> {
    entry: &'a FileEntry,
    file: &'a File,
}

impl Sink for SingleFileSink<'_> {
    fn wants(&self, entry: &FileEntry) -> bool {
        entry.path == self.entry.path
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

/// Writes each file to the path that `path_of` returns for it; leaves out files without one. The folders of the paths
/// must exist and be private. Each chunk is written when it arrives, so no file is complete in memory.
pub struct PathSink<F> {
    pub path_of: F,
}

impl<F: Fn(&FileEntry) -> Option<PathBuf> + Sync> Sink for PathSink<F> {
    fn wants(&self, entry: &FileEntry) -> bool {
        (self.path_of)(entry).is_some()
    }

    fn write_chunk(
        &self,
        entry: &FileEntry,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ArchiveError> {
        let Some(path) = (self.path_of)(entry) else {
            return Ok(());
        };

        let file = open_for_chunks(&path)?;
        Ok(position::write_all_at(&file, bytes, offset).at("write", &path)?)
    }
}

/// Opens or creates a file with mode 0600. Does not truncate it, because several threads write chunks of it in any
/// order.
pub fn open_for_chunks(path: &Path) -> Result<File, IoError> {
    let mut options = OpenOptions::new();
    options.write(true);
    sharing::open_or_create(&mut options, path).at("create", path)
}
