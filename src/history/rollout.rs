//! What a rollout says about its conversation.
//!
//! Most lines are of no interest here and long. So a line is first looked at by its beginning,
//! which Codex always writes in the same order, and is only checked to be JSON unless it is one of
//! the few kinds that matter. Lines written in another order are parsed.

use super::json;
use super::lines::{Line, Lines};
use super::stamp::{self, Stamp};
use crate::codex::rollout;
use crate::io::progress::is_interrupted;
use crate::io::regular;
use chrono::{DateTime, Utc};
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The first `session_meta`: what the conversation is.
#[derive(Debug, Clone, PartialEq)]
pub struct Meta {
    /// The conversation's id; see [`canonical_id`].
    pub id: String,
    /// What Codex wrote about it, but for the instructions: they are nearly all of it, and a home
    /// may have a hundred thousand of these.
    pub payload: Value,
}

impl Meta {
    /// A text of the payload.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.payload
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// When the conversation began.
    pub fn created(&self) -> Option<Stamp> {
        self.text("timestamp").and_then(Stamp::parse)
    }

    /// The workspace account that made it; `None` for one that every account sees.
    pub fn account(&self) -> Option<&str> {
        self.text("creator_account_id")
    }

    /// The conversation whose beginning this one continues, where it is only referred to.
    pub fn parent(&self) -> Option<String> {
        let id = self.payload.pointer("/history_base/thread_id")?;
        id.as_str().map(canonical_id)
    }
}

/// A UUID in lower case, as Codex prints it; anything else as it is.
pub fn canonical_id(id: &str) -> String {
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    if is_uuid {
        id.to_ascii_lowercase()
    } else {
        id.to_owned()
    }
}

/// Something that the user said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// Whole seconds of the newest time up to its line.
    pub ts: i64,
    /// The text without trailing line breaks.
    pub text: String,
}

/// What a whole rollout says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scan {
    /// What it is; `None` for a file without an id.
    pub meta: Option<Meta>,
    /// The first line of the first thing the user said.
    pub title: Option<String>,
    /// The time of the last line that has one.
    pub last: Option<Stamp>,
    /// What the user said.
    pub messages: Vec<Message>,
    /// How many lines are broken.
    pub bad_lines: u64,
    /// What a row of the database is made of.
    pub turn: Turn,
}

/// What the last turns say about the conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    /// The first thing that the user said, all of it.
    pub first_message: Option<String>,
    /// The last `turn_context`: JSON as it is written, by key.
    pub context: HashMap<String, String>,
    /// The last sum of tokens.
    pub tokens: Option<i64>,
}

/// How much of a rollout is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Title, times and messages.
    Messages,
    /// That, and [`Turn`].
    Turns,
}

