//! Builds the lines of the new `session_index.jsonl`.

use super::conversations::{ConversationSet, RebuildConversation};
use super::plan::PlannedHistoryFile;
use crate::history::HistoryError;
use crate::history::check::is_given_name;
use crate::history::id::ConversationId;
use crate::history::session_index::{IndexEntry, ThreadNameIndex};
use crate::io::Rfc3339Time;
use chrono::{DateTime, Utc};
use std::cmp::Reverse;
use std::collections::HashSet;

/// Collects lines in any order.
#[derive(Default)]
pub(super) struct IndexLines {
    lines: Vec<IndexLine>,
    given_names: HashSet<String>,
    /// The number of conversations that are left out, but keep their name in the index.
    pub(super) names_kept: usize,
}

impl IndexLines {
    /// Collects a line for each restored conversation, and for each other conversation with a name in its row or in
    /// `index`.
    pub(super) fn gather(
        set: &ConversationSet,
        index: &ThreadNameIndex,
    ) -> Result<Self, HistoryError> {
        let mut lines = Self::default();
        for conversation in &set.conversations {
            if !conversation.is_beyond_limit {
                lines.add_restored(conversation, index)?;
            } else if let Some((name, time)) = find_name_to_keep(conversation) {
                lines.keep_name(&conversation.id, time, name);
            }
        }

        for id in index.ids() {
            let conversation = set.find(id);
            // The loop above has handled these conversations.
            if conversation.is_some_and(|c| !c.is_beyond_limit || find_name_to_keep(c).is_some()) {
                continue;
            }

            let updated = conversation.and_then(|c| c.updated.clone());
            if let Some(line) = index.get(id)?
                && let Some(time) = updated.or_else(|| line.time())
            {
                lines.keep_name(id, &time, &line.thread_name);
            }
        }
        Ok(lines)
    }

    fn add_restored(
        &mut self,
        conversation: &RebuildConversation,
        index: &ThreadNameIndex,
    ) -> Result<(), HistoryError> {
        let Some(time) = &conversation.updated else {
            // A line needs a time. The plan counts the conversation as one without.
            return Ok(());
        };
        let given_name = find_given_name(conversation, index)?;
        let title = conversation.row_title().or(conversation.title.as_deref());
        // Without a name in the index, Codex shows its preview, such as a goal or `[Image]`.
        if let Some(name) = given_name.as_deref().or(title) {
            self.push(&conversation.id, time, name, given_name.is_some());
        }
        Ok(())
    }

    /// Adds the given name of a conversation that is left out.
    fn keep_name(&mut self, id: &ConversationId, time: &Rfc3339Time, name: &str) {
        self.names_kept += 1;
        let is_given = true;
        self.push(id, time, name, is_given);
    }

    fn push(&mut self, id: &ConversationId, time: &Rfc3339Time, name: &str, is_given: bool) {
        if is_given {
            self.given_names.insert(name.to_owned());
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
    /// conversation is left out: otherwise `codex resume NAME`, which in Codex 0.169 takes
    /// the conversation that was changed last, could open the wrong one.
    /// Returns the number of these titles.
    pub(super) fn write_without_taken_titles(
        mut self,
        file: &mut PlannedHistoryFile,
    ) -> Result<usize, HistoryError> {
        self.lines.sort_unstable();
        let mut titles_taken = 0;

        for line in self.lines {
            let is_taken = !line.is_given && self.given_names.contains(&line.name);
            if is_taken {
                titles_taken += 1;
                continue;
            }

            let Reverse(id) = line.id;
            file.push(&IndexEntry {
                thread_name: line.name,
                updated_at: line.updated_at,
                id,
            })?;
        }

        Ok(titles_taken)
    }
}

/// Returns the name and time with which a conversation stays in the index although the rebuild does not restore it.
fn find_name_to_keep(conversation: &RebuildConversation) -> Option<(&str, &Rfc3339Time)> {
    let name = conversation.row.as_ref()?.given_name.as_deref()?;
    Some((name, conversation.updated.as_ref()?))
}

/// Returns the name given by the user: the name in the row, or without one the name in the index. A name in the index
/// counts as unset if a rebuild derived it; see [`is_given_name`].
fn find_given_name(
    conversation: &RebuildConversation,
    index: &ThreadNameIndex,
) -> Result<Option<String>, HistoryError> {
    let row = conversation.row.as_ref();
    if let Some(name) = row.and_then(|row| row.given_name.clone()) {
        return Ok(Some(name));
    }

    let Some(line) = index.get(&conversation.id)? else {
        return Ok(None);
    };

    let name = line.thread_name;
    let own_texts = row.into_iter().flat_map(|row| {
        let first_message = row.first_message.as_deref();
        [Some(&*row.title), first_message].into_iter().flatten()
    });

    let is_derived =
        conversation.is_index_name_derived || !is_given_name(&name, &conversation.id, own_texts);
    Ok((!is_derived).then_some(name))
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
