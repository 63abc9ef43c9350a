//! The columns of the table, by name.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::HashMap;

/// The tables and columns that this version of Codex has.
pub(super) struct Schema {
    /// True for the columns in which a new row needs a value.
    columns: HashMap<String, bool>,
    has_edges: bool,
}

impl Schema {
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT name, \"notnull\", dflt_value IS NULL, pk > 0 FROM pragma_table_info(?1)";
        let mut statement = connection.prepare(sql)?;
        let mut columns = |table: &str| {
            let rows = statement.query_map([table], |row| {
                let (not_null, no_default, is_key): (bool, bool, bool) =
                    (row.get(1)?, row.get(2)?, row.get(3)?);
                Ok((row.get(0)?, (not_null && no_default) || is_key))
            })?;
            rows.collect::<rusqlite::Result<HashMap<String, bool>>>()
        };
        let (threads, edges) = (columns("threads")?, columns("thread_spawn_edges")?);
        Ok(Self {
            columns: threads,
            has_edges: edges.contains_key("child_thread_id")
                && edges.contains_key("parent_thread_id"),
        })
    }

    /// Returns true if the database has a table of conversations.
    pub(super) fn has_threads(&self) -> bool {
        self.has("id")
    }

    pub(super) fn has(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Returns true if the database records which conversation started which.
    pub(super) fn has_edges(&self) -> bool {
        self.has_edges
    }

    /// Returns the columns in which a new row needs a value.
    pub(super) fn required(&self) -> impl Iterator<Item = &str> {
        let required = self.columns.iter().filter(|(_, is_required)| **is_required);
        required.map(|(name, _)| name.as_str())
    }

    /// Returns the column, or `NULL` if this version does not have it.
    pub(super) fn column(&self, name: &str) -> String {
        if self.has(name) {
            format!("t.{name}")
        } else {
            "NULL".to_owned()
        }
    }

    /// Returns a time column and its unit in milliseconds. The column itself and no expression, because only
    /// then SQLite uses Codex's index.
    fn time(&self, millis: &str, seconds: &str) -> (String, i64) {
        if self.has(millis) {
            (self.column(millis), 1)
        } else {
            (self.column(seconds), 1000)
        }
    }

    pub(super) fn updated(&self) -> (String, i64) {
        self.time("updated_at_ms", "updated_at")
    }

    pub(super) fn created(&self) -> (String, i64) {
        self.time("created_at_ms", "created_at")
    }

    /// Returns the beginning of a query for rows of the table, whose values [`Values`] reads.
    pub(super) fn select(&self, columns: &[ThreadColumn]) -> String {
        let columns: Vec<_> = columns
            .iter()
            .map(|column| self.expression(*column))
            .collect();
        format!("SELECT {} FROM threads t", columns.join(", "))
    }

    /// Returns a time in milliseconds. A row of an older version has it in seconds only.
    fn millis(&self, millis: &str, seconds: &str) -> String {
        let (millis, seconds) = (self.column(millis), self.column(seconds));
        format!("coalesce(nullif({millis}, 0), {seconds} * 1000)")
    }

    fn expression(&self, column: ThreadColumn) -> String {
        match column {
            ThreadColumn::Id => "t.id".to_owned(),
            ThreadColumn::Named(name) => self.column(name),
            ThreadColumn::FirstLine(name) => format!("substr({}, 1, 500)", self.column(name)),
            ThreadColumn::CreatedMs => self.millis("created_at_ms", "created_at"),
            ThreadColumn::UpdatedMs => self.millis("updated_at_ms", "updated_at"),
            ThreadColumn::Parent if self.has_edges => {
                "(SELECT e.parent_thread_id FROM thread_spawn_edges e WHERE e.child_thread_id = t.id)"
                    .to_owned()
            }
            ThreadColumn::Parent => "NULL".to_owned(),
        }
    }
}

/// A value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThreadColumn {
    Id,
    /// A column that not every version has.
    Named(&'static str),
    /// The beginning of a column that may be a whole first message.
    FirstLine(&'static str),
    /// The time of the creation in milliseconds since 1970.
    CreatedMs,
    /// The time of the last change in milliseconds since 1970.
    UpdatedMs,
    /// The conversation that started a subagent.
    Parent,
}

impl ThreadColumn {
    pub(super) const ROLLOUT_PATH: Self = Self::Named("rollout_path");
    pub(super) const NAME: Self = Self::Named("name");
    pub(super) const TITLE: Self = Self::Named("title");
    pub(super) const TITLE_LINE: Self = Self::FirstLine("title");
    pub(super) const FIRST_MESSAGE: Self = Self::Named("first_user_message");
    pub(super) const FIRST_MESSAGE_LINE: Self = Self::FirstLine("first_user_message");
    pub(super) const MODE: Self = Self::Named("history_mode");
    pub(super) const CWD: Self = Self::Named("cwd");
    pub(super) const BRANCH: Self = Self::Named("git_branch");
    pub(super) const MODEL: Self = Self::Named("model");
    pub(super) const SOURCE: Self = Self::Named("source");
    pub(super) const THREAD_SOURCE: Self = Self::Named("thread_source");
    pub(super) const ACCOUNT: Self = Self::Named("creator_account_id");
    pub(super) const USER: Self = Self::Named("creator_user_id");
    pub(super) const NICKNAME: Self = Self::Named("agent_nickname");
    pub(super) const TOKENS: Self = Self::Named("tokens_used");
    pub(super) const ARCHIVED: Self = Self::Named("archived");
}

/// The values of a row that [`Schema::select`] reads. A missing column, NULL and an unexpected type have no value.
pub(super) struct Values<'a> {
    columns: &'a [ThreadColumn],
    row: &'a Row<'a>,
}

impl<'a> Values<'a> {
    pub(super) fn new(columns: &'a [ThreadColumn], row: &'a Row<'a>) -> Self {
        Self { columns, row }
    }

    fn get(&self, column: ThreadColumn) -> Option<ValueRef<'_>> {
        let index = self.columns.iter().position(|known| *known == column)?;
        self.row.get_ref(index).ok()
    }

    /// Returns the text of a column, else an empty one.
    pub(super) fn text(&self, column: ThreadColumn) -> String {
        match self.get(column) {
            Some(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => String::new(),
        }
    }

    pub(super) fn number(&self, column: ThreadColumn) -> Option<i64> {
        match self.get(column) {
            Some(ValueRef::Integer(number)) => Some(number),
            _ => None,
        }
    }

    /// Returns a time in milliseconds since 1970. Zero means no time.
    pub(super) fn time(&self, column: ThreadColumn) -> Option<i64> {
        self.number(column).filter(|ms| *ms > 0)
    }

    pub(super) fn flag(&self, column: ThreadColumn) -> bool {
        self.number(column).is_some_and(|number| number != 0)
    }
}
