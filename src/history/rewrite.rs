//! Keeps the lines that Codex appended to a rebuilt file when the rebuild is undone.

use super::HistoryError;
use crate::io::{IoContext, atomic, file_open, flush, hash, sharing};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// A rebuild of a file to which Codex appends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRewrite {
    /// The length of the old file when it was read. Lines beyond it are in the new file too.
    pub old_bytes: u64,
    /// The length of the new text. Codex appends after it.
    pub new_bytes: u64,
    /// The SHA-256 of the new text, in lower-case hex.
    pub new_sha256: String,
}

/// The lines that follow the new text in a rewritten file.
pub(super) struct AppendedLines {
    path: PathBuf,
    rewrite: FileRewrite,
}

impl FileRewrite {
    /// Returns the appended lines of the file at `path`; `None` if there are none, or if the file
    /// does not begin with the new text.
    pub(super) fn find_appended(&self, path: &Path) -> Result<Option<AppendedLines>, HistoryError> {
        if path.metadata().map_or(0, |m| m.len()) <= self.new_bytes {
            return Ok(None);
        }
        let mut text = file_open::open(path).at("read", path)?.take(self.new_bytes);
        let (sha256, _) = hash::hash_reader(&mut text).at("read", path)?;
        Ok((sha256 == self.new_sha256).then(|| AppendedLines {
            path: path.to_path_buf(),
            rewrite: self.clone(),
        }))
    }
}

impl AppendedLines {
    /// Appends the lines to the copy of the old file at `staged`, or creates it. Durable on return.
    pub(super) fn append_to(&self, staged: &Path) -> Result<(), HistoryError> {
        let mut file = if staged.exists() {
            let file = sharing::open_to_write(OpenOptions::new().write(true), staged);
            file.at("open", staged)?
        } else {
            atomic::create_private(staged)?
        };
        let old = file.metadata().at("inspect", staged)?.len();
        // The copy may have lines that were appended before it was made: they are in the new file.
        let kept = old.min(self.rewrite.old_bytes);
        file.set_len(kept).at("write", staged)?;
        file.seek(SeekFrom::Start(kept)).at("write", staged)?;
        let mut present = file_open::open(&self.path).at("read", &self.path)?;
        present
            .seek(SeekFrom::Start(self.rewrite.new_bytes))
            .at("read", &self.path)?;
        io::copy(&mut present, &mut file).at("write", staged)?;
        flush::sync_all(&file).at("fsync", staged)?;
        Ok(())
    }
}
