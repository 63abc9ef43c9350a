//! Reading a database where it stands, without leaving a trace of having looked.

use super::database::{
    DatabaseError, SqliteContext, check_is_file, open_immutable, state_without_wal,
};
use super::home;
use crate::io::file_open;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long a query waits for somebody who holds the whole database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a database that changes under the eyes is looked at as a quiet one.
const MAX_IMMUTABLE_READS: u32 = 4;

/// Lets `query` read the database at `path` in one read transaction, with what is in its `-wal`.
///
/// Nothing beside it is made or changed, also where a WAL exists: its index is then read without
/// being written, or, where nobody has made one, from a copy that nobody can be writing.
pub fn read<T>(
    path: &Path,
    mut query: impl FnMut(&Connection) -> rusqlite::Result<T>,
) -> Result<T, DatabaseError> {
    for attempt in 1.. {
        let quiet = state_without_wal(path).filter(|_| attempt < MAX_IMMUTABLE_READS);
        if quiet.is_some() {
            let result = open_immutable(path).and_then(|connection| query(&connection));
            if quiet != state_without_wal(path) {
                continue;
            }
            return result.on("read", path);
        }
        let uri = format!(
            "file:{}?mode=ro&readonly_shm=1",
            percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC)
        );
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = check_is_file(path).and_then(|()| Connection::open_with_flags(uri, flags));
        let result = connection.and_then(|connection| {
            connection.busy_timeout(LOCK_TIMEOUT)?;
            let transaction = connection.unchecked_transaction()?;
            query(&transaction)
        });
        let [wal, shm, _] = home::database_sidecars(path);
        let has_no_index = result
            .as_ref()
            .is_err_and(|e| e.sqlite_error_code() == Some(rusqlite::ErrorCode::CannotOpen));
        if !has_no_index || shm.exists() || !wal.exists() {
            return result.on("read", path);
        }
        // Whoever has a log open has made its index or holds the whole database, which would have
        // been said: nobody has this one.
        let folder = copy_unused(path, &wal).map_err(|e| DatabaseError::Sqlite {
            action: "copy",
            path: path.to_path_buf(),
            source: rusqlite::Error::ToSqlConversionFailure(Box::new(e)),
        })?;
        return Connection::open(folder.path().join("database"))
            .and_then(|connection| query(&connection))
            .on("read", path);
    }
    unreachable!("the loop above has no end")
}

/// The database and its `-wal` in a folder of the system's for temporary files.
fn copy_unused(path: &Path, wal: &Path) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    for (from, to) in [(path, "database"), (wal, "database-wal")] {
        let mut target = File::create(folder.path().join(to))?;
        io::copy(&mut file_open::open(from)?, &mut target)?;
    }
    Ok(folder)
}
