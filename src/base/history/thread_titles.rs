//! The titles of conversations, including the names in `session_index.jsonl`: Codex keeps the names of older
//! conversations nowhere else (Codex 0.169).

use super::id::ConversationId;
use super::rollout::{find_recorded_path, read_title};
use super::session_index::ThreadNameIndex;
use crate::codex::{ListedThread, ThreadFilter, threads, user_request};
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

    /// Returns the first line of the name of a conversation. `None` for a name that a rebuild made of context.
    pub fn find_name(&self, id: &str) -> Option<String> {
        let entry = self.0.get(&ConversationId::of(id)).ok().flatten()?;
        user_request::find_title(&entry.thread_name)
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

/// Reads the title of a conversation without one from its rollout: Codex does not record messages that a rollout has as
/// input of the model only.
pub fn read_missing_title(home: &Path, thread: &mut ListedThread) {
    if thread.title.is_empty()
        && !thread.is_child()
        && let Some(rollout) = find_recorded_path(home, &thread.rollout_path)
    {
        thread.title = read_title(&rollout).unwrap_or_default();
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
