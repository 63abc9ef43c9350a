//! Evaluates the lines of a rollout one after another.
//!
//! Most lines are long and carry nothing that is needed here. They are recognized by their beginnings, and only
//! checked to be complete JSON.

use super::content::{Depth, RolloutScan, SessionMeta, UserMessage};
use crate::codex::{
    EventKind, ItemOrigin, LineContent, LineItem, LineParts, SessionMetaLine, TurnCounter,
    UserItems, UserItemsProbe, is_placeholder, rollout_lines, user_request,
};
use crate::history::id::ConversationId;
use crate::history::json;
use crate::history::lines::JsonlLine;
use crate::io::{Rfc3339Time, rfc3339};
use chrono::{DateTime, Utc};
use serde_json::Value;

#[derive(Default)]
pub(super) struct Scanner {
    scan: RolloutScan,
    depth: Depth,
    /// The time of the last line that has one.
    last_time: Option<DateTime<Utc>>,
    /// The text of `last_time`; separate, so that its memory is used again for each line.
    last_time_text: String,
    /// The messages that a paginated rollout has as completed items. Used if there are no message events.
    completed_messages: Vec<UserMessage>,
    /// The messages that the rollout may have as items only.
    item_messages: Vec<ItemMessage>,
    user_items: UserItemsProbe,
    turns: TurnCounter,
    /// The number of lines after the first metadata.
    lines_after_meta: usize,
}

/// A message of the model's input.
struct ItemMessage {
    /// `None` for a message without a time or text.
    message: Option<UserMessage>,
    /// The title that the message makes; `None` after a message that makes one.
    title: Option<String>,
    /// The turns before the message.
    turns: TurnCounter,
}

impl Scanner {
    pub(super) fn new(depth: Depth) -> Self {
        Self {
            depth,
            ..Self::default()
        }
    }

    /// Returns true once the metadata was read.
    pub(super) fn has_meta(&self) -> bool {
        self.scan.meta.is_some()
    }

    /// Returns true once the metadata and the folder of the conversation were read. Codex before 0.32 wrote the folder
    /// into the first message only.
    pub(super) fn has_whole_meta(&self) -> bool {
        self.has_meta() && !self.lacks_folder()
    }

    pub(super) fn has_line_after_meta(&self) -> bool {
        self.has_whole_meta() && self.lines_after_meta > 0
    }

    fn lacks_folder(&self) -> bool {
        let meta = self.scan.meta.as_ref();
        meta.is_some_and(|meta| meta.text("cwd").is_none())
    }

    /// Counts a line that cannot be read at all.
    pub(super) fn count_unreadable_line(&mut self) {
        self.scan.bad_lines += 1;
    }

    fn wanted_parts(&self) -> LineParts {
        let mut parts = LineParts::USER_EVENTS
            .union(LineParts::TURNS)
            .union(LineParts::META);

        // An item after an event that is known to count would only be parsed in vain.
        let user_items = self.user_items.found().unwrap_or(UserItems::All);
        if user_items.contains_item_after(self.turns) || self.lacks_folder() {
            parts = parts.union(LineParts::USER_ITEMS);
        }

        if self.depth == Depth::RowData {
            parts = parts.union(LineParts::SETTINGS).union(LineParts::TOKENS);
        }

        parts
    }

    pub(super) fn scan_line(&mut self, line: JsonlLine<'_>) {
        let (bytes, wanted) = match line {
            JsonlLine::Whole(bytes) => (bytes.trim_ascii(), self.wanted_parts()),
            // The beginning shows the time. A message without its end would count as a damaged line.
            JsonlLine::TooLong { prefix } => (prefix, LineParts::NONE),
        };
        let is_complete = || match line {
            JsonlLine::Whole(_) => json::is_complete_object(bytes),
            // The end of the line is not known, so it is not checked.
            JsonlLine::TooLong { .. } => true,
        };

        if bytes.is_empty() {
            return;
        }

        if self.depth == Depth::RowData {
            self.scan.row_data.texts.add_line(bytes);
        }

        self.lines_after_meta += usize::from(self.has_meta());
        match rollout_lines::parse_wanted(bytes, wanted) {
            LineContent::Skipped { timestamp } if is_complete() => self.note_time(timestamp),
            LineContent::Read { timestamp, items } => {
                if let Some(timestamp) = timestamp {
                    self.note_time(&timestamp);
                }
                for item in items {
                    if item.kind == EventKind::ModelInput && self.lacks_folder() {
                        self.note_folder(bytes);
                    }
                    self.note_item(item);
                }
            }
            LineContent::Skipped { .. } | LineContent::Damaged => self.scan.bad_lines += 1,
        }
    }

