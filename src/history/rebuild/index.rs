//! Builds the lines of the new `session_index.jsonl`.

use super::conversations::{ConversationSet, RebuildConversation};
use super::spool;
use super::titles::Titles;
use crate::codex::threads::{self, ThreadRow};
use crate::history::HistoryError;
use crate::history::id::ConversationId;
use crate::history::rollout::first_line;
use crate::history::session_index::{IndexEntry, ThreadNameIndex};
use crate::io::IoContext;
use crate::io::rfc3339::Rfc3339Time;
use crate::io::sorting::Sorter;
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::Path;
use tempfile::SpooledTempFile;

/// Collects lines in any order and sorts them through a temp file.
#[derive(Default)]
pub(super) struct IndexLines {
    sorter: Sorter,
    given: GivenNames,
    /// The number of names kept of conversations that are left out.
    pub(super) names_kept: usize,
}

/// Hashes of the names given by the user. A collision only replaces a title by an id.
#[derive(Default)]
struct GivenNames {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl GivenNames {
    fn add(&mut self, name: &str) {
        self.hashes.insert(self.hasher.hash_one(name));
    }

    fn has(&self, name: &str) -> bool {
        self.hashes.contains(&self.hasher.hash_one(name))
    }
}

/// The text and the counts of the new index.
pub(super) struct IndexText {
    pub(super) text: SpooledTempFile,
    pub(super) bytes: u64,
    pub(super) lines: usize,
    /// The number of conversations named by their id, because their title is the given name of
    /// another one.
    pub(super) titles_taken: usize,
}

impl IndexLines {
    /// Adds a line for each selected conversation, and the given names of the others.
    pub(super) fn gather(
        &mut self,
        set: &ConversationSet,
        database: Option<&Path>,
        index: &ThreadNameIndex,
        titles: &mut Titles,
    ) -> Result<(), HistoryError> {
        let new = || TablePass {
            lines: Self::default(),
            done: vec![false; set.conversations.len()],
            problem: None,
        };
        let with_rows = database.map(|path| {
            threads::fold_rows(path, new, |pass, row| {
                if pass.problem.is_none() {
                    pass.problem = pass.row(set, index, titles, &row).err();
                }
            })
        });
        let mut pass = with_rows.transpose()?.flatten().unwrap_or_else(new);
        if let Some(problem) = pass.problem {
            return Err(problem);
        }
        for (place, conversation) in set.conversations.iter().enumerate() {
            if conversation.is_restored && !pass.done[place] {
                pass.done[place] = true;
                pass.lines.restored(conversation, None, index, titles)?;
            }
        }
        for id in index.ids() {
            let place = set.place(id);
            if place.is_some_and(|place| pass.done[place]) {
                continue;
            }
            let known = place.and_then(|place| set.conversations[place].updated.clone());
            if let Some(line) = index.get(id)?
                && let Some(time) = known.or_else(|| line.time())
            {
                pass.lines.names_kept += 1;
                pass.lines.push(id, &time, &line.thread_name, true)?;
            }
        }
        *self = pass.lines;
        Ok(())
    }

    fn restored(
        &mut self,
        conversation: &RebuildConversation,
        row: Option<&ThreadRow>,
        index: &ThreadNameIndex,
        titles: &mut Titles,
    ) -> Result<(), HistoryError> {
        let Some(time) = &conversation.updated else {
            return Ok(());
        };
        let given = given_name(conversation, row, index)?;
        let is_given = given.is_some();
        let name = match given {
            Some(name) => name,
            None => title(conversation, row, titles)?,
        };
        self.push(&conversation.id, time, &name, is_given)
    }

    fn push(
        &mut self,
        id: &ConversationId,
        time: &Rfc3339Time,
        name: &str,
        is_given: bool,
    ) -> Result<(), HistoryError> {
        if is_given {
            self.given.add(name);
        }
        let record = SortRecord {
            id: id.to_string(),
            updated_at: &time.text,
            name,
            is_given,
        };
        let record = record.encode(time.at);
        Ok(self
            .sorter
            .push(&record)
            .at("write a temp file in", std::env::temp_dir())?)
    }

