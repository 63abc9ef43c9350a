//! An archive file that keeps disk errors apart from damaged content.
//!
//! Decoders and parsers return one error kind for a failed read and for invalid bytes. Only invalid
//! bytes mean that the archive is damaged, so the first failed read is recorded here.

use crate::archive::error::{ArchiveError, ContentError};
use crate::io::{IoContext, file_open};
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// An open archive that records the first read error of the disk.
#[derive(Debug)]
pub(crate) struct ArchiveFile {
    file: File,
    read_error: RefCell<Option<io::Error>>,
}

impl Read for &ArchiveFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer).map_err(|e| {
            if e.kind() == io::ErrorKind::Interrupted {
                return e;
            }
            // The decoder gets an error of the same kind, and stops. The recorded error keeps the text of the system.
            let kind = e.kind();
            self.read_error.borrow_mut().get_or_insert(e);
            kind.into()
        })
    }
}

/// Runs `work` on `file`, from its current position. `path` is the path of the archive for error messages.
///
/// # Errors
/// Returns the first read error of the disk if there was one, even if `work` succeeded; else the error of `work`.
pub(crate) fn run_preferring_disk_errors<T>(
    path: &Path,
    file: File,
    work: impl FnOnce(&ArchiveFile) -> Result<T, ContentError>,
) -> Result<T, ArchiveError> {
    let archive = ArchiveFile {
        file,
        read_error: RefCell::default(),
    };

    let result = work(&archive);
    match archive.read_error.into_inner() {
        Some(error) => Err(error).at("read", path)?,
        None => result.map_err(|e| e.into_archive_error(path)),
    }
}

/// Opens the archive at `path`. Returns [`ArchiveError::Foreign`] if it is not a regular file.
pub(crate) fn open(path: &Path) -> Result<File, ArchiveError> {
    // Checks the file type first, because opening a pipe blocks until another process writes to it.
    if !std::fs::metadata(path).at("read", path)?.is_file() {
        return Err(ArchiveError::Foreign(path.to_path_buf()));
    }
    Ok(file_open::open(path).at("open", path)?)
}
