//! The formats of an export.

use crate::context::Context;
use crate::ui::{object, time};
use crate::views::conversation_parts::{ConversationParts, TranscriptPiece};
use crate::views::transcript_text;
use chrono::DateTime;
use codex_manager_core::conversations::html::{HtmlWriter, PageHead, format_page_start};
use codex_manager_core::conversations::markdown::MarkdownWriter;
use codex_manager_core::conversations::named_conversation::NamedConversation;
use codex_manager_core::conversations::transcript::{TranscriptEntry, format_minute};
use codex_manager_core::io::Zone;
use serde::Serialize;
use serde_json::{Value, json};

/// Formats a conversation: the head, each entry in order, the end.
pub(crate) enum ExportFormatter {
    Markdown(MarkdownWriter),
    Html(HtmlWriter),
    Json { zone: Zone, is_first: bool },
}

impl ExportFormatter {
    /// Returns the beginning of the document. Applies `redact` to all texts of the conversation.
    pub(crate) fn format_head(
        &self,
        session: &NamedConversation,
        parts: &ConversationParts,
        context: &Context,
        redact: &mut dyn FnMut(&str) -> String,
    ) -> String {
        match self {
            Self::Markdown(_) => redact(&transcript_text::format_head(session, parts)),
            Self::Html(_) => {
                let mut head = build_page_head(session, parts, context);
                head.title = redact(&head.title);
                for (_, value) in &mut head.facts {
                    *value = redact(value);
                }
                let more_style = "";
                format_page_start(&head, more_style)
            }
            Self::Json { .. } => format_json_head(session, parts, redact),
        }
    }

    pub(crate) fn format_piece(&mut self, piece: TranscriptPiece<'_>) -> String {
        use TranscriptPiece::{Entry, Mark};
        match (self, piece) {
            (Self::Markdown(writer), Mark(mark)) => writer.begin_part(&mark),
            (Self::Markdown(writer), Entry(_, entry)) => writer.format_entry(&entry),
            (Self::Html(writer), Mark(mark)) => writer.begin_part(&mark),
            (Self::Html(writer), Entry(_, entry)) => writer.format_entry(entry),
            (Self::Json { .. }, Mark(_)) => String::new(),
            (Self::Json { zone, is_first }, Entry(id, entry)) => {
                let separator = if std::mem::take(is_first) {
                    "\n"
                } else {
                    ",\n"
                };
                // Texts and numbers can always be written as JSON.
                let json = serde_json::to_string(&entry_json(id, entry, *zone));
                format!("{separator}{}", json.unwrap_or_default())
            }
        }
    }

    /// Returns the end of the document. `redacted` is the number of redacted secrets.
    pub(crate) fn format_end(&mut self, redacted: usize) -> String {
        match self {
            Self::Markdown(_) => String::new(),
            Self::Html(writer) => writer.finish_page(redacted),
            Self::Json { .. } => "\n]}\n".to_owned(),
        }
    }
}

/// Returns an entry in JSON. `session_id` is the conversation that has the entry: the exported one, or one that it
/// continues. The keys are an interface.
pub(crate) fn entry_json(
    session_id: &str,
    entry: TranscriptEntry,
    zone: Zone,
) -> impl Serialize + use<> {
    object()
        .with("session_id", session_id.to_owned())
        .with("turn", entry.turn)
        .with("role", entry.kind.role())
        .with("at", entry.at.map(|at| time::rfc3339(&at, zone)))
        .with("text", entry.text)
        .with("tool", entry.tool)
}

fn format_json_head(
    session: &NamedConversation,
    parts: &ConversationParts,
    redact: &mut dyn FnMut(&str) -> String,
) -> String {
    // The document is written in parts, because a conversation may have gigabytes.
    let (id, title) = (json!(session.id), json!(redact(&session.title)));
    let missing_parent = json!(parts.missing_parent);
    format!("{{\"id\":{id},\"title\":{title},\"missing_parent\":{missing_parent},\"turns\":[")
}

/// Returns the title and the facts about a conversation.
fn build_page_head(
    session: &NamedConversation,
    parts: &ConversationParts,
    context: &Context,
) -> PageHead {
    let title = Some(&session.title).filter(|title| !title.is_empty());

    let mut facts = Vec::new();
    if let Some(meta) = parts.read_own_head() {
        let zone = context.zone();
        let text_of_key = |key: &str| meta.text(key).map(str::to_owned);
        let created = meta.created();
        let created_at = created.and_then(|at| DateTime::from_timestamp_millis(at.millis()));
        let started = created_at.map(|at| format_minute(&at, zone));
        let branch = meta.payload.pointer("/git/branch").and_then(Value::as_str);

        facts = vec![
            ("Started", started),
            ("Folder", text_of_key("cwd")),
            ("Branch", branch.map(str::to_owned)),
            ("Codex", text_of_key("cli_version")),
            ("Continues", parts.continued_id()),
        ];
    }

    facts.push(("Session", Some(session.id.clone())));
    // Facts without a value are left out.
    let known_fact = |(name, value): (&'static str, Option<String>)| Some((name, value?));
    PageHead {
        title: title.map_or_else(|| "Conversation".to_owned(), Clone::clone),
        facts: facts.into_iter().filter_map(known_fact).collect(),
    }
}