    /// Writes the lines, newest first. A derived title that equals the given name of another
    /// conversation is replaced by the id: otherwise `codex resume NAME`, which takes the
    /// conversation that was changed last (0.169), could open the wrong one.
    pub(super) fn write(self) -> Result<IndexText, HistoryError> {
        let temp = std::env::temp_dir();
        let mut sorted = self.sorter.finish().at("write a temp file in", &temp)?;
        let mut written = IndexText {
            text: spool::create(),
            bytes: 0,
            lines: 0,
            titles_taken: 0,
        };
        let mut line = Vec::new();
        while let Some(record) = sorted.next_record().at("read a temp file in", &temp)? {
            let Some(record) = SortRecord::decode(&record) else {
                continue;
            };
            let is_taken = !record.is_given && self.given.has(record.name);
            written.titles_taken += usize::from(is_taken);
            line.clear();
            let entry = IndexEntry {
                thread_name: if is_taken { &*record.id } else { record.name }.to_owned(),
                updated_at: record.updated_at.to_owned(),
                id: record.id,
            };
            // Cannot fail: all fields are strings.
            let _ = serde_json::to_writer(&mut line, &entry);
            line.push(b'\n');
            written
                .text
                .write_all(&line)
                .at("write a temp file in", &temp)?;
            written.bytes += line.len() as u64;
            written.lines += 1;
        }
        Ok(written)
    }
}

/// One pass over the rows of the table.
struct TablePass {
    lines: IndexLines,
    /// True for each conversation that has a line, by its index.
    done: Vec<bool>,
    problem: Option<HistoryError>,
}

impl TablePass {
    fn row(
        &mut self,
        set: &ConversationSet,
        index: &ThreadNameIndex,
        titles: &mut Titles,
        row: &ThreadRow,
    ) -> Result<(), HistoryError> {
        let found = set.place(&ConversationId::of(&row.id));
        let Some(place) = found.filter(|place| !self.done[*place] && !row.archived) else {
            return Ok(());
        };
        let conversation = &set.conversations[place];
        if conversation.is_restored {
            self.done[place] = true;
            return self.lines.restored(conversation, Some(row), index, titles);
        }
        if let (Some(name), Some(time)) = (row.given_name(), &conversation.updated) {
            self.done[place] = true;
            self.lines.names_kept += 1;
            self.lines.push(&conversation.id, time, name, true)?;
        }
        Ok(())
    }
}

/// Returns the name given by the user. A line of the index that equals the first message or the id
/// was derived by a rebuild and is not a given name.
fn given_name(
    conversation: &RebuildConversation,
    row: Option<&ThreadRow>,
    index: &ThreadNameIndex,
) -> Result<Option<String>, HistoryError> {
    if let Some(name) = row.and_then(ThreadRow::given_name) {
        return Ok(Some(name.to_owned()));
    }
    let Some(line) = index.get(&conversation.id)? else {
        return Ok(None);
    };
    let name = line.thread_name;
    let is_title_of = |row: &ThreadRow| {
        row.title == name
            || [&row.title, &row.first_user_message]
                .iter()
                .any(|text| first_line(text).as_deref() == Some(&name))
    };
    let is_derived = conversation.is_index_derived
        || conversation.id.with_text(|id| id == name)
        || row.is_some_and(is_title_of);
    Ok((!is_derived).then_some(name))
}

/// Returns the derived title of a conversation without a given name, else its id.
fn title(
    conversation: &RebuildConversation,
    row: Option<&ThreadRow>,
    titles: &mut Titles,
) -> Result<String, HistoryError> {
    let of_row = row.and_then(|row| {
        let title = Some(&row.title).filter(|title| !title.trim().is_empty());
        title
            .cloned()
            .or_else(|| first_line(&row.first_user_message))
    });
    match (of_row, conversation.title) {
        (Some(title), _) => Ok(title),
        (None, Some(span)) => titles.get(span),
        (None, None) => Ok(conversation.id.to_string()),
    }
}

/// A line encoded for sorting: newest first, equal times by descending id.
struct SortRecord<'a> {
    id: String,
    updated_at: &'a str,
    name: &'a str,
    is_given: bool,
}

/// Bytes of the time before the id: 8 of seconds, 4 of nanoseconds.
const TIME_BYTES: usize = 12;

impl<'a> SortRecord<'a> {
    fn encode(&self, at: DateTime<Utc>) -> Vec<u8> {
        // Inverted, because the newest come first.
        let seconds = !(at.timestamp().cast_unsigned() ^ 1 << 63);
        let mut record = seconds.to_be_bytes().to_vec();
        record.extend((!at.timestamp_subsec_nanos()).to_be_bytes());
        // Ids have no byte 0, so no inverted byte is 255, and 255 can mark the end.
        record.extend(self.id.bytes().map(|byte| !byte));
        record.push(u8::MAX);
        record.push(u8::from(self.is_given));
        record.extend(self.updated_at.bytes());
        record.push(0);
        record.extend(self.name.bytes());
        record
    }

    fn decode(record: &'a [u8]) -> Option<Self> {
        let rest = record.get(TIME_BYTES..)?;
        let end = rest.iter().position(|byte| *byte == u8::MAX)?;
        let id = rest[..end].iter().map(|byte| !byte).collect();
        let (is_given, rest) = rest[end + 1..].split_first()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(Self {
            id: String::from_utf8(id).ok()?,
            updated_at: std::str::from_utf8(&rest[..end]).ok()?,
            name: std::str::from_utf8(&rest[end + 1..]).ok()?,
            is_given: *is_given == 1,
        })
    }
}
