//! `session_index.jsonl`: the names of conversations.
//!
//! Each line is `{"id","thread_name","updated_at"}`. Codex appends to the file under the lock
//! `session_index.jsonl.lock` and uses the last line of an id. If several conversations have the same
//! name, `codex resume NAME` takes the conversation whose rollout was changed last. The order of the
//! lines does not matter (Codex 0.169).

use super::HistoryError;
use super::id::ConversationId;
use super::lines::{JsonlLine, LineReader};
use crate::io::{FileLock, IoContext, IoError, Rfc3339Time, atomic, file_open, lock, position};
use memchr::memchr;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};

pub const FILE_NAME: &str = "session_index.jsonl";
/// The name of the lock file that Codex holds while it writes the index.
pub(crate) const LOCK_NAME: &str = "session_index.jsonl.lock";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// The id of the conversation, as written.
    pub id: String,
    pub thread_name: String,
    /// The time of the last change, as written: RFC 3339 if Codex wrote it.
    #[serde(default)]
    pub updated_at: String,
}

/// The last line of each conversation. Memory holds offsets; names are read again when needed.
#[derive(Debug, Default)]
pub struct ThreadNameIndex {
    path: PathBuf,
    file: Option<File>,
    lines: HashMap<ConversationId, IndexLinePlace>,
    /// The number of lines that cannot be parsed.
    pub bad_lines: u64,
    /// The length of the file when it was read.
    pub len_when_read: u64,
}

/// The place of a line in the file, in bytes.
#[derive(Debug)]
struct IndexLinePlace {
    offset: u64,
    len: u32,
}

impl ThreadNameIndex {
    /// Reads the index of a home. A missing file is an empty index.
    pub fn read(home: &Path) -> Result<Self, IoError> {
        Self::open(&home.join(FILE_NAME))
    }

    /// Reads the lines of these conversations from the index of a home. Faster than [`ThreadNameIndex::read`] for few
    /// conversations, because other lines that Codex wrote are not parsed.
    pub(crate) fn read_some(home: &Path, ids: &HashSet<ConversationId>) -> Result<Self, IoError> {
        Self::read_lines_where(&home.join(FILE_NAME), |line| {
            parse_leading_id(line).is_none_or(|id| ids.contains(&ConversationId::of(id)))
        })
    }

    /// Reads the index at `path`. Lines that cannot be parsed are counted.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        Self::read_lines_where(path, |_| true)
    }

    fn read_lines_where(path: &Path, is_wanted: impl Fn(&[u8]) -> bool) -> Result<Self, IoError> {
        let mut index = Self {
            path: path.to_path_buf(),
            ..Self::default()
        };

        let Some(file) = file_open::open_if_exists(path)? else {
            return Ok(index);
        };

        let mut lines = LineReader::new(&file);
        while let Some(placed) = lines.next_placed().at("read", path)? {
            let parsed = match placed.line {
                JsonlLine::Whole(line) if line.trim_ascii().is_empty() || !is_wanted(line) => {
                    continue;
                }
                JsonlLine::Whole(line) => parse_entry(line).map(|entry| (entry, line.len())),
                JsonlLine::TooLong { .. } => None,
            };

            let Some((entry, len)) = parsed else {
                index.bad_lines += 1;
                continue;
            };

            // Codex ignores a line without a name.
            let id = entry.id.trim();
            if !entry.thread_name.trim().is_empty() && !id.is_empty() {
                let offset = placed.offset;
                // Fits, because a longer line is `TooLong`.
                let len = u32::try_from(len).unwrap_or(0);
                let place = IndexLinePlace { offset, len };
                index.lines.insert(ConversationId::of(id), place);
            }
        }

        index.len_when_read = lines.bytes_read();
        // The file stays open: if Codex replaces the index, the offsets are still valid in this file.
        index.file = Some(file);
        Ok(index)
    }

    pub fn has_line(&self, id: &ConversationId) -> bool {
        self.lines.contains_key(id)
    }

    /// Reads the last line of a conversation.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn get(&self, id: &ConversationId) -> Result<Option<IndexEntry>, IoError> {
        let (Some(place), Some(file)) = (self.lines.get(id), &self.file) else {
            return Ok(None);
        };
        let mut line = vec![0; place.len as usize];
        position::read_exact_at(file, &mut line, place.offset).at("read", &self.path)?;
        // Codex only appends. If another program changed the line, the conversation has no name.
        Ok(parse_entry(&line).map(|entry| IndexEntry {
            id: id.to_string(),
            ..entry
        }))
    }

    /// Iterates over the conversations that have a line, in no particular order.
    pub fn ids(&self) -> impl Iterator<Item = &ConversationId> {
        self.lines.keys()
    }
}

