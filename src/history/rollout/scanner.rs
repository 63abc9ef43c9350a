//! Evaluates the lines of a rollout one after another.
//!
//! Most lines are long and carry nothing that is needed here. The kind of a line is read from its
//! beginning, whose fields Codex always writes in the same order. Only the few relevant kinds are
//! parsed; others are checked to be complete JSON. A line with its fields in another order is
//! parsed too.

use super::content::{
    Depth, Message, RolloutScan, SessionMeta, first_line, is_injected, used_fields,
};
use super::envelope::{Envelope, prefix};
use crate::history::id::ConversationId;
use crate::history::json;
use crate::history::lines::JsonlLine;
use crate::history::rfc3339::{self, Rfc3339Time};
use chrono::{DateTime, Utc};
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

#[derive(Deserialize)]
struct AnyLine<'a> {
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

fn text_of(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text>(value?.get()).ok().map(|t| t.0)
}

pub(super) struct Scanner {
    scan: RolloutScan,
    depth: Depth,
    newest: Option<DateTime<Utc>>,
    last: String,
    last_at: Option<DateTime<Utc>>,
    /// The user's first message as a response item before any message event; used for the title
    /// only.
    first_item_text: Option<String>,
    /// The first text that Codex inserted in the user's name; the title if there is no other.
    injected: Option<String>,
    has_event: bool,
    /// Messages in the form of paginated rollouts, used if there are none in the older form.
    item_messages: Vec<Message>,
    first_event: Option<String>,
}

impl Scanner {
    pub(super) fn new(depth: Depth) -> Self {
        Self {
            scan: RolloutScan::default(),
            depth,
            newest: None,
            last: String::new(),
            last_at: None,
            first_item_text: None,
            injected: None,
            has_event: false,
            item_messages: Vec::new(),
            first_event: None,
        }
    }

    /// Returns true once the metadata was read.
    pub(super) fn has_meta(&self) -> bool {
        self.scan.meta.is_some()
    }

    /// Counts a line that cannot be read at all.
    pub(super) fn count_broken(&mut self) {
        self.scan.bad_lines += 1;
    }

    pub(super) fn line(&mut self, line: JsonlLine<'_>) {
        let bytes = match line {
            JsonlLine::Whole(bytes) => bytes.trim_ascii(),
            JsonlLine::TooLong { prefix, last } => return self.long_line(prefix, last),
        };
        if bytes.is_empty() {
            return;
        }
        if let Some(envelope) = Envelope::of(bytes)
            && !self.needs_parsing(&envelope)
        {
            if json::is_complete(bytes) {
                self.observe(envelope.timestamp);
            } else {
                self.scan.bad_lines += 1;
            }
            return;
        }
        let parsed = std::str::from_utf8(bytes).ok().and_then(|text| {
            text.starts_with('{')
                .then(|| serde_json::from_str::<AnyLine>(text).ok())
                .flatten()
        });
        match parsed {
            Some(line) => self.parsed(&line),
            None => self.scan.bad_lines += 1,
        }
    }

    /// Evaluates the beginning of a line that exceeds memory. A message of the user is never that
    /// long.
    fn long_line(&mut self, start: &[u8], last: u8) {
        match Envelope::of(start) {
            Some(envelope) if last == b'}' && !self.needs_parsing(&envelope) => {
                self.observe(envelope.timestamp);
            }
            _ => self.scan.bad_lines += 1,
        }
    }

    fn needs_parsing(&self, envelope: &Envelope<'_>) -> bool {
        match envelope.kind {
            b"session_meta" => self.scan.meta.is_none(),
            b"turn_context" => self.depth == Depth::Turns,
            b"response_item" => {
                self.first_item_text.is_none() && !self.has_event && envelope.may_be_user_message()
            }
            b"event_msg" => match envelope.payload() {
                Some((b"user_message", _)) | None => true,
                Some((b"item_completed", rest)) => {
                    memmem::find(prefix(rest, 512), b"\"UserMessage\"").is_some()
                }
                Some((b"token_count", _)) => self.depth == Depth::Turns,
                Some(_) => false,
            },
            _ => false,
        }
    }

    fn observe(&mut self, timestamp: &str) {
        let Some(at) = rfc3339::instant(timestamp) else {
            return;
        };
        self.newest = self.newest.max(Some(at));
        self.last.clear();
        self.last.push_str(timestamp);
        self.last_at = Some(at);
    }

