//! Reads a conversation as a transcript: its messages, tool calls and compactions in order.

use super::copied_texts::{CopiedTexts, ParentRollout};
use super::image_data::parse_data_url;
use super::left_out::LeftOut;
use super::reader::EventReader;
use crate::codex::redaction::hide_logins;
use crate::codex::rollout::is_plain;
use crate::codex::rollout_lines::{EventKind, LineParts, RolloutEvent};
use crate::history::thread_rollouts::{MAX_ROLLOUTS, RolloutSlice};
use crate::io::Zone;
use chrono::{DateTime, Utc};
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// The number of bytes of a rollout that [`read_last_turn`] reads.
const MAX_TAIL_BYTES: u64 = 256 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct TranscriptEntry {
    pub turn: u32,
    /// The time at which Codex wrote the entry.
    pub at: Option<DateTime<Utc>>,
    pub kind: EntryKind,
    /// The id that a tool call shares with its output.
    pub call_id: Option<String>,
    /// True if the entry repeats one of the parent, at the beginning of a fork.
    pub is_copied: bool,
    /// The name of the tool; only for [`EntryKind::ToolCall`].
    pub tool: Option<String>,
    pub text: String,
}

impl TranscriptEntry {
    /// Replaces the text and the name of the tool by the results of `redact`. The data of an image lose only the tokens of
    /// the user's logins: what has the form of a secret there is chance.
    pub fn map_texts(&mut self, redact: &mut dyn FnMut(&str) -> String) {
        let is_image_data = self.kind == EntryKind::Image && parse_data_url(&self.text).is_some();
        self.text = if is_image_data {
            hide_logins(&self.text).into_owned()
        } else {
            redact(&self.text)
        };
        self.tool = self.tool.as_deref().map(redact);
    }
}

/// Formats a time of a transcript, to the minute.
pub fn format_minute(at: &DateTime<Utc>, zone: Zone) -> String {
    zone.at(at).format("%Y-%m-%d %H:%M").to_string()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    User,
    Assistant,
    Reasoning,
    ToolCall,
    /// A change of files. The text has the path of one file per line.
    Files,
    ToolOutput,
    /// An image. The text is its URL.
    Image,
    /// Codex replaced the earlier entries in its context by a summary. The text is the summary. The earlier entries are
    /// still in the rollout.
    Compaction,
}

