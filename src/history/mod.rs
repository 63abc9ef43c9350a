//! Conversations: what is on disk against what Codex lists, and putting that right.
//!
//! Rollouts are the truth and are never written. What Codex lists comes from three derived places:
//! the table `threads` of the state database, `session_index.jsonl` and, for prompts,
//! `history.jsonl`. [`rebuild`] makes the two files again, [`check`] compares, [`repair`] mends the
//! database, and [`snapshot`] takes a repair back.

pub mod check;
pub mod files;
pub mod json;
pub mod lines;
pub mod names;
pub mod prompts;
pub mod rebuild;
pub mod repair;
pub mod rollout;
pub mod row;
pub mod scratch;
pub mod snapshot;
pub mod stamp;

use crate::codex::database::DatabaseError;
use crate::codex::process::Holder;
use crate::io::document::DocumentError;
use crate::io::parallel;
use crate::io::progress::is_interrupted;
use crate::io::{IoError, lock};
use std::io;
use std::path::{Path, PathBuf};

/// How many files are under way at a time.
const IN_FLIGHT: usize = 64;

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
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// What the beginning of a rollout says.
#[derive(Debug)]
enum Head {
    /// Which conversation it is.
    Conversation(rollout::Meta),
    /// Not which conversation it is.
    Nothing,
    /// It vanished, or could not be read.
    Unread,
}

/// The beginnings of rollouts, in their order; what cannot be read is noted in `skipped`.
fn heads(paths: &[&Path], skipped: &mut Vec<Skipped>) -> Result<Vec<Head>, HistoryError> {
    let found = for_each_file(paths, skipped, |path| {
        let meta = rollout::head(path)?;
        Ok(meta.map_or(Head::Nothing, Head::Conversation))
    })?;
    let read = found.into_iter();
    Ok(read.map(|head| head.unwrap_or(Head::Unread)).collect())
}

/// Does `work` for each path on all processors; the results come in the order of the paths. What
/// vanished meanwhile is `None`; what cannot be read is noted in `skipped`.
fn for_each_file<T: Send>(
    paths: &[&Path],
    skipped: &mut Vec<Skipped>,
    work: impl Fn(&Path) -> io::Result<T> + Sync,
) -> Result<Vec<Option<T>>, HistoryError> {
    let mut results = Vec::with_capacity(paths.len());
    let mut at = 0;
    parallel::ordered(
        IN_FLIGHT,
        |path: &Path| work(path),
        |result: io::Result<T>| {
            let path = paths[at];
            at += 1;
            results.push(match result {
                Ok(value) => Some(value),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    return Err(HistoryError::Interrupted);
                }
                Err(e) => {
                    skipped.push(Skipped {
                        path: path.to_path_buf(),
                        reason: e.to_string(),
                    });
                    None
                }
            });
            Ok(())
        },
        |submitter| {
            for path in paths {
                if is_interrupted() {
                    return Err(HistoryError::Interrupted);
                }
                if submitter.submit(*path).is_err() {
                    break;
                }
            }
            Ok(())
        },
    )?;
    Ok(results)
}
