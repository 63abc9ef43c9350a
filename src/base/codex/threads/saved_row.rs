//! A row of the table `threads` with all its columns, taken out of the live database and put back.
//!
//! Codex may have the database open: each change is one transaction. Rows of other tables stay.

use super::row_values::RowValues;
use super::schema::Schema;
use super::staged;
use crate::codex::database::{self, DatabaseError, SqliteContext};
use crate::codex::database_view;
use rusqlite::Connection;
use rusqlite::types::Value;
use std::path::Path;

/// Reads the row of the conversation `id`; `None` if there is no row. Changes no file.
///
/// # Errors
/// The database cannot be read, or has no table `threads`.
pub(crate) fn read(path: &Path, id: &str) -> Result<Option<RowValues>, DatabaseError> {
    database_view::run_query(path, |connection| {
        let mut select = connection.prepare("SELECT * FROM threads WHERE id=?1 COLLATE NOCASE")?;
        let names: Vec<String> = select.column_names().map(Into::into).collect();
        let mut rows = select.query([id])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };

        let mut values = RowValues::default();
        for (i, name) in names.iter().enumerate() {
            values.set(name, row.get::<_, Value>(i)?);
        }

        Ok(Some(values))
    })
}

/// Deletes the row of the conversation `id`, if it has one. Durable on return.
///
/// # Errors
/// SQLite fails, or another process locks the database for more than five seconds.
pub(crate) fn delete(path: &Path, id: &str) -> Result<(), DatabaseError> {
    database::run_in_transaction(open_without_foreign_keys(path)?, path, |transaction| {
        let sql = "DELETE FROM threads WHERE id=?1 COLLATE NOCASE";
        transaction.execute(sql, [id]).map(drop)
    })
}

/// Adds a row. If the conversation has a row, only completes its name, pin, project and section. Skips columns that the
/// table does not have. Durable on return.
///
/// # Errors
/// SQLite fails, or another process locks the database for more than five seconds.
pub(crate) fn insert(path: &Path, row: &RowValues) -> Result<(), DatabaseError> {
    database::run_in_transaction(open_without_foreign_keys(path)?, path, |transaction| {
        if row.insert_into(transaction, &Schema::read(transaction)?)? > 0 {
            staged::fill_missing_times(transaction);
        }
        Ok(())
    })
}

fn open_without_foreign_keys(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = database::open_for_changes(path)?;
    // Deleting the row must not delete rows of other tables, which the conversation needs when it is put back.
    connection
        .execute_batch("PRAGMA foreign_keys=OFF; PRAGMA synchronous=FULL;")
        .sqlite_context("open", path)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_row_has_all_its_values_and_related_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch(
                "PRAGMA foreign_keys=ON;
                 CREATE TABLE threads(id TEXT PRIMARY KEY, n INTEGER, r REAL, b BLOB, t TEXT);
                 CREATE TABLE tools(thread_id TEXT REFERENCES threads(id) ON DELETE CASCADE);
                 INSERT INTO threads VALUES('a', 1, 0.5, x'00ff', NULL), ('b', 2, 1, x'', 'x');
                 INSERT INTO tools VALUES('a');",
            )
            .unwrap();
        let row = read(&path, "A").unwrap().expect("a row");
        delete(&path, "a").unwrap();
        assert_eq!(read(&path, "a").unwrap(), None);
        let text = serde_json::to_string(&row).unwrap();
        let again: RowValues = serde_json::from_str(&text).unwrap();
        database
            .execute_batch("ALTER TABLE threads DROP COLUMN r")
            .unwrap();
        insert(&path, &again).unwrap();
        insert(&path, &again).unwrap();
        let back = read(&path, "a").unwrap().expect("a row");
        let mut expected = row;
        expected.remove("r");
        assert_eq!(back, expected);
        let tools: i64 = database
            .query_row("SELECT count(*) FROM tools", [], |r| r.get(0))
            .unwrap();
        assert_eq!(tools, 1);
    }

    #[test]
    fn a_restored_row_completes_the_one_that_codex_created_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        let database = Connection::open(&path).unwrap();
        let user_values = "'mine', 1, 'p', 's', 3";
        let columns = "id TEXT PRIMARY KEY, title TEXT, name TEXT, is_pinned INTEGER NOT NULL, project_id TEXT,
             thread_section_id TEXT, section_position INTEGER";
        database
            .execute_batch(&format!(
                "CREATE TABLE threads({columns}); INSERT INTO threads VALUES('a', 'old', {user_values});"
            ))
            .unwrap();
        let row = read(&path, "a").unwrap().expect("a row");
        for (values, expected) in [
            ("NULL, 0, NULL, NULL, NULL", user_values),
            ("'later', 0, 'q', 't', 4", "'later', 1, 'q', 't', 4"),
        ] {
            let replace = format!("INSERT OR REPLACE INTO threads VALUES('a', 'new', {values})");
            database.execute_batch(&replace).unwrap();
            insert(&path, &row).unwrap();
            let sql = format!(
                "SELECT count(*) FROM threads WHERE (title, name, is_pinned, project_id, thread_section_id,
                 section_position) = ('new', {expected})"
            );
            let count: i64 = database.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert_eq!(count, 1, "{values}");
        }
    }
}
