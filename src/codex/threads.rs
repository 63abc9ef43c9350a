//! Reads and changes the table `threads` of the state database, from which Codex lists conversations.
//!
//! Codex's versions add columns (0.169 has 47), so only existing columns are read and written. Other
//! tables are never changed.

use super::config::CodexConfig;
use super::database::{self, COMMIT, DatabaseError, SqliteContext};
use super::{database_view, home};
use crate::io::environment::Environment;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, TransactionBehavior, params, params_from_iter};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time limit for a transaction of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The mode of conversations whose turns Codex shows from a projection.
pub(crate) const PAGINATED: &str = "paginated";

/// One row of the table. Fields are empty if the column is missing, NULL, or of an unexpected type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ThreadRow {
    /// The conversation's id in its original spelling.
    pub id: String,
    /// The absolute path of its rollout, in its plain form.
    pub rollout_path: String,
    /// The time of its creation in milliseconds since 1970.
    pub created_ms: Option<i64>,
    /// The time of its last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    /// The first message, or for old conversations the name that the user chose.
    pub title: String,
    /// The name that the user chose, for paginated conversations.
    pub name: String,
    /// The first message of the user.
    pub first_user_message: String,
    /// True if the conversation is archived.
    pub archived: bool,
    /// The form of the conversation: `legacy`, [`PAGINATED`], or empty in older versions.
    pub mode: String,
    /// The folder that the conversation works in.
    pub cwd: String,
    /// The id of the workspace account that created it; empty if Codex recorded none.
    pub account_id: String,
}

impl ThreadRow {
    /// Returns true for paginated conversations, whose name is in `name` and not in `title`.
    pub(crate) fn is_paginated(&self) -> bool {
        self.mode == PAGINATED
    }

    /// Returns the name that the user chose; `None` if the conversation is listed by its first message.
    pub(crate) fn given_name(&self) -> Option<&str> {
        let name = self.name.trim();
        if !name.is_empty() {
            return Some(&self.name);
        }
        // Old conversations have no name column: a title that differs from the first message is a name.
        let is_name = !self.is_paginated()
            && !self.title.trim().is_empty()
            && !self.first_user_message.is_empty()
            && !self
                .first_user_message
                .trim()
                .starts_with(self.title.trim());
        is_name.then_some(&*self.title)
    }
}

/// Finds the state database of `home`: the one with the highest number in the folder that Codex uses,
/// else in the home's `sqlite/`.
pub(crate) fn find_state_database(home: &Path, env: &Environment) -> Option<PathBuf> {
    let folder = state_folder(home, env);
    newest_state(&folder).or_else(|| newest_state(&home.join(home::SQLITE_FOLDER)))
}

/// Returns the folder in which Codex keeps the databases of `home`.
pub(crate) fn state_folder(home: &Path, env: &Environment) -> PathBuf {
    let configured = CodexConfig::read(home).database_folder(home, env);
    configured.unwrap_or_else(|| home.to_path_buf())
}

fn newest_state(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| home::is_database_named(path, home::STATE_DATABASE_PREFIX))
        .filter_map(|path| {
            let stem = path.file_stem()?.to_str()?;
            let number: u32 = stem
                .strip_prefix(home::STATE_DATABASE_PREFIX)?
                .parse()
                .ok()?;
            Some((number, path))
        })
        .max()
        .map(|(_, path)| path)
}

/// Folds the rows of the table with `each`, in descending order of their ids. Rows are read one by one,
/// because a table may be larger than memory. The fold starts with `start()`, and starts again if the
/// database changed meanwhile. `None` if it has no such table. Creates no file beside the database.
pub(crate) fn fold_rows<T>(
    path: &Path,
    start: impl Fn() -> T,
    each: impl FnMut(&mut T, ThreadRow),
) -> Result<Option<T>, DatabaseError> {
    fold_selected_rows(path, None, start, each)
}

/// Returns the rows with these ids. Ids without a row are skipped; empty if there is no such table.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn rows_of(path: &Path, ids: &[String]) -> Result<Vec<ThreadRow>, DatabaseError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = fold_selected_rows(path, Some(ids), Vec::new, Vec::push)?;
    Ok(rows.unwrap_or_default())
}

