//! The lines of `state.jsonl`: a header, a line for each file, and a line for each other fact. A run appends lines.

use super::sync_state::{Deletion, SideFile, SyncState, SyncedFile};
use crate::io::IoError;
use crate::io::document::{self, Document, push_line};
use crate::io::hash::Sha256Digest;
use crate::io::json_lines::JsonLines;
use crate::sync::contents::TextDigest;
use crate::sync::sides::Stat;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

/// First line of the state file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StateHeader {
    /// Distinguishes this machine's manifest from the manifest of another machine with the same name.
    pub(super) writer: String,
    pub(super) local: String,
    cloud: String,
}

impl Document for StateHeader {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}

/// The line of a file: key; path, size and mtime of the local file, then of the remote one; length and digest of the
/// text. A path that equals the key is stored as an empty string.
#[derive(Serialize, Deserialize)]
struct StateLine<'a>(
    #[serde(borrow)] Cow<'a, str>,
    #[serde(borrow)] Cow<'a, str>,
    u64,
    i64,
    #[serde(borrow)] Cow<'a, str>,
    u64,
    i64,
    Option<(u64, Sha256Digest)>,
);

/// Encodes a state with the resolved paths of its home and its cloud folder.
pub(super) fn encode(local: &str, cloud: &str, state: &SyncState) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let header = StateHeader {
        writer: state.own.writer.clone(),
        local: local.to_owned(),
        cloud: cloud.to_owned(),
    };
    document::encode_to(&mut bytes, &header)?;
    bytes.push(b'\n');

    let mut keys: Vec<_> = state.files.keys().collect();
    keys.sort();
    for key in keys {
        push_line(&mut bytes, &format_synced_line(key, &state.files[key]))?;
    }

    // The keys stay as they are, because states that earlier versions wrote have to be readable.
    if state.has_other_machines {
        push_line(&mut bytes, &serde_json::json!({ "peers": true }))?;
    }
    if state.has_gaps {
        push_line(&mut bytes, &serde_json::json!({ "gaps": true }))?;
    }

    for resolution in &state.resolutions {
        push_line(&mut bytes, &format_resolved_line(resolution))?;
    }
    for (key, Deletion { digest, id }) in &state.deleted {
        let line = serde_json::json!({ "deleted": key, "digest": digest, "id": id });
        push_line(&mut bytes, &line)?;
    }

    let replaced_by_key: BTreeMap<_, _> = state.replaced.iter().collect();
    for (key, former_digests) in replaced_by_key {
        push_line(&mut bytes, &format_former_digests_line(key, former_digests))?;
    }

    for end_digest in &state.own.published_digests {
        push_line(&mut bytes, &serde_json::json!({ "published": end_digest }))?;
    }
    for end_digest in &state.own.former_digests {
        push_line(&mut bytes, &serde_json::json!({ "former": end_digest }))?;
    }
    if let Some(notes_digest) = &state.notes_digest {
        push_line(&mut bytes, &serde_json::json!({ "notes": notes_digest }))?;
    }

    Ok(bytes)
}

/// Adds the content of a line to `state`. Returns false for an unreadable line; a sync then compares its file as a new
/// one.
pub(super) fn parse_line(state: &mut SyncState, line: &[u8]) -> bool {
    // Only lines of files are arrays: without keys they are shorter, and nearly all lines are such lines.
    let parsed = if line.first() == Some(&b'[') {
        parse_file_line(state, line)
    } else {
        let fact: Option<Value> = serde_json::from_slice(line).ok();
        fact.and_then(|fact| parse_fact(state, &fact))
    };
    parsed.is_some()
}

fn parse_file_line(state: &mut SyncState, line: &[u8]) -> Option<()> {
    let StateLine(key, local, size, mtime, remote, remote_size, remote_mtime, text) =
        serde_json::from_slice(line).ok()?;
    let side_file = |path: Cow<'_, str>, size, mtime_ns| SideFile {
        path: if path.is_empty() {
            key.clone().into_owned()
        } else {
            path.into_owned()
        },
        stat: Stat { size, mtime_ns },
    };

    let last = SyncedFile {
        local: side_file(local, size, mtime),
        remote: side_file(remote, remote_size, remote_mtime),
        text: text.map(|(len, digest)| TextDigest { len, digest }),
    };

    let key = key.into_owned();
    // A file that is recorded after its deletion exists again.
    state.deleted.remove(&key);
    state.files.insert(key, last);
    Some(())
}

