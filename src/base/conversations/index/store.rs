//! The database of the index.
//!
//! | table | content |
//! | --- | --- |
//! | `meta` | numbers about the last updates |
//! | `conversation` | one row per conversation: its rollouts, the end of the part that was read, its shown fields |
//! | `span` | texts of a conversation: their authors, turns and places ([`super::text_spans`]) |
//! | `run`, `block`, `block_word` | the words, with the texts that have them ([`super::word_runs`]) |
//! | `dead` | the numbers of deleted texts that runs may still contain |
//! | `model` | the names of models |
//! | `request` | one row per request: its time, model and tokens |
//! | `slot` | the sums of the requests of a conversation and a model in a quarter of an hour |
//! | `quota` | the used part of a window whenever it changed within a conversation |
//!
//! The index has no positions of words, so it needs a third of the space; phrases are checked in the rollouts. The
//! title is indexed together with the project's folder and the branch.

use crate::codex::connection::{self, Access};
use crate::codex::database::{self, DatabaseError};
use crate::codex::rollout_lines::Role;
use crate::io::{IoContext as _, IoError, OrdinaryPath, atomic, hash, sharing};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, Transaction, TransactionBehavior};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of indexes in the manager home.
pub const FOLDER: &str = "index";

/// The version of the tables. An index of another version is created again. The version is also raised when the same
/// rollout gives other texts than before, because unchanged rollouts are not read again.
const SCHEMA_VERSION: i64 = 16;

/// The longest time to wait for another process that writes the index.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest wait of a reader that must not delay a shell prompt.
const PROMPT_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// `rollouts` is a JSON list of paths if the conversation has several rollouts. `cut` is the number, from 0, of a
/// damaged compressed rollout of the conversation that is indexed only up to the damage.
const CREATE_CONVERSATIONS: &str = "
CREATE TABLE conversation(
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    rollouts TEXT,
    cut INTEGER,
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
    updated INTEGER,
    archived INTEGER NOT NULL DEFAULT 0,
    listed INTEGER NOT NULL DEFAULT 0,
    child INTEGER NOT NULL DEFAULT 0
);
";

const CREATE_CONVERSATION_INDEXES: &str = "
CREATE INDEX conversation_listed ON conversation(listed, archived);
CREATE INDEX conversation_updated ON conversation(id, updated);
CREATE INDEX conversation_parent ON conversation(parent) WHERE parent IS NOT NULL;
CREATE INDEX conversation_cut ON conversation(id) WHERE cut IS NOT NULL;
";

const CREATE_TABLES: &str = "
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE span(first INTEGER PRIMARY KEY, conversation INTEGER NOT NULL, roles BLOB NOT NULL, places BLOB NOT NULL);
CREATE INDEX span_conversation ON span(conversation);
CREATE TABLE run(id INTEGER PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE block(id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE block_word(run INTEGER, word BLOB, block INTEGER, PRIMARY KEY(run, word, block)) WITHOUT ROWID;
CREATE TABLE dead(id INTEGER PRIMARY KEY);
";

/// The number of bits of a [`TextId`] for the author.
const ROLE_BITS: u32 = 2;

/// The number and the author of a text. The author is in the lowest bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TextId(pub i64);

impl TextId {
    /// Returns the smallest of the ids that the text with this number may have, depending on its author.
    pub(super) fn smallest_of(number: i64) -> Self {
        Self(number << ROLE_BITS)
    }

    pub(super) fn number(self) -> i64 {
        self.0 >> ROLE_BITS
    }

    pub(crate) fn role(self) -> Role {
        match self.0 & ((1 << ROLE_BITS) - 1) {
            0 => Role::User,
            1 => Role::Assistant,
            2 => Role::Tool,
            _ => Role::Title,
        }
    }
}

/// The place of a line in the rollouts of a conversation. The index stores it as one number, which is the offset itself
/// if the conversation has only one rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of the rollout. The oldest rollout has the number 0.
    pub rollout: usize,
    /// The offset in the uncompressed text of the rollout.
    pub offset: u64,
}

/// The number of bits of a [`Place`] for the offset, when it is stored as a number.
const OFFSET_BITS: u32 = 48;

impl Place {
    pub(crate) fn from_number(number: i64) -> Self {
        let number = u64::try_from(number).unwrap_or(0);
        Self {
            rollout: usize::try_from(number >> OFFSET_BITS).unwrap_or(0),
            offset: number & ((1 << OFFSET_BITS) - 1),
        }
    }

    pub(crate) fn to_number(self) -> i64 {
        let number = ((self.rollout as u64) << OFFSET_BITS) | self.offset;
        i64::try_from(number).unwrap_or(i64::MAX)
    }
}

/// The open index of a Codex home.
#[derive(Debug)]
pub struct IndexStore {
    pub(super) connection: Connection,
    pub(super) path: PathBuf,
    /// The folder of a temporary index. Dropped after the connection.
    _folder: Option<tempfile::TempDir>,
}

/// Returns the path of the index of a Codex home. Each Codex home has its own index.
pub fn index_path(manager_home: &Path, codex_home: &Path) -> PathBuf {
    let real_home = codex_home.canonical_or_self();
    // The name is a digest, because a path may be too long for a file name.
    let digest = hash::sha256(real_home.as_os_str().as_encoded_bytes());
    let name = format!("{}.sqlite", &digest[..16]);
    manager_home.join(FOLDER).join(name)
}

/// Returns the file of an index, and the files that SQLite may keep beside it.
fn index_file_paths(path: &Path) -> [PathBuf; 4] {
    ["", "-wal", "-shm", "-journal"].map(|suffix| atomic::with_suffix(path, suffix))
}

/// Deletes an index. Returns the number of freed bytes.
///
/// # Errors
/// A file cannot be deleted.
pub fn remove_index(path: &Path) -> Result<u64, IoError> {
    let mut freed = 0;
    // The database is deleted first. SQLite ignores logs without a database, but a database without its logs is
    // damaged.
    for file in index_file_paths(path) {
        let len = file.symlink_metadata().map_or(0, |meta| meta.len());
        match sharing::remove_file(&file) {
            Ok(()) => freed += len,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).at("delete", &file),
        }
    }
    Ok(freed)
}