/// Reads a whole rollout, plain or compressed, in bounded memory.
///
/// # Errors
/// It cannot be read, or the user asked to stop ([`io::ErrorKind::Interrupted`]).
pub fn scan(path: &Path, depth: Depth, progress: impl Fn(u64)) -> io::Result<Scan> {
    let mut scanner = Scanner::new(depth);
    let mut lines = Lines::new(open(path)?);
    let mut told = 0;
    loop {
        let read = lines.bytes_read();
        if read - told >= 1 << 20 {
            progress(read - told);
            told = read;
            if is_interrupted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        match lines.next_line() {
            Ok(Some(line)) => scanner.line(line),
            Ok(None) => break,
            // A compressed rollout that breaks off: what came before counts.
            Err(e) if is_compressed(path) && e.kind() != io::ErrorKind::Interrupted => {
                scanner.scan.bad_lines += 1;
                break;
            }
            Err(e) => return Err(e),
        }
    }
    progress(lines.bytes_read() - told);
    Ok(scanner.finish())
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if is_compressed(path) {
        rollout::open_plain(path)
    } else {
        // No buffer in between: lines are taken out of ours.
        Ok(Box::new(regular::open(path)?))
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "zst")
}

/// Reads only as much as it takes to know what a rollout is: its first line, mostly.
pub fn head(path: &Path) -> io::Result<Option<Meta>> {
    head_of(open(path)?)
}

/// The same of the beginning of a rollout that would have the name `name`.
pub fn head_in(beginning: &[u8], name: &Path) -> io::Result<Option<Meta>> {
    if is_compressed(name) {
        head_of(rollout::plain(beginning)?)
    } else {
        head_of(beginning)
    }
}

fn head_of(reader: impl Read) -> io::Result<Option<Meta>> {
    /// Forks carry other lines in front at most; a file that has none here has none.
    const ENOUGH: usize = 64;
    /// The first line holds the instructions: 10–25 kB.
    const CHUNK: usize = 32 << 10;
    let mut scanner = Scanner::new(Depth::Messages);
    let mut lines = Lines::in_chunks(reader, CHUNK);
    for _ in 0..ENOUGH {
        match lines.next_line()? {
            Some(line) => scanner.line(line),
            None => break,
        }
        if scanner.scan.meta.is_some() {
            break;
        }
    }
    Ok(scanner.scan.meta)
}

/// The time of the last line that has one, read from the end.
pub fn last_stamp(path: &Path) -> io::Result<Option<Stamp>> {
    if is_compressed(path) {
        return Ok(scan(path, Depth::Messages, |_| ())?.last);
    }
    let mut file = regular::open(path)?;
    let len = file.metadata()?.len();
    let mut span = 64 << 10;
    loop {
        let from = len.saturating_sub(span);
        file.seek(SeekFrom::Start(from))?;
        let mut lines = Lines::in_chunks((&file).take(len - from), 64 << 10);
        let mut scanner = Scanner::new(Depth::Messages);
        if from > 0 {
            // The line that is cut here may be any part of one.
            let _ = lines.next_line()?;
        }
        while let Some(line) = lines.next_line()? {
            scanner.line(line);
        }
        let last = scanner.finish().last;
        if last.is_some() || from == 0 {
            return Ok(last);
        }
        span *= 16;
    }
}

/// The beginning of a line as Codex writes it.
struct Envelope<'a> {
    timestamp: &'a str,
    kind: &'a [u8],
    /// What follows the kind.
    rest: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(b"{\"timestamp\":\"")?;
        let (timestamp, mut rest) = until_quote(rest, 40)?;
        if let Some(numbered) = rest.strip_prefix(b",\"ordinal\":") {
            let digits = numbered.iter().take_while(|b| b.is_ascii_digit()).count();
            rest = &numbered[digits..];
        }
        let (kind, rest) = until_quote(rest.strip_prefix(b",\"type\":\"")?, 40)?;
        Some(Self {
            timestamp: std::str::from_utf8(timestamp).ok()?,
            kind,
            rest,
        })
    }

    /// The type of the payload, where that comes first, and what follows it.
    fn payload(&self) -> Option<(&'a [u8], &'a [u8])> {
        /// Codex 0.169 puts a line's metadata in front of its payload.
        const NEAR: usize = 1 << 10;
        const BEGINNING: &[u8] = b",\"payload\":{\"type\":\"";
        let at = memmem::find(beginning(self.rest, NEAR), BEGINNING)?;
        until_quote(&self.rest[at + BEGINNING.len()..], 64)
    }

    /// Whether it may be a message of the user's.
    fn may_be_said(&self) -> bool {
        const NEAR: usize = 512;
        const ROLE: &[u8] = b"\"role\":\"";
        match self.payload() {
            Some((b"message", rest)) => memmem::find(beginning(rest, NEAR), ROLE)
                .is_none_or(|at| rest[at + ROLE.len()..].starts_with(b"user\"")),
            Some(_) => false,
            None => true,
        }
    }
}

fn beginning(bytes: &[u8], longest: usize) -> &[u8] {
    &bytes[..bytes.len().min(longest)]
}

fn until_quote(bytes: &[u8], longest: usize) -> Option<(&[u8], &[u8])> {
    let at = beginning(bytes, longest)
        .iter()
        .position(|b| matches!(b, b'"' | b'\\'))?;
    (bytes[at] == b'"').then(|| (&bytes[..at], &bytes[at + 1..]))
}

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

struct Scanner {
    scan: Scan,
    depth: Depth,
    newest: Option<DateTime<Utc>>,
    last: String,
    last_at: Option<DateTime<Utc>>,
    /// The first thing said before any event told of it: for the title alone.
    early: Option<String>,
    /// What Codex itself put into the user's mouth, if nothing else is found.
    injected: Option<String>,
    has_event: bool,
    /// Messages as paginated rollouts have them, where there are no others.
    items: Vec<Message>,
    first_event: Option<String>,
}

impl Scanner {
    fn new(depth: Depth) -> Self {
        Self {
            scan: Scan::default(),
            depth,
            newest: None,
            last: String::new(),
            last_at: None,
            early: None,
            injected: None,
            has_event: false,
            items: Vec::new(),
            first_event: None,
        }
    }

