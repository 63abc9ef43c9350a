//! Changes the rows of conversations in staged databases: rewrites the paths of rollouts, copies rows
//! from a live database, deletes projections.

use super::changes::set_archived;
use super::row_values::{complete_on_conflict, replace_on_conflict};
use super::schema::Schema;
use crate::codex::connection::require_ordinary_threads_table;
use crate::codex::database::{
    DatabaseError, SqliteContext as _, open_for_changes, open_immutable, open_private,
    quote_identifier, run_in_transaction,
};
use crate::codex::home;
use crate::codex::rollout::{self, without_zst};
use crate::io::atomic::with_suffix;
use rusqlite::{Connection, ErrorCode, params};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Returns true if the database has a table of threads. Fails if it is not an ordinary table.
fn has_threads_table(connection: &Connection) -> rusqlite::Result<bool> {
    require_ordinary_threads_table(connection)?;
    let sql = "SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?1";
    let table_count: i64 = connection.query_row(sql, ["threads"], |row| row.get(0))?;
    Ok(table_count > 0)
}

/// Returns the id and rollout path of each thread in a state database. Empty if the database has no table of threads.
pub fn read_rollout_paths(path: &Path) -> Result<Vec<(String, String)>, DatabaseError> {
    let connection = open_immutable(path)?;
    if !has_threads_table(&connection).sqlite_context("read", path)? {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    for_each_thread(&connection, |id, path| {
        rows.push((id.to_owned(), path.to_owned()));
        Ok(())
    })
    .sqlite_context("read", path)?;
    Ok(rows)
}

/// The treatment of rows whose conversation has no rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmatchedRows {
    /// Unmatched rows keep their path. Rows whose path names their rollout below another home keep it as well.
    Keep,
    /// Unmatched rows get a path below the home, like all other rows.
    Rebase,
}

/// The locations of rollouts in a home.
pub trait RolloutLocations {
    /// Returns the path of a conversation's rollout, relative to the home.
    fn path_of(&self, id: &str) -> Option<PathBuf>;

    /// Returns true if a path relative to the home is one of the rollouts.
    fn has(&self, path: &Path) -> bool;
}

/// Rewrites the rollout paths in a staged state database to rollouts below `home`. Returns the number
/// of changed rows.
///
/// The part of a path from `sessions/` or `archived_sessions/` on is kept if `rollouts` has that file and no rewind
/// began a later rollout. Otherwise the rollout is found by the thread's id. Such a thread becomes archived if its
/// rollout is in `archived_sessions/`, and unarchived otherwise.
pub fn rewrite_rollout_paths(
    database: &Path,
    home: &Path,
    rollouts: &dyn RolloutLocations,
    unmatched: UnmatchedRows,
) -> Result<usize, DatabaseError> {
    let plan_update = |id: &str, old_path: &str| {
        let target = choose_target_path(id, Path::new(old_path), rollouts, unmatched)?;
        let new_path = home.join(&target.relative);
        (Path::new(old_path) != new_path).then_some((new_path, target.new_archived))
    };

    // The first walk only reads, so that a database without changes is not written.
    let mut has_changes = false;
    let connection = open_immutable(database)?;
    if !has_threads_table(&connection).sqlite_context("read", database)? {
        return Ok(0);
    }

    for_each_thread(&connection, |id, old_path| {
        has_changes |= plan_update(id, old_path).is_some();
        Ok(())
    })
    .sqlite_context("read", database)?;
    drop(connection);
    if !has_changes {
        return Ok(0);
    }

    run_in_transaction(open_private(database)?, database, |transaction| {
        let schema = Schema::read(transaction)?;
        let mut changed_count = 0;

        // Updating rows during the walk is safe: neither their key nor the order of the walk changes.
        for_each_thread(transaction, |id, old_path| {
            let Some((new_path, new_archived)) = plan_update(id, old_path) else {
                return Ok(());
            };

            changed_count += 1;
            // Codex stores paths as text, so a home path that is not UTF-8 cannot be stored exactly.
            transaction
                .prepare_cached("UPDATE threads SET rollout_path=?2 WHERE id=?1")?
                .execute(params![id, new_path.to_string_lossy()])?;

            match new_archived {
                Some(archived) => set_archived(transaction, &schema, id, archived),
                None => Ok(()),
            }
        })?;

        Ok(changed_count)
    })
}