/// Returns the statements that write the table of conversations again, into other pages of the file.
pub(super) fn rewrite_conversations_sql() -> String {
    format!(
        "ALTER TABLE conversation RENAME TO old; {CREATE_CONVERSATIONS} INSERT INTO conversation SELECT * FROM old ORDER BY id; \
         DROP TABLE old; {CREATE_CONVERSATION_INDEXES}"
    )
}

/// Returns the total size in bytes of an index and the files that SQLite keeps beside it.
pub fn disk_size(path: &Path) -> u64 {
    let sizes =
        index_file_paths(path).map(|file| file.symlink_metadata().map_or(0, |meta| meta.len()));
    sizes.iter().sum()
}

impl IndexStore {
    /// Opens the index at `path`. Creates an empty index if there is none, or if it is damaged or of another version.
    ///
    /// # Errors
    /// The file cannot be created or read, or another process locks it for too long.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        match Self::open_existing(path) {
            Ok(Some(store)) => Ok(store),
            Err(e) if !e.is_cured_by_rebuild() => Err(e),
            Ok(None) | Err(_) => Self::create(path),
        }
    }

    /// Opens the index at `path`. Returns `None` if there is no index of this version.
    ///
    /// # Errors
    /// The index is damaged or cannot be read.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, IndexError> {
        Self::open_as(path, Access::Write, LOCK_TIMEOUT)
    }

    /// Opens the index at `path` for reading. Returns `None` if there is no index of this version. Changes nothing, and
    /// waits only briefly for a process that writes, so that shell prompts are not delayed.
    ///
    /// # Errors
    /// The index is damaged, locked, or cannot be read.
    pub fn open_read_only(path: &Path) -> Result<Option<Self>, IndexError> {
        Self::open_as(path, Access::Read, PROMPT_LOCK_TIMEOUT)
    }

    fn open_as(path: &Path, access: Access, timeout: Duration) -> Result<Option<Self>, IndexError> {
        // An interrupted creation leaves an empty file.
        if path.symlink_metadata().map_or(true, |meta| meta.len() == 0) {
            return Ok(None);
        }
        let store = Self::connect(path, access, timeout)?;
        let version = store.query_number("PRAGMA user_version")?;
        Ok((version == SCHEMA_VERSION).then_some(store))
    }

    fn connect(path: &Path, access: Access, timeout: Duration) -> Result<Self, IndexError> {
        let open_connection = || {
            let connection = connection::open(path, access)?;
            connection.busy_timeout(timeout)?;
            // The default is 16, but the ingestion alternates between more statements.
            connection.set_prepared_statement_cache_capacity(32);
            // Without QPSG, SQLite prepares a statement again for each value of a range.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;

            if access == Access::Write {
                // By default SQLite leaves the content of freed pages in the file, including the words of deleted
                // conversations.
                connection.pragma_update(None, "secure_delete", true)?;
            }
            Ok(connection)
        };

        Ok(Self {
            connection: open_connection().map_err(IndexError::in_index_at(path))?,
            path: path.to_path_buf(),
            _folder: None,
        })
    }

    /// Creates an empty index in a folder for temporary files. The drop of the index removes it.
    pub fn create_temporary() -> Result<Self, IndexError> {
        let folder = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
        let store = Self::create(&folder.path().join("index.sqlite"))?;
        Ok(Self {
            _folder: Some(folder),
            ..store
        })
    }

    /// Creates an empty index. Deletes an existing one.
    fn create(path: &Path) -> Result<Self, IndexError> {
        remove_index(path)?;
        atomic::create_private_folder(atomic::parent_of(path))?;

        // The database must have mode 0600 from the start, because SQLite gives its other files the same mode.
        drop(atomic::create_private(path)?);
        let store = Self::connect(path, Access::Write, LOCK_TIMEOUT)?;

        // The index has a rollback journal instead of a WAL, so it can be read on a full or read-only disk.
        let result = store.connection.execute_batch(&format!(
            "PRAGMA auto_vacuum=INCREMENTAL; BEGIN IMMEDIATE; {CREATE_CONVERSATIONS} {CREATE_CONVERSATION_INDEXES} {CREATE_TABLES} {CREATE_USAGE_TABLES} \
             PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
        ));
        result.map_err(IndexError::in_index_at(path))?;
        Ok(store)
    }

    /// Begins a write transaction. Takes the write lock at once, because a transaction that reads first fails with
    /// `SQLITE_BUSY` instead of waiting for another process.
    pub(super) fn begin_write(&self) -> Result<Transaction<'_>, IndexError> {
        self.run(|connection| {
            Transaction::new_unchecked(connection, TransactionBehavior::Immediate)
        })
    }

    /// Begins a read transaction, so that all statements until its drop see one state of the index, and SQLite locks
    /// the file once. Other processes cannot commit until then, because the index has no WAL: read no rollouts
    /// meanwhile. Returns `None` within a transaction.
    pub(crate) fn begin_read(&self) -> Result<Option<Transaction<'_>>, IndexError> {
        self.run(|connection| {
            let begins = connection.is_autocommit();
            begins
                .then(|| connection.unchecked_transaction())
                .transpose()
        })
    }

    /// Runs `query` on the index, and adds the path of the index to an error.
    pub(crate) fn run<'a, T>(
        &'a self,
        query: impl FnOnce(&'a Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        query(&self.connection).map_err(IndexError::in_index_at(&self.path))
    }

    pub(crate) fn query_rows<T, B: FromIterator<T>>(
        &self,
        sql: &str,
        values: impl Params,
        convert: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<B, IndexError> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map(values, convert)?;
            rows.collect()
        })
    }

    /// Returns the first row of a query, converted by `convert`. `None` if the query has no rows.
    pub(crate) fn query_optional<T>(
        &self,
        sql: &str,
        values: impl Params,
        convert: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, IndexError> {
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.query_row(values, convert).optional()
        })
    }

    pub(super) fn execute(&self, sql: &str, values: impl Params) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.execute(values).map(|_| ())
    }

    pub fn count_conversations(&self) -> Result<i64, IndexError> {
        self.query_number("SELECT count(*) FROM conversation")
    }

    /// Returns a number from the table `meta`. `None` if it was never set.
    pub(super) fn read_meta(&self, key: &str) -> Result<Option<i64>, IndexError> {
        let sql = "SELECT value FROM meta WHERE key=?1";
        self.query_optional(sql, [key], |row| row.get(0))
    }

    pub(super) fn set_meta(&self, key: &str, value: i64) -> Result<(), IndexError> {
        let result = self.execute("INSERT OR REPLACE INTO meta VALUES(?1, ?2)", (key, value));
        result.map_err(IndexError::in_index_at(&self.path))
    }

    pub(super) fn query_number(&self, sql: &str) -> Result<i64, IndexError> {
        self.run(|connection| connection.query_row(sql, [], |row| row.get(0)))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    Io(#[from] IoError),
    /// Codex's database cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("cannot use the search index: {}", path.display())]
    Sqlite {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("interrupted")]
    Interrupted,
}

impl IndexError {
    /// Returns a function that adds the path of the index to an error of SQLite.
    pub(super) fn in_index_at(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Sqlite {
            path: path.to_path_buf(),
            source,
        }
    }

    /// Returns true if creating the index again may solve the problem. Returns false if the disk is full or read-only,
    /// the file cannot be read, or another process locks it, because then a new index would fail, too.
    pub fn is_cured_by_rebuild(&self) -> bool {
        matches!(self, Self::Sqlite { source, .. } if !database::is_caused_by_machine(source))
    }
}

/// The length of a slot in milliseconds. All time zones differ from UTC by a multiple of a quarter of an hour, so days
/// and weeks in any time zone are sums of slots.
pub const SLOT_MS: i64 = 15 * 60 * 1000;

/// The statements that create the tables of token usage.
const CREATE_USAGE_TABLES: &str = "
CREATE TABLE model(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE request(
    conversation INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    model INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    PRIMARY KEY(conversation, number)
) WITHOUT ROWID;
CREATE INDEX request_at ON request(at);
CREATE TABLE slot(
    conversation INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    model INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    input INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    output INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    PRIMARY KEY(conversation, slot, model)
) WITHOUT ROWID;
CREATE INDEX slot_time ON slot(slot);
CREATE TABLE quota(
    conversation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    minutes INTEGER NOT NULL,
    used REAL NOT NULL,
    resets INTEGER
);
CREATE INDEX quota_conversation ON quota(conversation, minutes);
CREATE INDEX quota_at ON quota(at);
";
