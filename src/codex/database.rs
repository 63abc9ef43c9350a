//! Codex's SQLite databases: consistent snapshots, and checks.
//!
//! All are in WAL mode; a `.sqlite` file alone may be an empty page while its rows are in the
//! `-wal`, even when no Codex runs. So a live database is never copied byte by byte.

use super::home;
use crate::io::file_open;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a snapshot waits for a writer that is not in WAL mode.
const WRITER_TIMEOUT: Duration = Duration::from_secs(20);

/// A database that could not be used, with its path.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite says that its content is broken.
    #[error("the database is damaged ({detail}): {}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        detail: String,
    },
    /// SQLite could not do its work.
    #[error("cannot {action} the database: {}", path.display())]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        #[source]
        source: rusqlite::Error,
    },
}

impl DatabaseError {
    /// Whether the database at `source` itself is what is wrong: it is damaged, or cannot be read.
    pub fn is_source_defect(&self, source: &Path) -> bool {
        use rusqlite::ffi;
        // What a copy is written with are other codes.
        const READING: [i32; 6] = [
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_SHORT_READ,
            ffi::SQLITE_IOERR_FSTAT,
            ffi::SQLITE_IOERR_ACCESS,
            ffi::SQLITE_IOERR_CORRUPTFS,
            ffi::SQLITE_CANTOPEN,
        ];
        match self {
            Self::Damaged { .. } => true,
            Self::Sqlite {
                path, source: why, ..
            } => {
                let code = why.sqlite_error().map(|e| e.extended_code);
                path == source && code.is_some_and(|code| READING.contains(&code))
            }
        }
    }

    /// Whether the machine is what is wrong (its disk, its memory, rights, another process), and
    /// nothing was learned of the database.
    pub fn is_of_machine(&self) -> bool {
        use rusqlite::ErrorCode as Code;
        match self {
            Self::Damaged { .. } => false,
            Self::Sqlite { source: why, .. } => matches!(
                why.sqlite_error_code(),
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
            ),
        }
    }

    /// Whether the disk that was written to is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Damaged { .. } => false,
            Self::Sqlite { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
        }
    }

    /// The same of the database that this one is a copy of.
    fn with_path_of(self, source: &Path) -> Self {
        match self {
            Self::Damaged { detail, .. } => Self::Damaged {
                path: source.to_path_buf(),
                detail,
            },
            other @ Self::Sqlite { .. } => other,
        }
    }
}

pub(super) trait SqliteContext<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, DatabaseError>;
}

