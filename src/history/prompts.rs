//! `history.jsonl`: what was typed, for the arrow keys.
//!
//! One `{"session_id","ts","text"}` a line, oldest first. Codex appends to it under a lock on the
//! file itself and, beyond `[history].max_bytes`, drops the oldest lines down to four fifths.

use super::id::ConversationId;
use super::lines::{JsonlLine, LineReader};
use crate::io::file_open;
use crate::io::{IoContext, IoError};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Its name.
pub const FILE_NAME: &str = "history.jsonl";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The conversation.
    pub session_id: String,
    /// When, in whole seconds.
    pub ts: i64,
    /// What was typed.
    pub text: String,
}

/// Tells `each` the lines of the history of a home, in their order; returns how many are broken.
/// There may be none. Only one line is held at a time.
pub fn read(home: &Path, mut each: impl FnMut(HistoryEntry)) -> Result<u64, IoError> {
    let path = home.join(FILE_NAME);
    let file = match file_open::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e).at("read", &path),
    };
    let mut lines = LineReader::new(file);
    let mut broken = 0;
    while let Some(line) = lines.next_line().at("read", &path)? {
        let parsed = match line {
            JsonlLine::Whole(line) if line.trim_ascii().is_empty() => continue,
            JsonlLine::Whole(line) => serde_json::from_slice::<HistoryEntry>(line).ok(),
            JsonlLine::TooLong { .. } => None,
        };
        match parsed {
            Some(mut entry) => {
                entry.session_id = ConversationId::of(&entry.session_id).to_string();
                each(entry);
            }
            None => broken += 1,
        }
    }
    Ok(broken)
}

/// Appends the line of an entry: compact JSON.
pub fn render(entry: &HistoryEntry, to: &mut Vec<u8>) {
    // Texts and a number: there is nothing in it that JSON could not say.
    let _ = serde_json::to_writer(&mut *to, entry);
    to.push(b'\n');
}