    fn note_time(&mut self, timestamp: &str) {
        let Some(at) = rfc3339::parse_instant(timestamp) else {
            return;
        };
        self.last_time_text.clear();
        self.last_time_text.push_str(timestamp);
        self.last_time = Some(at);
    }

    fn note_item(&mut self, item: LineItem) {
        self.user_items.note_item(&item);
        self.turns.count(&item.kind);
        match item.kind {
            EventKind::Meta(meta) => self.note_meta(parse_session_meta(*meta)),
            EventKind::UserInput(text) => self.note_user_item(&text),
            EventKind::User(text) if item.origin == ItemOrigin::Item => self.note_user_item(&text),
            EventKind::User(text) => {
                let messages = if item.origin == ItemOrigin::Completed {
                    &mut self.completed_messages
                } else {
                    &mut self.scan.messages
                };
                messages.extend(to_message(self.last_time, &text));
                if self.scan.title.is_none() {
                    self.scan.title = user_request::find_title(&text);
                }
            }
            EventKind::TurnContext(context) => self.scan.row_data.context = Some(*context),
            EventKind::Tokens(tokens) => {
                let total = tokens.total.map(|total| total.total_tokens);
                let total = total.and_then(|total| i64::try_from(total).ok());
                // An event without a sum keeps the sum of an earlier one.
                self.scan.row_data.tokens = total.or(self.scan.row_data.tokens);
            }
            _ => {}
        }
    }

    fn note_meta(&mut self, meta: Option<SessionMeta>) {
        let own_id = self.scan.meta.as_ref().map(|own| &own.id);
        match (own_id, meta) {
            (None, Some(meta)) => self.scan.meta = Some(meta),
            // Codex repeats the metadata when it resumes; only those of the original follow at once.
            (Some(own_id), Some(meta)) if self.lines_after_meta == 1 && meta.id != *own_id => {
                self.scan.second_id = Some(meta.id);
            }
            _ => return,
        }
        self.scan.begun_at = self.last_time;
    }

    /// Adds the folder in the context of a first message to the metadata. `line` has it as JSON in a text.
    fn note_folder(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let folder = text
            .split_once("<cwd>")
            .and_then(|(_, rest)| rest.split_once("</cwd>"));
        let folder = folder.map(|(folder, _)| serde_json::from_str(&format!("\"{folder}\"")));
        if let (Some(meta), Some(Ok(Value::String(folder)))) = (&mut self.scan.meta, folder) {
            meta.payload["cwd"] = folder.trim().into();
        }
    }

    fn note_user_item(&mut self, text: &str) {
        let has_title = self.scan.title.is_some();
        self.item_messages.push(ItemMessage {
            message: to_message(self.last_time, text),
            title: (!has_title)
                .then(|| user_request::find_title(text))
                .flatten(),
            turns: self.turns,
        });
    }

    pub(super) fn finish(mut self) -> RolloutScan {
        // Codex may record one message in several forms, so only the best form in the rollout is used.
        if self.scan.messages.is_empty() {
            self.scan.messages = self.completed_messages;
        }

        let meta = self.scan.meta.as_ref();
        let user_items = self
            .user_items
            .finish(|| meta.is_some_and(SessionMeta::is_subagent));
        let is_message = |item: &ItemMessage| user_items.contains_item_after(item.turns);
        let items: Vec<_> = self.item_messages.into_iter().filter(is_message).collect();
        // Only items before the first title have one.
        let title = items.iter().find_map(|item| item.title.clone());
        self.scan.title = title.or(self.scan.title);
        self.scan
            .messages
            .extend(items.into_iter().filter_map(|item| item.message));

        self.scan.last_time = self.last_time.map(|at| Rfc3339Time {
            text: self.last_time_text,
            at,
        });

        self.scan
    }
}

fn parse_session_meta(meta: SessionMetaLine) -> Option<SessionMeta> {
    let id = meta.payload.get("id").and_then(Value::as_str)?.trim();
    let id = (!id.is_empty()).then(|| ConversationId::of(id))?;
    Some(SessionMeta {
        id,
        has_envelope: meta.has_envelope,
        payload: meta.payload,
    })
}

