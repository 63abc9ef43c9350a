//! Takes consistent snapshots of Codex's SQLite databases, and checks them.
//!
//! All of them are in WAL mode, including those that this program writes. Even when no Codex runs, all rows may be in
//! the `-wal`, and the `.sqlite` file an empty page. So a live database is never copied byte by byte.

use super::connection::{self, Access};
use super::home;
use crate::io::atomic::{self, with_suffix};
use crate::io::{file_open, progress, sharing};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, TransactionBehavior, ffi};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The first bytes of every SQLite database.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// The number of bytes that show if a file is a database.
pub const DATABASE_HEADER_BYTES: u64 = SQLITE_MAGIC.len() as u64;
/// The longest wait for a writer that blocks a snapshot because the database is not in WAL mode.
const WRITER_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest wait for another process that locks a database which is to be changed.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// A database that could not be used, with its path.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite reports that the content is damaged, or is no database.
    #[error("the database is damaged ({detail}): {}", path.display())]
    Damaged {
        path: PathBuf,
        /// The message of SQLite, on one line.
        detail: String,
    },
    /// The database does not have Codex's form: reading it could run statements that another person stored in it.
    #[error("the database is not one that Codex writes ({reason}): {}", path.display())]
    NotOfCodex {
        path: PathBuf,
        /// The difference from Codex's form, in lower case.
        reason: String,
    },
    /// An operation of SQLite failed for another reason.
    #[error("cannot {action} the database: {}", path.display())]
    Sqlite {
        /// The operation as a verb for the message: "open", "copy".
        action: &'static str,
        path: PathBuf,
        #[source]
        source: rusqlite::Error,
    },
}

/// The `action` in the error of a failed commit.
const COMMIT: &str = "commit a change to";

impl DatabaseError {
    /// Returns true if a commit failed. The transaction may be complete nevertheless: SQLite reports a failed flush of
    /// the write-ahead log, but readers apply the log.
    pub(crate) fn is_failed_commit(&self) -> bool {
        matches!(self, Self::Sqlite { action, .. } if *action == COMMIT)
    }

    /// Returns true if the database at `source` itself is the cause: it is damaged, or cannot be read.
    pub fn is_source_defect(&self, source: &Path) -> bool {
        // Errors of writing a copy have other codes.
        const READ_ERRORS: [i32; 6] = [
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_IOERR_FSTAT,
            ffi::SQLITE_IOERR_ACCESS,
            ffi::SQLITE_IOERR_CORRUPTFS,
            ffi::SQLITE_CANTOPEN,
        ];

        match self {
            Self::Damaged { .. } | Self::NotOfCodex { .. } => true,
            Self::Sqlite {
                path, source: e, ..
            } => {
                let code = e.sqlite_error().map(|e| e.extended_code);
                path == source && code.is_some_and(|code| READ_ERRORS.contains(&code))
            }
        }
    }

    /// Returns true if the machine is the cause (disk, memory, permissions, another process), so that
    /// the error proves nothing about the database.
    pub(crate) fn is_caused_by_machine(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if is_caused_by_machine(source))
    }

    /// Returns true if another process has locked the database for longer than a snapshot waits.
    pub(crate) fn is_locked(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        matches!(self, Self::Sqlite { source, .. }
            if matches!(source.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)))
    }

    /// Returns true if SQLite could not write because the disk is full.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull))
    }
}

pub(crate) fn is_caused_by_machine(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode as Code;

    matches!(
        error.sqlite_error_code(),
        Some(
            Code::SystemIoFailure
                | Code::CannotOpen
                | Code::OutOfMemory
                | Code::DiskFull
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::PermissionDenied
                | Code::ReadOnly
                | Code::OperationInterrupted
                | Code::FileLockingProtocolFailed
        )
    )
}

