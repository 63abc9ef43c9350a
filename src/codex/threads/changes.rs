//! Changes rows of a home that no process uses.

use super::rows::PAGINATED;
use super::schema::Schema;
use crate::codex::database::{self, COMMIT, DatabaseError, SqliteContext};
use rusqlite::types::Value;
use rusqlite::{Connection, TransactionBehavior, params, params_from_iter};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The time limit for a transaction of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The values of a new row by column. Columns that the database does not have are skipped.
pub(crate) type NewRow = BTreeMap<String, NewValue>;

/// A value of a new row.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum NewValue {
    /// A value of SQLite type TEXT.
    Text(String),
    /// A value of SQLite type INTEGER.
    Number(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowChange {
    /// Sets the rollout path of a row, and its archived flag.
    Path {
        id: String,
        /// The absolute path of the rollout, in its plain form.
        path: String,
        /// True if the rollout is in `archived_sessions/`.
        archived: bool,
    },
    /// Adds a row. Does nothing if the conversation has a row by now.
    Insert(NewRow),
    /// Sets the name of a conversation, in the column from which Codex reads it.
    Name { id: String, name: String },
    /// Sets the mode of a conversation.
    Mode { id: String, mode: &'static str },
}

/// Applies changes in one transaction, all or none. `changes` calls the given function with each of them.
/// No other process may use the database. SQLite also merges its `-wal` into it on closing.
///
/// # Errors
/// `changes` returns an error, SQLite fails, or the table requires a column that a new row does not have:
/// its schema is newer than this program.
pub(crate) fn apply_changes<E: From<DatabaseError>>(
    path: &Path,
    changes: impl FnOnce(&mut dyn FnMut(&RowChange) -> Result<(), DatabaseError>) -> Result<(), E>,
) -> Result<(), E> {
    let mut connection = database::open_for_changes(path, LOCK_TIMEOUT)?;
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .on("change", path)?;
    let schema = Schema::of(&transaction).on("read", path)?;
    changes(&mut |change| apply(&transaction, &schema, change).on("change", path))?;
    transaction.commit().on(COMMIT, path)?;
    connection.close().map_err(|(_, e)| e).on(COMMIT, path)?;
    Ok(())
}

fn apply(connection: &Connection, schema: &Schema, change: &RowChange) -> rusqlite::Result<()> {
    match change {
        RowChange::Path { id, path, archived } => set_path(connection, schema, id, path, *archived),
        RowChange::Insert(row) => insert(connection, schema, row),
        RowChange::Name { id, name } => set_name(connection, schema, id, name),
        RowChange::Mode { id, mode } => {
            let sql = "UPDATE threads SET history_mode=?2 WHERE id=?1";
            connection.execute(sql, params![id, mode]).map(|_| ())
        }
    }
}

fn set_path(
    connection: &Connection,
    schema: &Schema,
    id: &str,
    path: &str,
    archived: bool,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE threads SET rollout_path=?2 WHERE id=?1")?
        .execute(params![id, path])?;
    if schema.has("archived") {
        connection
            .prepare_cached("UPDATE threads SET archived=?2 WHERE id=?1 AND archived<>?2")?
            .execute(params![id, archived])?;
    }
    if schema.has("archived_at") {
        connection
            .prepare_cached(
                "UPDATE threads SET archived_at=CASE WHEN ?2 THEN \
                 coalesce(archived_at, updated_at) END WHERE id=?1",
            )?
            .execute(params![id, archived])?;
    }
    Ok(())
}

fn insert(connection: &Connection, schema: &Schema, row: &NewRow) -> rusqlite::Result<()> {
    if let Some(missing) = schema.required().find(|name| !row.contains_key(*name)) {
        return Err(rusqlite::Error::InvalidColumnName(missing.to_owned()));
    }
    let known = row.iter().filter(|(name, _)| schema.has(name));
    let (names, values): (Vec<_>, Vec<_>) = known
        .map(|(name, value)| (format!("\"{name}\""), value))
        .unzip();
    let places = vec!["?"; names.len()].join(",");
    let values = values.into_iter().map(|value| match value {
        NewValue::Text(text) => Value::Text(text.clone()),
        NewValue::Number(number) => Value::Integer(*number),
    });
    connection
        .prepare_cached(&format!(
            "INSERT OR IGNORE INTO threads({}) VALUES({places})",
            names.join(",")
        ))?
        .execute(params_from_iter(values))?;
    Ok(())
}

fn set_name(
    connection: &Connection,
    schema: &Schema,
    id: &str,
    name: &str,
) -> rusqlite::Result<()> {
    // Codex lists an old conversation by its title, a paginated one by its name (0.169).
    let mode: Option<String> = if schema.has("history_mode") {
        connection.query_row(
            "SELECT history_mode FROM threads WHERE id=?1",
            [id],
            |row| row.get(0),
        )?
    } else {
        None
    };
    let column = match mode.as_deref() {
        Some(PAGINATED) if schema.has("name") => "name",
        _ if schema.has("title") => "title",
        _ => return Ok(()),
    };
    connection
        .prepare_cached(&format!("UPDATE threads SET {column}=?2 WHERE id=?1"))?
        .execute(params![id, name])?;
    Ok(())
}
