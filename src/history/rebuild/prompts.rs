//! Builds the lines of the new `history.jsonl`.

use super::conversations::ConversationSet;
use super::plan::PromptCounts;
use super::spool;
use crate::history::HistoryError;
use crate::history::id::ConversationId;
use crate::history::prompts::{self, HistoryEntry};
use crate::history::rollout::UserMessage;
use crate::io::{IoContext, IoError};
use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;
use tempfile::SpooledTempFile;

/// The bytes of prompts above which a rebuild is refused: it sorts them in memory.
const MAX_BYTES: u64 = 1 << 30;

/// Collects prompts in any order.
#[derive(Default)]
pub(super) struct Prompts {
    lines: Vec<PromptLine>,
    bytes: u64,
}

/// A line of the new history. The order of the fields is the order of the lines.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PromptLine {
    ts: i64,
    id: String,
    text: String,
}

/// The text and the counts of the new history.
pub(super) struct PromptText {
    pub(super) text: SpooledTempFile,
    pub(super) bytes: u64,
    pub(super) lines: usize,
    /// The number of oldest lines removed by the limit.
    pub(super) trimmed: usize,
}

fn temp_io<T>(result: io::Result<T>) -> Result<T, IoError> {
    result.at("use a temp file in", std::env::temp_dir())
}

impl Prompts {
    /// Adds a message of the user.
    pub(super) fn add(
        &mut self,
        id: &ConversationId,
        message: &UserMessage,
    ) -> Result<(), HistoryError> {
        self.bytes += message.text.len() as u64;
        if self.bytes > MAX_BYTES {
            return Err(HistoryError::PromptsTooLarge);
        }
        self.lines.push(PromptLine {
            ts: message.ts,
            id: id.to_string(),
            text: message.text.clone(),
        });
        Ok(())
    }

    /// Counts the lines of the current history that the new one lacks. Returns the number
    /// of bad lines of the current history.
    pub(super) fn compare(
        &self,
        home: &Path,
        set: &ConversationSet,
        counts: &mut PromptCounts,
    ) -> Result<u64, HistoryError> {
        let lines = self.lines.iter();
        let texts: HashSet<_> = lines.map(|line| (&*line.id, &*line.text)).collect();
        let bad_lines = prompts::read(home, |line| {
            let text = line.text.trim_end_matches(['\n', '\r']);
            if texts.contains(&(&*line.session_id, text)) {
                return;
            }
            let id = ConversationId::of(&line.session_id);
            match set.find(&id) {
                Some(conversation) if !conversation.is_restored => counts.beyond_limit += 1,
                _ => {
                    counts.dropped += 1;
                    counts.unrecorded += usize::from(set.has(&id));
                }
            }
        })?;
        Ok(bad_lines)
    }

    /// Writes the lines, oldest first, without exact duplicates. Trims as Codex does: if the text
    /// exceeds `max_bytes`, the oldest lines go until four fifths of the limit, or one line,
    /// remain.
    pub(super) fn write(mut self, max_bytes: Option<u64>) -> Result<PromptText, HistoryError> {
        self.lines.sort_unstable();
        self.lines.dedup();
        let mut text = spool::create();
        let (mut bytes, mut lines, mut newest) = (0, 0, 0);
        let mut line = Vec::new();
        for PromptLine {
            ts,
            id,
            text: prompt,
        } in self.lines
        {
            let entry = HistoryEntry {
                session_id: id,
                ts,
                text: prompt,
            };
            line.clear();
            prompts::render(&entry, &mut line);
            temp_io(text.write_all(&line))?;
            newest = line.len() as u64;
            bytes += newest;
            lines += 1;
        }
        let target = max_bytes.map_or(u64::MAX, |max| four_fifths(max).max(newest));
        if max_bytes.is_none_or(|max| bytes <= max) || bytes <= target {
            return Ok(PromptText {
                text,
                bytes,
                lines,
                trimmed: 0,
            });
        }
        temp_io(text.rewind())?;
        let mut whole = BufReader::new(text);
        let mut trimmed = 0;
        while bytes > target {
            bytes -= temp_io(whole.skip_until(b'\n'))? as u64;
            trimmed += 1;
        }
        let mut text = spool::create();
        temp_io(io::copy(&mut whole, &mut text))?;
        Ok(PromptText {
            text,
            bytes,
            lines: lines - trimmed,
            trimmed,
        })
    }
}

fn four_fifths(bytes: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 4 / 5).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn rendered(messages: &[(i64, &str)], max_bytes: Option<u64>) -> (PromptText, String) {
        let mut prompts = Prompts::default();
        for (ts, text) in messages {
            let message = UserMessage {
                ts: *ts,
                text: (*text).to_owned(),
            };
            prompts.add(&ConversationId::of("s"), &message).unwrap();
        }
        let mut written = prompts.write(max_bytes).unwrap();
        let mut text = String::new();
        written.text.rewind().unwrap();
        written.text.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.len() as u64, text.lines().count()),
            (written.bytes, written.lines)
        );
        (written, text)
    }

    fn ten() -> Vec<(i64, &'static str)> {
        (10..20).map(|ts| (ts, "aa")).collect()
    }

    #[test]
    fn a_history_within_the_limit_is_not_trimmed() {
        let (whole, text) = rendered(&ten(), None);
        assert_eq!(rendered(&ten(), Some(whole.bytes)).1, text);
        assert_eq!(whole.trimmed, 0);
    }

    #[test]
    fn beyond_the_limit_the_oldest_lines_go_until_four_fifths_remain() {
        let whole = rendered(&ten(), None).0.bytes;
        let (trimmed, text) = rendered(&ten(), Some(whole - 1));
        // Four fifths of ten lines less a byte hold seven.
        assert_eq!((trimmed.lines, trimmed.trimmed), (7, 3));
        assert!(text.starts_with("{\"session_id\":\"s\",\"ts\":13,"));
    }

    #[test]
    fn the_newest_line_stays_however_small_the_limit() {
        let (trimmed, _) = rendered(&ten(), Some(1));
        assert_eq!((trimmed.lines, trimmed.trimmed), (1, 9));
        assert_eq!(rendered(&ten()[..1], Some(1)).0.lines, 1);
        assert_eq!(rendered(&[], Some(1)).0.lines, 0);
    }

    #[test]
    fn exact_duplicates_are_removed_and_ties_sorted_by_text() {
        let messages = [(2, "b"), (1, "z"), (2, "a"), (2, "b"), (-1, "before 1970")];
        let (_, text) = rendered(&messages, None);
        let texts: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<HistoryEntry>(line).unwrap().text)
            .collect();
        assert_eq!(texts, ["before 1970", "z", "a", "b"]);
    }
}
