//! Rebuilds `session_index.jsonl` and `history.jsonl` from the rollouts and the table `threads`.
//!
//! [`plan`] reads and writes nothing. [`apply()`] keeps a copy of each file and replaces it under
//! the lock that Codex takes; lines that Codex appended since the plan are preserved.
//!
//! A home may have more conversations, prompts and names than memory should hold. So memory holds
//! only times and files of a conversation, and lines are sorted through temp files
//! ([`crate::io::sorting`]).

mod apply;
mod conversations;
mod index;
mod prompts;

pub use apply::{RebuiltFile, apply, preview};
pub use conversations::{ThreadTable, read_table};

use super::session_index::{self, ThreadNameIndex};
use super::{HistoryError, SkippedFile};
use crate::io::Progress;
use conversations::{Titles, apply_limit, gather, scan};
use index::IndexLines;
use prompts::Prompts;
use serde::Serialize;
use std::path::Path;
use tempfile::SpooledTempFile;

/// Bytes of a planned file that are held in memory. Beyond that it moves to an unnamed temp file.
const SPOOL_BYTES: usize = 1 << 20;

/// The files to rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildTarget {
    /// `session_index.jsonl`, the names of conversations.
    SessionIndex,
    /// `history.jsonl`, the prompts of the user.
    History,
    /// The index and the history.
    Both,
}

impl RebuildTarget {
    fn wants_index(self) -> bool {
        self != Self::History
    }

    fn wants_history(self) -> bool {
        self != Self::SessionIndex
    }
}

/// The options of [`plan`].
#[derive(Debug, Clone, Copy)]
pub struct RebuildOptions {
    /// The files to rebuild.
    pub only: RebuildTarget,
    /// The number of conversations, most recent first; `None` for all.
    pub max_threads: Option<usize>,
    /// Includes rollouts without a row.
    pub include_orphans: bool,
    /// The size limit of `history.jsonl` in bytes.
    pub max_bytes: Option<u64>,
}

/// The source of the list of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RebuildSource {
    /// The table `threads` of the state database.
    Database,
    /// The rollouts, because the database is missing, unusable or empty.
    Rollouts,
}

/// The new content of a file.
#[derive(Debug)]
pub struct PlannedHistoryFile {
    /// The name of the file in the home.
    pub name: &'static str,
    /// The number of lines.
    pub lines: usize,
    text: SpooledTempFile,
    /// The length of the new content.
    bytes: u64,
    /// The length of the current file when it was read.
    read_bytes: u64,
}

/// The result of [`plan`]. Counts are numbers of conversations or lines.
#[derive(Debug)]
pub struct RebuildPlan {
    /// The source of the list of conversations.
    pub source: RebuildSource,
    /// Conversations in the rebuilt files.
    pub refreshed: usize,
    /// Conversations left out by the limit.
    pub beyond_limit: usize,
    /// Names kept although the conversation is left out.
    pub names_kept: usize,
    /// Conversations named by their id, because their title is a name that the user gave to another
    /// one.
    pub titles_taken: usize,
    /// Prompts in the new history.
    pub history_entries: usize,
    /// Oldest prompts removed by `max_bytes`.
    pub history_trimmed: usize,
    /// Lines of the current history that are in no rollout.
    pub history_dropped: usize,
    /// Lines of the current history whose conversation the limit leaves out.
    pub history_beyond_limit: usize,
    /// Rollouts skipped because they have no row.
    pub orphans_skipped: usize,
    /// Rollouts that name no conversation.
    pub without_id: usize,
    /// Conversations without any time.
    pub without_time: usize,
    /// Lines of rollouts, index and history that cannot be parsed.
    pub bad_lines: u64,
    /// The size limit of `history.jsonl` in bytes.
    pub max_bytes: Option<u64>,
    /// Rollouts that could not be read.
    pub skipped: Vec<SkippedFile>,
    /// The files to write.
    pub files: Vec<PlannedHistoryFile>,
}

/// Plans a rebuild of the files of `home`. `table` is the table of the state database, if it is
/// usable.
///
/// # Errors
/// A folder cannot be listed, the database changed while it was read, or the user interrupts. A
/// rollout that cannot be read is skipped and listed in the plan.
pub fn plan(
    home: &Path,
    table: Option<ThreadTable>,
    options: RebuildOptions,
    progress: &dyn Progress,
) -> Result<RebuildPlan, HistoryError> {
    let history_bytes = home
        .join(super::prompts::FILE_NAME)
        .metadata()
        .map_or(0, |m| m.len());
    let index = ThreadNameIndex::read(home)?;
    let mut skipped = Vec::new();
    let database = table.as_ref().map(|table| table.path.clone());
    let mut set = gather(home, table, options.include_orphans, &mut skipped)?;
    let beyond_limit = apply_limit(home, &mut set, options.max_threads, &mut skipped)?;
    let mut titles = Titles::default();
    let mut prompts = options.only.wants_history().then(Prompts::default);
    let mut bad_lines = scan(
        home,
        &mut set,
        &index,
        &mut titles,
        prompts.as_mut(),
        &mut skipped,
        progress,
    )?;
    let restored = set.conversations.iter().filter(|c| c.is_restored);
    let without_time = restored.clone().filter(|c| c.updated.is_none()).count();
    let mut plan = RebuildPlan {
        source: set.source,
        refreshed: restored.count() - without_time,
        beyond_limit,
        names_kept: 0,
        titles_taken: 0,
        history_entries: 0,
        history_trimmed: 0,
        history_dropped: 0,
        history_beyond_limit: 0,
        orphans_skipped: set.orphans,
        without_id: set.without_id,
        without_time,
        bad_lines: 0,
        max_bytes: options.max_bytes,
        skipped,
        files: Vec::new(),
    };
    if options.only.wants_index() {
        bad_lines += index.bad_lines;
        let mut lines = IndexLines::default();
        lines.gather(&set, database.as_deref(), &index, &mut titles)?;
        plan.names_kept = lines.names_kept;
        let written = lines.write()?;
        plan.titles_taken = written.titles_taken;
        plan.files.push(PlannedHistoryFile {
            name: session_index::FILE_NAME,
            lines: written.lines,
            text: written.text,
            bytes: written.bytes,
            read_bytes: index.bytes,
        });
    }
    if let Some(mut prompts) = prompts {
        bad_lines += prompts.compare(home, &set, &mut plan)?;
        let written = prompts.write(options.max_bytes)?;
        plan.history_entries = written.lines;
        plan.history_trimmed = written.trimmed;
        plan.files.push(PlannedHistoryFile {
            name: super::prompts::FILE_NAME,
            lines: written.lines,
            text: written.text,
            bytes: written.bytes,
            read_bytes: history_bytes,
        });
    }
    plan.bad_lines = bad_lines;
    Ok(plan)
}
