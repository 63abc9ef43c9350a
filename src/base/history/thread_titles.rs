//! The titles of conversations, including the names in `session_index.jsonl`: Codex keeps the names of older
//! conversations nowhere else (Codex 0.169).

use super::id::ConversationId;
use super::rollout::first_line;
use super::session_index::ThreadNameIndex;
use crate::codex::{ListedThread, ThreadFilter, ThreadRow, threads};
use crate::io::Environment;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The names of conversations in `session_index.jsonl` of a home. An unreadable file counts as empty.
#[derive(Debug, Default)]
pub struct ThreadTitles(ThreadNameIndex);

impl ThreadTitles {
    pub fn read(home: &Path) -> Self {
        Self(ThreadNameIndex::read(home).unwrap_or_default())
    }

    /// Returns the first line of the name of a conversation.
    pub fn find_name(&self, id: &str) -> Option<String> {
        let entry = self.0.get(&ConversationId::of(id)).ok().flatten()?;
        entry.first_line().map(str::to_owned)
    }

    /// If the row of a conversation has no name, replaces the title by the name in the index, if there is one.
    pub fn replace_title(&self, thread: &mut ListedThread) {
        if !thread.has_name
            && let Some(name) = self.find_name(&thread.id)
        {
            thread.title = name;
        }
    }
}

/// Replaces the titles of conversations without names in their rows by their names in the index.
pub fn replace_titles(home: &Path, threads: &mut [ListedThread]) {
    let unnamed = threads.iter().filter(|thread| !thread.has_name);
    let unnamed_ids: HashSet<_> = unnamed.map(|t| ConversationId::of(&t.id)).collect();
    if unnamed_ids.is_empty() {
        return;
    }
    let titles = ThreadTitles(ThreadNameIndex::read_some(home, &unnamed_ids).unwrap_or_default());
    for thread in threads {
        titles.replace_title(thread);
    }
}

/// Returns the titles of the conversations with these ids, by id in lower case. Conversations that cannot be read are
/// left out.
pub fn read_titles(home: &Path, env: &Environment, ids: Vec<String>) -> HashMap<String, String> {
    if ids.is_empty() {
        return HashMap::new();
    }

    let filter = ThreadFilter {
        ids: Some(ids),
        ..ThreadFilter::default()
    };

    let database = threads::find_state_database(home, env);
    let list_result = database.and_then(|database| threads::list(&database, &filter).ok());
    let mut listed_threads = list_result.unwrap_or_default();
    replace_titles(home, &mut listed_threads);

    let titles = listed_threads.into_iter().filter_map(|thread| {
        let title = thread.title.lines().next()?;
        Some((thread.id.to_lowercase(), title.to_owned()))
    });
    titles.collect()
}

/// Returns the first line of the name that the user gave, else of the title or of what Codex shows instead; see
/// [`ThreadRow::title_or_message`]. Empty if there is none of them.
pub fn title_of(row: &ThreadRow) -> String {
    let title = row.given_name().unwrap_or(row.title_or_message());
    first_line(title).unwrap_or_default()
}
