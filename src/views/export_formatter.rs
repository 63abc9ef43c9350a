//! The formats of an export.

use crate::context::Context;
use crate::conversations::html::{HtmlWriter, PageHead, page_start};
use crate::conversations::markdown::MarkdownWriter;
use crate::conversations::named_conversation::NamedConversation;
use crate::conversations::part_mark::PartMark;
use crate::conversations::transcript::TranscriptEntry;
use crate::io::clock::Zone;
use crate::views::conversation_parts::ConversationParts;
use crate::views::entry_json::EntryJson;
use crate::views::transcript_text;
use chrono::{DateTime, Utc};
use serde_json::Value;

/// Formats a conversation: the head, each entry in order, the end.
pub(crate) trait ExportFormatter {
    /// `safe` redacts a text.
    fn head(
        &self,
        session: &NamedConversation,
        parts: &ConversationParts,
        context: &Context,
        safe: &mut dyn FnMut(&str) -> String,
    ) -> String;

    /// Returns the mark before a part of a fork.
    fn mark(&mut self, mark: &PartMark) -> String;

    /// The following entries are of the conversation `id`.
    fn begin_part(&mut self, _id: &str) {}

    fn entry(&mut self, entry: TranscriptEntry) -> String;

    /// `redacted` is the number of redacted tokens.
    fn end(&mut self, redacted: usize) -> String;
}

impl<F: Fn(&DateTime<Utc>) -> String> ExportFormatter for MarkdownWriter<F> {
    fn head(
        &self,
        session: &NamedConversation,
        parts: &ConversationParts,
        _context: &Context,
        safe: &mut dyn FnMut(&str) -> String,
    ) -> String {
        safe(&transcript_text::head(session, parts))
    }

    fn mark(&mut self, mark: &PartMark) -> String {
        Self::mark(self, mark)
    }

    fn entry(&mut self, entry: TranscriptEntry) -> String {
        Self::entry(self, &entry)
    }

    fn end(&mut self, _redacted: usize) -> String {
        String::new()
    }
}

impl<F: Fn(&DateTime<Utc>) -> String> ExportFormatter for HtmlWriter<F> {
    fn head(
        &self,
        session: &NamedConversation,
        parts: &ConversationParts,
        context: &Context,
        safe: &mut dyn FnMut(&str) -> String,
    ) -> String {
        let mut head = page_head(session, parts, context);
        head.title = safe(&head.title);
        for (_, value) in &mut head.facts {
            *value = safe(value);
        }
        page_start(&head, "")
    }

    fn mark(&mut self, mark: &PartMark) -> String {
        Self::mark(self, mark)
    }

    fn entry(&mut self, entry: TranscriptEntry) -> String {
        Self::entry(self, entry)
    }

    fn end(&mut self, redacted: usize) -> String {
        Self::end(self, redacted)
    }
}

/// Formats a conversation as one JSON document.
pub(crate) struct JsonWriter {
    zone: Zone,
    /// The conversation of the next entries.
    session_id: String,
    is_first: bool,
}

impl JsonWriter {
    /// Times are written in `zone`.
    pub(crate) fn new(zone: Zone) -> Self {
        Self {
            zone,
            session_id: String::new(),
            is_first: true,
        }
    }
}

impl ExportFormatter for JsonWriter {
    fn head(
        &self,
        session: &NamedConversation,
        parts: &ConversationParts,
        _context: &Context,
        safe: &mut dyn FnMut(&str) -> String,
    ) -> String {
        let text = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let (id, title) = (text(&session.id), text(&safe(&session.title)));
        let missing = serde_json::to_string(&parts.missing_parent).unwrap_or_default();
        format!("{{\"id\":{id},\"title\":{title},\"missing_parent\":{missing},\"turns\":[")
    }

    fn mark(&mut self, _mark: &PartMark) -> String {
        String::new()
    }

    fn begin_part(&mut self, id: &str) {
        id.clone_into(&mut self.session_id);
    }

    fn entry(&mut self, entry: TranscriptEntry) -> String {
        let view = EntryJson::new(&self.session_id, &entry, self.zone);
        let separator = if self.is_first { "\n" } else { ",\n" };
        self.is_first = false;
        let view = serde_json::to_string(&view).unwrap_or_default();
        format!("{separator}{view}")
    }

    fn end(&mut self, _redacted: usize) -> String {
        "\n]}\n".to_owned()
    }
}

/// Returns the title and the facts about a conversation.
fn page_head(
    session: &NamedConversation,
    parts: &ConversationParts,
    context: &Context,
) -> PageHead {
    let title = Some(&session.title).filter(|title| !title.is_empty());
    let mut facts = Vec::new();
    if let Some(meta) = parts.head() {
        let zone = context.settings.zone;
        let text = |key: &str| meta.text(key).map(str::to_owned);
        let started = meta
            .created()
            .and_then(|at| DateTime::from_timestamp_millis(at.millis()));
        let started = started.map(|at| zone.at(&at).format("%Y-%m-%d %H:%M").to_string());
        let branch = meta.payload.pointer("/git/branch").and_then(Value::as_str);
        facts = vec![
            ("Started", started),
            ("Folder", text("cwd")),
            ("Branch", branch.map(str::to_owned)),
            ("Codex", text("cli_version")),
            ("Continues", parts.continued()),
        ];
    }
    facts.push(("Session", Some(session.id.clone())));
    let known = |(name, value): (&'static str, Option<String>)| Some((name, value?));
    PageHead {
        title: title.map_or_else(|| "Conversation".to_owned(), Clone::clone),
        facts: facts.into_iter().filter_map(known).collect(),
    }
}
