//! Append-only files of JSON lines in the folder of a state: the ledger, the state during a run, and the pending
//! updates of Codex's index.
//!
//! A kill or a power cut can tear the last line. An appender ends it, so that the next line is not lost with it, and
//! readers skip it. No line depends on an earlier one, so a lost line costs only what it says.

use crate::io::{IoContext, IoError, atomic, document, file_open, flush, sharing};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// A file of JSON lines, open for appending.
#[derive(Debug)]
pub(super) struct JsonLines {
    file: File,
    path: PathBuf,
    /// True if lines are not flushed yet.
    is_unflushed: bool,
}

impl JsonLines {
    /// Opens an existing file.
    pub(super) fn open(path: PathBuf) -> Result<Self, IoError> {
        let mut options = OpenOptions::new();
        let file = sharing::open_to_write(options.read(true).append(true), &path);
        Self::from_file(file.at("open", &path)?, path)
    }

    /// Opens or creates a file in an existing folder.
    pub(super) fn open_or_create(path: PathBuf) -> Result<Self, IoError> {
        let mut options = OpenOptions::new();
        let file = sharing::open_or_create(options.read(true).append(true), &path);
        Self::from_file(file.at("open", &path)?, path)
    }

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

    /// Appends a line. It survives a kill of this process, and after [`JsonLines::sync`] a power cut too.
    pub(super) fn push(&mut self, line: &impl Serialize) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        document::push_line(&mut bytes, line).at("encode", &self.path)?;
        self.is_unflushed = true;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Flushes the new lines to disk.
    pub(super) fn sync(&mut self) -> Result<(), IoError> {
        if self.is_unflushed {
            flush::sync_data(&self.file).at("fsync", &self.path)?;
            self.is_unflushed = false;
        }
        Ok(())
    }

    /// Flushes the new lines to disk, and the name of the file, which may be new.
    pub(super) fn sync_with_name(self) -> Result<(), IoError> {
        flush::sync_all(&self.file).at("fsync", &self.path)?;
        atomic::sync_folder(atomic::parent_of(&self.path))
    }
}

/// Reads the lines of this type, in their order; a missing file has none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, IoError> {
    let text = match file_open::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).at("read", path),
    };
    let lines = text.split(|byte| *byte == b'\n');
    // The pending updates have two types of lines in one file, so another type is no damage.
    let lines = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok(lines.collect())
}