impl EntryKind {
    /// Returns the author of the entry, as the output of `find` names it. Reasoning, images and compactions have their
    /// own names.
    pub fn role(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Reasoning => "reasoning",
            Self::ToolCall | Self::Files | Self::ToolOutput => "tool",
            Self::Image => "image",
            Self::Compaction => "compaction",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TranscriptOptions {
    /// Includes the outputs of tools.
    pub outputs: bool,
    pub images: bool,
    pub reasoning: bool,
    /// Returns only the entries of this turn.
    pub turn: Option<u32>,
}

/// Calls `visit` with each entry of a conversation in order, until `visit` returns false. The output of a tool follows
/// its call, even if Codex recorded other entries between them. The conversation consists of rollouts that continue
/// each other, and may repeat texts of `parent`. Returns the parts that were left out.
///
/// # Errors
/// A rollout cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub fn read_entries(
    slices: &[RolloutSlice],
    parent: Option<&ParentRollout>,
    options: TranscriptOptions,
    mut visit: impl FnMut(TranscriptEntry) -> bool,
) -> io::Result<LeftOut> {
    let selection = if options.images {
        LineParts::TEXTS_AND_IMAGES
    } else {
        LineParts::TEXTS
    };

    let mut reader = EventReader::open_all(slices, selection)?;
    let mut copies = CopiedTexts::open(parent);
    let mut is_copied = false;
    let mut order = CallOrder::default();
    while let Some(event) = reader.next_event()? {
        if event.kind.author_and_text().is_some() {
            is_copied = copies.consume(&event);
        }
        match options.turn {
            Some(turn) if event.turn < turn => continue,
            Some(turn) if event.turn > turn => break,
            _ => {}
        }

        let Some(mut entry) = to_entry(event) else {
            continue;
        };
        entry.is_copied = is_copied;

        let is_shown = match entry.kind {
            EntryKind::ToolOutput => options.outputs,
            EntryKind::Reasoning => options.reasoning,
            _ => true,
        };

        if is_shown && !order.add(entry, options.outputs, &mut visit) {
            return Ok(reader.left_out);
        }
    }
    order.release_all(&mut visit);
    Ok(reader.left_out)
}

/// The number of bytes of text that wait for the outputs of earlier calls.
const MAX_WAITING_BYTES: usize = 16 << 20;

/// Puts the outputs of tools under their calls. Codex runs several calls at the same time, and records their outputs in
/// the order in which they end.
#[derive(Default)]
struct CallOrder {
    /// The entries from the first call without its output on.
    waiting: VecDeque<TranscriptEntry>,
    waiting_bytes: usize,
}

impl CallOrder {
    /// Adds an entry, and calls `visit` with the entries that wait for no output now. Returns false if `visit` did.
    fn add(
        &mut self,
        entry: TranscriptEntry,
        waits_for_outputs: bool,
        visit: &mut impl FnMut(TranscriptEntry) -> bool,
    ) -> bool {
        let is_next_turn = |first: &TranscriptEntry| first.turn != entry.turn;
        let is_too_much = self.waiting_bytes > MAX_WAITING_BYTES;
        if (is_too_much || self.waiting.front().is_some_and(is_next_turn))
            && !self.release_all(visit)
        {
            return false;
        }

        self.waiting_bytes += entry.text.len();
        let position = self.find_position(&entry);
        self.waiting.insert(position, entry);
        while self
            .waiting
            .front()
            .is_some_and(|_| !waits_for_outputs || !self.is_first_open())
        {
            if !self.release_first(visit) {
                return false;
            }
        }
        true
    }

    /// Returns the position behind the call of an output and its other outputs, or the end for any other entry.
    fn find_position(&self, entry: &TranscriptEntry) -> usize {
        let is_of_call = |other: &TranscriptEntry| other.call_id == entry.call_id;
        let follows_call = entry.kind != EntryKind::ToolCall && entry.call_id.is_some();
        let last = follows_call.then(|| self.waiting.iter().rposition(is_of_call));
        last.flatten().map_or(self.waiting.len(), |last| last + 1)
    }

    /// Returns true if the first entry is a call that its output does not follow.
    fn is_first_open(&self) -> bool {
        let mut entries = self.waiting.iter();
        let call = entries
            .next()
            .filter(|first| first.kind == EntryKind::ToolCall && first.call_id.is_some());
        call.is_some_and(|call| {
            let is_output = |next: &TranscriptEntry| next.call_id == call.call_id;
            !entries.next().is_some_and(is_output)
        })
    }

    fn release_first(&mut self, visit: &mut impl FnMut(TranscriptEntry) -> bool) -> bool {
        let first = self.waiting.pop_front();
        self.waiting_bytes -= first.as_ref().map_or(0, |first| first.text.len());
        first.is_none_or(visit)
    }

    fn release_all(&mut self, visit: &mut impl FnMut(TranscriptEntry) -> bool) -> bool {
        while !self.waiting.is_empty() {
            if !self.release_first(visit) {
                return false;
            }
        }
        true
    }
}

/// Returns the entries of the last turn that has entries. Reads only the last [`MAX_TAIL_BYTES`] of a plain
/// rollout, so the numbers of turns are not those of [`read_entries`]. A compressed rollout cannot be read from its
/// end, so the turn is the last one in its first [`MAX_TAIL_BYTES`].
///
/// # Errors
/// The rollout cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub fn read_last_turn(path: &Path) -> io::Result<Vec<TranscriptEntry>> {
    let rollout_len = path.metadata()?.len();
    let start_offset = if is_plain(path) {
        rollout_len.saturating_sub(MAX_TAIL_BYTES)
    } else {
        0
    };

