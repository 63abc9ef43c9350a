//! Changes rows of a home that no process uses.

use super::row_texts::RowTexts;
use super::row_values::RowValues;
use super::rows::PAGINATED;
use super::schema::Schema;
use crate::codex::database::{self, DatabaseError, SqliteContext};
use rusqlite::{Connection, params};
use std::path::Path;

/// Changes rows of the table `threads` in one transaction.
pub(crate) struct RowEditor<'a> {
    pub(super) connection: &'a Connection,
    schema: Schema,
    pub(super) path: &'a Path,
}

/// Calls `edit` within one transaction of the database at `path`: all changes are made or none. No other process may
/// use the database, because SQLite merges the `-wal` into it on closing.
///
/// # Errors
/// `edit` returns an error, SQLite fails, or the table requires a column that a new row does not have:
/// its schema is newer than this program.
pub(crate) fn edit_rows<E: From<DatabaseError>>(
    path: &Path,
    edit: impl FnOnce(&RowEditor<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let connection = database::open_for_changes(path)?;
    database::try_in_transaction(connection, path, |transaction| {
        let schema = Schema::read(transaction).sqlite_context("read", path)?;
        edit(&RowEditor {
            connection: transaction,
            schema,
            path,
        })
    })
}

impl RowEditor<'_> {
    /// Sets the rollout path of a row, absolute and in its plain form, and its archived flag, which is true for a
    /// rollout in `archived_sessions/`.
    pub(crate) fn set_path(
        &self,
        id: &str,
        path: &str,
        is_archived: bool,
    ) -> Result<(), DatabaseError> {
        self.update("rollout_path", id, path)?;
        set_archived(self.connection, &self.schema, id, is_archived)
            .sqlite_context("change", self.path)
    }

    pub(crate) fn set_mode(&self, id: &str, mode: &str) -> Result<(), DatabaseError> {
        self.update("history_mode", id, mode)
    }

    /// Sets the name of a conversation, in the column from which Codex reads it.
    pub(crate) fn set_name(&self, id: &str, name: &str) -> Result<(), DatabaseError> {
        // Codex 0.169 lists an old conversation by its title, a paginated one by its name.
        let mode: Option<String> = if self.schema.has_column("history_mode") {
            let sql = "SELECT history_mode FROM threads WHERE id=?1";
            let mode = self.connection.query_row(sql, [id], |row| row.get(0));
            mode.sqlite_context("change", self.path)?
        } else {
            None
        };
        match mode.as_deref() {
            Some(PAGINATED) if self.schema.has_column("name") => self.update("name", id, name),
            _ if self.schema.has_column("title") => self.update("title", id, name),
            _ => Ok(()),
        }
    }

    /// Sets those of the three texts that are empty in the row.
    pub(crate) fn add_texts(&self, id: &str, texts: &RowTexts) -> Result<(), DatabaseError> {
        let columns = [
            ("title", &texts.title),
            ("first_user_message", &texts.first_message),
            ("preview", &texts.preview),
        ];
        for (column, text) in columns {
            if self.schema.has_column(column) {
                let sql = format!(
                    "UPDATE threads SET {column}=?2 WHERE id=?1 AND coalesce({column}, '')=''"
                );
                self.execute(&sql, [id, text.as_deref().unwrap_or_default()])?;
            }
        }
        Ok(())
    }

    /// Adds a row. If the conversation has a row, only completes its name, pin, project and section. Also records which
    /// conversation started a subagent.
    pub(crate) fn insert(&self, row: &RowValues) -> Result<(), DatabaseError> {
        insert_row(self.connection, &self.schema, row).sqlite_context("change", self.path)
    }

    fn update(&self, column: &str, id: &str, text: &str) -> Result<(), DatabaseError> {
        let sql = format!("UPDATE threads SET {column}=?2 WHERE id=?1");
        self.execute(&sql, [id, text])
    }

    fn execute(&self, sql: &str, parameters: [&str; 2]) -> Result<(), DatabaseError> {
        let statement = self.connection.prepare_cached(sql);
        let executed = statement.and_then(|mut statement| statement.execute(parameters));
        executed.map(drop).sqlite_context("change", self.path)
    }
}

/// Sets the archived flag of a row and the time of archiving. A column that the table lacks is skipped.
pub(super) fn set_archived(
    connection: &Connection,
    schema: &Schema,
    id: &str,
    archived: bool,
) -> rusqlite::Result<()> {
    if schema.has_column("archived") {
        connection
            .prepare_cached("UPDATE threads SET archived=?2 WHERE id=?1 AND archived<>?2")?
            .execute(params![id, archived])?;
    }
    if schema.has_column("archived_at") {
        connection
            .prepare_cached(
                "UPDATE threads SET archived_at=CASE WHEN ?2 THEN \
                 coalesce(archived_at, updated_at) END WHERE id=?1",
            )?
            .execute(params![id, archived])?;
    }
    Ok(())
}

fn insert_row(connection: &Connection, schema: &Schema, row: &RowValues) -> rusqlite::Result<()> {
    if let Some(missing) = schema.required_columns().find(|name| !row.has_column(name)) {
        return Err(rusqlite::Error::InvalidColumnName(missing.to_owned()));
    }
    row.insert_into(connection, schema)?;
    add_spawn_edge(connection, schema, row)
}

/// Records the parent that `source` of a row names, as Codex does when it adds the row itself.
fn add_spawn_edge(
    connection: &Connection,
    schema: &Schema,
    row: &RowValues,
) -> rusqlite::Result<()> {
    if schema.has_edges
        && let Some(id) = row.text("id")
    {
        let parent = schema.spawn_parent_sql();
        connection
            .prepare_cached(&format!(
                "INSERT OR IGNORE INTO thread_spawn_edges(parent_thread_id, child_thread_id, status) \
                 SELECT {parent}, t.id, 'open' FROM threads t WHERE t.id=?1 AND {parent} IS NOT NULL"
            ))?
            .execute([id])?;
    }
    Ok(())
}
