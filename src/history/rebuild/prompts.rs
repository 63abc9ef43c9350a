//! Builds the lines of the new `history.jsonl`.

use super::conversations::ConversationSet;
use super::plan::PromptCounts;
use super::spool;
use crate::history::HistoryError;
use crate::history::id::ConversationId;
use crate::history::prompts::{self, HistoryEntry};
use crate::history::rollout::Message;
use crate::io::sorting::Sorter;
use crate::io::{IoContext, IoError};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::path::Path;
use tempfile::SpooledTempFile;

/// Collects prompts in any order and sorts them through temp files.
#[derive(Default)]
pub(super) struct Prompts {
    /// Sorted by time, conversation and text.
    lines: Sorter,
    /// Sorted by conversation and text, together with the lines of the current history.
    texts: Sorter,
}

/// The text and the counts of the new history.
pub(super) struct PromptText {
    pub(super) text: SpooledTempFile,
    pub(super) bytes: u64,
    pub(super) lines: usize,
    /// The number of oldest lines removed by the limit.
    pub(super) trimmed: usize,
}

/// Origins of a text record. Rollouts sort before the current history.
const FROM_ROLLOUT: u8 = 0;
const FROM_HISTORY: u8 = 1;

fn temp_io<T>(result: io::Result<T>) -> Result<T, IoError> {
    result.at("use a temp file in", std::env::temp_dir())
}

impl Prompts {
    /// Adds a message of the user.
    pub(super) fn add(
        &mut self,
        id: &ConversationId,
        message: &Message,
    ) -> Result<(), HistoryError> {
        let id = id.to_string();
        let mut record = (message.ts.cast_unsigned() ^ 1 << 63)
            .to_be_bytes()
            .to_vec();
        record.extend(id.bytes());
        record.push(0);
        record.extend(message.text.bytes());
        temp_io(self.lines.push(&record))?;
        Ok(temp_io(self.texts.push(&text_record(
            &id,
            &message.text,
            FROM_ROLLOUT,
        )))?)
    }

    /// Counts the lines of the current history that the new one lacks. Returns the number
    /// of bad lines of the current history.
    pub(super) fn compare(
        &mut self,
        home: &Path,
        set: &ConversationSet,
        counts: &mut PromptCounts,
    ) -> Result<u64, HistoryError> {
        let mut problem = None;
        let bad_lines = prompts::read(home, |line| {
            let text = line.text.trim_end_matches(['\n', '\r']);
            let pushed = self
                .texts
                .push(&text_record(&line.session_id, text, FROM_HISTORY));
            problem = problem.take().or(pushed.err());
        })?;
        temp_io(problem.map_or(Ok(()), Err))?;
        let mut texts = temp_io(std::mem::take(&mut self.texts).finish())?;
        let mut backed = Vec::new();
        while let Some(record) = temp_io(texts.next_record())? {
            let Some((origin, key)) = record.split_last() else {
                continue;
            };
            if *origin == FROM_ROLLOUT {
                backed.clear();
                backed.extend_from_slice(key);
            } else if backed != key {
                let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
                let id = ConversationId::of(&String::from_utf8_lossy(&key[..end]));
                match set.find(&id) {
                    Some(conversation) if !conversation.is_restored => {
                        counts.beyond_limit += 1;
                    }
                    _ => {
                        counts.dropped += 1;
                        counts.unrecorded += usize::from(set.has(&id));
                    }
                }
            }
        }
        Ok(bad_lines)
    }

    /// Writes the lines, oldest first, without exact duplicates. Trims as Codex does: if the text
    /// exceeds `max_bytes`, the oldest lines go until four fifths of the limit, or one line,
    /// remain.
    pub(super) fn write(self, max_bytes: Option<u64>) -> Result<PromptText, HistoryError> {
        let mut sorted = temp_io(self.lines.finish())?;
        let mut text = spool::create();
        let (mut bytes, mut lines, mut newest) = (0, 0, 0);
        let mut last: Option<Vec<u8>> = None;
        let mut line = Vec::new();
        while let Some(record) = temp_io(sorted.next_record())? {
            if last.as_ref() == Some(&record) {
                continue;
            }
            if let Some(entry) = decode(&record) {
                line.clear();
                prompts::render(&entry, &mut line);
                temp_io(text.write_all(&line))?;
                newest = line.len() as u64;
                bytes += newest;
                lines += 1;
            }
            last = Some(record);
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

/// Encodes a text for sorting by conversation, text and origin. The text may contain a byte 0,
/// because the origin is the last byte.
fn text_record(id: &str, text: &str, origin: u8) -> Vec<u8> {
    let mut record = id.as_bytes().to_vec();
    record.push(0);
    record.extend(text.bytes());
    record.push(0);
    record.push(origin);
    record
}

fn decode(record: &[u8]) -> Option<HistoryEntry> {
    let (time, rest) = record.split_first_chunk::<8>()?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(HistoryEntry {
        session_id: std::str::from_utf8(&rest[..end]).ok()?.to_owned(),
        ts: (u64::from_be_bytes(*time) ^ 1 << 63).cast_signed(),
        text: std::str::from_utf8(&rest[end + 1..]).ok()?.to_owned(),
    })
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
            let message = Message {
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
