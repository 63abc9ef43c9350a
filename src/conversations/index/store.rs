//! The database of the index.
//!
//! | table | content |
//! | --- | --- |
//! | `meta` | the Codex home, times of the last updates |
//! | `conversation` | one row per conversation: its rollouts, how far they were read, what lists show |
//! | `span` | texts of a conversation: their authors, turns and places ([`super::text_spans`]) |
//! | `run`, `block`, `block_word` | the words with their texts ([`super::word_runs`]) |
//! | `dead` | the numbers of deleted texts that runs may have |
//!
//! [`super::usage_tables`] has the tables of token usage.
//!
//! The index has no positions of words, which makes it a third of the size; phrases are checked in the rollouts. The text of
//! a title has the words of the project's folder and of the branch too.

use super::error::IndexError;
use super::usage_tables::TABLES as USAGE_TABLES;
use crate::codex::connection::{self, Access};
use crate::codex::rollout_lines::Role;
use crate::io::{IoContext as _, IoError, OrdinaryPath, atomic, hash, sharing};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, Transaction, TransactionBehavior};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of indexes in the manager home.
pub(crate) const FOLDER: &str = "index";

/// The version of the tables. An index of another version is created again, so it is raised too when the reader returns
/// more: rollouts that did not change are not read again.
const SCHEMA: i64 = 10;

/// The longest wait for another process that writes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

const PROMPT_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

const CONVERSATIONS: &str = "
CREATE TABLE conversation(
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    rollouts TEXT,
    file TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    end INTEGER NOT NULL DEFAULT 0,
    tail BLOB,
    state BLOB,
    usage BLOB,
    parent TEXT,
    title TEXT NOT NULL DEFAULT '',
    cwd TEXT NOT NULL DEFAULT '',
    branch TEXT NOT NULL DEFAULT '',
    created INTEGER,
    updated INTEGER,
    archived INTEGER NOT NULL DEFAULT 0,
    listed INTEGER NOT NULL DEFAULT 0
);
";

const CONVERSATION_INDEXES: &str = "
CREATE INDEX conversation_listed ON conversation(listed, archived);
CREATE INDEX conversation_updated ON conversation(id, updated);
CREATE INDEX conversation_parent ON conversation(parent) WHERE parent IS NOT NULL;
";

const TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE span(first INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, roles BLOB NOT NULL, places BLOB NOT NULL);
CREATE INDEX span_conversation ON span(conversation);
CREATE TABLE run(id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE block(id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE block_word(run INTEGER, word BLOB, block INTEGER, PRIMARY KEY(run, word, block)) WITHOUT ROWID;
CREATE TABLE dead(id INTEGER PRIMARY KEY);
";

/// The number of bits of the id of a text for the role.
const ROLE_BITS: u32 = 2;

/// A text: its number and its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TextId(pub i64);

impl TextId {
    /// Returns the smallest id that the text with a number may have.
    pub(super) fn first_of(number: i64) -> Self {
        Self(number << ROLE_BITS)
    }

    pub(super) fn number(self) -> i64 {
        self.0 >> ROLE_BITS
    }

    /// Returns the author of the text.
    pub(crate) fn role(self) -> Role {
        match self.0 & ((1 << ROLE_BITS) - 1) {
            0 => Role::User,
            1 => Role::Assistant,
            2 => Role::Tool,
            _ => Role::Title,
        }
    }
}

/// The place of a line in the rollouts of a conversation. As a number, the place in a conversation that was not rewound
/// is an offset, because it has one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the rollout, the oldest first.
    pub rollout: usize,
    /// The offset in its plain text.
    pub offset: u64,
}

/// The number of bits of a place for the offset.
const OFFSET_BITS: u32 = 48;

impl Place {
    pub(crate) fn from_number(number: i64) -> Self {
        let number = u64::try_from(number).unwrap_or(0);
        Self {
            rollout: usize::try_from(number >> OFFSET_BITS).unwrap_or(0),
            offset: number & ((1 << OFFSET_BITS) - 1),
        }
    }

    pub(crate) fn number(self) -> i64 {
        let number = ((self.rollout as u64) << OFFSET_BITS) | self.offset;
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// An open index of a Codex home.
#[derive(Debug)]
pub(crate) struct IndexStore {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
}

/// Returns the file of the index of a Codex home. Each Codex home has its own.
pub(crate) fn path_of(manager_home: &Path, codex_home: &Path) -> PathBuf {
    let real = codex_home.canonical();
    let real = real.as_deref().unwrap_or(codex_home);
    // A digest, because a path can be longer than a file name.
    let digest = hash::sha256(real.as_os_str().as_encoded_bytes());
    let name = format!("{}.sqlite", &digest[..16]);
    manager_home.join(FOLDER).join(name)
}

/// Returns the file of the index, and those that SQLite keeps beside it.
fn index_files(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| atomic::with_suffix(path, suffix))
}

/// Deletes an index. Returns the number of freed bytes.
///
/// # Errors
/// A file cannot be deleted.
pub(crate) fn remove(path: &Path) -> Result<u64, IoError> {
    let mut freed = 0;
    // The database last: logs without a database are ignored, a database without its logs would be damaged.
    for file in index_files(path).iter().rev() {
        let len = file.symlink_metadata().map_or(0, |meta| meta.len());
        match sharing::remove_file(file) {
            Ok(()) => freed += len,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).at("delete", file),
        }
    }
    Ok(freed)
}

/// Returns the statements that write the table of conversations again, into other pages.
pub(super) fn rewrite_conversations() -> String {
    format!(
        "ALTER TABLE conversation RENAME TO old; {CONVERSATIONS} INSERT INTO conversation SELECT * FROM old ORDER BY id; \
         DROP TABLE old; {CONVERSATION_INDEXES}"
    )
}

/// Returns the size of an index with the files that SQLite keeps beside it.
pub(crate) fn disk_size(path: &Path) -> u64 {
    let sizes = index_files(path).map(|file| file.symlink_metadata().map_or(0, |meta| meta.len()));
    sizes.iter().sum()
}

fn connect(path: &Path, access: Access, wait: Duration) -> rusqlite::Result<Connection> {
    let connection = connection::open(path, access)?;
    connection.busy_timeout(wait)?;
    // More than the default of 16: the ingestion alternates between more statements.
    connection.set_prepared_statement_cache_capacity(32);
    // Without it SQLite prepares a statement again for each value of a range.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    if access == Access::Write {
        // SQLite leaves the content of freed pages in the file, and with it the words of a deleted conversation.
        connection.pragma_update(None, "secure_delete", true)?;
    }
    Ok(connection)
}

