//! Appends to the state file during a run.

use super::lines::{replaced_line, resolved_line, synced_line};
use super::sync_state::SyncedFile;
use crate::io::document::push_line;
use crate::io::flush;
use crate::io::hash::Sha256Digest;
use crate::io::{IoContext, IoError, sharing};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

/// Appends to the state file during a run.
#[derive(Debug)]
pub(crate) struct StateJournal {
    file: File,
    path: PathBuf,
}

impl StateJournal {
    /// Opens the state file for appending; it must exist.
    pub(super) fn open(path: PathBuf) -> Result<Self, IoError> {
        let mut options = OpenOptions::new();
        let file = sharing::open_to_write(options.append(true), &path).at("open", &path)?;
        Ok(Self { file, path })
    }

    /// Records the version of a file on both sides, with the contents that it replaced. Durable after [`StateJournal::sync`].
    pub(crate) fn record(
        &mut self,
        key: &str,
        last: &SyncedFile,
        replaced: &[Sha256Digest],
    ) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        if !replaced.is_empty() {
            push_line(&mut bytes, &replaced_line(key, replaced)).at("encode", &self.path)?;
        }
        push_line(&mut bytes, &synced_line(key, last)).at("encode", &self.path)?;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Records that neither side has the file any more.
    pub(crate) fn record_gone(&mut self, key: &str) -> Result<(), IoError> {
        self.push(&serde_json::json!({ "gone": key }))
    }

    /// Records an entry of the resolutions.
    pub(crate) fn record_resolution(&mut self, resolution: &str) -> Result<(), IoError> {
        self.push(&resolved_line(resolution))
    }

    fn push(&mut self, line: &impl Serialize) -> Result<(), IoError> {
        let mut bytes = Vec::new();
        push_line(&mut bytes, line).at("encode", &self.path)?;
        self.file.write_all(&bytes).at("write", &self.path)
    }

    /// Flushes the recorded lines to disk.
    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        flush::data(&self.file).at("fsync", &self.path)
    }
}
