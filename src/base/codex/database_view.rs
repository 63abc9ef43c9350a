//! Reads a live database in place, without creating or changing any file.

use super::connection::{self, Access, require_ordinary_threads_table};
use super::database::{
    DatabaseError, JOURNAL_SUFFIX, SqliteContext, copy_with_log, needs_rollback, stat_without_wal,
};
use super::home;
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

/// The longest wait for another process that locks the whole database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// The number of attempts to read a database while its files keep changing.
const MAX_ATTEMPTS: u32 = 4;

/// Runs `query` on the database at `path` in one read transaction, with the rows of its `-wal`.
///
/// Creates and changes no file beside the database. The index of a WAL (`-shm`) is opened read-only. If it is missing,
/// or if a killed process left a rollback journal, `query` runs on a temporary copy. `query` may run several times.
pub(crate) fn run_query<T>(
    path: &Path,
    mut query: impl FnMut(&Connection) -> rusqlite::Result<T>,
) -> Result<T, DatabaseError> {
    let mut query = |connection: &Connection| {
        require_ordinary_threads_table(connection)?;
        query(connection)
    };

    for attempt in 1.. {
        let may_retry = attempt < MAX_ATTEMPTS;
        // Without a WAL the file alone has all rows, and the same size and time afterwards show that no process wrote.
        if may_retry && let stat_before @ Some(_) = stat_without_wal(path) {
            let result = connection::open(path, Access::ReadImmutable)
                .and_then(|connection| query(&connection));
            if stat_before != stat_without_wal(path) {
                continue;
            }
            return result.sqlite_context("read", path);
        }

        let result = query_in_place(path, &mut query);
        let [wal, shm, _] = home::database_sidecars(path);
        // SQLite reports a missing `-shm` by this code, because it may not create one here.
        let lacks_wal_index = result
            .as_ref()
            .is_err_and(|e| e.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen));

        // The last process that closes a database removes the `-shm` before the WAL.
        if lacks_wal_index && !wal.exists() && may_retry {
            continue;
        }

        // To read these files in place, SQLite would have to write: apply the rollback journal, or create the missing
        // `-shm`. A process with the database open would have locked it, or created the `-shm`. So no process uses
        // these files, and a copy of them is consistent.
        let log_suffix = if result.as_ref().is_err_and(needs_rollback) {
            JOURNAL_SUFFIX
        } else if lacks_wal_index && !shm.exists() && wal.exists() {
            "-wal"
        } else {
            return result.sqlite_context("read", path);
        };

        match query_copy(path, log_suffix, &mut query)? {
            Some(rows) => return Ok(rows),
            None if may_retry => {}
            None => return result.sqlite_context("read", path),
        }
    }
    unreachable!("the loop above has no end")
}

fn query_in_place<T>(
    path: &Path,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let connection = connection::open(path, Access::ReadInPlace)?;
    connection.busy_timeout(LOCK_TIMEOUT)?;
    // One transaction, so that several statements of a query see the same rows.
    let transaction = connection.unchecked_transaction()?;
    query(&transaction)
}

/// Runs `query` on a temporary copy of a database with its log (`-wal` or `-journal`). `None` if another process
/// changed the log during the copy.
fn query_copy<T>(
    path: &Path,
    log_suffix: &str,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, DatabaseError> {
    let folder = tempfile::tempdir()
        // rusqlite has no variant for errors of files. This one holds any error.
        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
        .sqlite_context("copy", path)?;
    let copy = folder.path().join("database");
    if !copy_with_log(path, log_suffix, &copy).sqlite_context("copy", path)? {
        return Ok(None);
    }
    connection::open(&copy, Access::ReadImmutable)
        .and_then(|connection| query(&connection).map(Some))
        .sqlite_context("read", path)
}

/// Returns the names of all tables. Fails with [`DatabaseError::Damaged`] if SQLite cannot parse the
/// schema. Creates no file beside the database.
pub fn read_table_names(path: &Path) -> Result<Vec<String>, DatabaseError> {
    run_query(path, |connection| {
        connection
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?
            .query_map([], |row| row.get(0))?
            .collect()
    })
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_database_with_only_the_header_of_a_wal_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let [live, killed] = ["live", "killed"].map(|name| folder.path().join(name));
        let writer = connection::open(&live, Access::Create).unwrap();
        let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1); \
                   PRAGMA wal_checkpoint(TRUNCATE); SELECT * FROM t;";
        writer.execute_batch(sql).unwrap();
        let [live_wal, live_index, _] = home::database_sidecars(&live);
        let [killed_wal, killed_index, _] = home::database_sidecars(&killed);
        fs::copy(&live, &killed).unwrap();
        fs::copy(&live_index, &killed_index).unwrap();
        writer.execute_batch("INSERT INTO t VALUES(2)").unwrap();
        let wal = fs::read(&live_wal).unwrap();
        fs::write(&killed_wal, &wal[..32]).unwrap();
        let count = |path: &Path| {
            let sql = "SELECT count(*) FROM t";
            run_query(path, |c| c.query_row(sql, [], |row| row.get::<_, i64>(0))).unwrap()
        };
        assert_eq!([&live, &killed].map(|path| count(path)), [2, 1]);
        assert_eq!(fs::read(&killed_wal).unwrap(), wal[..32]);
    }
}