/// Returns the conversations that have lines from `offset` on, and the offset after the last complete line. Returns an
/// empty set and 0 if the file is missing.
pub(crate) fn read_ids_since(
    home: &Path,
    offset: u64,
) -> Result<(HashSet<ConversationId>, u64), IoError> {
    let path = home.join(FILE_NAME);
    let Some(mut file) = file_open::open_if_exists(&path)? else {
        return Ok((HashSet::new(), 0));
    };

    file.seek(SeekFrom::Start(offset)).at("read", &path)?;
    let mut lines = LineReader::new(&file);
    let (mut ids, mut end) = (HashSet::new(), offset);
    while let Some(placed) = lines.next_placed().at("read", &path)? {
        // Codex may still be writing the last line.
        if placed.is_terminated {
            end = offset + placed.end;
        }

        if let JsonlLine::Whole(line) = placed.line
            && let Some(entry) = parse_entry(line)
        {
            ids.insert(ConversationId::of(entry.id.trim()));
        }
    }

    Ok((ids, end))
}

/// Returns the id at the beginning of a line, where Codex 0.169 writes it. `None` if another field comes first, or if
/// the id has an escape.
fn parse_leading_id(line: &[u8]) -> Option<&str> {
    let after_key = line.strip_prefix(b"{\"id\":\"")?;
    let end = memchr(b'"', after_key)?;
    let id = str::from_utf8(&after_key[..end]).ok()?;
    (!id.contains('\\')).then_some(id.trim())
}

/// Parses a line of the index. `None` if it is no JSON object with an id and a name.
pub fn parse_entry(line: &[u8]) -> Option<IndexEntry> {
    serde_json::from_slice(line.trim_ascii()).ok()
}

impl IndexEntry {
    /// Parses `updated_at`; `None` if it is not RFC 3339.
    pub(crate) fn time(&self) -> Option<Rfc3339Time> {
        Rfc3339Time::parse(&self.updated_at)
    }
}

/// Removes the lines of a conversation from the index, under Codex's lock.
pub(crate) fn remove_lines(home: &Path, id: &ConversationId) -> Result<(), HistoryError> {
    change_lines(home, |lines| lines.retain(|line| !is_line_of(line, id)))
}

/// Appends saved lines of a conversation, under Codex's lock, unless the index has lines of the conversation.
pub(crate) fn put_lines_if_absent(
    home: &Path,
    id: &ConversationId,
    saved_lines: &[String],
) -> Result<(), HistoryError> {
    change_lines(home, |lines| {
        if !lines.iter().any(|line| is_line_of(line, id)) {
            lines.extend(saved_lines.iter().cloned());
        }
    })
}

/// Returns the lines of a conversation unchanged, without a lock.
pub(crate) fn read_lines_of(home: &Path, id: &ConversationId) -> Result<Vec<String>, HistoryError> {
    let text = read_index_text(&home.join(FILE_NAME))?;
    let lines = text.lines().filter(|line| is_line_of(line, id));
    Ok(lines.map(Into::into).collect())
}

fn is_line_of(line: &str, id: &ConversationId) -> bool {
    serde_json::from_str::<IndexEntry>(line).is_ok_and(|entry| ConversationId::of(&entry.id) == *id)
}

/// Takes Codex's lock on `session_index.jsonl` or `history.jsonl`; waits at most [`lock::WAIT_LIMIT`].
pub(super) fn lock_list(path: &Path) -> Result<FileLock, HistoryError> {
    let lock = FileLock::acquire_within(path, lock::WAIT_LIMIT)?;
    lock.ok_or_else(|| HistoryError::Locked(path.to_path_buf()))
}