pub(super) trait SqliteContext<T> {
    fn sqlite_context(self, action: &'static str, path: &Path) -> Result<T, DatabaseError>;
}

impl<T> SqliteContext<T> for rusqlite::Result<T> {
    fn sqlite_context(self, action: &'static str, path: &Path) -> Result<T, DatabaseError> {
        use rusqlite::ErrorCode as Code;

        self.map_err(|source| match source.sqlite_error_code() {
            Some(Code::DatabaseCorrupt | Code::NotADatabase) => DatabaseError::Damaged {
                path: path.to_path_buf(),
                detail: source.to_string(),
            },
            // The error of `connection::require_ordinary_threads_table`.
            Some(Code::AuthorizationForStatementDenied) => DatabaseError::NotOfCodex {
                path: path.to_path_buf(),
                reason: source.to_string(),
            },
            // If the user did not interrupt the query, it has exceeded the limit of `connection`.
            Some(Code::OperationInterrupted) if !progress::is_interrupted() => {
                DatabaseError::NotOfCodex {
                    path: path.to_path_buf(),
                    reason: "a query takes too long".to_owned(),
                }
            }
            _ => DatabaseError::Sqlite {
                action,
                path: path.to_path_buf(),
                source,
            },
        })
    }
}

/// Returns true if the file begins like a SQLite database, or cannot be read: the caller then opens it
/// as a database and gets the error.
pub fn may_be_sqlite(path: &Path) -> bool {
    has_sqlite_header(path).unwrap_or(true)
}

/// Returns true if the file is a SQLite database, which its first bytes show, whatever its name; false if it cannot be
/// read.
pub fn is_database(path: &Path) -> bool {
    has_sqlite_header(path).unwrap_or(false)
}

/// Returns true if these are the first bytes of a SQLite database, at least [`DATABASE_HEADER_BYTES`].
pub fn begins_like_database(content: &[u8]) -> bool {
    content.starts_with(SQLITE_MAGIC)
}

/// Returns true if the file begins like a SQLite database; false if it does not exist.
pub fn has_sqlite_header(path: &Path) -> io::Result<bool> {
    use std::io::ErrorKind::{IsADirectory, NotFound, UnexpectedEof};
    let mut magic = [0; SQLITE_MAGIC.len()];
    match file_open::open(path).and_then(|mut f| f.read_exact(&mut magic)) {
        Ok(()) => Ok(begins_like_database(&magic)),
        Err(e) if matches!(e.kind(), NotFound | IsADirectory | UnexpectedEof) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Returns true if the file begins like the `-wal` or the rollback journal of a SQLite database.
pub fn begins_like_log(path: &Path) -> bool {
    // The last bit of the magic number of a `-wal` is the byte order of its checksums.
    const WAL: [[u8; 4]; 2] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83]];
    let mut start = [0; 8];
    let was_read = file_open::open(path).and_then(|mut f| f.read_exact(&mut start));
    let is_wal = WAL.iter().any(|magic| start.starts_with(magic));
    was_read.is_ok() && (is_wal || start == JOURNAL_MAGIC)
}

/// Writes a consistent copy of the database at `source` to the new file `target`, with the rows of its `-wal`, and
/// checks the copy. Uses one read transaction, which does not block a writer.
///
/// A database without a `-wal` is read as immutable, which creates no file beside it. If a writer appeared during the
/// copy, the copy is repeated. With a `-wal`, and at the last attempt, SQLite creates a missing `-shm`. A rollback
/// journal of a killed process is applied to the copy.
pub fn write_snapshot(source: &Path, target: &Path) -> Result<(), DatabaseError> {
    const MAX_ATTEMPTS: u32 = 5;

    for attempt in 1.. {
        let may_retry = attempt < MAX_ATTEMPTS;
        // An immutable database is read without locks and without a `-shm`, which cannot be created in a read-only
        // folder. The last attempt takes the locks, so it ends even while a writer is busy.
        let immutable_stat = may_retry.then(|| stat_without_wal(source)).flatten();
        let is_immutable = immutable_stat.is_some();

        let connection = open_source(source, is_immutable)?;
        let mut result = copy_pages(&connection, source, target);
        drop(connection);

        // Without locks, the copy may mix two states of the database.
        let mut is_disturbed = is_immutable && immutable_stat != stat_without_wal(source);

        let is_rollback_due =
            matches!(&result, Err(DatabaseError::Sqlite { source: e, .. }) if needs_rollback(e));
        if is_rollback_due && !is_disturbed {
            let copied = copy_with_log(source, JOURNAL_SUFFIX, target);
            is_disturbed = !copied.sqlite_context("copy", source)?;
            if !is_disturbed {
                result = Ok(());
            }
        }

        if is_disturbed && may_retry {
            continue;
        }
        return match result.and_then(|()| check_integrity(target)) {
            // A read or write error below SQLite can also damage the copy: check the source itself.
            Err(DatabaseError::Damaged { detail, .. }) => {
                Err(diagnose_damaged_copy(source, &detail))
            }
            copied => copied,
        };
    }
    unreachable!("the loop above has no end")
}

fn open_source(source: &Path, is_immutable: bool) -> Result<Connection, DatabaseError> {
    let access = if is_immutable {
        Access::ReadImmutable
    } else {
        Access::Read
    };
    connection::open(source, access).sqlite_context("open", source)
}

/// Finds the cause of a damaged copy of `source`: damage of the source, or an error of copying.
fn diagnose_damaged_copy(source: &Path, detail: &str) -> DatabaseError {
    let is_immutable = stat_without_wal(source).is_some();
    let opened = open_source(source, is_immutable);
    match opened.and_then(|connection| run_integrity_check(&connection, source)) {
        Ok(()) => DatabaseError::Sqlite {
            action: "copy",
            path: source.to_path_buf(),
            source: rusqlite::Error::SqliteFailure(
                ffi::Error::new(ffi::SQLITE_IOERR),
                Some(format!(
                    "the database is sound, but its copy is damaged: {detail}"
                )),
            ),
        },
        Err(error) => error,
    }
}

/// The size of the header of a WAL, which is followed by its rows.
const WAL_HEADER_BYTES: u64 = 32;

/// The size and mtime of a database. If they differ, a process has written to the file.
type DatabaseStat = (u64, Option<SystemTime>);

/// Returns the stat of a database; `None` if its sidecar files may have rows, or the database is missing.
pub(super) fn stat_without_wal(path: &Path) -> Option<DatabaseStat> {
    let [wal_bytes, shm_bytes, journal_bytes] = home::database_sidecars(path)
        .map(|sidecar| sidecar.symlink_metadata().map_or(0, |meta| meta.len()));
    let has_rows = match wal_bytes {
        // A process that has the database open creates the `-shm`, and may write rows.
        0 => shm_bytes > 0 || journal_bytes > 0,
        // A process was killed after it wrote the header of the WAL and before the first row. Without write access,
        // SQLite fails to read such a WAL ("locking protocol").
        1..=WAL_HEADER_BYTES => journal_bytes > 0,
        _ => true,
    };
    if has_rows {
        return None;
    }
    let meta = path.metadata().ok()?;
    Some((meta.len(), meta.modified().ok()))
}

fn copy_pages(connection: &Connection, source: &Path, target: &Path) -> Result<(), DatabaseError> {
    connection
        .busy_timeout(WRITER_TIMEOUT)
        .sqlite_context("open", source)?;

    let mut copy = connection::open(target, Access::Create).sqlite_context("create", target)?;
    // No other process sees the copy before it is renamed into place, so it needs no journal on the disk.
    copy.execute_batch("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;")
        .sqlite_context("create", target)?;

    let backup = Backup::new(connection, &mut copy).sqlite_context("copy", source)?;
    let deadline = Instant::now() + WRITER_TIMEOUT;
    loop {
        // `-1` copies all pages in one step, and so in one read transaction, which shows one moment in time.
        match backup.step(-1).sqlite_context("copy", source)? {
            StepResult::Done => break,
            StepResult::Busy | StepResult::Locked if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            _ => {
                let (busy, no_message) = (ffi::Error::new(ffi::SQLITE_BUSY), None);
                return Err(rusqlite::Error::SqliteFailure(busy, no_message))
                    .sqlite_context("copy", source);
            }
        }
    }

    drop(backup);
    close(copy, target)
}

/// Closes a database, and returns the error of the last writes, which dropping the connection would hide.
fn close(connection: Connection, path: &Path) -> Result<(), DatabaseError> {
    let closed = connection.close().map_err(|(_, e)| e);
    closed.sqlite_context("close", path)
}

/// Runs SQLite's full integrity check on a database that no other process uses.
pub fn check_integrity(path: &Path) -> Result<(), DatabaseError> {
    run_integrity_check(&open_immutable(path)?, path)
}

/// Opens a database that no other process uses, for reading.
pub(super) fn open_immutable(path: &Path) -> Result<Connection, DatabaseError> {
    connection::open(path, Access::ReadImmutable).sqlite_context("open", path)
}

fn run_integrity_check(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    // The first error is enough to refuse a database.
    let checked = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
    let detail: String = match checked {
        // A database of another program can need functions, collations or virtual tables of that program, which SQLite
        // reports before it compares any row. This proves no damage.
        Err(e)
            if e.sqlite_error()
                .is_some_and(|e| e.extended_code & 0xff == ffi::SQLITE_ERROR) =>
        {
            return Ok(());
        }
        checked => checked.sqlite_context("check", path)?,
    };

    if detail == "ok" {
        Ok(())
    } else {
        Err(DatabaseError::Damaged {
            path: path.to_path_buf(),
            detail: detail.replace('\n', " "),
        })
    }
}

pub(super) const JOURNAL_SUFFIX: &str = "-journal";

/// The start of a rollback journal, and the end of one that names another file. SQLite removes that file after it has
/// applied the journal.
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Returns true if a process was killed during a write in another mode than WAL. SQLite reads such a database only
/// after it has applied the rollback journal.
pub(super) fn needs_rollback(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|e| e.extended_code);
    code == Some(ffi::SQLITE_READONLY_ROLLBACK)
}