impl<T> SqliteContext<T> for rusqlite::Result<T> {
    fn on(self, action: &'static str, path: &Path) -> Result<T, DatabaseError> {
        self.map_err(|source| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                DatabaseError::Damaged {
                    path: path.to_path_buf(),
                    detail: source.to_string(),
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

/// Whether the file begins as a SQLite database does, or cannot be read: then whoever goes on with
/// it as one learns why.
pub fn is_sqlite(path: &Path) -> bool {
    begins_as_sqlite(path).unwrap_or(true)
}

/// Whether the file begins as a SQLite database does. One that is not there does not.
pub fn begins_as_sqlite(path: &Path) -> std::io::Result<bool> {
    use std::io::ErrorKind::{IsADirectory, NotFound, UnexpectedEof};
    let mut magic = [0; 16];
    match file_open::open(path).and_then(|mut f| f.read_exact(&mut magic)) {
        Ok(()) => Ok(&magic == b"SQLite format 3\0"),
        Err(e) if matches!(e.kind(), NotFound | IsADirectory | UnexpectedEof) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Writes a consistent copy of the database at `source` to the new file `target`, with what was in
/// its `-wal`, and checks it. One read transaction; a writer at work is not disturbed.
///
/// Leaves no file beside `source` that was not there: where there is no `-wal` the file is read as
/// immutable and the copy is thrown away if a writer appeared meanwhile.
pub fn snapshot(source: &Path, target: &Path) -> Result<(), DatabaseError> {
    const ATTEMPTS: u32 = 5;
    for attempt in 1.. {
        let quiet = state_without_wal(source).filter(|_| attempt < ATTEMPTS);
        let connection = match &quiet {
            Some(_) => open_immutable(source),
            None => open_read_only(source),
        }
        .on("open", source)?;
        let result = copy_pages(&connection, source, target);
        drop(connection);
        if quiet.is_some() && quiet != state_without_wal(source) {
            continue;
        }
        let copied = result
            .and_then(|()| check(target))
            .map_err(|e| e.with_path_of(source));
        return match copied {
            // A call that fails under SQLite may look the same in a copy.
            Err(DatabaseError::Damaged { detail, .. }) => {
                Err(diagnose_damaged_copy(source, &detail))
            }
            copied => copied,
        };
    }
    unreachable!("the loop above has no end")
}

/// What is wrong where the copy of `source` is damaged: the source itself, or the copying.
fn diagnose_damaged_copy(source: &Path, detail: &str) -> DatabaseError {
    let opened = match state_without_wal(source) {
        Some(_) => open_immutable(source),
        None => open_read_only(source),
    };
    let checked = opened
        .on("open", source)
        .and_then(|connection| check_open(&connection, source));
    match checked {
        Ok(()) => DatabaseError::Sqlite {
            action: "copy",
            path: source.to_path_buf(),
            source: rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR),
                Some(format!("the copy is not like it: {detail}")),
            ),
        },
        Err(error) => error,
    }
}

/// Size and time of a database that has nothing beside it; `None` when a WAL or journal exists.
pub(super) fn state_without_wal(path: &Path) -> Option<(u64, Option<std::time::SystemTime>)> {
    let busy = home::database_sidecars(path)
        .iter()
        .any(|p| p.symlink_metadata().is_ok_and(|m| m.len() > 0));
    let meta = path.metadata().ok().filter(|_| !busy)?;
    Some((meta.len(), meta.modified().ok()))
}

/// Opens what is a file: SQLite waits for the other end of a pipe without end.
pub(super) fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    check_is_file(path)?;
    Connection::open_with_flags(path, flags)
}

pub(super) fn check_is_file(path: &Path) -> rusqlite::Result<()> {
    file_open::check(path).map_err(|e| {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        rusqlite::Error::SqliteFailure(code, Some(e.to_string()))
    })
}

pub(super) fn open_immutable(path: &Path) -> rusqlite::Result<Connection> {
    check_is_file(path)?;
    let uri = format!(
        "file:{}?immutable=1",
        percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC)
    );
    Connection::open_with_flags(
        uri,
        OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

/// Opens a database that somebody may be writing to.
fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    open(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
}

fn copy_pages(from: &Connection, source: &Path, target: &Path) -> Result<(), DatabaseError> {
    from.busy_timeout(WRITER_TIMEOUT).on("open", source)?;
    let mut to = Connection::open(target).on("create", target)?;
    // The copy is ours alone until it is renamed into place: it needs no journal of its own.
    to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        .on("create", target)?;
    let backup = Backup::new(from, &mut to).on("copy", source)?;
    let deadline = std::time::Instant::now() + WRITER_TIMEOUT;
    loop {
        // All pages in one step: one read transaction, so one moment in time.
        match backup.step(-1).on("copy", source)? {
            StepResult::Done => break,
            StepResult::Busy | StepResult::Locked if std::time::Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            _ => {
                let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
                return Err(rusqlite::Error::SqliteFailure(busy, None)).on("copy", source);
            }
        }
    }
    drop(backup);
    to.close().map_err(|(_, e)| e).on("close", target)
}

/// SQLite's full check of a database that nobody else uses.
pub fn check(path: &Path) -> Result<(), DatabaseError> {
    check_open(&open_immutable(path).on("open", path)?, path)
}

fn check_open(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let detail: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .on("check", path)?;
    if detail == "ok" {
        Ok(())
    } else {
        Err(DatabaseError::Damaged {
            path: path.to_path_buf(),
            detail: detail.replace('\n', " "),
        })
    }
}

/// Folds the `-wal` beside a database that is ours alone into it, and removes what is beside it.
pub fn checkpoint_wal(path: &Path) -> Result<(), DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).on("open", path)?;
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE);")
        .on("checkpoint", path)?;
    connection.close().map_err(|(_, e)| e).on("close", path)?;
    for sidecar in home::database_sidecars(path) {
        let _ = fs::remove_file(sidecar);
    }
    Ok(())
}

/// Opens a database of ours alone for change, without a journal beside it.
pub(super) fn open_private(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).on("open", path)?;
    // Memory journal: the file is staged, a crash throws it away as a whole. Setting it also takes
    // the file out of WAL mode; Codex sets WAL again when it opens it.
    connection
        .execute_batch("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;")
        .on("open", path)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_of_a_quiet_database_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("a b?#%.sqlite");
        let connection = Connection::open(&source).unwrap();
        connection
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)")
            .unwrap();
        connection.close().unwrap();
        snapshot(&source, &folder.path().join("copy")).unwrap();
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["a b?#%.sqlite", "copy"]);
    }

    #[test]
    fn a_snapshot_holds_what_is_only_in_the_wal_and_keeps_the_wal() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("state_5.sqlite");
        let writer = Connection::open(&source).unwrap();
        writer.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x); INSERT INTO t VALUES(7)").unwrap();
        let wal = fs::read(home::database_sidecars(&source)[0].clone()).unwrap();
        assert!(!wal.is_empty());
        let copy = folder.path().join("copy");
        snapshot(&source, &copy).unwrap();
        let value: i64 = open_immutable(&copy)
            .unwrap()
            .query_row("SELECT x FROM t", [], |r| r.get(0))
            .unwrap();
        assert_eq!(value, 7);
        assert_eq!(fs::read(&home::database_sidecars(&source)[0]).unwrap(), wal);
    }

    #[test]
    fn garbage_is_named_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("state_5.sqlite");
        let mut bytes = b"SQLite format 3\0".to_vec();
        bytes.extend([0xAA; 8192]);
        fs::write(&source, bytes).unwrap();
        let error = snapshot(&source, &folder.path().join("copy")).unwrap_err();
        assert!(matches!(error, DatabaseError::Damaged { .. }), "{error:?}");
    }
}
