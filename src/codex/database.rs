//! Codex's SQLite databases: consistent snapshots, checks, and the few rows that hold paths.
//!
//! All are in WAL mode; a `.sqlite` file alone may be an empty page while its rows are in the
//! `-wal`, even when no Codex runs. So a live database is never copied byte by byte.

use super::{home, rollout};
use crate::io::regular;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, params};
use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a snapshot waits for a writer that is not in WAL mode.
const PATIENCE: Duration = Duration::from_secs(20);

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
    pub fn is_of_content(&self, source: &Path) -> bool {
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

    /// The same of the database that this one is a copy of.
    fn of(self, source: &Path) -> Self {
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
    match regular::open(path).and_then(|mut f| f.read_exact(&mut magic)) {
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
        let quiet = quiet_state(source).filter(|_| attempt < ATTEMPTS);
        let connection = match &quiet {
            Some(_) => open_immutable(source),
            None => open_read_only(source),
        }
        .on("open", source)?;
        let result = copy_pages(&connection, source, target);
        drop(connection);
        if quiet.is_some() && quiet != quiet_state(source) {
            continue;
        }
        let copied = result
            .and_then(|()| check(target))
            .map_err(|e| e.of(source));
        return match copied {
            // A call that fails under SQLite may look the same in a copy.
            Err(DatabaseError::Damaged { detail, .. }) => Err(why_damaged(source, &detail)),
            copied => copied,
        };
    }
    unreachable!("the loop above has no end")
}

/// What is wrong where the copy of `source` is damaged: the source itself, or the copying.
fn why_damaged(source: &Path, detail: &str) -> DatabaseError {
    let opened = match quiet_state(source) {
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
pub(super) fn quiet_state(path: &Path) -> Option<(u64, Option<std::time::SystemTime>)> {
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
    regular::check(path).map_err(|e| {
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
    from.busy_timeout(PATIENCE).on("open", source)?;
    let mut to = Connection::open(target).on("create", target)?;
    // The copy is ours alone until it is renamed into place: it needs no journal of its own.
    to.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        .on("create", target)?;
    let backup = Backup::new(from, &mut to).on("copy", source)?;
    let deadline = std::time::Instant::now() + PATIENCE;
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
pub fn fold_wal(path: &Path) -> Result<(), DatabaseError> {
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
fn open_private(path: &Path) -> Result<Connection, DatabaseError> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).on("open", path)?;
    // Memory journal: the file is staged, a crash throws it away as a whole. Setting it also takes
    // the file out of WAL mode; Codex sets WAL again when it opens it.
    connection
        .execute_batch("PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;")
        .on("open", path)?;
    Ok(connection)
}

fn has_table(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    connection
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?1",
            [name],
            |row| row.get::<_, i64>(0),
        )
        .map(|n| n > 0)
}

/// Where each thread's rollout is, as a state database says. Empty when it has no such table.
pub fn rollout_paths(path: &Path) -> Result<Vec<(String, String)>, DatabaseError> {
    let connection = open_immutable(path).on("open", path)?;
    if !has_table(&connection, "threads").on("read", path)? {
        return Ok(Vec::new());
    }
    let mut rows = connection
        .prepare("SELECT id, rollout_path FROM threads")
        .on("read", path)?;
    let rows = rows
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .on("read", path)?;
    rows.collect::<rusqlite::Result<_>>().on("read", path)
}

/// What becomes of rows whose conversation is not at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strays {
    /// They stay, and so do rows that agree with their file on all but the home's name.
    Kept,
    /// They point below the home like all others.
    TakenIn,
}

/// Where the files of conversations are.
pub trait Rollouts {
    /// That of a conversation, relative to the home.
    fn path_of(&self, id: &str) -> Option<PathBuf>;

    /// Whether a path relative to the home is one of them.
    fn has(&self, path: &Path) -> bool;
}

/// Makes the rows of a staged state database point at their rollouts below `home`; returns how
/// many changed.
///
/// A row's path is taken by its part from `sessions/` or `archived_sessions/` on. Where that file
/// is not among `rollouts`, the thread's id decides, and whether it counts as archived goes by where
/// the file is.
pub fn rewrite_rollout_paths(
    database: &Path,
    home: &Path,
    rollouts: &dyn Rollouts,
    strays: Strays,
) -> Result<usize, DatabaseError> {
    let update = |id: &str, old: &str| {
        let (relative, moved) = place_of(id, Path::new(old), rollouts, strays)?;
        let new = home.join(&relative);
        let archived = moved.then(|| relative.starts_with(home::ARCHIVED_SESSIONS));
        (Path::new(old) != new).then_some((new, archived))
    };
    let mut is_needed = false;
    {
        let connection = open_immutable(database).on("open", database)?;
        if !has_table(&connection, "threads").on("read", database)? {
            return Ok(0);
        }
        each_thread(&connection, |id, old| {
            is_needed |= update(id, old).is_some();
            Ok(())
        })
        .on("read", database)?;
    }
    if !is_needed {
        return Ok(0);
    }
    let mut connection = open_private(database)?;
    let transaction = connection.transaction().on("change", database)?;
    let mut changed = 0;
    // A row that is changed stays where it is: neither its key nor the order of this walk changes.
    each_thread(&transaction, |id, old| {
        let Some((new, archived)) = update(id, old) else {
            return Ok(());
        };
        changed += 1;
        // Codex stores text; a home whose path is no text cannot be written there.
        transaction
            .prepare_cached("UPDATE threads SET rollout_path=?2 WHERE id=?1")?
            .execute(params![id, new.to_string_lossy()])?;
        if let Some(archived) = archived {
            // A schema without this column has no such flag.
            let _ = transaction.execute(
                "UPDATE threads SET archived=?2, archived_at=CASE WHEN ?2 THEN \
                 coalesce(archived_at, updated_at) END WHERE id=?1",
                params![id, archived],
            );
        }
        Ok(())
    })
    .on("change", database)?;
    transaction.commit().on("change", database)?;
    connection
        .close()
        .map_err(|(_, e)| e)
        .on("close", database)?;
    Ok(changed)
}

/// Gives every thread's id and path of its rollout.
fn each_thread(
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

/// Where below the home a row should point, and whether its file was found by the thread's id;
/// `None` when the row stays as it is.
fn place_of(
    id: &str,
    old: &Path,
    rollouts: &dyn Rollouts,
    strays: Strays,
) -> Option<(PathBuf, bool)> {
    // Rows name the plain file, also while it is compressed.
    let plain = |path: PathBuf| {
        let text = path.to_str().and_then(|p| p.strip_suffix(rollout::ZST));
        text.map(PathBuf::from).unwrap_or(path)
    };
    let is_known = |path: &Path| {
        let mut zst = path.as_os_str().to_owned();
        zst.push(rollout::ZST);
        let is_plain = path.extension().is_none_or(|e| e != "zst");
        is_plain && (rollouts.has(path) || rollouts.has(Path::new(&zst)))
    };
    match (home_tail(old), rollouts.path_of(id)) {
        (Some(tail), _) if is_known(&tail) => match strays {
            Strays::Kept => None,
            Strays::TakenIn => Some((tail, false)),
        },
        (_, Some(by_id)) => Some((plain(by_id), true)),
        (None | Some(_), None) if strays == Strays::Kept => None,
        (Some(tail), None) => Some((tail, false)),
        // A row without any rollout: it must not point outside, and names no file.
        (None, None) => {
            let name = format!("missing-{}.jsonl", file_safe(id));
            Some((Path::new(home::SESSIONS).join(name), false))
        }
    }
}

fn file_safe(id: &str) -> String {
    id.chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect()
}

/// The part of a rollout's path from `sessions/` or `archived_sessions/` on; the last such part
/// counts, because a home may lie below a folder of that name.
fn home_tail(path: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = path.components().collect();
    let at = parts.iter().rposition(|part| {
        let name = part.as_os_str();
        name == home::SESSIONS || name == home::ARCHIVED_SESSIONS
    })?;
    let tail: PathBuf = parts[at..].iter().collect();
    let stays = tail
        .components()
        .all(|c| matches!(c, std::path::Component::Normal(_)));
    stays.then_some(tail)
}

/// Which rows of a live database are taken over into a staged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Those of `threads`, where the staged database has none of that thread.
    Threads,
    /// All that is remembered of a rollout, instead of what the staged database remembers.
    Projections,
}

/// Takes over rows of `live`, which is nobody's, into a staged database, for the conversations in
/// `ids`. Columns that both know are copied. Returns how many came over.
pub fn adopt_rows(
    staged: &Path,
    live: &Path,
    ids: &HashSet<String>,
    rows: Rows,
) -> Result<usize, DatabaseError> {
    let mut connection = open_private(staged)?;
    connection
        .execute("ATTACH DATABASE ?1 AS live", [&*live.to_string_lossy()])
        .on("open", live)?;
    let transaction = connection.transaction().on("change", staged)?;
    let (tables, key) = match rows {
        Rows::Threads => (vec!["threads".to_owned()], "id"),
        Rows::Projections => (
            tables_of_threads(&transaction).on("read", staged)?,
            "thread_id",
        ),
    };
    let mut adopted = 0;
    for table in tables {
        let list = common_columns(&transaction, &table).on("read", staged)?;
        if !list.contains(&quoted(key)) {
            continue;
        }
        let (table, list) = (quoted(&table), list.join(","));
        let mut delete = transaction
            .prepare(&format!("DELETE FROM main.{table} WHERE \"{key}\"=?1"))
            .on("change", staged)?;
        let mut insert = transaction
            .prepare(&format!(
                "INSERT OR IGNORE INTO main.{table}({list}) \
                 SELECT {list} FROM live.{table} WHERE \"{key}\"=?1"
            ))
            .on("change", staged)?;
        for id in ids {
            if rows == Rows::Projections {
                delete.execute([id]).on("change", staged)?;
            }
            // A row that the staged schema refuses is one that Codex makes again from the rollout.
            adopted += insert.execute([id]).unwrap_or(0);
        }
    }
    transaction.commit().on("change", staged)?;
    connection
        .execute_batch("DETACH DATABASE live")
        .on("close", live)?;
    connection.close().map_err(|(_, e)| e).on("close", staged)?;
    Ok(adopted)
}

/// The columns of `table`, quoted, that the database and the one attached as `live` both have.
fn common_columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let columns = |schema: &str| -> rusqlite::Result<Vec<String>> {
        let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1, ?2)")?;
        let rows = statement.query_map([table, schema], |row| row.get::<_, String>(0))?;
        rows.collect()
    };
    let (ours, theirs) = (columns("main")?, columns("live")?);
    let common = ours.iter().filter(|c| theirs.contains(c));
    Ok(common.map(|c| quoted(c)).collect())
}

/// The tables that have rows of a conversation by `thread_id`.
pub(super) fn tables_of_threads(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT m.name FROM main.sqlite_master m WHERE m.type='table' AND EXISTS \
         (SELECT 1 FROM pragma_table_info(m.name, 'main') c WHERE c.name='thread_id')",
    )?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Drops what a staged projection database remembers of the conversations in `ids`: their byte
/// offsets no longer fit the rollouts. Codex projects them anew when they are next resumed.
pub fn forget_projections(database: &Path, ids: &HashSet<String>) -> Result<(), DatabaseError> {
    let mut connection = open_private(database)?;
    let transaction = connection.transaction().on("change", database)?;
    for table in tables_of_threads(&transaction).on("read", database)? {
        let table = quoted(&table);
        let mut delete = transaction
            .prepare(&format!("DELETE FROM {table} WHERE thread_id=?1"))
            .on("change", database)?;
        for id in ids {
            delete.execute([id]).on("change", database)?;
        }
    }
    transaction.commit().on("change", database)?;
    connection.close().map_err(|(_, e)| e).on("close", database)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_begin_at_the_last_folder_of_conversations() {
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
                home_tail(Path::new(path)),
                tail.map(PathBuf::from),
                "{path}"
            );
        }
    }

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
