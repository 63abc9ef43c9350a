//! What a rollout says about its conversation.

mod scanner;

use super::id::ConversationId;
use super::lines::LineReader;
use super::rfc3339::Rfc3339Time;
use crate::codex::rollout;
use crate::io::file_open;
use crate::io::progress::is_interrupted;
use scanner::Scanner;
use serde_json::Value;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// The first `session_meta`: what the conversation is.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionMeta {
    /// The conversation's id.
    pub id: ConversationId,
    /// What Codex wrote about it, but for the instructions: they are nearly all of it, and a home
    /// may have a hundred thousand of these.
    pub payload: Value,
}

impl SessionMeta {
    /// A text of the payload.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.payload
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// When the conversation began.
    pub fn created(&self) -> Option<Rfc3339Time> {
        self.text("timestamp").and_then(Rfc3339Time::parse)
    }

    /// The workspace account that made it; `None` for one that every account sees.
    pub fn account(&self) -> Option<&str> {
        self.text("creator_account_id")
    }

    /// The conversation whose beginning this one continues, where it is only referred to.
    pub fn parent(&self) -> Option<String> {
        let id = self.payload.pointer("/history_base/thread_id")?;
        Some(ConversationId::of(id.as_str()?).to_string())
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
pub struct RolloutScan {
    /// What it is; `None` for a file without an id.
    pub meta: Option<SessionMeta>,
    /// The first line of the first thing the user said.
    pub title: Option<String>,
    /// The time of the last line that has one.
    pub last: Option<Rfc3339Time>,
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
pub fn scan(path: &Path, depth: Depth, progress: impl Fn(u64)) -> io::Result<RolloutScan> {
    let mut scanner = Scanner::new(depth);
    let mut lines = LineReader::new(open(path)?);
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
                scanner.count_broken();
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
        Ok(Box::new(file_open::open(path)?))
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "zst")
}

/// Reads only as much as it takes to know what a rollout is: its first line, mostly.
pub fn head(path: &Path) -> io::Result<Option<SessionMeta>> {
    head_of(open(path)?)
}

/// The same of the beginning of a rollout that would have the name `name`.
pub fn head_in(prefix: &[u8], name: &Path) -> io::Result<Option<SessionMeta>> {
    if is_compressed(name) {
        head_of(rollout::plain(prefix)?)
    } else {
        head_of(prefix)
    }
}

fn head_of(reader: impl Read) -> io::Result<Option<SessionMeta>> {
    /// Forks carry other lines in front at most; a file that has none here has none.
    const MAX_HEAD_LINES: usize = 64;
    /// The first line holds the instructions: 10–25 kB.
    const HEAD_READ_BYTES: usize = 32 << 10;
    let mut scanner = Scanner::new(Depth::Messages);
    let mut lines = LineReader::in_chunks(reader, HEAD_READ_BYTES);
    for _ in 0..MAX_HEAD_LINES {
        match lines.next_line()? {
            Some(line) => scanner.line(line),
            None => break,
        }
        if scanner.has_meta() {
            break;
        }
    }
    Ok(scanner.finish().meta)
}

/// The time of the last line that has one, read from the end.
pub fn last_time(path: &Path) -> io::Result<Option<Rfc3339Time>> {
    if is_compressed(path) {
        return Ok(scan(path, Depth::Messages, |_| ())?.last);
    }
    let mut file = file_open::open(path)?;
    let len = file.metadata()?.len();
    let mut span = 64 << 10;
    loop {
        let from = len.saturating_sub(span);
        file.seek(SeekFrom::Start(from))?;
        let mut lines = LineReader::in_chunks((&file).take(len - from), 64 << 10);
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

/// What is of use in a `session_meta`.
fn used_fields(payload: Value) -> Value {
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

/// The first line of a text that has something in it, trimmed.
pub fn first_line(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| !line.is_empty()).map(str::to_owned)
}
