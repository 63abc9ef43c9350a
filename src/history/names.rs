//! `session_index.jsonl`: what conversations are called.
//!
//! One `{"id","thread_name","updated_at"}` a line. Codex appends to it and takes the last line of an
//! id; of several conversations of one name `resume NAME` takes the one whose rollout was changed
//! last, wherever its line is (0.169). It waits for whoever holds `session_index.jsonl.lock`.

use super::HistoryError;
use super::rollout::canonical_id;
use super::stamp::Stamp;
use crate::io::lock::FileLock;
use crate::io::regular;
use crate::io::{IoContext, IoError, atomic};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

/// How long a write waits for Codex.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

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

/// What stands in an index: for each conversation its last line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionIndex {
    entries: HashMap<String, IndexEntry>,
    /// How many lines are broken.
    pub bad_lines: u64,
}

impl SessionIndex {
    /// Reads the index of a home. There may be none.
    pub fn read(home: &Path) -> Result<Self, IoError> {
        let path = home.join(FILE_NAME);
        match regular::read(&path) {
            Ok(bytes) => Ok(Self::parse(&bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).at("read", &path),
        }
    }

    /// Takes the lines apart; broken ones are counted.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut index = Self::default();
        for line in bytes.split(|b| *b == b'\n') {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<IndexEntry>(line) {
                Ok(mut entry) => {
                    entry.id = canonical_id(entry.id.trim());
                    // Codex passes over a line without a name.
                    if !entry.thread_name.trim().is_empty() && !entry.id.is_empty() {
                        index.entries.insert(entry.id.clone(), entry);
                    }
                }
                Err(_) => index.bad_lines += 1,
            }
        }
        index
    }

    /// The line of a conversation, by its canonical id.
    pub fn get(&self, id: &str) -> Option<&IndexEntry> {
        self.entries.get(id)
    }

    /// All of them, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries.values()
    }
}

impl IndexEntry {
    /// When it was changed, if that is a time.
    pub fn stamp(&self) -> Option<Stamp> {
        Stamp::parse(&self.updated_at)
    }
}

/// Appends lines as Codex does, under its lock: the last line of an id counts. For a conversation
/// that comes back with its name.
pub fn append(home: &Path, entries: &[IndexEntry]) -> Result<(), HistoryError> {
    let _held = FileLock::exclusive_within(&home.join(LOCK_NAME), PATIENCE)?;
    let path = home.join(FILE_NAME);
    let bytes = match regular::read(&path) {
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
        let index = SessionIndex::read(home.path()).unwrap();
        assert_eq!(index.get("a").unwrap().thread_name, "three");
        assert_eq!(index.get("b").unwrap().thread_name, "two");
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
        let index = SessionIndex::parse(text.as_bytes());
        let entry = index.get(&upper.to_lowercase()).unwrap();
        assert_eq!(entry.thread_name, "new");
        assert_eq!(index.bad_lines, 1);
    }
}
