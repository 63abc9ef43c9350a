//! The text of an answer: quotations of the past and what to call next, within a limit.

use crate::context::Context;
use crate::views::account::{printable, shown_title};
use chrono::DateTime;
use codex_manager_core::codex::redaction::redact_and_count;
use codex_manager_core::conversations::past_answers::FIRST_LINE;
use codex_manager_core::conversations::transcript::format_minute;
use codex_manager_core::io::ansi;
use serde_json::{Value, json};

/// The maximum length of an answer, in characters, unless the client asks for more.
pub(super) const MAX_CHARS: usize = 4000;

/// The number of characters reserved for the last lines: notes and the cursor.
const RESERVED_CHARS: usize = 400;

/// The maximum length of a quoted line, in characters. A longer one continues in the next line.
const MAX_LINE_CHARS: usize = 400;

/// The maximum length of a folder and of a title, in characters.
const MAX_FIELD_CHARS: usize = 200;

/// The maximum length of a snippet, in characters.
const MAX_SNIPPET_CHARS: usize = 300;

/// Collects the parts of an answer as long as they fit.
pub(super) struct AnswerText {
    text: String,
    chars_left: usize,
}

impl AnswerText {
    pub(super) fn new(max_chars: usize) -> Self {
        let text = format!("{FIRST_LINE}\n");
        Self {
            chars_left: max_chars.saturating_sub(RESERVED_CHARS + text.chars().count()),
            text,
        }
    }

    /// Adds lines. Returns false without adding them if they do not fit.
    pub(super) fn add_if_fits(&mut self, lines: &str) -> bool {
        let chars = lines.chars().count();
        let fits = chars <= self.chars_left;
        if fits {
            self.chars_left -= chars;
            self.text.push_str(lines);
        }
        fits
    }

    /// Adds the lines of successive results until one does not fit. Returns the number of added results.
    pub(super) fn add_results(&mut self, results: impl Iterator<Item = String>) -> usize {
        results.take_while(|lines| self.add_if_fits(lines)).count()
    }

    /// Adds the last lines, for which [`RESERVED_CHARS`] are kept free.
    pub(super) fn finish(mut self, notes: &[String]) -> String {
        for note in notes {
            self.text.push('\n');
            self.text.push_str(note);
            self.text.push('\n');
        }
        self.text
    }
}

pub(super) fn redact(text: &str) -> String {
    let (redacted, _count) = redact_and_count(text);
    redacted
}

/// Quotes each line of a text, so that an agent cannot take it for a line of this program. `text` is already redacted.
pub(super) fn quote(text: &str) -> String {
    let plain = ansi::to_plain_text(text);
    let mut quoted = String::new();
    for line in plain.trim_matches('\n').lines() {
        let line = ansi::to_printable_line(line);
        let mut remaining = &*line;
        // Runs for an empty line too, which is a quoted line as well.
        loop {
            let first_excess = remaining.char_indices().nth(MAX_LINE_CHARS);
            let end = first_excess.map_or(remaining.len(), |(at, _)| at);
            let (part, after_part) = remaining.split_at(end);
            quoted.push_str("> ");
            quoted.push_str(part);
            quoted.push('\n');
            remaining = after_part;
            if remaining.is_empty() {
                break;
            }
        }
    }
    quoted
}

/// Quotes the beginning of a snippet as one line. `text` is already redacted.
pub(super) fn quote_snippet(text: &str) -> String {
    quote(&truncate(&printable(text), MAX_SNIPPET_CHARS))
}

/// Returns the quoted line that names a conversation: its folder and its title.
pub(super) fn quote_title(cwd: &str, title: &str) -> String {
    let [cwd, title] =
        [printable(&redact(cwd)), shown_title(title)].map(|text| truncate(&text, MAX_FIELD_CHARS));
    quote(&format!("{cwd}: {title}"))
}

fn truncate(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the call of the tool that opens a conversation, as the agent has to write it.
pub(super) fn format_open_call(id: &str, turn: Option<u32>) -> String {
    let arguments = match turn {
        Some(turn) => json!({"id": printable(id), "turn": turn}),
        None => json!({"id": printable(id)}),
    };
    format!("open_conversation {arguments}")
}

/// Returns the note that tells the agent how to get the next part of the answer.
pub(super) fn format_cursor_note(cursor: usize) -> String {
    let cursor = Value::from(cursor.to_string());
    format!("There is more: repeat the call with \"cursor\": {cursor}")
}

pub(super) fn format_time(ms: Option<i64>, context: &Context) -> String {
    let at = ms.and_then(DateTime::from_timestamp_millis);
    at.map_or("unknown time".to_owned(), |at| {
        format_minute(&at, context.zone())
    })
}
