//! `session_index.jsonl`: what conversations are called.
//!
//! One `{"id","thread_name","updated_at"}` a line. Codex appends to it and takes the last line of an
//! id; of several conversations of one name `resume NAME` takes the one whose rollout was changed
//! last, wherever its line is (0.169). It waits for whoever holds `session_index.jsonl.lock`.

use super::HistoryError;
use super::id::ConversationId;
use super::lines::{JsonlLine, LineReader};
use super::rfc3339::Rfc3339Time;
use crate::io::file_open;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError, atomic, position};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a write waits for Codex.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// Its name.
pub const FILE_NAME: &str = "session_index.jsonl";
/// What Codex locks while it writes it.
pub const LOCK_NAME: &str = "session_index.jsonl.lock";

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The conversation.
    pub id: String,
    /// What it is called.
    pub thread_name: String,
    /// When it was changed last, as it is written.
    #[serde(default)]
    pub updated_at: String,
}

/// What stands in an index: for each conversation its last line. Only where it stands is kept.
#[derive(Debug, Default)]
pub struct ThreadNameIndex {
    path: PathBuf,
    file: Option<File>,
    lines: HashMap<ConversationId, (u64, u32)>,
    /// How many lines are broken.
    pub bad_lines: u64,
    /// How long it was when it was read.
    pub bytes: u64,
}

impl ThreadNameIndex {
    /// Reads the index of a home. There may be none.
    pub fn read(home: &Path) -> Result<Self, IoError> {
        Self::open(&home.join(FILE_NAME))
    }

    /// The same of the file at `path`. Broken lines are counted.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let mut index = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };
        let file = match file_open::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(index),
            Err(e) => return Err(e).at("read", path),
        };
        let mut lines = LineReader::new(&file);
        loop {
            let at = lines.position();
            let Some(line) = lines.next_line().at("read", path)? else {
                break;
            };
            let parsed = match line {
                JsonlLine::Whole(line) if line.trim_ascii().is_empty() => continue,
                JsonlLine::Whole(line) => parse(line).map(|entry| (entry, line.len())),
                JsonlLine::TooLong { .. } => None,
            };
            let Some((entry, len)) = parsed else {
                index.bad_lines += 1;
                continue;
            };
            // Codex passes over a line without a name.
            let id = entry.id.trim();
            if !entry.thread_name.trim().is_empty() && !id.is_empty() {
                let place = (at, u32::try_from(len).unwrap_or(0));
                index.lines.insert(ConversationId::of(id), place);
            }
        }
        index.bytes = lines.bytes_read();
        index.file = Some(file);
        Ok(index)
    }

    /// Whether a conversation has a line.
    pub fn has(&self, id: &ConversationId) -> bool {
        self.lines.contains_key(id)
    }

    /// The line of a conversation.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn get(&self, id: &ConversationId) -> Result<Option<IndexEntry>, IoError> {
        let (Some((at, len)), Some(file)) = (self.lines.get(id), &self.file) else {
            return Ok(None);
        };
        let mut line = vec![0; *len as usize];
        position::read_exact_at(file, &mut line, *at).at("read", &self.path)?;
        // Codex appends and never changes a line; whoever did has taken the name away.
        Ok(parse(&line).map(|entry| IndexEntry {
            id: id.to_string(),
            ..entry
        }))
    }

    /// The conversations that have a line, in no order.
    pub fn ids(&self) -> impl Iterator<Item = &ConversationId> {
        self.lines.keys()
    }
}

fn parse(line: &[u8]) -> Option<IndexEntry> {
    serde_json::from_slice(line.trim_ascii()).ok()
}

impl IndexEntry {
    /// When it was changed, if that is a time.
    pub fn time(&self) -> Option<Rfc3339Time> {
        Rfc3339Time::parse(&self.updated_at)
    }
}

/// Appends lines as Codex does, under its lock: the last line of an id counts. For a conversation
/// that comes back with its name.
pub fn append(home: &Path, entries: &[IndexEntry]) -> Result<(), HistoryError> {
    let _held = FileLock::exclusive_within(&home.join(LOCK_NAME), LOCK_TIMEOUT)?;
    let path = home.join(FILE_NAME);
    let bytes = match file_open::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e).at("read", &path).map_err(Into::into),
    };
    Ok(atomic::write(&path, &extended(bytes, entries))?)
}

/// The bytes of an index with further lines, also where its last one has no end.
pub fn extended(mut bytes: Vec<u8>, entries: &[IndexEntry]) -> Vec<u8> {
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend(render(entries));
    bytes
}

/// The text of an index: compact JSON, in the order given.
pub fn render(entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        // Texts alone: there is nothing in it that JSON could not say.
        let _ = serde_json::to_writer(&mut bytes, entry);
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn name(index: &ThreadNameIndex, id: &str) -> String {
        let entry = index.get(&ConversationId::of(id)).unwrap();
        entry.unwrap().thread_name
    }

    #[test]
    fn what_is_appended_counts_also_behind_a_line_without_an_end() {
        let home = tempfile::tempdir().unwrap();
        let line = |id: &str, name: &str| IndexEntry {
            id: id.into(),
            thread_name: name.into(),
            updated_at: "2026-01-01T00:00:00Z".into(),
        };
        append(home.path(), &[line("a", "one")]).unwrap();
        let path = home.path().join(FILE_NAME);
        let mut bytes = fs::read(&path).unwrap();
        bytes.pop();
        fs::write(&path, bytes).unwrap();
        append(home.path(), &[line("b", "two"), line("a", "three")]).unwrap();
        let index = ThreadNameIndex::read(home.path()).unwrap();
        assert_eq!(name(&index, "a"), "three");
        assert_eq!(name(&index, "b"), "two");
        assert_eq!(index.bad_lines, 0);
    }

    #[test]
    fn the_last_line_of_an_id_in_any_case_counts() {
        let upper = "01A1F78B-4D30-7EF3-B0EE-5CAAB8D3B455";
        let text = format!(
            "{{\"id\":\"{upper}\",\"thread_name\":\"old\",\"updated_at\":\"x\"}}\nbroken\n\
             {{\"id\":\"{}\",\"thread_name\":\"new\"}}\n{{\"id\":\"{upper}\",\"thread_name\":\" \"}}\n",
            upper.to_lowercase()
        );
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE_NAME), text).unwrap();
        let index = ThreadNameIndex::read(home.path()).unwrap();
        assert_eq!(name(&index, &upper.to_lowercase()), "new");
        assert_eq!(index.bad_lines, 1);
    }
}
