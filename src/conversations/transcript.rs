//! A conversation to read: its messages, tool calls and compactions in order.

use super::reader::EventReader;
use crate::codex::rollout::is_plain;
use crate::codex::rollout_lines::{EventKind, LineParts, RolloutEvent};
use crate::history::thread_rollouts::RolloutSlice;
use chrono::{DateTime, Utc};
use std::io;
use std::path::Path;

/// The part of a rollout that [`read_last_turn`] reads, in bytes.
const MAX_TAIL_BYTES: u64 = 256 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TranscriptEntry {
    pub turn: u32,
    /// The time at which Codex wrote it.
    pub at: Option<DateTime<Utc>>,
    pub kind: EntryKind,
    /// The name of the tool, for a call.
    pub tool: Option<String>,
    /// The text, which may have many lines.
    pub text: String,
}

impl TranscriptEntry {
    /// Replaces the texts by the results of `safe`, which redacts them.
    pub(crate) fn map_texts(&mut self, safe: &mut dyn FnMut(&str) -> String) {
        self.text = safe(&self.text);
        self.tool = self.tool.as_deref().map(safe);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    User,
    Assistant,
    Reasoning,
    ToolCall,
    /// The paths of changed files.
    Files,
    ToolOutput,
    /// An image, whose URL is the text.
    Image,
    /// Codex replaced the entries before by a summary, which is the text. They are still in the rollout.
    Compaction,
}

impl EntryKind {
    /// Returns the author as `find` names it, and `compaction` for a compaction.
    pub(crate) fn role(self) -> &'static str {
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
pub(crate) struct TranscriptOptions {
    /// True to include the outputs of tools.
    pub outputs: bool,
    pub images: bool,
    pub reasoning: bool,
    /// The only turn to return, if given.
    pub turn: Option<u32>,
}

/// Calls `each` with the entries of rollouts that continue each other, in order, until it returns false.
///
/// # Errors
/// A rollout cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub(crate) fn read(
    slices: &[RolloutSlice],
    options: TranscriptOptions,
    mut each: impl FnMut(TranscriptEntry) -> bool,
) -> io::Result<()> {
    let selection = if options.images {
        LineParts::TEXTS_AND_IMAGES
    } else {
        LineParts::TEXTS
    };
    let mut reader = EventReader::open_all(slices, selection)?;
    while let Some(event) = reader.next_event()? {
        if options.turn.is_some_and(|turn| event.turn > turn) {
            break;
        }
        if options.turn.is_some_and(|turn| event.turn != turn) {
            continue;
        }
        let Some(entry) = convert_event(event) else {
            continue;
        };
        let is_shown = match entry.kind {
            EntryKind::ToolOutput => options.outputs,
            EntryKind::Reasoning => options.reasoning,
            _ => true,
        };
        if is_shown && !each(entry) {
            break;
        }
    }
    Ok(())
}

/// Returns the last message of the user and all entries after it. Of a plain rollout, only the last
/// [`MAX_TAIL_BYTES`] are read, so the numbers of turns are not those of [`read`]; a compressed one would have to be
/// read whole, so its first [`MAX_TAIL_BYTES`] are taken instead.
///
/// # Errors
/// The rollout cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub(crate) fn read_last_turn(path: &Path) -> io::Result<Vec<TranscriptEntry>> {
    let bytes = path.metadata()?.len();
    let from = if is_plain(path) {
        bytes.saturating_sub(MAX_TAIL_BYTES)
    } else {
        0
    };
    let mut reader = EventReader::open_at(path, from, LineParts::TEXTS)?;
    let mut entries = Vec::new();
    while let Some(event) = reader.next_event()? {
        if event.offset > from + MAX_TAIL_BYTES {
            break;
        }
        if matches!(event.kind, EventKind::User(_)) {
            entries.clear();
        }
        entries.extend(convert_event(event));
    }
    Ok(entries)
}

fn convert_event(event: RolloutEvent) -> Option<TranscriptEntry> {
    let (kind, tool, text) = match event.kind {
        EventKind::User(text) => (EntryKind::User, None, text),
        EventKind::Assistant(text) => (EntryKind::Assistant, None, text),
        EventKind::Reasoning(text) => (EntryKind::Reasoning, None, text),
        EventKind::ToolCall { name, text } => (EntryKind::ToolCall, Some(name), text),
        EventKind::FilesTouched(text) => (EntryKind::Files, None, text),
        EventKind::ToolOutput(text) => (EntryKind::ToolOutput, None, text),
        EventKind::Image(url) => (EntryKind::Image, None, url),
        EventKind::Compaction(text) => (EntryKind::Compaction, None, text),
        EventKind::Injected(_)
        | EventKind::Meta(_)
        | EventKind::TurnContext(_)
        | EventKind::Tokens(_)
        | EventKind::Request(_)
        | EventKind::RolledBack(_) => return None,
    };
    Some(TranscriptEntry {
        turn: event.turn,
        at: event.at,
        kind,
        tool,
        text,
    })
}
