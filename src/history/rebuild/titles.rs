//! The titles from rollouts, in a temp file.

use super::spool;
use crate::history::HistoryError;
use crate::io::IoContext;
use std::io::{Read, Seek, SeekFrom, Write};
use tempfile::SpooledTempFile;

/// The position of a title in [`Titles`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    at: u64,
    len: u32,
}

/// Titles in a spooled temp file, so that they need no memory.
pub(super) struct Titles {
    text: SpooledTempFile,
    len: u64,
}

impl Default for Titles {
    fn default() -> Self {
        Self {
            text: spool::create(),
            len: 0,
        }
    }
}

impl Titles {
    pub(super) fn add(&mut self, title: &str) -> Result<Span, HistoryError> {
        let at = self.len;
        let len = u32::try_from(title.len()).unwrap_or(0);
        let text = &title.as_bytes()[..len as usize];
        self.text
            .write_all(text)
            .at("write a temp file in", std::env::temp_dir())?;
        self.len += u64::from(len);
        Ok(Span { at, len })
    }

    pub(super) fn get(&mut self, span: Span) -> Result<String, HistoryError> {
        let mut bytes = vec![0; span.len as usize];
        let read = self.text.seek(SeekFrom::Start(span.at));
        read.and_then(|_| self.text.read_exact(&mut bytes))
            .at("read a temp file in", std::env::temp_dir())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