/// Copies a database that no process uses to `target`, together with the log that a killed process left, and applies
/// the log to the copy. `suffix` is the suffix of the log: `-wal` or `-journal`. Returns false if another process
/// changed the log during the copy.
pub(super) fn copy_with_log(source: &Path, suffix: &str, target: &Path) -> rusqlite::Result<bool> {
    let (log, target_log) = (with_suffix(source, suffix), with_suffix(target, suffix));
    let read_time = || log.metadata().and_then(|meta| meta.modified());
    let copy_files = || -> io::Result<bool> {
        let time_before = read_time()?;
        // Copies the log first. If another process applies it before the second copy, applying it again changes
        // nothing.
        for (from, to) in [(&*log, &*target_log), (source, target)] {
            // A failed copy may have left this file.
            let _ = sharing::remove_file(to);
            let mut file = atomic::create_private(to).map_err(|e| e.source)?;
            io::copy(&mut file_open::open(from)?, &mut file)?;
        }
        Ok(read_time()? == time_before)
    };

    let is_log_unchanged = copy_files();
    if let Ok(true) = is_log_unchanged {
        return apply_log(target).map(|()| true);
    }

    // SQLite would apply a log that stays here to the next copy.
    for path in [&*target_log, target] {
        let _ = sharing::remove_file(path);
    }
    match is_log_unchanged {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            // rusqlite has no variant for errors of files. This one holds any error.
            Err(rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
        }
        // Another process changed the log, or removed one of the files.
        _ => Ok(false),
    }
}

