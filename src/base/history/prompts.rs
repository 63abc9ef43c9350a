//! `history.jsonl`: the prompts that the arrow keys of Codex recall.
//!
//! Each line is `{"session_id","ts","text"}`, oldest first. Codex appends under a lock on the file
//! itself. Beyond `[history].max_bytes` it drops the oldest lines until four fifths of the limit
//! remain.

use super::id::ConversationId;
use super::lines::{JsonlLine, LineReader};
use crate::io::{IoContext, IoError, file_open};
use serde::{Deserialize, Serialize};
use std::path::Path;

pub const FILE_NAME: &str = "history.jsonl";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct HistoryEntry {
    pub session_id: String,
    /// The time in seconds since 1970.
    pub ts: i64,
    pub text: String,
}

/// Calls `visit` with every line of a home's history, in order, and returns the number of lines that
/// cannot be parsed. UUIDs are passed in lower case. A missing file has no lines. Memory holds one line at a time.
pub(crate) fn visit_entries(
    home: &Path,
    mut visit: impl FnMut(HistoryEntry),
) -> Result<u64, IoError> {
    let path = home.join(FILE_NAME);
    let Some(file) = file_open::open_if_exists(&path)? else {
        return Ok(0);
    };

    let mut lines = LineReader::new(file);
    let mut bad_lines = 0;
    while let Some(line) = lines.next_line().at("read", &path)? {
        let parsed = match line {
            JsonlLine::Whole(line) if line.trim_ascii().is_empty() => continue,
            JsonlLine::Whole(line) => serde_json::from_slice::<HistoryEntry>(line).ok(),
            JsonlLine::TooLong { .. } => None,
        };

        match parsed {
            Some(mut entry) => {
                entry.session_id = ConversationId::of(&entry.session_id).to_string();
                visit(entry);
            }
            None => bad_lines += 1,
        }
    }
    Ok(bad_lines)
}
