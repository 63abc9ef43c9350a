//! `history.jsonl`: what was typed, for the arrow keys.
//!
//! One `{"session_id","ts","text"}` a line, oldest first. Codex appends to it under a lock on the
//! file itself and, beyond `[history].max_bytes`, drops the oldest lines down to four fifths.

use super::lines::{Line, Lines};
use super::rollout::canonical_id;
use crate::io::regular;
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
    let file = match regular::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e).at("read", &path),
    };
    let mut lines = Lines::new(file);
    let mut broken = 0;
    while let Some(line) = lines.next_line().at("read", &path)? {
        let parsed = match line {
            Line::Whole(line) if line.trim_ascii().is_empty() => continue,
            Line::Whole(line) => serde_json::from_slice::<HistoryEntry>(line).ok(),
            Line::TooLong { .. } => None,
        };
        match parsed {
            Some(mut entry) => {
                entry.session_id = canonical_id(&entry.session_id);
                each(entry);
            }
            None => broken += 1,
        }
    }
    Ok(broken)
}

/// Puts entries into their order, oldest first by time, conversation and text, without those that
/// are the same in all three.
pub fn arrange(mut entries: Vec<HistoryEntry>) -> Vec<HistoryEntry> {
    entries.sort_by(|a, b| (a.ts, &a.session_id, &a.text).cmp(&(b.ts, &b.session_id, &b.text)));
    entries.dedup();
    entries
}

/// A rendered history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The lines: compact JSON.
    pub bytes: Vec<u8>,
    /// How many.
    pub entries: usize,
    /// How many of the oldest the limit took.
    pub trimmed: usize,
}

/// The text of a history of at most `max_bytes`, if there is a limit: where the whole is longer,
/// the oldest lines go until it is at most four fifths of it, or one line, whichever is more.
pub fn render(entries: &[HistoryEntry], max_bytes: Option<u64>) -> Rendered {
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(entries.len());
    for entry in entries {
        // Texts and a number: there is nothing in it that JSON could not say.
        let _ = serde_json::to_writer(&mut bytes, entry);
        bytes.push(b'\n');
        ends.push(bytes.len());
    }
    let Some(max_bytes) = max_bytes.filter(|max| (bytes.len() as u64) > *max) else {
        return Rendered {
            entries: entries.len(),
            trimmed: 0,
            bytes,
        };
    };
    let before_newest = ends.len().checked_sub(2).map_or(0, |i| ends[i]);
    let newest = (bytes.len() - before_newest) as u64;
    let target = four_fifths(max_bytes).max(newest);
    if bytes.len() as u64 <= target {
        return Rendered {
            entries: entries.len(),
            trimmed: 0,
            bytes,
        };
    }
    let trimmed = ends
        .iter()
        .position(|end| (bytes.len() - end) as u64 <= target)
        .map_or(0, |i| i + 1);
    bytes.drain(..trimmed.checked_sub(1).map_or(0, |i| ends[i]));
    Rendered {
        entries: entries.len() - trimmed,
        trimmed,
        bytes,
    }
}

fn four_fifths(bytes: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 4 / 5).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(ts: i64, text: &str) -> HistoryEntry {
        HistoryEntry {
            session_id: "s".into(),
            ts,
            text: text.into(),
        }
    }

    /// Each line is 37 bytes long, its newline counted.
    fn ten() -> Vec<HistoryEntry> {
        (10..20).map(|ts| entry(ts, "aa")).collect()
    }

    #[test]
    fn what_fits_stays_whole() {
        let whole = render(&ten(), None);
        let line = whole.bytes.len() / 10;
        assert_eq!(render(&ten(), Some(10 * line as u64)), whole);
        assert_eq!(whole.trimmed, 0);
    }

    #[test]
    fn beyond_the_limit_the_oldest_go_down_to_four_fifths() {
        let line = (render(&ten(), None).bytes.len() / 10) as u64;
        let trimmed = render(&ten(), Some(10 * line - 1));
        // Four fifths of ten lines less a byte hold seven.
        assert_eq!((trimmed.entries, trimmed.trimmed), (7, 3));
        assert!(
            trimmed
                .bytes
                .starts_with(b"{\"session_id\":\"s\",\"ts\":13,")
        );
    }

    #[test]
    fn the_newest_line_stays_however_small_the_limit() {
        let trimmed = render(&ten(), Some(1));
        assert_eq!((trimmed.entries, trimmed.trimmed), (1, 9));
        assert_eq!(render(&ten()[..1], Some(1)).entries, 1);
        assert_eq!(render(&[], Some(1)).entries, 0);
    }

    #[test]
    fn exact_duplicates_go_and_ties_are_ordered() {
        let arranged = arrange(vec![
            entry(2, "b"),
            entry(1, "z"),
            entry(2, "a"),
            entry(2, "b"),
        ]);
        let texts: Vec<_> = arranged.iter().map(|e| e.text.as_str()).collect();
        assert_eq!(texts, ["z", "a", "b"]);
    }
}
