//! Append-only files of JSON lines.
//!
//! A kill or a power cut can tear the last line. Opening the file ends a torn line, so that the next line is not lost
//! too, and readers skip torn lines. No line depends on an earlier one, so a torn line loses only its own record.

use super::file_open::{self, FinalLink};
use super::{IoContext, IoError, atomic, document, flush, sharing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A file of JSON lines, open for appending.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    path: PathBuf,
    /// True if lines are not flushed yet.
    is_unflushed: bool,
}

impl JsonLines {
    /// Opens an existing file.
    pub fn open(path: PathBuf) -> Result<Self, IoError> {
        let mut options = OpenOptions::new();
        let options = file_open::set_open_flags(options.read(true).append(true), FinalLink::Refuse);
        let file = sharing::open_to_write(options, &path);
        Self::from_file(file.at("open", &path)?, path)
    }

    /// Opens or creates a file in an existing folder.
    pub fn open_or_create(path: PathBuf) -> Result<Self, IoError> {
        let mut options = OpenOptions::new();
        let options = file_open::set_open_flags(options.read(true).append(true), FinalLink::Refuse);
        let file = sharing::open_or_create(options, &path);
        Self::from_file(file.at("open", &path)?, path)
    }

    /// Ends a line that a kill or a power cut has torn, so that the next line is not lost too.
    fn from_file(mut file: File, path: PathBuf) -> Result<Self, IoError> {
        if file_open::ends_in_partial_line(&mut file).at("read", &path)? {
            file.write_all(b"\n").at("write", &path)?;
        }
        Ok(Self {
            file,
            path,
            is_unflushed: false,
        })
    }

    /// Appends a line. The line survives a kill of this process, and after [`JsonLines::sync`] also a power cut.
    pub fn push(&mut self, line: &impl Serialize) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        document::push_line(&mut bytes, line).at("encode", &self.path)?;
        self.is_unflushed = true;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Flushes the new lines to disk.
    pub fn sync(&mut self) -> Result<(), IoError> {
        if self.is_unflushed {
            flush::sync_all(&self.file).at("fsync", &self.path)?;
            self.is_unflushed = false;
        }
        Ok(())
    }

    /// Flushes the new lines to disk, and the name of the file, which may have been created.
    pub fn sync_with_name(self) -> Result<(), IoError> {
        flush::sync_all(&self.file).at("fsync", &self.path)?;
        atomic::sync_folder(atomic::parent_of(&self.path))
    }
}

/// Reads the lines that parse as `T`, in the order of the file, and skips all others. Returns none if the file is
/// missing.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, IoError> {
    let text = file_open::read_if_exists(path)?.unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok(lines.collect())
}
