//! The conversations that a search finds, and its filter. The filter also works for conversations without a row in
//! Codex's database.

use crate::codex::threads::{ListedThread, ThreadFilter};
use crate::conversations::index::usage_query::UsageConversation;
use rusqlite::Row;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The filters of the command line, evaluated for the conversations of one Codex home.
pub struct ConversationFilter {
    filter: ThreadFilter,
    /// The ids of the rows in Codex's database that the filter selects; `None` if the filter selects everything.
    selected_ids: Option<HashSet<String>>,
}

impl ConversationFilter {
    /// Evaluates the filter. `list_threads` queries Codex's database.
    ///
    /// # Errors
    /// Codex's database cannot be read.
    pub fn new<E>(
        filter: ThreadFilter,
        list_threads: impl FnOnce(&ThreadFilter) -> Result<Vec<ListedThread>, E>,
    ) -> Result<Self, E> {
        let mut selected_ids = None;
        if filter.is_restricted() {
            let threads = list_threads(&filter)?.into_iter();
            selected_ids = Some(threads.map(|thread| thread.id.to_lowercase()).collect());
        }
        Ok(Self {
            filter,
            selected_ids,
        })
    }

    pub fn accepts(&self, found: &FoundConversation) -> bool {
        match &self.selected_ids {
            Some(selected) if found.listed => selected.contains(&found.session),
            Some(_) => {
                let ids = self.filter.ids.as_ref();
                (found.archived || !self.filter.only_archived)
                    && ids.is_none_or(|ids| ids.contains(&found.session))
                    && self.accepts_unlisted(&found.cwd, found.updated_ms)
            }
            None => true,
        }
    }

    /// Returns true for conversations whose usage counts. Ignores the time of an unlisted conversation, because the
    /// times of a usage report select requests, not conversations.
    pub fn accepts_usage(&self, found: &UsageConversation) -> bool {
        match &self.selected_ids {
            Some(selected) if found.listed => selected.contains(&found.session),
            Some(_) => self.accepts_unlisted(&found.cwd, None),
            None => true,
        }
    }

    fn accepts_unlisted(&self, cwd: &str, updated_ms: Option<i64>) -> bool {
        self.filter.accepts_unlisted(Path::new(cwd), updated_ms)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundConversation {
    /// The id in lower case.
    pub session: String,
    /// The path of the newest rollout, which may be compressed.
    pub path: PathBuf,
    /// The title; empty if the conversation has none.
    pub title: String,
    pub cwd: String,
    /// The git branch that was checked out; empty if there was none.
    pub branch: String,
    /// The time of the last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    pub archived: bool,
    /// True if the conversation has a row in Codex's database.
    pub listed: bool,
}

impl FoundConversation {
    /// The columns that [`Self::from_row`] reads from the table `conversation` of the index.
    pub(super) const COLUMNS: &str = "session, path, title, cwd, updated, archived, listed, branch";

    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            session: row.get(0)?,
            path: PathBuf::from(row.get::<_, String>(1)?),
            title: row.get(2)?,
            cwd: row.get(3)?,
            updated_ms: row.get(4)?,
            archived: row.get(5)?,
            listed: row.get(6)?,
            branch: row.get(7)?,
        })
    }
}
