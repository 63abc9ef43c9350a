//! Changes rows of a home that no process uses.

use super::row_texts::RowTexts;
use super::row_values::RowValues;
use super::rows::PAGINATED;
use super::schema::Schema;
use crate::codex::database::{self, DatabaseError, SqliteContext};
use rusqlite::{Connection, params};
use std::path::Path;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowChange {
    /// Sets the rollout path of a row, and its archived flag.
    Path {
        id: String,
        /// The absolute path of the rollout, in its plain form.
        path: String,
        /// True if the rollout is in `archived_sessions/`.
        archived: bool,
    },
    /// Adds a row, unless the conversation has one. Also records which conversation started a subagent.
    Insert(RowValues),
    /// Sets the name of a conversation, in the column from which Codex reads it.
    Name {
        id: String,
        name: String,
    },
    Mode {
        id: String,
        mode: &'static str,
    },
    /// Sets those of the three texts that are empty in the row.
    Texts {
        id: String,
        texts: RowTexts,
    },
}

/// Applies changes to the database at `path` in one transaction, all or none. `changes` gets a function, and calls it
/// with each change. No other process may use the database, because SQLite merges the `-wal` into it on closing.
///
/// # Errors
/// `changes` returns an error, SQLite fails, or the table requires a column that a new row does not have:
/// its schema is newer than this program.
pub(crate) fn apply_changes<E: From<DatabaseError>>(
    path: &Path,
    changes: impl FnOnce(&mut dyn FnMut(&RowChange) -> Result<(), DatabaseError>) -> Result<(), E>,
) -> Result<(), E> {
    let connection = database::open_for_changes(path)?;
    database::try_in_transaction(connection, path, |transaction| {
        let schema = Schema::read(transaction).sqlite_context("read", path)?;
        changes(&mut |change| {
            apply_change(transaction, &schema, change).sqlite_context("change", path)
        })
    })
}

fn apply_change(
    connection: &Connection,
    schema: &Schema,
    change: &RowChange,
) -> rusqlite::Result<()> {
    match change {
        RowChange::Path { id, path, archived } => {
            connection
                .prepare_cached("UPDATE threads SET rollout_path=?2 WHERE id=?1")?
                .execute([id, path])?;
            set_archived(connection, schema, id, *archived)
        }
        RowChange::Insert(row) => insert_row(connection, schema, row),
        RowChange::Name { id, name } => set_name(connection, schema, id, name),
        RowChange::Mode { id, mode } => {
            let sql = "UPDATE threads SET history_mode=?2 WHERE id=?1";
            connection.execute(sql, params![id, mode]).map(|_| ())
        }
        RowChange::Texts { id, texts } => {
            let columns = [
                ("title", &texts.title),
                ("first_user_message", &texts.first_message),
                ("preview", &texts.preview),
            ];
            for (column, text) in columns {
                if schema.has_column(column) {
                    let sql = format!(
                        "UPDATE threads SET {column}=?2 WHERE id=?1 AND coalesce({column}, '')=''"
                    );
                    let text = text.as_deref().unwrap_or_default();
                    connection.prepare_cached(&sql)?.execute([id, text])?;
                }
            }
            Ok(())
        }
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

fn set_name(
    connection: &Connection,
    schema: &Schema,
    id: &str,
    name: &str,
) -> rusqlite::Result<()> {
    // Codex 0.169 lists an old conversation by its title, a paginated one by its name.
    let mode: Option<String> = if schema.has_column("history_mode") {
        let sql = "SELECT history_mode FROM threads WHERE id=?1";
        connection.query_row(sql, [id], |row| row.get(0))?
    } else {
        None
    };

    let column = match mode.as_deref() {
        Some(PAGINATED) if schema.has_column("name") => "name",
        _ if schema.has_column("title") => "title",
        _ => return Ok(()),
    };

    connection
        .prepare_cached(&format!("UPDATE threads SET {column}=?2 WHERE id=?1"))?
        .execute(params![id, name])?;
    Ok(())
}