/// Adds any other fact; `None` if its value is damaged. Unknown facts are skipped.
fn parse_fact(state: &mut SyncState, fact: &Value) -> Option<()> {
    let text_of = |name: &str| fact.get(name).and_then(Value::as_str).map(str::to_owned);

    if fact.get("peers").is_some() {
        state.has_other_machines = true;
    } else if fact.get("gaps").is_some() {
        state.has_gaps = true;
    } else if let Some(record) = text_of("resolved") {
        state.resolutions.insert(record);
    } else if let Some(key) = text_of("gone") {
        // Only a run that appends writes this line; a rewritten state has no line of the file.
        state.files.remove(&key);
    } else if let Some(key) = text_of("history") {
        let former_digests = match fact.get("over") {
            Some(digests) => Vec::deserialize(digests).ok()?,
            None => Vec::new(),
        };
        state.replaced.insert(key, former_digests);
    } else if let (Some(path), Some(digest)) = (text_of("deleted"), text_of("digest")) {
        let deletion = match text_of("id") {
            Some(id) => Deletion { digest, id },
            None => Deletion::with_random_id(digest),
        };
        state.deleted.insert(path, deletion);
    } else if let Some(end_digest) = fact.get("published") {
        state.own.published_digests.push(parse_digest(end_digest)?);
    } else if let Some(end_digest) = fact.get("former") {
        state.own.former_digests.push(parse_digest(end_digest)?);
    } else if let Some(digest) = fact.get("notes") {
        state.notes_digest = parse_digest(digest);
    }
    Some(())
}

fn parse_digest(value: &Value) -> Option<Sha256Digest> {
    Sha256Digest::deserialize(value).ok()
}

fn format_synced_line<'a>(key: &'a str, last: &'a SyncedFile) -> impl Serialize {
    let short_path = |file: &'a SideFile| {
        let path = file.path.as_str();
        Cow::Borrowed(if path == key { "" } else { path })
    };

    StateLine(
        Cow::Borrowed(key),
        short_path(&last.local),
        last.local.stat.size,
        last.local.stat.mtime_ns,
        short_path(&last.remote),
        last.remote.stat.size,
        last.remote.stat.mtime_ns,
        last.text.map(|text| (text.len, text.digest)),
    )
}

/// Formats the line with the digests of the former contents of a plain file.
fn format_former_digests_line(key: &str, former_digests: &[Sha256Digest]) -> impl Serialize {
    serde_json::json!({ "history": key, "over": former_digests })
}

fn format_resolved_line(resolution: &str) -> impl Serialize {
    serde_json::json!({ "resolved": resolution })
}

/// The state file, open for appending.
#[derive(Debug)]
pub(crate) struct StateJournal {
    lines: JsonLines,
}

impl StateJournal {
    /// Opens the state file, which must exist: its first line is the header.
    pub(super) fn open(path: PathBuf) -> Result<Self, IoError> {
        let lines = JsonLines::open(path)?;
        Ok(Self { lines })
    }

    /// Records the version of a file that both sides have, and the digests of its former contents, if there are any.
    /// Durable after [`StateJournal::sync`].
    pub(crate) fn record(
        &mut self,
        key: &str,
        last: &SyncedFile,
        former_digests: &[Sha256Digest],
    ) -> Result<(), IoError> {
        if !former_digests.is_empty() {
            self.lines
                .push(&format_former_digests_line(key, former_digests))?;
        }
        self.lines.push(&format_synced_line(key, last))
    }

    /// Records that neither side has the file any more.
    pub(crate) fn record_gone(&mut self, key: &str) -> Result<(), IoError> {
        self.lines.push(&serde_json::json!({ "gone": key }))
    }

    pub(crate) fn record_resolution(&mut self, resolution: &str) -> Result<(), IoError> {
        self.lines.push(&format_resolved_line(resolution))
    }

    pub(crate) fn sync(&mut self) -> Result<(), IoError> {
        self.lines.sync()
    }
}
