//! The conversations that a search finds, and its filter. The filter also works for conversations without a row in
//! Codex's database.

use crate::codex::threads::{ListedThread, ThreadFilter};
use crate::conversations::index::usage_query::UsageConversation;
use crate::conversations::index::{IndexError, IndexStore};
use rusqlite::Row;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The filters of the command line, evaluated for the conversations of one Codex home.
pub struct ConversationFilter {
    filter: ThreadFilter,
    /// The ids of the rows in Codex's database that the filter selects; `None` if the filter selects everything.
    selected_ids: Option<HashSet<String>>,
    /// The ids of the conversations on disk or in archives, in lower case. If set, the filter rejects conversations of
    /// the index whose rollouts were deleted.
    pub existing_ids: Option<HashSet<String>>,
    /// If true, the filter accepts only conversations whose rollouts were deleted, by `existing_ids`.
    pub only_deleted: bool,
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
            existing_ids: None,
            only_deleted: false,
        })
    }

    pub fn accepts(&self, found: &FoundConversation) -> bool {
        if self.is_left_out(&found.session, &found.path) {
            return false;
        }
        match &self.selected_ids {
            Some(selected) if found.listed => selected.contains(&found.session),
            // Without a row, the filter is compared with the fields of the conversation itself.
            Some(_) => {
                let ids = self.filter.ids.as_ref();
                (found.archived || !self.filter.only_archived)
                    && ids.is_none_or(|ids| ids.contains(&found.session))
                    && self.accepts_unlisted(&found.cwd, found.updated_ms)
            }
            None => true,
        }
    }

    /// Returns the number of conversations in the index, without those that [`Self::existing_ids`] leaves out. Ignores
    /// all other filters.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn count_indexed(&self, store: &IndexStore) -> Result<i64, IndexError> {
        if self.existing_ids.is_none() {
            return store.count_conversations();
        }

        let sql = "SELECT session, path FROM conversation";
        let are_included: Vec<bool> = store.query_rows(sql, [], |row| {
            let (session, path): (String, String) = (row.get(0)?, row.get(1)?);
            Ok(!self.is_left_out(&session, Path::new(&path)))
        })?;
        Ok(are_included.into_iter().map(i64::from).sum())
    }

    fn is_left_out(&self, session: &str, path: &Path) -> bool {
        self.existing_ids.as_ref().is_some_and(|ids| {
            // The ids lack new conversations and those of the TypeScript version of Codex, but the index has their
            // paths.
            let is_deleted = !ids.contains(session) && !path.exists();
            is_deleted != self.only_deleted
        })
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
        self.filter.accepts_unlisted(cwd, updated_ms)
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
    /// True for a conversation of a subagent, for a side conversation, and for one that no user began.
    pub is_child: bool,
    /// True if another conversation has an id with the same first 13 characters.
    pub shares_beginning: bool,
}

impl FoundConversation {
    /// The columns that [`Self::from_row`] reads from the table `conversation` of the index.
    pub(super) const COLUMNS: &str = "session, path, title, cwd, updated, archived, listed, branch, child, \
        EXISTS (SELECT 1 FROM conversation other WHERE other.session <> conversation.session \
        AND other.session BETWEEN substr(conversation.session, 1, 13) AND substr(conversation.session, 1, 13) || '~')";

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
            is_child: row.get(8)?,
            shares_beginning: row.get(9)?,
        })
    }
}