impl IndexStore {
    /// Opens the index at `path`. Creates an empty one if there is none, or if it is damaged or of another version.
    ///
    /// # Errors
    /// The file cannot be created or read.
    pub(crate) fn open(path: &Path) -> Result<Self, IndexError> {
        match Self::open_existing(path) {
            Ok(Some(store)) => return Ok(store),
            Ok(None) => {}
            Err(e) if e.is_cured_by_rebuild() => {}
            Err(e) => return Err(e),
        }
        Self::create(path)
    }

    /// Opens the index at `path` if there is one of this version.
    ///
    /// # Errors
    /// The index is damaged or cannot be read.
    pub(crate) fn open_existing(path: &Path) -> Result<Option<Self>, IndexError> {
        Self::open_as(path, Access::Write, LOCK_TIMEOUT)
    }

    /// Opens the index at `path` for reading, if there is one of this version. Changes nothing, and waits only briefly
    /// for a process that writes, so that shell prompts are not held up.
    ///
    /// # Errors
    /// The index is damaged, locked, or cannot be read.
    pub(crate) fn open_read_only(path: &Path) -> Result<Option<Self>, IndexError> {
        Self::open_as(path, Access::Read, PROMPT_LOCK_TIMEOUT)
    }

    fn open_as(path: &Path, access: Access, wait: Duration) -> Result<Option<Self>, IndexError> {
        if path.symlink_metadata().map_or(true, |meta| meta.len() == 0) {
            return Ok(None);
        }
        let store = Self::connect(path, access, wait)?;
        let version = store.query_number("PRAGMA user_version")?;
        Ok((version == SCHEMA).then_some(store))
    }

    fn connect(path: &Path, access: Access, wait: Duration) -> Result<Self, IndexError> {
        let connection = connect(path, access, wait).map_err(IndexError::of_index(path))?;
        Ok(Self {
            connection,
            path: path.to_path_buf(),
        })
    }

    /// Creates an empty index, in place of any other.
    fn create(path: &Path) -> Result<Self, IndexError> {
        remove(path)?;
        atomic::create_private_folder(atomic::parent_of(path))?;
        // SQLite gives its other files the mode of the database.
        drop(atomic::create_private(path)?);
        let store = Self::connect(path, Access::Write, LOCK_TIMEOUT)?;
        // With SQLite's rollback journal and not a WAL, the index can be read on a full or read-only disk.
        let created = store.connection.execute_batch(&format!(
            "PRAGMA auto_vacuum=INCREMENTAL; BEGIN IMMEDIATE; {CONVERSATIONS} {CONVERSATION_INDEXES} {TABLES} {USAGE_TABLES} \
             PRAGMA user_version={SCHEMA}; COMMIT;"
        ));
        created.map_err(IndexError::of_index(path))?;
        Ok(store)
    }

    /// Begins a write transaction. Takes the write lock at once, because a transaction that reads first fails with
    /// `SQLITE_BUSY` instead of waiting for another process.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, IndexError> {
        self.run(|connection| {
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        })
    }

    /// Runs `query` on the index, and adds its path to an error.
    pub(crate) fn run<'a, T>(
        &'a self,
        query: impl FnOnce(&'a Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        query(&self.connection).map_err(IndexError::of_index(&self.path))
    }

    /// Returns the rows of a query, converted by `read`.
    pub(crate) fn query_rows<T, B: FromIterator<T>>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<B, IndexError> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(values, read)?;
            rows.collect()
        })
    }

    /// Returns the only row of a query, converted by `read`; `None` without a row.
    pub(crate) fn query_optional<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, IndexError> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row(values, read).optional()
        })
    }

    pub(super) fn execute(&self, sql: &str, values: impl Params) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(values).map(|_| ())
    }

    pub(crate) fn count_conversations(&self) -> Result<i64, IndexError> {
        self.query_number("SELECT count(*) FROM conversation")
    }

    /// Returns a number of the table `meta`.
    pub(super) fn read_meta(&self, key: &str) -> Result<Option<i64>, IndexError> {
        self.query_optional("SELECT value FROM meta WHERE key=?1", [key], |row| {
            row.get(0)
        })
    }

    pub(super) fn set_meta(&self, key: &str, value: i64) -> Result<(), IndexError> {
        let set = self.execute("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", (key, value));
        set.map_err(IndexError::of_index(&self.path))
    }

    /// Returns the result of a query with one number.
    pub(super) fn query_number(&self, sql: &str) -> Result<i64, IndexError> {
        let value = self.connection.query_row(sql, [], |row| row.get(0));
        value.map_err(IndexError::of_index(&self.path))
    }
}
