//! Reads the events of a rollout one after another, in bounded memory.
//!
//! Plain rollouts can be read from an offset on, with the [`ReaderState`] that reading up to there left, so
//! that a conversation that grew is not read again. Lines that are damaged or longer than
//! [`MAX_LINE_BYTES`](crate::history::lines::MAX_LINE_BYTES) are skipped. An incomplete last line is not
//! consumed: Codex may still be writing it.

use super::images::image_urls;
use super::taken_back;
use crate::codex::rollout;
use crate::codex::rollout_lines::{self, ItemOrigin, LineItem, LineItems};
use crate::codex::rollout_lines::{EventKind, LineParts, RolloutEvent};
use crate::history::lines::{JsonlLine, LineReader};
use crate::history::thread_rollouts::RolloutSlice;
use crate::io::file_open;
use crate::io::progress::is_interrupted;
use serde::de::IgnoredAny;
use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// The number of recent texts among which copies are recognized. Codex writes them within a few lines.
const MAX_RECENT_TEXTS: usize = 64;

/// The number of recent tool calls whose completed items are recognized as copies.
const MAX_RECENT_CALLS: usize = 256;

/// The number of recent texts and calls of a stored state.
const MAX_STORED_TEXTS: usize = 4;
const MAX_STORED_CALLS: usize = 8;

/// The state after reading the beginning of a rollout, for reading on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ReaderState {
    pub turn: u32,
    texts: VecDeque<RecentText>,
    /// Digests of the ids of tool calls.
    calls: VecDeque<u64>,
}

/// A text and how often each origin has recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RecentText {
    digest: u64,
    returned: u32,
    seen: [u32; 3],
}

impl ReaderState {
    /// Encodes the state in at most 130 bytes. Copies are a few lines apart, so the last texts and calls do.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.turn.to_le_bytes().to_vec();
        let texts = self.texts.len().saturating_sub(MAX_STORED_TEXTS);
        let texts = self.texts.range(texts..);
        bytes.push(u8::try_from(texts.len()).unwrap_or(0));
        for text in texts {
            bytes.extend(text.digest.to_le_bytes());
            let counts = [text.returned, text.seen[0], text.seen[1], text.seen[2]];
            // Only the differences of the counts matter.
            let least = counts[1..].iter().min().copied().unwrap_or(0);
            bytes.extend(counts.map(|n| u8::try_from(n - least).unwrap_or(u8::MAX)));
        }
        let calls = self.calls.len().saturating_sub(MAX_STORED_CALLS);
        bytes.extend(
            self.calls
                .range(calls..)
                .flat_map(|call| call.to_le_bytes()),
        );
        bytes
    }

    /// Decodes a state. Returns the empty state if the bytes are damaged.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap_or_default()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (turn, bytes) = bytes.split_first_chunk()?;
        let (count, mut bytes) = bytes.split_first()?;
        let mut texts = VecDeque::new();
        for _ in 0..*count {
            let (digest, rest) = bytes.split_first_chunk()?;
            let (counts, rest) = rest.split_first_chunk::<4>()?;
            bytes = rest;
            let [returned, seen @ ..] = counts.map(u32::from);
            texts.push_back(RecentText {
                digest: u64::from_le_bytes(*digest),
                returned,
                seen,
            });
        }
        let (calls, _) = bytes.as_chunks();
        Some(Self {
            turn: u32::from_le_bytes(*turn),
            texts,
            calls: calls.iter().map(|call| u64::from_le_bytes(*call)).collect(),
        })
    }

    /// Turns the items of the line at `offset` into events, without copies of recent ones. The item at an
    /// index of the result came from the item with that index in `items`; `None` marks a copy.
    pub(super) fn accept(&mut self, line: LineItems, offset: u64) -> Vec<Option<RolloutEvent>> {
        let LineItems { at, items } = line;
        let event = |item: LineItem| {
            if !self.is_new(&item) {
                return None;
            }
            match item.kind {
                EventKind::User(_) => self.turn += 1,
                EventKind::RolledBack(turns) => self.turn = self.turn.saturating_sub(turns),
                _ => {}
            }
            Some(RolloutEvent {
                turn: self.turn,
                at,
                offset,
                kind: item.kind,
            })
        };
        items.into_iter().map(event).collect()
    }

    fn is_new(&mut self, item: &LineItem) -> bool {
        let (kind, text) = match &item.kind {
            EventKind::User(text) => (b'u', text),
            EventKind::Assistant(text) => (b'a', text),
            EventKind::Reasoning(text) => (b'r', text),
            EventKind::ToolCall { .. } | EventKind::ToolOutput(_) => {
                return self.is_new_call(item);
            }
            EventKind::FilesTouched(_)
            | EventKind::Injected(_)
            | EventKind::Meta(_)
            | EventKind::Image(_)
            | EventKind::Compaction(_)
            | EventKind::TurnContext(_)
            | EventKind::Tokens(_)
            | EventKind::Request(_)
            | EventKind::RolledBack(_) => return true,
        };
        let text = text.trim();
        if text.is_empty() {
            return false;
        }
        let digest = digest(kind, text);
        let found = self.texts.iter().position(|recent| recent.digest == digest);
        let mut recent = found
            .and_then(|i| self.texts.remove(i))
            .unwrap_or(RecentText {
                digest,
                returned: 0,
                seen: [0; 3],
            });
        // Each origin records every text once, so a text is new if no origin has recorded it as often yet.
        let seen = &mut recent.seen[item.origin as usize];
        *seen += 1;
        let is_new = *seen > recent.returned;
        recent.returned = recent.returned.max(*seen);
        self.texts.push_back(recent);
        if self.texts.len() > MAX_RECENT_TEXTS {
            self.texts.pop_front();
        }
        is_new
    }

    /// Returns false for a completed item whose call was recorded as an item of the model.
    fn is_new_call(&mut self, item: &LineItem) -> bool {
        let Some(id) = &item.call_id else {
            return true;
        };
        let digest = digest(b'c', id);
        if item.origin != ItemOrigin::Item {
            return !self.calls.contains(&digest);
        }
        if matches!(item.kind, EventKind::ToolCall { .. }) {
            self.calls.push_back(digest);
            if self.calls.len() > MAX_RECENT_CALLS {
                self.calls.pop_front();
            }
        }
        true
    }
}