/// Applies the WAL or rollback journal of a private database, and removes its sidecar files.
pub fn checkpoint_wal(path: &Path) -> Result<(), DatabaseError> {
    apply_log(path).sqlite_context("checkpoint", path)
}

fn apply_log(path: &Path) -> rusqlite::Result<()> {
    // SQLite would remove the other file.
    if names_other_file(&with_suffix(path, JOURNAL_SUFFIX)) {
        let message = "its rollback journal names another file".to_owned();
        let code = ffi::Error::new(ffi::SQLITE_READONLY_ROLLBACK);
        return Err(rusqlite::Error::SqliteFailure(code, Some(message)));
    }
    let connection = connection::open(path, Access::Write)?;
    // A read applies a rollback journal.
    connection.execute_batch("PRAGMA schema_version; PRAGMA wal_checkpoint(TRUNCATE);")?;
    connection.close().map_err(|(_, e)| e)?;
    for sidecar in home::database_sidecars(path) {
        // SQLite has usually removed it already.
        let _ = sharing::remove_file(sidecar);
    }
    Ok(())
}

/// Returns true if a rollback journal names another file: SQLite's super-journal of a transaction over several
/// databases.
fn names_other_file(journal: &Path) -> bool {
    let read_end = |mut file: File| -> io::Result<[u8; 8]> {
        let mut end = [0; 8];
        file.seek(SeekFrom::End(-8))?;
        file.read_exact(&mut end)?;
        Ok(end)
    };
    let end = file_open::open(journal).and_then(read_end);
    end.is_ok_and(|end| end == JOURNAL_MAGIC)
}

