//! The bytes of an archive as the disk gives them.
//!
//! Decoders and parsers make one kind of error of what the disk refuses and of what the bytes say.
//! Only the second is damage, so the first is remembered here.

use super::ArchiveError;
use crate::io::IoContext;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// An open archive that remembers the first error of the disk.
#[derive(Debug)]
pub(super) struct ArchiveFile {
    file: File,
    refused: RefCell<Option<io::Error>>,
}

impl Read for &ArchiveFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer).map_err(|e| {
            if e.kind() == io::ErrorKind::Interrupted {
                return e;
            }
            let kind = e.kind();
            self.refused.borrow_mut().get_or_insert(e);
            kind.into()
        })
    }
}

/// Gives the rest of `file`, which lies at `path`, to `work`.
///
/// # Errors
/// That of the disk, if it refused to read, whatever `work` made of it; else that of `work`.
pub(super) fn read_with<T>(
    path: &Path,
    file: File,
    work: impl FnOnce(&ArchiveFile) -> Result<T, ArchiveError>,
) -> Result<T, ArchiveError> {
    let source = ArchiveFile {
        file,
        refused: RefCell::default(),
    };
    let done = work(&source);
    match source.refused.into_inner() {
        Some(refused) => Err(refused).at("read", path)?,
        None => done,
    }
}