/// Returns the ids of the subagents of a conversation, and of theirs. Empty if the database does not
/// record them.
///
/// # Errors
/// The database cannot be read.
pub(crate) fn subagents_of(path: &Path, id: &str) -> Result<Vec<String>, DatabaseError> {
    const TABLE: &str = "thread_spawn_edges";
    if !database_view::table_names(path)?
        .iter()
        .any(|name| name == TABLE)
    {
        return Ok(Vec::new());
    }
    database_view::read(path, |connection| {
        let sql = "WITH RECURSIVE children(id) AS (
                       SELECT child_thread_id FROM thread_spawn_edges WHERE parent_thread_id = ?1
                       UNION
                       SELECT child_thread_id FROM thread_spawn_edges, children
                       WHERE parent_thread_id = children.id)
                   SELECT id FROM children ORDER BY id";
        let mut select = connection.prepare(sql)?;
        select.query_map([id], |row| row.get(0))?.collect()
    })
}

/// The columns that are read, in the order in which [`thread_row`] expects them.
const COLUMNS: [&str; 13] = [
    "id",
    "rollout_path",
    "created_at",
    "created_at_ms",
    "updated_at",
    "updated_at_ms",
    "title",
    "name",
    "first_user_message",
    "archived",
    "history_mode",
    "cwd",
    "creator_account_id",
];

fn fold_selected_rows<T>(
    path: &Path,
    ids: Option<&[String]>,
    start: impl Fn() -> T,
    mut each: impl FnMut(&mut T, ThreadRow),
) -> Result<Option<T>, DatabaseError> {
    database_view::read(path, |connection| {
        let columns = columns(connection)?;
        let known: BTreeSet<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        if !known.contains("id") {
            return Ok(None);
        }
        let ids = ids.unwrap_or_default();
        let mut statement = connection.prepare(&select_rows(&known, ids.len()))?;
        let mut rows = statement.query(params_from_iter(ids))?;
        let mut gathered = start();
        while let Some(row) = rows.next()? {
            let row = thread_row(row);
            if !row.id.is_empty() {
                each(&mut gathered, row);
            }
        }
        Ok(Some(gathered))
    })
}

/// Returns the query for all rows, or for those of `ids` many ids. Columns that are not `known` are NULL.
fn select_rows(known: &BTreeSet<&str>, ids: usize) -> String {
    let columns = COLUMNS.map(|name| if known.contains(name) { name } else { "NULL" });
    let filter = if ids == 0 {
        String::new()
    } else {
        format!("WHERE id IN ({})", vec!["?"; ids].join(","))
    };
    format!(
        "SELECT {} FROM threads {filter} ORDER BY id DESC",
        columns.join(",")
    )
}

fn thread_row(row: &Row<'_>) -> ThreadRow {
    let text = |i| row.get_ref(i).map(text).unwrap_or_default();
    let number = |i| row.get_ref(i).ok().and_then(number);
    ThreadRow {
        id: text(0),
        rollout_path: text(1),
        created_ms: millis(number(3), number(2)),
        updated_ms: millis(number(5), number(4)),
        title: text(6),
        name: text(7),
        first_user_message: text(8),
        archived: number(9).is_some_and(|n| n != 0),
        mode: text(10),
        cwd: text(11),
        account_id: text(12),
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            String::from_utf8_lossy(bytes).into_owned()
        }
        _ => String::new(),
    }
}

fn number(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(n) => Some(n),
        _ => None,
    }
}

/// Returns the milliseconds if the column exists, else converts the seconds. Zero means no time.
fn millis(millis: Option<i64>, seconds: Option<i64>) -> Option<i64> {
    let seconds = seconds.and_then(|s| s.checked_mul(1000));
    millis.filter(|n| *n > 0).or(seconds.filter(|n| *n > 0))
}

#[derive(Debug)]
struct Column {
    name: String,
    /// True if a new row needs a value in this column.
    is_required: bool,
}

