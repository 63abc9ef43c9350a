//! Conversations: what is on disk against what Codex lists, and putting that right.
//!
//! Rollouts are the truth and are never written. What Codex lists comes from three derived places:
//! the table `threads` of the state database, `session_index.jsonl` and, for prompts,
//! `history.jsonl`. [`rebuild`] makes the two files again, [`check`] compares, [`repair`] mends the
//! database, and [`snapshot`] takes a repair back.

pub mod check;
pub mod files;
pub mod hidden;
pub mod id;
pub mod json;
pub mod lines;
pub mod prompts;
pub mod rebuild;
pub mod repair;
pub mod rfc3339;
pub mod rollout;
pub mod row;
pub mod scratch_database;
pub mod session_index;
pub mod snapshot;

use crate::codex::database::DatabaseError;
use crate::codex::process::Holder;
use crate::io::document::DocumentError;
use crate::io::parallel;
use crate::io::progress::is_interrupted;
use crate::io::{IoError, lock};
use std::io;
use std::path::{Path, PathBuf};

/// How many files are under way at a time. Of each all that the user said is held.
const IN_FLIGHT: usize = 16;

/// Why work on the history failed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database refused.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A snapshot's own document cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Another process holds a lock that Codex takes too.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// Somebody uses the home.
    #[error("the Codex home is in use by {}", join(.0))]
    Busy(Vec<Holder>),
    /// A file was rewritten between reading and writing.
    #[error("it was rewritten meanwhile: {}", .0.display())]
    Changed(PathBuf),
    /// There is no such snapshot.
    #[error("no snapshot of a repair: {0}")]
    NoSnapshot(String),
    /// A snapshot does not hold what it says.
    #[error("the snapshot is damaged ({detail}): {}", path.display())]
    DamagedSnapshot {
        /// The snapshot.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Codex did not make the database again.
    #[error("Codex did not make its database again: {0}")]
    NotRebuilt(String),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

fn join(holders: &[Holder]) -> String {
    let shown: Vec<_> = holders.iter().map(ToString::to_string).collect();
    shown.join(", ")
}

/// A file that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SkippedFile {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Does `work` for each path on all processors; `take` gets the results, with the numbers of their
/// paths, in the order of the paths. What vanished meanwhile is passed over; what cannot be read is
/// noted in `skipped` too.
fn for_each_file<T: Send>(
    paths: impl Iterator<Item = PathBuf>,
    skipped: &mut Vec<SkippedFile>,
    work: impl Fn(&Path) -> io::Result<T> + Sync,
    mut take: impl FnMut(usize, T) -> Result<(), HistoryError> + Send,
) -> Result<(), HistoryError> {
    let mut number = 0;
    parallel::ordered(
        IN_FLIGHT,
        |path: PathBuf| (work(&path), path),
        |(result, path): (io::Result<T>, PathBuf)| {
            let this = number;
            number += 1;
            match result {
                Ok(value) => take(this, value),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(HistoryError::Interrupted),
                Err(e) => {
                    let reason = e.to_string();
                    skipped.push(SkippedFile { path, reason });
                    Ok(())
                }
            }
        },
        |submitter| {
            for path in paths {
                if is_interrupted() {
                    return Err(HistoryError::Interrupted);
                }
                if submitter.submit(path).is_err() {
                    break;
                }
            }
            Ok(())
        },
    )
}
