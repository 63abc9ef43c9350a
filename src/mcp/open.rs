//! `open_conversation`.

use super::answer::{
    AnswerText, MAX_CHARS, format_cursor_note, format_time, quote, quote_title, redact,
};
use super::call::{CallContext, parse_cursor};
use crate::choices::conversation_choice::find_conversation;
use crate::context::Context;
use crate::error::{CommandError, Result};
use crate::views::conversation_parts::{ConversationParts, TranscriptPiece};
use crate::views::transcript_text::to_command_error;
use codex_manager_core::conversations::markdown::shorten_to_line;
use codex_manager_core::conversations::past_answers::is_mcp_answer;
use codex_manager_core::conversations::transcript::{
    EntryKind, TranscriptEntry, TranscriptOptions,
};
use codex_manager_core::io::quantity::pluralize;
use serde::Deserialize;
use std::sync::atomic::Ordering;

/// The least `max_chars` of a page.
const LEAST_PAGE_CHARS: usize = 2000;

/// The largest `max_chars` of a page.
const LARGEST_PAGE_CHARS: usize = 40_000;

/// The maximum number of bytes shown of an entry. Each page redacts the entries of earlier pages again.
const MAX_ENTRY_BYTES: usize = 256 << 10;

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
struct ConversationPage {
    text: AnswerText,
    /// The number of lines that earlier answers showed.
    skipped_lines: usize,
    /// The number of lines so far, with the skipped ones.
    line_count: usize,
    is_full: bool,
}

impl OpenArguments {
    /// Answers a call with a page of the conversation.
    ///
    /// # Errors
    /// An argument is invalid, no conversation or several match, it has no such turn, or its rollout cannot be read.
    pub(super) fn answer(&self, call: &CallContext<'_>) -> Result<String> {
        let context = call.context;
        let max_chars = self.max_chars.unwrap_or(MAX_CHARS);
        let mut page = ConversationPage {
            text: AnswerText::new(max_chars.clamp(LEAST_PAGE_CHARS, LARGEST_PAGE_CHARS)),
            skipped_lines: parse_cursor(self.cursor.as_deref())?,
            line_count: 0,
            is_full: false,
        };

        let session = find_conversation(&self.id, context)?;
        let mut parts = ConversationParts::read_chain(&session);
        let own_head = parts.read_own_head();
        let cwd = own_head.as_ref().and_then(|head| head.text("cwd"));
        let title = quote_title(cwd.unwrap_or_default(), &session.title);
        // The title fits into the smallest page.
        page.text.add_if_fits(&title);

        let mut turns = 0..=u32::MAX;
        if let Some(turn) = self.turn {
            // Like a search, counts the turns of the conversation itself, without those of a conversation that it
            // continues.
            parts = parts.without_other_conversations();
            let around = self.around.unwrap_or(0);
            turns = turn.saturating_sub(around)..=turn.saturating_add(around);
        }

        let options = TranscriptOptions {
            outputs: self.turn.is_some(),
            reasoning: true,
            // Not `turn`: `turns` may have several turns, and the error for a missing one needs the number of the last
            // one.
            ..TranscriptOptions::default()
        };

        // `add_entry` redacts the lines that are shown, so the other lines are not redacted.
        let mut keep_text = |text: &str| text.to_owned();
        let mut last_turn = 0;
        let mut mark_before_entry = None;
        let read_result = parts.read(options, &mut keep_text, |piece| {
            match piece {
                TranscriptPiece::Mark(mark) => mark_before_entry = Some(mark),
                TranscriptPiece::Entry(_id, entry) => {
                    last_turn = last_turn.max(entry.turn);
                    if turns.contains(&entry.turn) {
                        if let Some(mark) = mark_before_entry.take() {
                            page.add_section(&mark.format_sentence(ToOwned::to_owned), "");
                        }
                        page.add_entry(&entry, context);
                    }
                }
            }
            // False ends the reading.
            !page.is_full && last_turn <= *turns.end() && !call.is_cancelled.load(Ordering::Relaxed)
        });
        let left_out = read_result.map_err(|e| to_command_error(&session, e))?;

        let has_left_out = !left_out.is_empty();
        let has_new_lines = page.line_count > page.skipped_lines;
        if !has_new_lines {
            return Err(no_more_turns_error(last_turn, has_left_out));
        }

        let damage_note = has_left_out
            .then(|| "Parts of the rollout are damaged or too long, and left out.".to_owned());
        let cursor_note = page.is_full.then(|| format_cursor_note(page.line_count));
        let notes: Vec<_> = damage_note.into_iter().chain(cursor_note).collect();
        Ok(page.text.finish(&notes))
    }
}

/// Returns the error for a page beyond the last turn of a conversation.
fn no_more_turns_error(last_turn: u32, has_left_out: bool) -> CommandError {
    let (noun, others) = if has_left_out {
        ("readable turn", "; other parts are damaged or too long")
    } else {
        ("turn", "")
    };
    let count = pluralize(last_turn, noun);
    CommandError::failed(format!(
        "no more turns: the conversation has {count}{others}"
    ))
}

/// Returns the first [`MAX_ENTRY_BYTES`] of a text, up to the end of a word: a part of a secret would not be
/// recognized.
fn truncate_entry(text: &str) -> &str {
    if text.len() <= MAX_ENTRY_BYTES {
        return text;
    }
    // Of a single longer word, which may be a secret, nothing is shown.
    let mut bytes = text.as_bytes()[..MAX_ENTRY_BYTES].iter();
    &text[..bytes.rposition(u8::is_ascii_whitespace).unwrap_or(0)]
}

impl ConversationPage {
    /// Adds an entry, redacted and quoted. Leaves out answers of this server.
    fn add_entry(&mut self, entry: &TranscriptEntry, context: &Context) {
        // The answer of an earlier call repeats another conversation, which can be opened itself.
        if entry.kind == EntryKind::ToolOutput && is_mcp_answer(&entry.text) {
            return;
        }

        let mut text = redact(truncate_entry(&entry.text));
        if entry.text.len() > MAX_ENTRY_BYTES {
            text.push('…');
        }

        let role = match entry.kind {
            EntryKind::ToolCall => {
                let tool = entry.tool.as_deref().unwrap_or("tool");
                text = shorten_to_line(&format!("{}: {text}", redact(tool)));
                "tool"
            }
            EntryKind::ToolOutput => "output of the tool",
            EntryKind::Files => "changed files",
            EntryKind::Compaction => "Codex's summary of the messages above",
            kind => kind.role(),
        };

        let quoted = quote(&text);
        if !quoted.is_empty() && !self.is_full {
            let at = format_time(entry.at.map(|at| at.timestamp_millis()), context);
            self.add_section(&format!("turn {}, {at}, {role}:", entry.turn), &quoted);
        }
    }

    /// Adds a heading and the quoted lines below it, as far as there is room. If the previous page ended within the
    /// lines, repeats the heading.
    fn add_section(&mut self, heading: &str, body: &str) {
        let heading = format!("\n{heading}\n");
        let mut heading_to_add = &*heading;
        // The empty first piece stands for the heading, which counts as a line too.
        for line in std::iter::once("").chain(body.split_inclusive('\n')) {
            if self.line_count >= self.skipped_lines {
                self.is_full = !self.text.add_if_fits(&format!("{heading_to_add}{line}"));
                if self.is_full {
                    return;
                }
                heading_to_add = "";
            }
            self.line_count += 1;
        }
    }
}