/// FNV-1a, which stays the same between versions of Rust: states are stored.
pub(super) fn digest(kind: u8, text: &str) -> u64 {
    let bytes = std::iter::once(kind).chain(text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct RawLine<'a> {
    /// The offset in the plain text of the rollout.
    pub offset: u64,
    /// The line without its newline; empty if it is too long.
    pub bytes: &'a [u8],
}

/// Reads the complete lines of a rollout.
pub(crate) struct RawLines {
    lines: LineReader<Box<dyn Read + Send>>,
    base: u64,
    is_compressed: bool,
    end: u64,
    count: u32,
}

impl RawLines {
    /// Opens a rollout, plain or compressed, at an offset of its plain text.
    pub(crate) fn open(path: &Path, from: u64) -> io::Result<Self> {
        let is_compressed = !rollout::is_plain(path);
        let reader: Box<dyn Read + Send> = if is_compressed {
            let mut reader = rollout::open_plain(path)?;
            io::copy(&mut reader.by_ref().take(from), &mut io::sink())?;
            reader
        } else {
            let mut file = file_open::open(path)?;
            file.seek(SeekFrom::Start(from))?;
            Box::new(file)
        };
        Ok(Self {
            lines: LineReader::new(reader),
            base: from,
            is_compressed,
            end: from,
            count: 0,
        })
    }

    /// Returns the offset behind the last complete line.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Returns the next complete line, or `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
    pub(crate) fn next(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.count = self.count.wrapping_add(1);
        if self.count.is_multiple_of(256) && is_interrupted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let placed = match self.lines.next_placed() {
            Ok(Some(placed)) => placed,
            Ok(None) => return Ok(None),
            // A truncated compressed rollout: the lines before the end are good.
            Err(e)
                if self.is_compressed
                    && self.end > self.base
                    && e.kind() != io::ErrorKind::Interrupted =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let bytes = match placed.line {
            JsonlLine::Whole(bytes) => bytes,
            JsonlLine::TooLong { .. } => &[],
        };
        if !placed.is_terminated && serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
            return Ok(None);
        }
        self.end = self.base + placed.end;
        Ok(Some(RawLine {
            offset: self.base + placed.offset,
            bytes,
        }))
    }
}

/// Reads the events of a rollout, or of several that continue each other, one by one.
pub(crate) struct EventReader {
    lines: RawLines,
    /// The offset at which the next rollout leaves this one.
    end: Option<u64>,
    next: VecDeque<RolloutSlice>,
    /// The parts that the user took back. Only their figures are events.
    taken_back: Vec<Range<u64>>,
    selection: LineParts,
    state: ReaderState,
    queue: VecDeque<RolloutEvent>,
}

impl EventReader {
    /// Opens a rollout, plain or compressed.
    pub(crate) fn open(path: &Path, selection: LineParts) -> io::Result<Self> {
        let slices = [RolloutSlice {
            path: path.to_path_buf(),
            end: None,
        }];
        Self::open_all(&slices, selection)
    }

    /// Opens rollouts that continue each other. Turns are counted through all of them.
    pub(crate) fn open_all(slices: &[RolloutSlice], selection: LineParts) -> io::Result<Self> {
        let (first, next) = slices.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut reader = Self::open_at(&first.path, 0, selection)?;
        reader.end = first.end;
        reader.taken_back = taken_back::ranges(first)?;
        reader.next = next.iter().cloned().collect();
        Ok(reader)
    }

    /// Opens a rollout at an offset of its plain text. A line that begins before it is skipped, and turns are
    /// counted from there.
    pub(crate) fn open_at(path: &Path, from: u64, selection: LineParts) -> io::Result<Self> {
        Ok(Self {
            lines: RawLines::open(path, from)?,
            end: None,
            next: VecDeque::new(),
            taken_back: Vec::new(),
            selection,
            state: ReaderState::default(),
            queue: VecDeque::new(),
        })
    }

    /// Returns the next event, or `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
    pub(crate) fn next_event(&mut self) -> io::Result<Option<RolloutEvent>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            let line = self.lines.next()?;
            let line = line.filter(|line| self.end.is_none_or(|end| line.offset < end));
            let Some(RawLine { offset, bytes }) = line else {
                let Some(next) = self.next.pop_front() else {
                    return Ok(None);
                };
                self.lines = RawLines::open(&next.path, 0)?;
                self.end = next.end;
                self.taken_back = taken_back::ranges(&next)?;
                continue;
            };
            let is_taken_back = self.taken_back.iter().any(|part| part.contains(&offset));
            let items = rollout_lines::parse(bytes, self.selection).unwrap_or_default();
            let at = items.at;
            let events = self.state.accept(items, offset);
            let events = events.into_iter().flatten();
            self.queue
                .extend(events.filter(|event| !is_taken_back || event.kind.is_figure()));
            if self.selection == LineParts::TEXTS_AND_IMAGES && !is_taken_back {
                let turn = self.state.turn;
                let image = |url| RolloutEvent {
                    turn,
                    at,
                    offset,
                    kind: EventKind::Image(url),
                };
                self.queue.extend(image_urls(bytes).into_iter().map(image));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn events(text: &[u8], name: &str) -> Vec<RolloutEvent> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mut reader = EventReader::open(&path, LineParts::TEXTS).unwrap();
        std::iter::from_fn(|| reader.next_event().unwrap()).collect()
    }

    fn joined(lines: &[Value]) -> String {
        let lines: Vec<_> = lines.iter().map(Value::to_string).collect();
        lines.join("\n") + "\n"
    }

    fn texts(lines: &[Value]) -> Vec<(u32, String)> {
        let text = joined(lines);
        let events = events(text.as_bytes(), "rollout.jsonl");
        let texts = events.iter().filter_map(|event| {
            let (_, text) = event.kind.text()?;
            Some((event.turn, text.to_owned()))
        });
        texts.collect()
    }

    fn of(pairs: &[(u32, &str)]) -> Vec<(u32, String)> {
        let owned = pairs.iter().map(|(turn, text)| (*turn, (*text).to_owned()));
        owned.collect()
    }

    fn event(payload: &Value) -> Value {
        json!({"timestamp": "2026-11-20T06:00:00Z", "type": "event_msg", "payload": payload})
    }

    fn item(payload: &Value) -> Value {
        json!({"timestamp": "2026-11-20T06:00:00Z", "type": "response_item", "payload": payload})
    }

    fn message(role: &str, text: &str) -> Value {
        item(&json!({"type": "message", "role": role, "content": [{"type": "x", "text": text}]}))
    }

    fn completed(kind: &str, text: &str) -> Value {
        event(&json!({"type": "item_completed", "item":
            {"type": kind, "content": [{"type": "text", "text": text}]}}))
    }

    #[test]
    fn each_text_is_returned_once_however_often_it_is_recorded() {
        let old = [
            message("user", "continue"),
            event(&json!({"type": "user_message", "message": "continue\n"})),
            event(&json!({"type": "agent_message", "message": "Done."})),
            message("assistant", "Done."),
            message("user", "continue"),
            event(&json!({"type": "user_message", "message": "continue"})),
            message("assistant", "Done."),
            event(&json!({"type": "agent_message", "message": "Done."})),
        ];
        let expected = of(&[(1, "continue"), (1, "Done."), (2, "continue"), (2, "Done.")]);
        assert_eq!(texts(&old), expected);
        let new = [
            message("user", "continue"),
            completed("UserMessage", "continue"),
            completed("AgentMessage", "Done."),
            message("assistant", "Done."),
            message("user", "continue"),
            completed("UserMessage", "continue"),
            completed("AgentMessage", "Done."),
            message("assistant", "Done."),
        ];
        assert_eq!(texts(&new), expected);
    }

    #[test]
    fn a_message_with_an_image_is_returned_once_with_its_image() {
        let with_image = item(&json!({"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "<image name=[Image #1] path=\"/a.png\">"},
            {"type": "input_image", "image_url": "data:x"},
            {"type": "input_text", "text": "</image>"},
            {"type": "input_text", "text": "What is this?"}]}));
        let lines = [
            with_image,
            event(&json!({"type": "user_message", "message": "What is this?", "images": []})),
            message("assistant", "A dot."),
        ];
        assert_eq!(texts(&lines), of(&[(1, "What is this?"), (1, "A dot.")]));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        std::fs::write(&path, joined(&lines)).unwrap();
        let mut reader = EventReader::open(&path, LineParts::TEXTS_AND_IMAGES).unwrap();
        let events: Vec<_> = std::iter::from_fn(|| reader.next_event().unwrap()).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[1].kind, EventKind::Image("data:x".into()));
        assert_eq!(events[1].turn, 1);
    }

    #[test]
    fn completed_commands_are_copies_unless_code_mode_ran_them() {
        let call = |id: &str| {
            item(
                &json!({"type": "function_call", "name": "exec_command", "call_id": id,
                "arguments": "{\"cmd\":\"ls\"}"}),
            )
        };
        let done = |id: &str| {
            event(
                &json!({"type": "item_completed", "item": {"type": "CommandExecution", "id": id,
                "command": ["ls"], "aggregated_output": "x"}}),
            )
        };
        assert_eq!(texts(&[call("1"), done("1")]), of(&[(0, "ls")]));
        assert_eq!(
            texts(&[call("1"), done("2")]),
            of(&[(0, "ls"), (0, "ls"), (0, "x")])
        );
    }

    #[test]
    fn a_stored_state_recognizes_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        let lines = [message("user", "go"), message("assistant", "Done.")];
        let text = joined(&lines);
        std::fs::write(&path, text).unwrap();
        let mut reader = EventReader::open(&path, LineParts::TEXTS).unwrap();
        while reader.next_event().unwrap().is_some() {}
        let stored = reader.state.to_bytes();
        let mut state = ReaderState::of_bytes(&stored);
        assert_eq!(state, reader.state);
        let copy = completed("AgentMessage", "Done.").to_string();
        let copy = rollout_lines::parse(copy.as_bytes(), LineParts::TEXTS).unwrap();
        assert_eq!(state.accept(copy, 0), [None]);
        assert_eq!(ReaderState::of_bytes(&stored[..7]), ReaderState::default());
    }

    #[test]
    fn torn_lines_are_skipped_and_an_incomplete_last_one_is_not_consumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        let (first, second) = (message("assistant", "one"), message("assistant", "two"));
        let torn = &second.to_string()[..40];
        std::fs::write(&path, format!("{first}\n{torn}\n{second}\n{torn}")).unwrap();
        let mut lines = RawLines::open(&path, 0).unwrap();
        let mut count = 0;
        while lines.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 3);
        let len = path.metadata().unwrap().len();
        assert_eq!(lines.end(), len - 40);
        std::fs::write(&path, format!("{first}\n{second}")).unwrap();
        let mut lines = RawLines::open(&path, 0).unwrap();
        while lines.next().unwrap().is_some() {}
        assert_eq!(lines.end(), path.metadata().unwrap().len());
    }
}