    fn parsed(&mut self, line: &AnyLine<'_>) {
        if let Some(timestamp) = text_of(line.timestamp) {
            self.observe(&timestamp);
        }
        let payload = line.payload.map_or("null", RawValue::get);
        let Some(kind) = text_of(line.kind) else {
            return;
        };
        match &*kind {
            "session_meta" if self.scan.meta.is_none() => {
                if let Ok(payload) = serde_json::from_str::<Value>(payload)
                    && let Some(id) = payload.get("id").and_then(Value::as_str)
                    && !id.trim().is_empty()
                {
                    self.scan.meta = Some(SessionMeta {
                        id: ConversationId::of(id.trim()),
                        payload: used_fields(payload),
                    });
                }
            }
            "event_msg" => self.event(payload),
            "response_item" if self.first_item_text.is_none() && !self.has_event => {
                self.item(payload);
            }
            "turn_context" if self.depth == Depth::Turns => {
                if let Ok(parts) = serde_json::from_str::<HashMap<String, &RawValue>>(payload) {
                    let parts = parts
                        .into_iter()
                        .map(|(key, raw)| (key, raw.get().to_owned()));
                    self.scan.turn.context = parts.collect();
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, payload: &str) {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(borrow, default, rename = "type")]
            kind: Option<Cow<'a, str>>,
        }
        #[derive(Deserialize)]
        struct UserMessage {
            message: String,
        }
        let Ok(Event { kind: Some(kind) }) = serde_json::from_str::<Event>(payload) else {
            return;
        };
        match &*kind {
            "user_message" => {
                if let Ok(output) = serde_json::from_str::<UserMessage>(payload) {
                    self.has_event = true;
                    self.first_event
                        .get_or_insert_with(|| output.message.clone());
                    push_message(&mut self.scan.messages, self.newest, &output.message);
                }
            }
            "item_completed" => {
                if let Some(text) = completed_message(payload) {
                    self.has_event = true;
                    self.first_event.get_or_insert_with(|| text.clone());
                    push_message(&mut self.item_messages, self.newest, &text);
                }
            }
            "token_count" if self.depth == Depth::Turns => {
                let tokens = serde_json::from_str::<Value>(payload)
                    .ok()
                    .and_then(|v| v.pointer("/info/total_token_usage/total_tokens")?.as_i64());
                self.scan.turn.tokens = tokens.or(self.scan.turn.tokens);
            }
            _ => {}
        }
    }

    fn item(&mut self, payload: &str) {
        let Some(text) = user_item_text(payload) else {
            return;
        };
        if text.trim().is_empty() {
            return;
        }
        if is_injected(&text) {
            self.injected.get_or_insert(text);
        } else {
            self.first_item_text = Some(text);
        }
    }

    pub(super) fn finish(mut self) -> RolloutScan {
        let injected = self.injected.as_ref().filter(|_| !self.has_event);
        let texts = [
            self.first_item_text.as_ref(),
            self.first_event.as_ref(),
            injected,
        ];
        self.scan.title = texts
            .into_iter()
            .flatten()
            .find_map(|text| first_line(text));
        if self.scan.messages.is_empty() {
            self.scan.messages = self.item_messages;
        }
        self.scan.last = self.last_at.map(|at| Rfc3339Time {
            text: self.last,
            at,
        });
        if self.depth == Depth::Turns {
            self.scan.turn.first_message = self.first_event;
        }
        self.scan
    }
}

fn push_message(to: &mut Vec<Message>, newest: Option<DateTime<Utc>>, text: &str) {
    let text = text.trim_end_matches(['\n', '\r']);
    // The history is ordered by time, so a message without one has no position in it.
    if let Some(newest) = newest {
        to.push(Message {
            ts: newest.timestamp(),
            text: text.to_owned(),
        });
    }
}

/// Returns the user's message in the form of paginated rollouts (0.169).
fn completed_message(payload: &str) -> Option<String> {
    let value: Value = serde_json::from_str(payload).ok()?;
    let item = value.get("item")?;
    if item.get("type")?.as_str()? != "UserMessage" {
        return None;
    }
    let parts = item.get("content")?.as_array()?;
    let texts: Vec<_> = parts
        .iter()
        .filter(|part| part.get("type").and_then(Value::as_str) == Some("text"))
        .filter_map(|part| part.get("text")?.as_str())
        .collect();
    Some(texts.join("\n"))
}

/// Returns the text of a user message in the form that is sent to the model.
fn user_item_text(payload: &str) -> Option<String> {
    let value: Value = serde_json::from_str(payload).ok()?;
    let is = |key: &str, wanted: &str| value.get(key).and_then(Value::as_str) == Some(wanted);
    if !is("type", "message") || !is("role", "user") {
        return None;
    }
    let parts = value.get("content")?.as_array()?;
    let texts: Vec<_> = parts
        .iter()
        .filter(|part| {
            let kind = part.get("type").and_then(Value::as_str);
            matches!(kind, Some("input_text" | "output_text"))
        })
        .filter_map(|part| part.get("text")?.as_str())
        .collect();
    Some(texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(lines: &[&str]) -> RolloutScan {
        let mut scanner = Scanner::new(Depth::Messages);
        for line in lines {
            scanner.line(JsonlLine::Whole(line.as_bytes()));
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
        assert_eq!(scan.last.unwrap().text, "2026-01-01T00:00:03Z");
    }

    #[test]
    fn the_title_is_the_first_user_item_and_injected_text_is_the_last_resort() {
        let item = |parts: &[&str]| {
            let parts: Vec<_> = parts
                .iter()
                .map(|text| format!(r#"{{"type":"input_text","text":"{text}"}}"#))
                .collect();
            format!(
                r#"{{"timestamp":"2026-01-01T00:00:01Z","type":"response_item","payload":{{"type":"message","role":"user","content":[{}]}}}}"#,
                parts.join(",")
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
        assert_eq!(
            title(&[message.clone(), event("x")]).as_deref(),
            Some("fix it")
        );
        assert_eq!(
            title(&[context.clone(), message.clone()]).as_deref(),
            Some("fix it")
        );
        assert_eq!(title(&[context.clone(), event("x")]).as_deref(), Some("x"));
        assert_eq!(title(&[context]).as_deref(), Some("<environment_context>"));
        assert_eq!(title(&[event("x"), message.clone()]).as_deref(), Some("x"));
        assert_eq!(title(&[item(&[" "]), event("x")]).as_deref(), Some("x"));
        // A blank first event is the first message, whatever follows.
        assert_eq!(title(&[event(" "), event("x"), message]), None);
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