    let mut reader = EventReader::open_tail(path, start_offset, LineParts::TEXTS)?;
    let mut entries: Vec<TranscriptEntry> = Vec::new();
    // True from a rollback to the next entry, which begins another turn. Its number does not show that: a rollback
    // counts the removed turns back, so the next turn gets the number of one of them.
    let mut is_after_rollback = false;
    while let Some(event) = reader.next_event()? {
        if event.offset > start_offset + MAX_TAIL_BYTES {
            break;
        }

        if let EventKind::RolledBack(_) = event.kind {
            is_after_rollback = true;
        } else if let Some(entry) = to_entry(event) {
            let has_new_number = entries.last().is_some_and(|last| last.turn != entry.turn);
            if is_after_rollback || has_new_number {
                entries.clear();
                is_after_rollback = false;
            }
            entries.push(entry);
        }
    }

    Ok(entries)
}

fn to_entry(event: RolloutEvent) -> Option<TranscriptEntry> {
    let (kind, tool, text) = match event.kind {
        EventKind::User(text) => (EntryKind::User, None, text),
        EventKind::Assistant(text) => (EntryKind::Assistant, None, text),
        EventKind::Reasoning(text) => (EntryKind::Reasoning, None, text),
        EventKind::ToolCall { name, text } => (EntryKind::ToolCall, Some(name), text),
        EventKind::FilesTouched(text) => (EntryKind::Files, None, text),
        EventKind::ToolOutput(text) => (EntryKind::ToolOutput, None, text),
        EventKind::Image(url) => (EntryKind::Image, None, url),
        EventKind::Compaction(text) => (EntryKind::Compaction, None, text),
        _ => return None,
    };

    Some(TranscriptEntry {
        turn: event.turn,
        at: event.at,
        kind,
        call_id: event.call_id,
        is_copied: false,
        tool,
        text,
    })
}

/// The mark before one part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartMark {
    /// Turns of another conversation follow, which the fork continues. The text is the id of that conversation.
    Base(String),
    /// The turns of the fork itself follow.
    Own,
    /// Earlier turns are missing, because a rollout cannot be read. The text is the id of that rollout, which is the id
    /// of its conversation unless a rewind began the rollout.
    Missing(String),
    /// Earlier turns are not shown, because too many rollouts continue each other. The text is the id of the
    /// conversation with these turns.
    BeyondLimit(String),
}

impl PartMark {
    /// Returns the sentence that the transcript shows. `format_id` formats the id of a conversation.
    pub fn format_sentence(&self, format_id: impl Fn(&str) -> String) -> String {
        match self {
            Self::Base(id) => format!("From {}, which this conversation continues:", format_id(id)),
            Self::Own => "This conversation:".to_owned(),
            Self::Missing(id) => format!(
                "The earlier turns are missing: they are in {}, whose rollout cannot be read.",
                format_id(id)
            ),
            Self::BeyondLimit(id) => format!(
                "The earlier turns are in {}: only the last {MAX_ROLLOUTS} rollouts are shown.",
                format_id(id)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_turn_has_nothing_of_a_turn_that_was_taken_back() {
        let event = |kind: &str, text: &str| {
            let payload = json!({"type": kind, "message": text, "num_turns": 1});
            json!({"timestamp": "2026-11-20T06:00:00Z", "type": "event_msg", "payload": payload})
        };
        let lines = [
            event("user_message", "first"),
            event("agent_message", "one"),
            event("user_message", "second"),
            event("agent_message", "two"),
            event("thread_rolled_back", ""),
            event("user_message", "instead"),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rollout.jsonl");
        std::fs::write(&path, lines.map(|line| line.to_string()).join("\n")).unwrap();
        let entries = read_last_turn(&path).unwrap();
        let texts: Vec<_> = entries.iter().map(|entry| &*entry.text).collect();
        assert_eq!(texts, ["instead"]);
    }
}