/// Calls `visit` with the id and rollout path of each thread.
fn for_each_thread(
    connection: &Connection,
    mut visit: impl FnMut(&str, &str) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id, rollout_path FROM threads NOT INDEXED")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, path): (String, String) = (row.get(0)?, row.get(1)?);
        visit(&id, &path)?;
    }
    Ok(())
}

/// The rollout path of a row, relative to the home.
struct TargetPath {
    relative: PathBuf,
    /// The new archived flag of the thread; `None` if it stays as it is.
    new_archived: Option<bool>,
}

/// Returns the new path of a row; `None` if the row stays unchanged.
fn choose_target_path(
    id: &str,
    old_path: &Path,
    rollouts: &dyn RolloutLocations,
    unmatched: UnmatchedRows,
) -> Option<TargetPath> {
    // Codex records the path of a compressed rollout with or without `.zst`, and finds the rollout by both.
    let has_rollout = |path: &Path| {
        let plain = without_zst(path);
        rollouts.has(plain) || rollouts.has(&with_suffix(plain, rollout::ZST))
    };

    let (recorded_path, path_by_id) = (path_within_home(old_path), rollouts.path_of(id));
    let is_rewound = |path: &Path| {
        let by_id = path_by_id.as_ref();
        by_id.is_some_and(|by_id| rollout::is_later_rollout(by_id, path))
    };
    let is_current = |path: &PathBuf| has_rollout(path) && !is_rewound(path);

    let keeps_path = recorded_path.as_ref().is_some_and(is_current);
    if !keeps_path && let Some(path_by_id) = &path_by_id {
        let relative = without_zst(path_by_id).to_path_buf();
        let is_archived = relative.starts_with(home::ARCHIVED_SESSIONS);
        return Some(TargetPath {
            relative,
            new_archived: Some(is_archived),
        });
    }

    // A row without a rollout must not keep a path outside of the home, so it gets a name that no file has.
    let missing_path =
        || Path::new(home::SESSIONS).join(format!("missing-{}.jsonl", sanitize_for_file_name(id)));
    match unmatched {
        UnmatchedRows::Keep => None,
        // The recorded path of a known rollout may be below another home.
        UnmatchedRows::Rebase => Some(TargetPath {
            relative: recorded_path.unwrap_or_else(missing_path),
            new_archived: None,
        }),
    }
}

fn sanitize_for_file_name(id: &str) -> String {
    id.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect()
}

/// Returns the part of a rollout's path from `sessions/` or `archived_sessions/` on. The last such folder
/// counts, because the home may itself be below a folder of that name.
fn path_within_home(path: &Path) -> Option<PathBuf> {
    let components: Vec<_> = path.components().collect();
    let top_index = components.iter().rposition(|component| {
        let name = component.as_os_str();
        name == home::SESSIONS || name == home::ARCHIVED_SESSIONS
    })?;
    let relative: PathBuf = components[top_index..].iter().collect();
    let is_normal = relative
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)));
    is_normal.then_some(relative)
}

/// The rows that [`copy_rows`] copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowGroup {
    /// Like [`RowGroup::Threads`], for threads without a row in the staged database.
    MissingThreads,
    /// Name, pin, project and section, for threads whose row in the staged database lacks them.
    UserValues,
    /// The rows of the table `threads` with their data and the parent of a subagent; they replace the staged rows. Also
    /// the projects and sections of these threads that the staged database lacks.
    Threads,
    /// All rows with the column `thread_id`; they replace the staged rows. In a projection database, the column has the
    /// ids of rollouts.
    ThreadData,
}

/// The tables without a column `thread_id` that have rows of a thread: table, key, and the column of `threads` with the
/// value of the key. Each table comes after the tables that its rows refer to.
const OTHER_TABLES: [(&str, &str, &str); 5] = [
    ("thread_sections", "id", "thread_section_id"),
    ("projects", "id", "project_id"),
    ("project_roots", "project_id", "project_id"),
    ("threads", "id", "id"),
    ("thread_spawn_edges", "child_thread_id", "id"),
];

