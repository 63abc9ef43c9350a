//! Compares the conversations on disk with Codex's lists of them, and repairs the lists.
//!
//! Rollouts are the source of truth and are never written. Codex's lists are derived data in three
//! places: the table `threads` of the state database, `session_index.jsonl` for names and
//! `history.jsonl` for prompts. [`check`] compares, [`repair`] corrects the database, [`snapshot`] keeps
//! the state before a repair and restores it, and [`rebuild`] writes the two files again.
//!
//! I want to …
//!
//! - read a rollout's metadata, prompts, title or last time → [`rollout`]; its messages and tools →
//!   `conversations::reader`
//! - list the rollouts of a home → [`files`]; those of one thread, with its rewinds → [`thread_rollouts`]
//! - follow the path in a row to a file → [`rollout::find_recorded_rollout`], never directly
//! - know the name of a conversation → [`thread_titles`], [`session_index`]
//! - report another difference → [`check`], and [`unreadable`] for turns that Codex does not show
//! - correct it → [`repair_plan`], then [`repair`]; build a row as Codex does → [`row`]

pub mod check;
pub(crate) mod conversations;
pub mod files;
pub mod id;
pub(crate) mod json;
pub mod lines;
pub mod prompts;
pub mod rebuild;
pub mod repair;
pub mod repair_plan;
pub mod rollout;
pub(crate) mod row;
pub mod running_turns;
pub(crate) mod scratch_database;
mod scratch_projection;
pub mod session_index;
pub mod snapshot;
pub mod thread_choice;
pub mod thread_rollouts;
pub mod thread_titles;
pub mod unreadable;

pub use id::ConversationId;
pub use lines::{JsonlLine, LineReader};
pub(crate) use rollout::Depth;
pub use rollout::{SessionMeta, UserMessage};
pub use session_index::{IndexEntry, ThreadNameIndex};

use crate::codex::{AppServerError, DatabaseError, Holder};
use crate::io::progress::check_interrupt;
use crate::io::{DocumentError, IoError, is_interrupted, parallel};
use crate::journal::{JournalError, format_holders};
use std::io;
use std::path::{Path, PathBuf};

/// The number of batches of rollouts that are read at a time. Low, because the prompts of each rollout are held in
/// memory.
const MAX_BATCHES_IN_FLIGHT: usize = 16;

/// The number of rollouts in a batch of which only the first lines are read. Passing work to a thread takes about as
/// long as reading the first lines of one rollout.
const HEADS_AT_A_TIME: usize = 32;

/// A failed check, repair, rebuild or undo.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// `snapshot.json` cannot be read or written, or is of a newer version.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Codex, or another command, still holds the lock of a file of Codex.
    #[error("{} holds the lock: {}", crate::io::LockHolder::find(.0), .0.display())]
    Locked(PathBuf),
    /// The exchange of files failed. Its steps were undone, or the next command finishes or undoes
    /// them.
    #[error(transparent)]
    Journal(JournalError),
    #[error("the Codex home is in use by {}", format_holders(.0))]
    Busy(Vec<Holder>),
    /// A file became shorter between planning and writing, so it was replaced.
    #[error("another process replaced the file during the rebuild: {}", .0.display())]
    Changed(PathBuf),
    #[error("no snapshot found: {0}")]
    NoSnapshot(String),
    #[error("the snapshot is damaged ({detail}): {}", path.display())]
    DamagedSnapshot {
        path: PathBuf,
        /// A sentence fragment about the damage.
        detail: String,
    },
    #[error("Codex {0} keeps no list of conversations, so there is nothing to repair")]
    NoList(String),
    #[error(
        "the prompts of the conversations are larger than 1 GB, so history.jsonl cannot be rebuilt"
    )]
    PromptsTooLarge,
    /// A repair changed the rows of conversations, and then failed to change the projections.
    #[error(
        "the list was repaired, but not the turns that Codex shows; the previous state is kept as {snapshot}"
    )]
    Unprojected {
        snapshot: String,
        source: Box<HistoryError>,
    },
    /// Codex could not be started, or did not create a database or projections.
    #[error("Codex did not create the missing database or turns: {0}")]
    NotRebuilt(String),
    #[error("interrupted")]
    Interrupted,
}

