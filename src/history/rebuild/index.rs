//! Builds the lines of the new `session_index.jsonl`.

use super::conversations::{ConversationSet, RebuildConversation};
use super::plan::PlannedHistoryFile;
use crate::codex::{ThreadRow, threads};
use crate::history::rollout::first_line;
use crate::history::{ConversationId, HistoryError, IndexEntry, ThreadNameIndex};
use crate::io::Rfc3339Time;
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

/// Collects lines in any order.
#[derive(Default)]
pub(super) struct IndexLines {
    lines: Vec<IndexLine>,
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

impl IndexLines {
    /// Collects a line for each selected conversation, and lines with the given names of the others.
    pub(super) fn gather(
        set: &ConversationSet,
        database: Option<&Path>,
        index: &ThreadNameIndex,
    ) -> Result<Self, HistoryError> {
        let new = || TablePass {
            lines: Self::default(),
            done: vec![false; set.conversations.len()],
            problem: None,
        };
        let with_rows = database.map(|path| {
            threads::fold_rows(path, new, |pass, row| {
                if pass.problem.is_none() {
                    pass.problem = pass.add_row(set, index, &row).err();
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
                pass.lines.add_restored(conversation, None, index)?;
            }
        }
        for id in index.ids() {
            let place = set.position(id);
            if place.is_some_and(|place| pass.done[place]) {
                continue;
            }
            let known = place.and_then(|place| set.conversations[place].updated.clone());
            if let Some(line) = index.get(id)?
                && let Some(time) = known.or_else(|| line.time())
            {
                pass.lines.names_kept += 1;
                pass.lines.push(id, &time, &line.thread_name, true);
            }
        }
        Ok(pass.lines)
    }

    fn add_restored(
        &mut self,
        conversation: &RebuildConversation,
        row: Option<&ThreadRow>,
        index: &ThreadNameIndex,
    ) -> Result<(), HistoryError> {
        let Some(time) = &conversation.updated else {
            return Ok(());
        };
        let given = find_given_name(conversation, row, index)?;
        let is_given = given.is_some();
        let name = match given {
            Some(name) => name,
            None => derive_title(conversation, row),
        };
        self.push(&conversation.id, time, &name, is_given);
        Ok(())
    }

    fn push(&mut self, id: &ConversationId, time: &Rfc3339Time, name: &str, is_given: bool) {
        if is_given {
            self.given.add(name);
        }
        self.lines.push(IndexLine {
            at: Reverse(time.at),
            id: Reverse(id.to_string()),
            is_given,
            updated_at: time.text.clone(),
            name: name.to_owned(),
        });
    }

    /// Writes the lines, newest first. A derived title that equals the given name of another
    /// conversation is replaced by the id: otherwise `codex resume NAME`, which takes the
    /// conversation that was changed last (0.169), could open the wrong one.
    /// Returns the number of these titles.
    pub(super) fn write(mut self, file: &mut PlannedHistoryFile) -> Result<usize, HistoryError> {
        self.lines.sort_unstable();
        let mut titles_taken = 0;
        for record in self.lines {
            let is_taken = !record.is_given && self.given.has(&record.name);
            titles_taken += usize::from(is_taken);
            let Reverse(id) = record.id;
            file.push(&IndexEntry {
                thread_name: if is_taken { id.clone() } else { record.name },
                updated_at: record.updated_at,
                id,
            })?;
        }
        Ok(titles_taken)
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
    fn add_row(
        &mut self,
        set: &ConversationSet,
        index: &ThreadNameIndex,
        row: &ThreadRow,
    ) -> Result<(), HistoryError> {
        let found = set.position(&ConversationId::of(&row.id));
        let Some(place) = found.filter(|place| !self.done[*place] && !row.archived) else {
            return Ok(());
        };
        let conversation = &set.conversations[place];
        if conversation.is_restored {
            self.done[place] = true;
            return self.lines.add_restored(conversation, Some(row), index);
        }
        if let (Some(name), Some(time)) = (row.given_name(), &conversation.updated) {
            self.done[place] = true;
            self.lines.names_kept += 1;
            self.lines.push(&conversation.id, time, name, true);
        }
        Ok(())
    }
}

/// Returns the name given by the user. A name in the index that equals the id, the title, or the first line of the title
/// or of the first message was derived by a rebuild.
fn find_given_name(
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
fn derive_title(conversation: &RebuildConversation, row: Option<&ThreadRow>) -> String {
    let of_row = row.and_then(|row| {
        let title = Some(&row.title).filter(|title| !title.trim().is_empty());
        title
            .cloned()
            .or_else(|| first_line(&row.first_user_message))
    });
    let title = of_row.or_else(|| conversation.title.clone());
    title.unwrap_or_else(|| conversation.id.to_string())
}

/// A line of the new index. The order of the fields is the order of the lines: newest first, equal times by
/// descending id.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct IndexLine {
    at: Reverse<DateTime<Utc>>,
    id: Reverse<String>,
    is_given: bool,
    updated_at: String,
    name: String,
}