/// Returns the tables of a database that no other process uses, with the number of their rows.
pub(crate) fn count_rows(path: &Path) -> Result<Vec<(String, u64)>, DatabaseError> {
    let connection = open_immutable(path)?;
    let counts = || -> rusqlite::Result<Vec<(String, u64)>> {
        let sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND name NOT LIKE 'sqlite_%'
                   ORDER BY name";
        let mut tables = connection.prepare(sql)?;
        let names = tables.query_map([], |row| row.get::<_, String>(0))?;

        let count = |name: String| {
            let sql = format!("SELECT count(*) FROM {}", quote_identifier(&name));
            let count = connection.query_row(&sql, [], |row| row.get(0))?;
            Ok((name, count))
        };
        names.map(|name| count(name?)).collect()
    };

    counts().sqlite_context("read", path)
}

pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Rewrites a private (staged) database without unused pages. Before that, deletes the log entries that are older
/// than `logs_since`, in seconds since 1970; none if it is `None`. Returns the number of deleted entries.
pub(crate) fn compact(path: &Path, logs_since: Option<i64>) -> Result<u64, DatabaseError> {
    let connection = open_private(path)?;
    let deleted_count = match logs_since {
        None => 0,
        Some(since) => connection
            .execute("DELETE FROM logs WHERE ts < ?1", [since])
            .sqlite_context("delete rows of", path)?,
    };

    // Outside of a transaction, as SQLite requires.
    connection
        .execute_batch("VACUUM")
        .sqlite_context("compact", path)?;

    close_changed(connection).sqlite_context("close", path)?;
    Ok(deleted_count as u64)
}

/// Opens a database for writing to its list of conversations, and waits for another process that locks it.
pub(super) fn open_for_changes(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = connection::open(path, Access::Write).sqlite_context("open", path)?;
    connection
        .busy_timeout(LOCK_TIMEOUT)
        .sqlite_context("open", path)?;
    connection::require_ordinary_threads_table(&connection).sqlite_context("open", path)?;
    Ok(connection)
}