fn change_lines(home: &Path, change: impl FnOnce(&mut Vec<String>)) -> Result<(), HistoryError> {
    // The whole file is written again. Without Codex's lock, a line that Codex appends meanwhile would be lost.
    let _lock = lock_list(&home.join(LOCK_NAME))?;

    let path = home.join(FILE_NAME);
    let old_lines: Vec<String> = read_index_text(&path)?.lines().map(Into::into).collect();
    let mut new_lines = old_lines.clone();
    change(&mut new_lines);

    if new_lines == old_lines {
        return Ok(());
    }

    let mut text = new_lines.join("\n");
    if !new_lines.is_empty() {
        text.push('\n');
    }

    // An existing file keeps its mode. Only the owner may read a new one.
    if path.exists() {
        atomic::write_keeping_mode(&path, text.as_bytes())?;
    } else {
        atomic::write(&path, text.as_bytes())?;
    }
    Ok(())
}

/// Reads the index. A missing file is an empty one.
fn read_index_text(path: &Path) -> Result<String, IoError> {
    let bytes = file_open::read_if_exists(path)?.unwrap_or_default();
    let text = String::from_utf8(bytes);
    text.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
        .at("read", path)
}

/// Returns `bytes` with `entries` appended as compact JSON, one a line. Adds a newline if the last line of `bytes` has
/// none.
pub fn append_entries(mut bytes: Vec<u8>, entries: &[IndexEntry]) -> Vec<u8> {
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    for entry in entries {
        // Cannot fail: all fields are strings.
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
    fn appended_lines_are_read_after_a_line_without_a_newline() {
        let home = tempfile::tempdir().unwrap();
        let line = |id: &str, name: &str| IndexEntry {
            id: id.into(),
            thread_name: name.into(),
            updated_at: "2026-01-01T00:00:00Z".into(),
        };
        let mut bytes = append_entries(Vec::new(), &[line("a", "one")]);
        bytes.pop();
        let bytes = append_entries(bytes, &[line("b", "two"), line("a", "three")]);
        fs::write(home.path().join(FILE_NAME), bytes).unwrap();
        let index = ThreadNameIndex::read(home.path()).unwrap();
        assert_eq!(name(&index, "a"), "three");
        assert_eq!(name(&index, "b"), "two");
        assert_eq!(index.bad_lines, 0);
    }

    #[cfg(unix)]
    #[test]
    fn an_empty_index_keeps_its_mode_when_lines_are_restored() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let line = r#"{"id":"a","thread_name":"one"}"#.to_owned();
        put_lines_if_absent(home.path(), &ConversationId::of("a"), &[line]).unwrap();
        assert!(
            ThreadNameIndex::read(home.path())
                .unwrap()
                .has_line(&ConversationId::of("a"))
        );
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[test]
    fn the_last_line_with_a_name_is_used_and_ids_are_compared_without_case() {
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

    #[test]
    fn reading_some_conversations_finds_their_lines_in_any_spelling_and_no_others() {
        let (one, two) = (
            "01a1f78b-4d30-7ef3-b0ee-5caab8d3b455",
            "01a1f78b-4d31-7ef3-b0ee-5caab8d3b455",
        );
        let text = format!(
            "{{\"id\":\"{one}\",\"thread_name\":\"old\"}}\n{{\"id\":\"{two}\",\"thread_name\":\"two\"}}\n\
             {{\"thread_name\":\"new\",\"id\":\"{}\"}}\n{{\"id\":\"\\u0061\",\"thread_name\":\"escaped\"}}\n",
            one.to_uppercase()
        );
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE_NAME), text).unwrap();
        let ids = HashSet::from([one, "a"].map(ConversationId::of));
        let index = ThreadNameIndex::read_some(home.path(), &ids).unwrap();
        assert_eq!(name(&index, one), "new");
        assert_eq!(name(&index, "a"), "escaped");
        assert!(!index.has_line(&ConversationId::of(two)));
    }

    #[test]
    fn reading_ids_since_an_offset_skips_the_lines_before_it() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(read_ids_since(home.path(), 0).unwrap(), (HashSet::new(), 0));
        let line = |id: &str| format!("{{\"id\":\"{id}\",\"thread_name\":\"x\"}}\n");
        let first = line("a") + "broken\n";
        let text = first.clone() + &line("b") + line("c").trim_end();
        fs::write(home.path().join(FILE_NAME), &text).unwrap();
        let (ids, end) = read_ids_since(home.path(), first.len() as u64).unwrap();
        assert_eq!(ids, HashSet::from(["b", "c"].map(ConversationId::of)));
        assert_eq!(end, (first + &line("b")).len() as u64, "c is not complete");
    }
}