/// Copies the rows of the threads or rollouts in `ids` from `live` to a staged database. No process may use `live`.
/// Copies only columns that both databases have, and skips rows that the staged database rejects. Returns the number
/// of copied rows.
pub fn copy_rows(
    staged: &Path,
    live: &Path,
    ids: &HashSet<String>,
    group: RowGroup,
) -> Result<usize, DatabaseError> {
    copy_rows_into(open_private(staged)?, staged, live, ids, group)
}

/// Copies the projections of the rollouts in `ids` from the database `from` to the `database` of a home, where they
/// replace the projections of the same rollouts. One transaction; durable on return. No process may use the home.
///
/// # Errors
/// SQLite fails, or another process locks the database for more than five seconds.
pub(crate) fn replace_projections(
    database: &Path,
    from: &Path,
    ids: &HashSet<String>,
) -> Result<(), DatabaseError> {
    let connection = open_for_changes(database)?;
    connection
        .execute_batch("PRAGMA synchronous=FULL")
        .sqlite_context("open", database)?;
    copy_rows_into(connection, database, from, ids, RowGroup::ThreadData).map(drop)
}

fn copy_rows_into(
    connection: Connection,
    staged: &Path,
    live: &Path,
    ids: &HashSet<String>,
    group: RowGroup,
) -> Result<usize, DatabaseError> {
    connection
        .execute("ATTACH DATABASE ?1 AS live", [&*live.to_string_lossy()])
        .sqlite_context("open", live)?;

    run_in_transaction(connection, staged, |transaction| {
        let mut ids: Vec<_> = ids.iter().map(String::as_str).collect();
        if matches!(group, RowGroup::MissingThreads | RowGroup::UserValues)
            && has_threads_table(transaction)?
        {
            let mut find = transaction.prepare("SELECT 1 FROM main.threads WHERE id=?1")?;
            let mut is_staged = |id: &str| find.exists([id]).unwrap_or(false);
            if group == RowGroup::UserValues {
                ids.retain(|id| is_staged(id));
            } else {
                ids.retain(|id| !is_staged(id));
            }
        }

        let data_tables = match group {
            RowGroup::UserValues => Vec::new(),
            _ => list_tables_with_thread_id(transaction)?,
        };
        let data_tables = data_tables
            .iter()
            .map(|table| (&**table, "thread_id", "id"));
        let other_tables = OTHER_TABLES.iter().filter(|(table, ..)| match group {
            RowGroup::MissingThreads | RowGroup::Threads => true,
            // The user does not set the parent of a subagent.
            RowGroup::UserValues => *table != "thread_spawn_edges",
            RowGroup::ThreadData => false,
        });
        let tables = other_tables.copied().chain(data_tables);
        tables
            .map(|table| copy_table(transaction, table, &ids, group))
            .sum()
    })
}

/// Copies the rows of one table, which is described as in [`OTHER_TABLES`]. Returns the number of copied rows.
fn copy_table(
    transaction: &Connection,
    (table, key, thread_column): (&str, &str, &str),
    ids: &[&str],
    group: RowGroup,
) -> rusqlite::Result<usize> {
    let columns = quoted_common_columns(transaction, table)?;
    // A live database of another version of Codex may lack the table.
    if !columns.contains(&quote_identifier(key)) {
        return Ok(0);
    }

    // A section or project may belong to several threads, so its rows must not be deleted.
    let is_of_one_thread = thread_column == "id";
    let condition = if is_of_one_thread {
        format!("{key}=?1")
    } else {
        format!("{key}=(SELECT {thread_column} FROM live.threads WHERE id=?1)")
    };
    // A row of `threads` is updated in place: deleting it would also delete the rows that refer to it.
    let deletes_old_rows =
        is_of_one_thread && table != "threads" && group != RowGroup::MissingThreads;
    let on_conflict = match (table, group) {
        ("threads", RowGroup::UserValues) => complete_on_conflict(&columns),
        ("threads", _) => replace_on_conflict(&columns),
        _ => "ON CONFLICT DO NOTHING".to_owned(),
    };
    let (quoted_table, column_list) = (quote_identifier(table), columns.join(","));
    let delete_sql = format!("DELETE FROM main.{quoted_table} WHERE {condition}");
    let mut delete = transaction.prepare(&delete_sql)?;
    let mut insert = transaction.prepare(&format!(
        "INSERT OR IGNORE INTO main.{quoted_table}({column_list}) \
         SELECT {column_list} FROM live.{quoted_table} WHERE {condition} {on_conflict}"
    ))?;

    let mut copied_count = 0;
    for id in ids {
        if deletes_old_rows {
            delete.execute([id])?;
        }
        let copied_rows = match insert.execute([id]) {
            // The row is damaged, or the staged schema rejects it. Codex creates it again from the rollout.
            Err(e) if is_row_error(&e) => 0,
            inserted => inserted?,
        };
        if table == "threads" && copied_rows > 0 {
            fill_missing_times(transaction);
        }
        copied_count += copied_rows;
    }

    Ok(copied_count)
}