/// Returns `None` for a message that has nothing that the arrow keys could recall, and for one without a time: the
/// history is ordered by time.
fn to_message(at: Option<DateTime<Utc>>, text: &str) -> Option<UserMessage> {
    let is_empty = is_placeholder(text) || text.trim().is_empty();
    let at = at.filter(|_| !is_empty)?;
    Some(UserMessage {
        ts: at.timestamp(),
        text: text.trim_end_matches(['\n', '\r']).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(lines: &[&str]) -> RolloutScan {
        let mut scanner = Scanner::new(Depth::Messages);
        for line in lines {
            scanner.scan_line(JsonlLine::Whole(line.as_bytes()));
        }
        scanner.finish()
    }

    #[test]
    fn a_line_with_fields_in_another_order_is_read_the_same() {
        let quick = scanned(&[
            r#"{"timestamp":"2026-01-01T00:00:01Z","type":"event_msg","payload":{"type":"user_message","message":"hi\n"}}"#,
        ]);
        let slow = scanned(&[
            r#"{ "payload": {"message":"hi\n", "type":"user_message"}, "type":"event_msg", "timestamp":"2026-01-01T00:00:01Z"}"#,
        ]);
        assert_eq!(quick, slow);
        assert_eq!(quick.messages[0].text, "hi");
        assert_eq!(quick.title.as_deref(), Some("hi"));
    }

    #[test]
    fn incomplete_lines_are_counted_wherever_they_are_cut() {
        let scan = scanned(&[
            r#"{"timestamp":"2026-01-01T00:00:01Z","type":"response_item","payload":{"a":}}"#,
            r#"{"timestamp":"2026-01-01T00:00:02Z","type":"world_state","payl"#,
            "{not json}",
            "[1]",
            "",
            "\0\0\0",
            r#"{"timestamp":"2026-01-01T00:00:03Z","type":"compacted","payload":{}}"#,
        ]);
        assert_eq!(scan.bad_lines, 5);
        assert_eq!(scan.last_time.unwrap().text, "2026-01-01T00:00:03Z");
    }

    #[test]
    fn a_message_that_is_too_long_to_be_read_is_no_bad_line() {
        let line = r#"{"timestamp":"2026-01-01T00:00:01Z","type":"event_msg","payload":{"type":"user_message","message":"begin"#;
        let mut scanner = Scanner::new(Depth::RowData);
        scanner.scan_line(JsonlLine::TooLong {
            prefix: line.as_bytes(),
        });
        let scan = scanner.finish();
        assert_eq!(scan.bad_lines, 0);
        assert_eq!(scan.last_time.unwrap().text, "2026-01-01T00:00:01Z");
    }

    #[test]
    fn the_title_is_the_users_first_message_and_never_an_inserted_text() {
        let item = |parts: &[&str]| {
            let parts: Vec<_> = parts
                .iter()
                .map(|text| format!(r#"{{"type":"input_text","text":"{text}"}}"#))
                .collect();
            format!(
                r#"{{"type":"message","role":"user","content":[{}]}}"#,
                parts.join(",")
            )
        };
        let newer = |item: &str| {
            format!(
                r#"{{"timestamp":"2026-01-01T00:00:01Z","type":"response_item","payload":{item}}}"#
            )
        };
        let event = |text: &str| {
            format!(
                r#"{{"timestamp":"2026-01-01T00:00:02Z","type":"event_msg","payload":{{"type":"user_message","message":"{text}"}}}}"#
            )
        };
        let title = |lines: &[String]| {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            scanned(&lines).title
        };
        let message = item(&["\\n  ", " fix it "]);
        let context = item(&["<environment_context>\\n</environment_context>"]);
        let lines = [newer(&context), newer(&message), event("x"), event("y")];
        assert_eq!(title(&lines).as_deref(), Some("x"));
        assert_eq!(title(&lines[..2]).as_deref(), Some("fix it"));
        assert_eq!(title(&[event(" "), event("x")]).as_deref(), Some("x"));
        let meta = r#"{"id":"01","timestamp":"2025-07-10T12:00:00Z","instructions":null}"#;
        let of_0_20 = [meta.to_owned(), context, item(&[" "]), message];
        assert_eq!(title(&of_0_20).as_deref(), Some("fix it"));
        assert_eq!(title(&of_0_20[..2]), None);
    }

    #[test]
    fn paginated_messages_are_used_only_without_message_events() {
        let item = r#"{"timestamp":"2026-01-01T00:00:01Z","ordinal":12,"type":"event_msg","payload":{"type":"item_completed","item":{"type":"UserMessage","content":[{"type":"text","text":"new kind"}]}}}"#;
        let event = r#"{"timestamp":"2026-01-01T00:00:02Z","type":"event_msg","payload":{"type":"user_message","message":"old kind"}}"#;
        let texts = |scan: RolloutScan| {
            let texts = scan.messages.into_iter().map(|m| m.text);
            texts.collect::<Vec<_>>()
        };
        assert_eq!(texts(scanned(&[item])), ["new kind"]);
        assert_eq!(texts(scanned(&[item, event])), ["old kind"]);
    }
}
