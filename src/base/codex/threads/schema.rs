//! The columns of the table, by name.

use crate::codex::database::DatabaseError;
use crate::codex::{database_view, folder_key};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::HashMap;
use std::path::Path;

/// The number of characters to read from a text whose first line alone is shown.
const MAX_LINE_CHARS: usize = 500;

/// The number of characters to read from such a text if it may begin with context of a client: the request follows the
/// context.
const MAX_CONTEXT_CHARS: usize = 64 << 10;

/// Runs `query` on the database at `path` in one read transaction, maybe several times, and without creating a file
/// beside it. Returns the default if the database has no table of conversations.
pub(super) fn query_threads<T: Default>(
    path: &Path,
    mut query: impl FnMut(&Connection, &Schema) -> rusqlite::Result<T>,
) -> Result<T, DatabaseError> {
    database_view::run_query(path, |connection| {
        let schema = Schema::read(connection)?;
        if !schema.has_column("id") {
            return Ok(T::default());
        }
        folder_key::define_function(connection)?;
        query(connection, &schema)
    })
}

/// The tables and columns that this version of Codex has.
pub(super) struct Schema {
    /// The columns of the table `threads`; true for those in which a new row needs a value.
    columns: HashMap<String, bool>,
    /// True if the database records which conversation started which.
    pub(super) has_edges: bool,
}

impl Schema {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT name, (\"notnull\" AND dflt_value IS NULL) OR pk > 0 FROM pragma_table_info(?1)";
        let mut statement = connection.prepare(sql)?;

        let mut read_columns = |table: &str| -> rusqlite::Result<HashMap<String, bool>> {
            let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };

        // A missing table has no columns.
        let threads = read_columns("threads")?;
        let edges = read_columns("thread_spawn_edges")?;
        Ok(Self {
            columns: threads,
            has_edges: ["child_thread_id", "parent_thread_id", "status"]
                .iter()
                .all(|column| edges.contains_key(*column)),
        })
    }

    pub(super) fn has_column(&self, column: &str) -> bool {
        self.columns.contains_key(column)
    }

    /// Returns the columns in which a new row needs a value.
    pub(super) fn required_columns(&self) -> impl Iterator<Item = &str> {
        let required = self.columns.iter().filter(|(_, is_required)| **is_required);
        required.map(|(name, _)| name.as_str())
    }

    /// Returns the SQL of a column: `NULL` if this version of Codex does not have the column.
    pub(super) fn column_sql(&self, name: &str) -> String {
        if self.has_column(name) {
            format!("t.{name}")
        } else {
            "NULL".to_owned()
        }
    }

    /// Returns a time column and its unit in milliseconds. An expression of both columns would not do, because SQLite
    /// could not use Codex's index.
    fn time_column_and_unit(&self, millis: &str, seconds: &str) -> (String, i64) {
        if self.has_column(millis) {
            (self.column_sql(millis), 1)
        } else {
            (self.column_sql(seconds), 1000)
        }
    }

    pub(super) fn updated_column_and_unit(&self) -> (String, i64) {
        self.time_column_and_unit("updated_at_ms", "updated_at")
    }

    pub(super) fn created_column_and_unit(&self) -> (String, i64) {
        self.time_column_and_unit("created_at_ms", "created_at")
    }

    /// Returns the beginning of a query for rows of the table, whose values [`Values`] reads.
    pub(super) fn select_sql(&self, values: &[&str]) -> String {
        let values: Vec<_> = values.iter().map(|value| self.value_sql(value)).collect();
        format!("SELECT {} FROM threads t", values.join(", "))
    }

    /// Returns the SQL of a time in milliseconds. A row of an older version has its times in seconds only.
    fn millis_sql(&self, millis: &str, seconds: &str) -> String {
        let (millis, seconds) = (self.column_sql(millis), self.column_sql(seconds));
        format!("coalesce(nullif({millis}, 0), {seconds} * 1000)")
    }

    /// Returns the SQL of a value. Most values are columns, and not every version of Codex has all of them.
    fn value_sql(&self, value: &str) -> String {
        match value {
            "created_ms" => self.millis_sql("created_at_ms", "created_at"),
            "updated_ms" => self.millis_sql("updated_at_ms", "updated_at"),
            // Only first lines are shown, and a title may be a whole first message.
            "title_line" => beginning_sql(&self.column_sql("title")),
            // Codex lists a conversation without a message by its preview, such as a goal, and names a subagent by its
            // path.
            "message_line" => {
                let columns = ["first_user_message", "preview", "agent_path"];
                let [message, preview, agent] = columns.map(|column| self.column_sql(column));
                beginning_sql(&format!(
                    "coalesce(nullif({message}, ''), nullif({preview}, ''), {agent})"
                ))
            }
            "parent" => self.parent_sql(),
            "is_child" => self.child_condition_sql(),
            "is_side" => self.side_condition_sql(),
            "is_internal" => self.internal_condition_sql(),
            "lacks_preview" if self.has_column("preview") => {
                "coalesce(t.preview, '') = ''".to_owned()
            }
            column => self.column_sql(column),
        }
    }
}

/// Returns the SQL of the beginning of a text, which is long enough for its title.
fn beginning_sql(text: &str) -> String {
    // All contexts begin with one of these two characters, maybe after blank lines.
    format!(
        "substr({text}, 1, CASE WHEN substr(ltrim(substr({text}, 1, 9), char(9, 10, 13, 32)), 1, 1) IN ('#', '<') \
         THEN {MAX_CONTEXT_CHARS} ELSE {MAX_LINE_CHARS} END)"
    )
}

/// The values of a row that [`Schema::select_sql`] reads. A missing column, NULL and an unexpected type have no value.
pub(super) struct Values<'a> {
    names: &'a [&'a str],
    row: &'a Row<'a>,
}

impl<'a> Values<'a> {
    pub(super) fn new(names: &'a [&'a str], row: &'a Row<'a>) -> Self {
        Self { names, row }
    }

    // Not by `Row::get_ref(name)`, which asks SQLite for the name of each column.
    fn get(&self, name: &str) -> Option<ValueRef<'_>> {
        let index = self.names.iter().position(|selected| *selected == name)?;
        self.row.get_ref(index).ok()
    }

    /// Returns a text, also one in a blob; empty if the value is missing or a number.
    pub(super) fn text(&self, name: &str) -> String {
        match self.get(name) {
            Some(ValueRef::Text(bytes) | ValueRef::Blob(bytes)) => {
                // `from_utf8` checks ASCII several bytes at a time, unlike `from_utf8_lossy`.
                let text = str::from_utf8(bytes).map(str::to_owned);
                text.unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())
            }
            _ => String::new(),
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(ValueRef::Integer(number)) => Some(number),
            _ => None,
        }
    }

    /// Returns a time in milliseconds since 1970. Zero means no time.
    pub(super) fn time(&self, name: &str) -> Option<i64> {
        self.number(name).filter(|ms| *ms > 0)
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.number(name).is_some_and(|number| number != 0)
    }
}
