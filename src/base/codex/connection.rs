//! Opens SQLite databases, for the whole program.
//!
//! A database of Codex may come from another person's archive or cloud folder. So nothing that is stored in one
//! runs: no trigger, no view, no function of a schema that SQLite does not trust, and no extension.

use crate::io::{beneath, events, file_open, owner, progress, user};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::borrow::Cow;
use std::io;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads a database that another process may be writing to.
    Read,
    /// Like [`Access::Read`], without creating or changing the index of a WAL.
    ReadInPlace,
    /// Reads a database that no process writes to, without a lock.
    ReadImmutable,
    /// Reads and writes an existing database.
    Write,
    /// Reads and writes a database, and creates it if it does not exist.
    Create,
}

impl Access {
    /// Returns the flags, and the parameters of the URI by which the database is opened, if any.
    fn flags_and_parameters(self) -> (OpenFlags, Option<&'static str>) {
        let reads = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let writes = OpenFlags::SQLITE_OPEN_READ_WRITE;
        match self {
            Self::Read => (reads, None),
            Self::ReadInPlace => (reads, Some("mode=ro&readonly_shm=1")),
            Self::ReadImmutable => (reads, Some("immutable=1")),
            Self::Write => (writes, None),
            Self::Create => (writes | OpenFlags::SQLITE_OPEN_CREATE, None),
        }
    }
}

/// The number of SQLite's instructions between two calls of the progress handler.
const PROGRESS_INTERVAL: i32 = 10_000;

/// The number of calls of the progress handler, for all queries of a read-only connection together, after which the
/// connection ends its query. So many calls take minutes, a hundred times longer than any query of the largest home. A
/// clock would include the caller's work between two rows.
const MAX_PROGRESS_CALLS: u64 = 1_000_000;

/// Opens a regular file as a database. SQLite would wait forever at a pipe.
///
/// A query on a read-only connection fails with [`ffi::SQLITE_INTERRUPT`] if the user interrupts, or after
/// [`MAX_PROGRESS_CALLS`]. A connection that writes is never interrupted: an interrupted command cleans up with it.
pub fn open(path: &Path, access: Access) -> rusqlite::Result<Connection> {
    let cannot_open = |e: io::Error| sqlite_error(ffi::SQLITE_CANTOPEN, e.to_string());
    let mut followed = Cow::Borrowed(path);
    if user::is_root() {
        // SQLite follows links in the path.
        beneath::resolve(path).map_err(cannot_open)?;
        followed = user::followed_path(path).map_err(cannot_open)?;
    }
    let path = &*followed;
    if access == Access::Create {
        // If this fails, SQLite reports the problem when it opens the path.
        let _ = owner::create_file_if_missing(path);
    } else {
        let checked = file_open::require_file_if_exists(path);
        checked.map_err(cannot_open)?;
    }

    let (flags, parameters) = access.flags_and_parameters();
    // Each connection is used by one thread at a time, so SQLite needs no lock around it.
    let mut flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if matches!(followed, Cow::Owned(_)) {
        // The path has no links. The user may have put one there since.
        flags |= OpenFlags::SQLITE_OPEN_NOFOLLOW;
    }
    let mut connection = match parameters {
        Some(parameters) => {
            // In a URI `?` and `#` end the path, and `%` begins an escape.
            let escaped = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
            let uri = format!("file:{escaped}?{parameters}");
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)
        }
        None => Connection::open_with_flags(path, flags),
    }?;

    for (setting, is_on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, is_on)?;
    }

    if flags.contains(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        limit_queries(MAX_PROGRESS_CALLS, &mut connection)?;
    }

    events::trace!("opened {}", path.display());
    Ok(connection)
}

fn limit_queries(progress_calls: u64, connection: &mut Connection) -> rusqlite::Result<()> {
    let mut calls_left = progress_calls;
    let should_end = move || {
        calls_left = calls_left.saturating_sub(1);
        calls_left == 0 || progress::is_interrupted()
    };
    connection.progress_handler(PROGRESS_INTERVAL, Some(should_end))
}

/// Fails with [`ffi::SQLITE_AUTH`] unless the list of conversations is an ordinary table, as Codex creates it.
pub(super) fn require_ordinary_threads_table(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT CASE WHEN type = 'view' THEN 'a view' WHEN rootpage = 0 THEN 'a virtual table' \
                      WHEN EXISTS (SELECT 1 FROM pragma_table_xinfo('threads') WHERE hidden <> 0) \
                      THEN 'a table that computes columns' END \
               FROM main.sqlite_master \
               WHERE type IN ('table', 'view') AND name = 'threads' COLLATE NOCASE";

    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    // The form of an ordinary table is NULL.
    while let Some(row) = rows.next()? {
        if let Some(form) = row.get::<_, Option<String>>(0)? {
            return Err(sqlite_error(ffi::SQLITE_AUTH, format!("threads is {form}")));
        }
    }
    Ok(())
}

fn sqlite_error(code: i32, message: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state_5.sqlite");
        open(&path, Access::Create)
            .unwrap()
            .execute_batch(sql)
            .unwrap();
        (folder, path)
    }

    #[test]
    fn a_trigger_never_fires() {
        let (_folder, path) = database(
            "CREATE TABLE t(x); CREATE TABLE fired(x);
             CREATE TRIGGER hook AFTER INSERT ON t BEGIN INSERT INTO fired VALUES(1); END;",
        );
        let connection = open(&path, Access::Write).unwrap();
        connection.execute_batch("INSERT INTO t VALUES(1)").unwrap();
        let fired: i64 = connection
            .query_row("SELECT count(*) FROM fired", [], |row| row.get(0))
            .unwrap();
        assert_eq!(fired, 0);
    }

    #[test]
    fn a_list_of_conversations_that_is_no_ordinary_table_is_refused() {
        for (sql, expected) in [
            ("CREATE TABLE threads(id TEXT PRIMARY KEY)", None),
            ("CREATE TABLE other(id)", None),
            (
                "CREATE VIEW Threads AS SELECT 1 AS id",
                Some("threads is a view"),
            ),
            (
                "CREATE VIRTUAL TABLE threads USING fts5(id)",
                Some("threads is a virtual table"),
            ),
            (
                "CREATE TABLE threads(id, title AS (hex(zeroblob(9))))",
                Some("threads is a table that computes columns"),
            ),
        ] {
            let (_folder, path) = database(sql);
            let checked = require_ordinary_threads_table(&open(&path, Access::Read).unwrap());
            let message = checked.err().map(|e| e.to_string());
            assert_eq!(message.as_deref(), expected, "{sql}");
        }
    }

    #[test]
    fn views_extensions_and_schema_changes_are_refused() {
        let (_folder, path) = database("CREATE TABLE t(x); CREATE VIEW v AS SELECT 1 AS x;");
        let connection = open(&path, Access::Write).unwrap();
        for sql in [
            "SELECT x FROM v",
            "SELECT load_extension('x')",
            "PRAGMA writable_schema=ON; DELETE FROM sqlite_master",
        ] {
            let run = connection.execute_batch(sql);
            assert!(run.is_err(), "{sql}");
        }
    }

    #[test]
    fn an_endless_query_is_interrupted() {
        let (_folder, path) = database("CREATE TABLE t(x);");
        let mut connection = open(&path, Access::ReadImmutable).unwrap();
        limit_queries(100, &mut connection).unwrap();
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let ended = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let code = ended.unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::OperationInterrupted));
    }
}