fn columns(connection: &Connection) -> rusqlite::Result<Vec<Column>> {
    let mut statement = connection
        .prepare("SELECT name, \"notnull\", dflt_value, pk FROM pragma_table_info('threads')")?;
    let rows = statement.query_map([], |row| {
        let (not_null, default): (bool, Option<String>) = (row.get(1)?, row.get(2)?);
        Ok(Column {
            name: row.get(0)?,
            is_required: (not_null && default.is_none()) || row.get::<_, i64>(3)? > 0,
        })
    })?;
    rows.collect()
}

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

/// A change of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowChange {
    /// Sets the rollout path of a row, and its archived flag.
    Path {
        /// The id of the row.
        id: String,
        /// The absolute path of the rollout, in its plain form.
        path: String,
        /// True if the rollout is in `archived_sessions/`.
        archived: bool,
    },
    /// Adds a row. Does nothing if the conversation has a row by now.
    Insert(NewRow),
    /// Sets the name of a conversation, in the column from which Codex reads it.
    Name {
        /// The id of the row.
        id: String,
        /// The name to store.
        name: String,
    },
    /// Sets the mode of a conversation.
    Mode {
        /// The id of the row.
        id: String,
        /// The mode of its rollout.
        mode: &'static str,
    },
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
    let columns = columns(&transaction).on("read", path)?;
    changes(&mut |change| apply(&transaction, &columns, change).on("change", path))?;
    transaction.commit().on(COMMIT, path)?;
    connection.close().map_err(|(_, e)| e).on(COMMIT, path)?;
    Ok(())
}

fn apply(connection: &Connection, columns: &[Column], change: &RowChange) -> rusqlite::Result<()> {
    match change {
        RowChange::Path { id, path, archived } => {
            set_path(connection, columns, id, path, *archived)
        }
        RowChange::Insert(row) => insert(connection, columns, row),
        RowChange::Name { id, name } => set_name(connection, columns, id, name),
        RowChange::Mode { id, mode } => {
            let sql = "UPDATE threads SET history_mode=?2 WHERE id=?1";
            connection.execute(sql, params![id, mode]).map(|_| ())
        }
    }
}

fn has_column(columns: &[Column], name: &str) -> bool {
    columns.iter().any(|column| column.name == name)
}

fn set_path(
    connection: &Connection,
    columns: &[Column],
    id: &str,
    path: &str,
    archived: bool,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE threads SET rollout_path=?2 WHERE id=?1")?
        .execute(params![id, path])?;
    if has_column(columns, "archived") {
        connection
            .prepare_cached("UPDATE threads SET archived=?2 WHERE id=?1 AND archived<>?2")?
            .execute(params![id, archived])?;
    }
    if has_column(columns, "archived_at") {
        connection
            .prepare_cached(
                "UPDATE threads SET archived_at=CASE WHEN ?2 THEN \
                 coalesce(archived_at, updated_at) END WHERE id=?1",
            )?
            .execute(params![id, archived])?;
    }
    Ok(())
}

fn insert(connection: &Connection, columns: &[Column], row: &NewRow) -> rusqlite::Result<()> {
    let is_given = |column: &&Column| row.contains_key(&column.name);
    if let Some(missing) = columns.iter().find(|c| c.is_required && !is_given(c)) {
        return Err(rusqlite::Error::InvalidColumnName(missing.name.clone()));
    }
    let given: Vec<_> = columns.iter().filter(is_given).collect();
    let names: Vec<_> = given.iter().map(|c| format!("\"{}\"", c.name)).collect();
    let places = vec!["?"; given.len()].join(",");
    let values = given.iter().map(|c| match &row[&c.name] {
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
    columns: &[Column],
    id: &str,
    name: &str,
) -> rusqlite::Result<()> {
    // Codex lists an old conversation by its title, a paginated one by its name (0.169).
    let mode: Option<String> = if has_column(columns, "history_mode") {
        connection.query_row(
            "SELECT history_mode FROM threads WHERE id=?1",
            [id],
            |row| row.get(0),
        )?
    } else {
        None
    };
    let column = match mode.as_deref() {
        Some("paginated") if has_column(columns, "name") => "name",
        _ if has_column(columns, "title") => "title",
        _ => return Ok(()),
    };
    connection
        .prepare_cached(&format!("UPDATE threads SET {column}=?2 WHERE id=?1"))?
        .execute(params![id, name])?;
    Ok(())
}
