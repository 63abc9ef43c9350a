//! Reads rollouts: the metadata, title, prompts and times of a conversation.

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

/// The first `session_meta` line, which describes the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionMeta {
    /// The id of the conversation.
    pub id: ConversationId,
    /// The payload without the instructions, which are nearly all of it. A home may have a hundred
    /// thousand conversations.
    pub payload: Value,
}

impl SessionMeta {
    /// Returns a string of the payload, unless it is empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.payload
            .get(key)?
            .as_str()
            .filter(|text| !text.is_empty())
    }

    /// Returns the time at which the conversation began.
    pub fn created(&self) -> Option<Rfc3339Time> {
        self.text("timestamp").and_then(Rfc3339Time::parse)
    }

    /// Returns the workspace account that created it; `None` if every account sees it.
    pub fn account(&self) -> Option<&str> {
        self.text("creator_account_id")
    }

    /// Returns the id of the conversation that this one continues by reference, without a copy of
    /// its lines.
    pub fn parent(&self) -> Option<String> {
        let id = self.payload.pointer("/history_base/thread_id")?;
        Some(ConversationId::of(id.as_str()?).to_string())
    }
}

/// A message of the user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Message {
    /// The newest time up to its line, in seconds since 1970.
    pub ts: i64,
    /// The text without trailing newlines.
    pub text: String,
}

/// The result of reading a rollout to its end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolloutScan {
    /// The metadata; `None` if the file names no conversation.
    pub meta: Option<SessionMeta>,
    /// The first line of the user's first message.
    pub title: Option<String>,
    /// The time of the last line that has a time.
    pub last: Option<Rfc3339Time>,
    /// The user's messages, in order.
    pub messages: Vec<Message>,
    /// The number of lines that are incomplete or not JSON.
    pub bad_lines: u64,
    /// Values for a row of the database; empty unless [`Depth::Turns`] was asked for.
    pub turn: Turn,
}

/// Values from the turns of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    /// The user's first message.
    pub first_message: Option<String>,
    /// The fields of the last `turn_context`, as unparsed JSON.
    pub context: HashMap<String, String>,
    /// The last reported total of tokens.
    pub tokens: Option<i64>,
}

/// The part of a rollout that [`scan`] evaluates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Metadata, title, times and messages.
    Messages,
    /// The same and [`Turn`].
    Turns,
}

/// Reads a whole rollout, plain or compressed, in bounded memory. `progress` receives the bytes
/// read since its last call.
///
/// # Errors
/// The file cannot be read, or the user interrupts ([`io::ErrorKind::Interrupted`]).
pub fn scan(path: &Path, depth: Depth, progress: impl Fn(u64)) -> io::Result<RolloutScan> {
    let mut scanner = Scanner::new(depth);
    let mut lines = LineReader::new(open(path)?);
    let mut reported = 0;
    loop {
        let read = lines.bytes_read();
        if read - reported >= 1 << 20 {
            progress(read - reported);
            reported = read;
            if is_interrupted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        match lines.next_line() {
            Ok(Some(line)) => scanner.line(line),
            Ok(None) => break,
            // A truncated compressed rollout: the lines before the end are good.
            Err(e) if is_compressed(path) && e.kind() != io::ErrorKind::Interrupted => {
                scanner.count_broken();
                break;
            }
            Err(e) => return Err(e),
        }
    }
    progress(lines.bytes_read() - reported);
    Ok(scanner.finish())
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    if is_compressed(path) {
        rollout::open_plain(path)
    } else {
        // Not buffered: `LineReader` has its own buffer.
        Ok(Box::new(file_open::open(path)?))
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "zst")
}

/// Reads the metadata of a rollout, which is usually in its first line. Returns `None` if the first
/// lines have none.
pub fn head(path: &Path) -> io::Result<Option<SessionMeta>> {
    head_of(open(path)?)
}

/// Like [`head`], for the first bytes of a rollout. `name` decides whether they are compressed.
pub fn head_in(prefix: &[u8], name: &Path) -> io::Result<Option<SessionMeta>> {
    if is_compressed(name) {
        head_of(rollout::decompress(prefix)?)
    } else {
        head_of(prefix)
    }
}

fn head_of(reader: impl Read) -> io::Result<Option<SessionMeta>> {
    /// Forked conversations may begin with a few other lines.
    const MAX_HEAD_LINES: usize = 64;
    /// Bytes per read. The first line holds the instructions, 10–25 kB.
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

/// Returns the time of the last line that has a time. Reads a plain rollout from its end.
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
            // Most likely the middle of a line.
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

/// Drops all fields of a `session_meta` that this program does not use.
fn used_fields(payload: Value) -> Value {
    const USED: [&str; 16] = [
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
            let used = USED.iter().filter_map(|key| all.remove_entry(*key));
            Value::Object(used.collect())
        }
        other => other,
    }
}

/// Returns the first line that is not blank, trimmed.
pub fn first_line(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| !line.is_empty()).map(str::to_owned)
}