/// Returns true if the row is the cause of the error, not the disk or the transaction.
fn is_row_error(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::DatabaseCorrupt)
    )
}

/// Fills in the times of the row that was added last, as triggers of Codex 0.169 do: no trigger fires on a
/// connection of this program.
pub(super) fn fill_missing_times(connection: &Connection) {
    for change in [
        "created_at_ms=created_at*1000 WHERE created_at_ms IS NULL",
        "updated_at_ms=updated_at*1000 WHERE updated_at_ms IS NULL",
        "recency_at=updated_at, recency_at_ms=updated_at_ms WHERE recency_at_ms=0",
    ] {
        // Fails on an older schema, which has no such columns.
        let sql = format!("UPDATE threads SET {change} AND rowid=last_insert_rowid()");
        let _ = connection.execute(&sql, []);
    }
}

/// Returns the quoted names of the columns of `table` that the database and the attached `live` share.
fn quoted_common_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let read_columns = |schema: &str| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1, ?2)")?;
        let rows = statement.query_map([table, schema], |row| row.get::<_, String>(0))?;
        rows.collect()
    };
    let (staged, live) = (read_columns("main")?, read_columns("live")?);
    let common = staged.iter().filter(|c| live.contains(c));
    Ok(common.map(|c| quote_identifier(c)).collect())
}

/// Returns the names of the tables with a column `thread_id`.
fn list_tables_with_thread_id(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT m.name FROM main.sqlite_master m WHERE m.type='table' AND EXISTS \
         (SELECT 1 FROM pragma_table_info(m.name, 'main') c WHERE c.name='thread_id')",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// Deletes the projections of the rollouts in `ids` from a staged database, because their byte
/// offsets no longer match the rollouts. Codex creates them again at the next resume.
pub fn delete_projections(database: &Path, ids: &HashSet<String>) -> Result<(), DatabaseError> {
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    run_in_transaction(open_private(database)?, database, |transaction| {
        delete_rows_with_thread_id(transaction, &ids)
    })
}

pub(super) fn delete_rows_with_thread_id(
    transaction: &Connection,
    ids: &[&str],
) -> rusqlite::Result<()> {
    for table in list_tables_with_thread_id(transaction)? {
        let quoted = quote_identifier(&table);
        let mut delete =
            transaction.prepare(&format!("DELETE FROM {quoted} WHERE thread_id=?1"))?;
        for id in ids {
            delete.execute([id])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_within_the_home_begins_at_the_last_conversation_folder_and_never_goes_up() {
        for (path, tail) in [
            (
                "/old/.codex/sessions/2026/11/20/r.jsonl",
                Some("sessions/2026/11/20/r.jsonl"),
            ),
            (
                "/sessions/u/.codex/archived_sessions/r.jsonl",
                Some("archived_sessions/r.jsonl"),
            ),
            ("/old/sessions/../../etc/passwd", None),
            ("x", None),
        ] {
            assert_eq!(
                path_within_home(Path::new(path)),
                tail.map(PathBuf::from),
                "{path}"
            );
        }
    }
}