    fn line(&mut self, line: Line<'_>) {
        let bytes = match line {
            Line::Whole(bytes) => bytes.trim_ascii(),
            Line::TooLong { beginning, last } => return self.long_line(beginning, last),
        };
        if bytes.is_empty() {
            return;
        }
        if let Some(envelope) = Envelope::of(bytes)
            && !self.is_of_interest(&envelope)
        {
            if json::is_whole(bytes) {
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

    /// One that does not fit into memory counts by its beginning; what a user said is not that long.
    fn long_line(&mut self, start: &[u8], last: u8) {
        match Envelope::of(start) {
            Some(envelope) if last == b'}' && !self.is_of_interest(&envelope) => {
                self.observe(envelope.timestamp);
            }
            _ => self.scan.bad_lines += 1,
        }
    }

    fn is_of_interest(&self, envelope: &Envelope<'_>) -> bool {
        match envelope.kind {
            b"session_meta" => self.scan.meta.is_none(),
            b"turn_context" => self.depth == Depth::Turns,
            b"response_item" => self.early.is_none() && !self.has_event && envelope.may_be_said(),
            b"event_msg" => match envelope.payload() {
                Some((b"user_message", _)) | None => true,
                Some((b"item_completed", rest)) => {
                    memmem::find(beginning(rest, 512), b"\"UserMessage\"").is_some()
                }
                Some((b"token_count", _)) => self.depth == Depth::Turns,
                Some(_) => false,
            },
            _ => false,
        }
    }

    fn observe(&mut self, timestamp: &str) {
        let Some(at) = stamp::instant(timestamp) else {
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
                    self.scan.meta = Some(Meta {
                        id: canonical_id(id.trim()),
                        payload: kept_of(payload),
                    });
                }
            }
            "event_msg" => self.event(payload),
            "response_item" if self.early.is_none() && !self.has_event => self.item(payload),
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
                if let Ok(said) = serde_json::from_str::<UserMessage>(payload) {
                    self.has_event = true;
                    self.first_event.get_or_insert_with(|| said.message.clone());
                    push_message(&mut self.scan.messages, self.newest, &said.message);
                }
            }
            "item_completed" => {
                if let Some(text) = completed_message(payload) {
                    self.has_event = true;
                    self.first_event.get_or_insert_with(|| text.clone());
                    push_message(&mut self.items, self.newest, &text);
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
        let Some(text) = spoken(payload) else { return };
        if text.trim().is_empty() {
            return;
        }
        if is_injected(&text) {
            self.injected.get_or_insert(text);
        } else {
            self.early = Some(text);
        }
    }

    fn finish(mut self) -> Scan {
        let texts = [&self.early, &self.first_event, &self.injected];
        self.scan.title = texts
            .into_iter()
            .flatten()
            .find_map(|text| first_line(text));
        if self.scan.messages.is_empty() {
            self.scan.messages = self.items;
        }
        self.scan.last = self.last_at.map(|at| Stamp {
            text: self.last,
            at,
        });
        if self.depth == Depth::Turns {
            self.scan.turn.first_message = self.first_event;
        }
        self.scan
    }
}

/// What is of use in a `session_meta`.
fn kept_of(payload: Value) -> Value {
    const KEPT: [&str; 16] = [
        "timestamp",
        "cwd",
        "originator",
        "cli_version",
        "source",
        "thread_source",
        "model_provider",
        "memory_mode",
        "history_mode",
        "history_base",
        "git",
        "agent_nickname",
        "agent_role",
        "agent_path",
        "creator_user_id",
        "creator_account_id",
    ];
    match payload {
        Value::Object(mut all) => {
            let kept = KEPT.iter().filter_map(|key| all.remove_entry(*key));
            Value::Object(kept.collect())
        }
        other => other,
    }
}

fn push_message(to: &mut Vec<Message>, newest: Option<DateTime<Utc>>, text: &str) {
    let text = text.trim_end_matches(['\n', '\r']);
    // Without any time there is no place for it in the history.
    if let Some(newest) = newest {
        to.push(Message {
            ts: newest.timestamp(),
            text: text.to_owned(),
        });
    }
}

/// What the user said, as paginated rollouts record it (0.169).
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

/// The text of a message of the user's as it was sent to the model.
fn spoken(payload: &str) -> Option<String> {
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

/// Whether Codex says this in the user's name at the start of every conversation.
fn is_injected(text: &str) -> bool {
    let text = text.trim_start();
    [
        "<environment_context>",
        "<user_instructions>",
        "<permissions instructions>",
        "<skills_instructions>",
        "# AGENTS.md instructions",
    ]
    .iter()
    .any(|beginning| text.starts_with(beginning))
}

/// The first line of a text that has something in it, trimmed.
pub fn first_line(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(lines: &[&str]) -> Scan {
        let mut scanner = Scanner::new(Depth::Messages);
        for line in lines {
            scanner.line(Line::Whole(line.as_bytes()));
        }
        scanner.finish()
    }

    #[test]
    fn a_line_in_another_order_counts_as_well() {
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
    fn broken_lines_are_counted_wherever_they_break() {
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
    fn what_codex_says_in_the_users_name_is_no_title() {
        let context = r#"{"timestamp":"2026-01-01T00:00:01Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>\n</environment_context>"}]}}"#;
        let said = r#"{"timestamp":"2026-01-01T00:00:02Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"\n  "},{"type":"input_text","text":" mend it "}]}}"#;
        assert_eq!(scanned(&[context, said]).title.as_deref(), Some("mend it"));
        assert_eq!(
            scanned(&[context]).title.as_deref(),
            Some("<environment_context>")
        );
    }

    #[test]
    fn paginated_messages_count_where_there_are_no_others() {
        let item = r#"{"timestamp":"2026-01-01T00:00:01Z","ordinal":12,"type":"event_msg","payload":{"type":"item_completed","item":{"type":"UserMessage","content":[{"type":"text","text":"new kind"}]}}}"#;
        let event = r#"{"timestamp":"2026-01-01T00:00:02Z","type":"event_msg","payload":{"type":"user_message","message":"old kind"}}"#;
        let texts = |scan: Scan| {
            let texts = scan.messages.into_iter().map(|m| m.text);
            texts.collect::<Vec<_>>()
        };
        assert_eq!(texts(scanned(&[item])), ["new kind"]);
        assert_eq!(texts(scanned(&[item, event])), ["old kind"]);
    }
}
