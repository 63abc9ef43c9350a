//! A conversation of the index or of a home, as searches find it.

use rusqlite::Row;
use std::path::PathBuf;

/// The fields of a conversation that a search needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundConversation {
    /// The id in lower case.
    pub session: String,
    /// The rollout, plain or compressed.
    pub path: PathBuf,
    /// The title; empty without one.
    pub title: String,
    pub cwd: String,
    /// The branch that was checked out; empty if there was none.
    pub branch: String,
    /// The time of its last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    pub archived: bool,
    /// True if Codex lists the conversation.
    pub listed: bool,
}

impl FoundConversation {
    /// The columns of the index that [`Self::from_row`] reads.
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