/// Runs `change` in one transaction of `connection`, commits it and closes the database.
pub(super) fn run_in_transaction<T>(
    connection: Connection,
    path: &Path,
    change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, DatabaseError> {
    try_in_transaction(connection, path, |transaction| {
        change(transaction).sqlite_context("change", path)
    })
}

/// Like [`run_in_transaction`], for a change that can fail for other reasons.
pub(super) fn try_in_transaction<T, E: From<DatabaseError>>(
    mut connection: Connection,
    path: &Path,
    change: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = connection
        // Takes the write lock at the start. A transaction that begins with a read fails if another process writes
        // before its own first write.
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .sqlite_context("change", path)?;
    let result = change(&transaction)?;
    transaction.commit().sqlite_context(COMMIT, path)?;
    // Closing merges the WAL into the database, so a failure to close counts as a failed commit.
    close_changed(connection).sqlite_context(COMMIT, path)?;
    Ok(result)
}

/// Opens a private (staged) database for writing, without a journal file beside it.
pub(super) fn open_private(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open_for_changes(path)?;
    // A journal in memory is enough, because a crash discards the staged file as a whole. It also takes
    // the file out of WAL mode until `close_changed`.
    set_journal_mode(&connection, "memory").sqlite_context("open", path)?;
    connection
        .execute_batch("PRAGMA synchronous=OFF")
        .sqlite_context("open", path)?;
    Ok(connection)
}

/// Sets the journal mode. SQLite reports no error if the mode stays, for example after a failed checkpoint, but later
/// changes would then be in a log that is not moved with the staged database.
fn set_journal_mode(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    // Without `main.`, SQLite would also change the mode of an attached database.
    let sql = format!("PRAGMA main.journal_mode={mode}");
    let new_mode: String = connection.query_row(&sql, [], |row| row.get(0))?;
    if new_mode == mode {
        return Ok(());
    }
    let message = format!("the journal mode stays {new_mode}");
    let code = ffi::Error::new(ffi::SQLITE_IOERR);
    Err(rusqlite::Error::SqliteFailure(code, Some(message)))
}

/// Closes a database after a change. A private database returns to WAL mode, because Codex sets WAL mode only on a
/// database that it creates (0.169, 0.171).
fn close_changed(connection: Connection) -> rusqlite::Result<()> {
    let mode: String = connection.query_row("PRAGMA main.journal_mode", [], |row| row.get(0))?;
    if mode == "memory" {
        set_journal_mode(&connection, "wal")?;
    }
    connection.close().map_err(|(_, e)| e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_database_whose_log_another_process_reads_is_not_changed_as_a_private_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sqlite");
        let reader = Connection::open(&path).unwrap();
        let rows = "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1); BEGIN; SELECT * FROM t";
        reader.execute_batch(rows).unwrap();
        let error = open_private(&path).unwrap_err();
        assert!(error.to_string().contains("a.sqlite"), "{error}");
        drop(reader);
        close_changed(open_private(&path).unwrap()).unwrap();
        let mode = Connection::open(&path).unwrap();
        let mode: String = mode
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn a_snapshot_of_a_database_without_a_wal_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        // Windows permits no question mark in a name.
        let name = if cfg!(windows) {
            "a b#%.sqlite"
        } else {
            "a b?#%.sqlite"
        };
        let source = folder.path().join(name);
        let connection = Connection::open(&source).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)")
            .unwrap();
        connection.close().unwrap();
        write_snapshot(&source, &folder.path().join("copy")).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, [name, "copy"]);
    }

    #[test]
    fn a_snapshot_contains_the_rows_of_the_wal_and_keeps_the_wal() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("state_5.sqlite");
        let writer = Connection::open(&source).unwrap();
        writer.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x); INSERT INTO t VALUES(7)").unwrap();
        let wal = fs::read(home::database_sidecars(&source)[0].clone()).unwrap();
        assert!(!wal.is_empty());
        let copy = folder.path().join("copy");
        write_snapshot(&source, &copy).unwrap();
        let value: i64 = open_immutable(&copy)
            .unwrap()
            .query_row("SELECT x FROM t", [], |r| r.get(0))
            .unwrap();
        assert_eq!(value, 7);
        assert_eq!(fs::read(&home::database_sidecars(&source)[0]).unwrap(), wal);
    }

    #[test]
    fn garbage_after_the_header_is_reported_as_damage() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("state_5.sqlite");
        let mut bytes = b"SQLite format 3\0".to_vec();
        bytes.extend([0xAA; 8192]);
        fs::write(&source, bytes).unwrap();
        let error = write_snapshot(&source, &folder.path().join("copy")).unwrap_err();
        assert!(matches!(error, DatabaseError::Damaged { .. }), "{error:?}");
    }
}