impl From<AppServerError> for HistoryError {
    fn from(error: AppServerError) -> Self {
        match error {
            AppServerError::Failed(reason) => Self::NotRebuilt(reason),
            AppServerError::Interrupted => Self::Interrupted,
        }
    }
}

impl From<JournalError> for HistoryError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Busy(holders) => Self::Busy(holders),
            error => Self::Journal(error),
        }
    }
}

/// The name of the journal of `history undo`, and of a repair that recreates the database.
const JOURNAL: &str = "history";

/// A rollout or folder that was left out because it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SkippedFile {
    /// The absolute path of the rollout or folder.
    pub path: PathBuf,
    /// The error, as a sentence fragment.
    pub reason: String,
}

impl SkippedFile {
    fn from_error(e: IoError) -> Self {
        Self {
            reason: format!("cannot {}: {}", e.action, e.source),
            path: e.path,
        }
    }
}

/// Runs `read` for the path of each file on all processors. `handle` receives the results in the order of the files,
/// each with the key of its file. Files that no longer exist are ignored; files that cannot be read are added to
/// `skipped`.
fn for_each_file<K: Send, T: Send>(
    files: impl Iterator<Item = (K, PathBuf)>,
    skipped: &mut Vec<SkippedFile>,
    read: impl Fn(&Path) -> io::Result<T> + Sync,
    handle: impl FnMut(K, T) -> Result<(), HistoryError> + Send,
) -> Result<(), HistoryError> {
    let batch_size = 1;
    for_each_file_in_batches(files, batch_size, skipped, read, handle)
}

/// Like [`for_each_file`], for the metadata in the first lines of rollouts.
fn for_each_head<K: Send>(
    files: impl Iterator<Item = (K, PathBuf)>,
    skipped: &mut Vec<SkippedFile>,
    handle: impl FnMut(K, Option<SessionMeta>) -> Result<(), HistoryError> + Send,
) -> Result<(), HistoryError> {
    for_each_file_in_batches(files, HEADS_AT_A_TIME, skipped, rollout::read_head, handle)
}

/// Like [`for_each_file`]; a thread takes `batch_size` files at a time.
fn for_each_file_in_batches<K: Send, T: Send>(
    files: impl Iterator<Item = (K, PathBuf)>,
    batch_size: usize,
    skipped: &mut Vec<SkippedFile>,
    read: impl Fn(&Path) -> io::Result<T> + Sync,
    mut handle: impl FnMut(K, T) -> Result<(), HistoryError> + Send,
) -> Result<(), HistoryError> {
    // No file is read after an interrupt, and the check at the end reports it.
    let mut files = files.take_while(|_| !is_interrupted());
    let batches = std::iter::from_fn(|| {
        let batch: Vec<_> = files.by_ref().take(batch_size).collect();
        (!batch.is_empty()).then_some(batch)
    });

    let read_one = |(key, path): (K, PathBuf)| (key, read(&path), path);
    let read_batch = |batch: Vec<_>| batch.into_iter().map(&read_one).collect::<Vec<_>>();

    let mut handle_one = |(key, result, path): (K, io::Result<T>, PathBuf)| match result {
        Ok(value) => handle(key, value),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(HistoryError::Interrupted),
        Err(e) => {
            let reason = e.to_string();
            skipped.push(SkippedFile { path, reason });
            Ok(())
        }
    };

    parallel::run_each_ordered(
        MAX_BATCHES_IN_FLIGHT,
        batches,
        read_batch,
        |results: Vec<_>| results.into_iter().try_for_each(&mut handle_one),
    )?;
    check_interrupt().map_err(|_| HistoryError::Interrupted)?;
    Ok(())
}
