//! `open_conversation`.

use super::answer::{AnswerText, MAX_CHARS, cursor_note, format_time, quote, quote_title, redact};
use super::call::{PastCall, parse_cursor};
use crate::choices::conversation_choice::find_conversation;
use crate::context::Context;
use crate::conversations::markdown::shorten_to_line;
use crate::conversations::past_answers::FIRST_LINE;
use crate::conversations::transcript::{EntryKind, TranscriptEntry, TranscriptOptions};
use crate::error::{CommandError, Result};
use crate::io::quantity::pluralize;
use crate::views::conversation_parts::{ConversationParts, TranscriptPiece};
use crate::views::transcript_text::read_error;
use serde::Deserialize;
use std::ops::RangeInclusive;

/// The bounds of `max_chars`.
const MIN_CHARS: usize = 2000;
const MOST_CHARS: usize = 40_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OpenArguments {
    id: String,
    turn: Option<u32>,
    around: Option<u32>,
    max_chars: Option<usize>,
    cursor: Option<String>,
}

/// The lines of a conversation, of which an answer shows a part.
struct ConversationPage<'a> {
    text: AnswerText,
    /// The number of lines that earlier answers showed.
    skipped: usize,
    /// The number of lines so far, with the skipped ones.
    lines: usize,
    is_full: bool,
    context: &'a Context,
}

impl OpenArguments {
    /// # Errors
    /// An argument is invalid, no conversation or several match, it has no such turn, or its rollout cannot be read.
    pub(super) fn answer(&self, call: &PastCall<'_>) -> Result<String> {
        let context = call.context;
        let skipped = parse_cursor(self.cursor.as_deref())?;
        let session = find_conversation(&self.id, context)?;
        let mut parts = ConversationParts::find(&session, context);
        let around = self.around.unwrap_or(0);
        let turns = self.turn.map_or(0..=u32::MAX, |turn| {
            turn.saturating_sub(around)..=turn.saturating_add(around)
        });
        if self.turn.is_some() {
            // A turn is one of the conversation itself, as in the results of a search.
            parts = parts.without_bases();
        }
        let mut page = ConversationPage::new(self.max_chars, skipped, context);
        let cwd = parts
            .read_head()
            .as_ref()
            .and_then(|meta| meta.text("cwd"))
            .map(str::to_owned);
        page.text
            .add(&quote_title(&cwd.unwrap_or_default(), &session.title));
        let options = TranscriptOptions {
            outputs: self.turn.is_some(),
            images: false,
            reasoning: true,
            turn: None,
        };
        let last = page
            .read(&parts, options, &turns, || call.is_cancelled())
            .map_err(|e| read_error(&session, e))?;
        if page.lines <= skipped {
            let count = pluralize(last, "turn");
            return Err(CommandError::failed(match self.turn {
                Some(turn) if skipped == 0 => {
                    format!("the conversation has nothing at turn {turn}; it has {count}")
                }
                _ => format!("the conversation has nothing more; it has {count}"),
            }));
        }
        let note = page.is_full.then(|| cursor_note(page.lines));
        Ok(page.text.finish(note.as_slice()))
    }
}

impl<'a> ConversationPage<'a> {
    fn new(max_chars: Option<usize>, skipped: usize, context: &'a Context) -> Self {
        let max_chars = max_chars.unwrap_or(MAX_CHARS).clamp(MIN_CHARS, MOST_CHARS);
        Self {
            text: AnswerText::new(max_chars),
            skipped,
            lines: 0,
            is_full: false,
            context,
        }
    }

    /// Adds the entries of `turns` until the page is full. Returns the number of the last turn that was read.
    fn read(
        &mut self,
        parts: &ConversationParts,
        options: TranscriptOptions,
        turns: &RangeInclusive<u32>,
        is_cancelled: impl Fn() -> bool,
    ) -> std::io::Result<u32> {
        let mut last = 0;
        // Only what is shown is redacted.
        parts.read(options, &mut |text| text.to_owned(), |piece| {
            match piece {
                TranscriptPiece::Mark(mark) => {
                    self.add_lines(&mark.text(ToOwned::to_owned), "");
                }
                TranscriptPiece::Entry(_, entry) => {
                    last = last.max(entry.turn);
                    if entry.turn > *turns.end() {
                        return false;
                    }
                    if turns.contains(&entry.turn) {
                        self.add_entry(&entry);
                    }
                }
            }
            !self.is_full && !is_cancelled()
        })?;
        Ok(last)
    }

    fn add_entry(&mut self, entry: &TranscriptEntry) {
        // What an agent read before is in the conversation that it read.
        if entry.kind == EntryKind::ToolOutput && entry.text.contains(FIRST_LINE) {
            return;
        }
        let text = redact(&entry.text);
        let text = match entry.kind {
            EntryKind::ToolCall => {
                let tool = entry.tool.as_deref().unwrap_or("tool");
                shorten_to_line(&format!("{tool}: {text}"))
            }
            _ => text,
        };
        let body = quote(&text);
        if body.is_empty() {
            return;
        }
        let at = format_time(entry.at.map(|at| at.timestamp_millis()), self.context);
        let role = match entry.kind {
            EntryKind::ToolOutput => "output of the tool",
            EntryKind::Files => "changed files",
            EntryKind::Compaction => "summary of the above by Codex",
            kind => kind.role(),
        };
        self.add_lines(&format!("turn {}, {at}, {role}:", entry.turn), &body);
    }

    /// Adds a heading and the quoted lines below it, as far as there is room. The heading is repeated if the part before
    /// this page ended between them.
    fn add_lines(&mut self, heading: &str, body: &str) {
        let heading = format!("\n{heading}\n");
        let lines = std::iter::once(&*heading).chain(body.split_inclusive('\n'));
        let mut has_heading = false;
        for line in lines {
            if self.lines >= self.skipped {
                let is_quoted = line.starts_with('>');
                let line = if is_quoted && !has_heading {
                    format!("{heading}{line}")
                } else {
                    line.to_owned()
                };
                self.is_full = !self.text.add(&line);
                if self.is_full {
                    return;
                }
                has_heading = true;
            }
            self.lines += 1;
        }
    }
}
