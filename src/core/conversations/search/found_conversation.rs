//! A conversation that a search has found, in the index or in the rollouts of a home.

use rusqlite::Row;
use std::path::PathBuf;

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
    /// True if the conversation has a row in Codex's list.
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
