//! Making `session_index.jsonl` and `history.jsonl` again from the rollouts and the table of
//! threads.
//!
//! [`plan`] reads and writes nothing; [`apply()`] keeps a copy of each file and replaces it under the
//! lock that Codex takes. What Codex has appended in between is carried over.
//!
//! A home may have more conversations, prompts and names than memory should hold: of a conversation
//! only its times and its files are kept, and what is written is put into order through temp files
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

/// How much of a planned file is held in memory; the rest is in a temp file without a name.
const SPOOL_BYTES: usize = 1 << 20;

/// Which files are made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildTarget {
    /// `session_index.jsonl`.
    SessionIndex,
    /// `history.jsonl`.
    History,
    /// Both.
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

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct RebuildOptions {
    /// Which files.
    pub only: RebuildTarget,
    /// How many conversations, the most recent ones; `None` for all.
    pub max_threads: Option<usize>,
    /// Whether rollouts without a row count.
    pub include_orphans: bool,
    /// The limit of `history.jsonl`.
    pub max_bytes: Option<u64>,
}

/// Where the list of conversations comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RebuildSource {
    /// The table of threads.
    Database,
    /// The rollouts alone: there is no usable database, or it has no rows.
    Rollouts,
}

/// A file as it will be.
#[derive(Debug)]
pub struct PlannedHistoryFile {
    /// Its name in the home.
    pub name: &'static str,
    /// How many lines it will have.
    pub lines: usize,
    text: SpooledTempFile,
    /// How long the text is.
    bytes: u64,
    /// How long the present one was when it was read.
    read_bytes: u64,
}

/// What a rebuild would do.
#[derive(Debug)]
pub struct RebuildPlan {
    /// Where the conversations come from.
    pub source: RebuildSource,
    /// How many conversations are restored.
    pub refreshed: usize,
    /// How many conversations the limit leaves out.
    pub beyond_limit: usize,
    /// How many names are kept of conversations that are not restored.
    pub names_kept: usize,
    /// How many conversations are called by their ids because somebody gave their title to another.
    pub titles_taken: usize,
    /// How many prompts the history will have.
    pub history_entries: usize,
    /// How many the limit takes.
    pub history_trimmed: usize,
    /// How many lines of the present history no rollout backs.
    pub history_dropped: usize,
    /// How many lines of the present history are of conversations beyond the limit.
    pub history_beyond_limit: usize,
    /// How many rollouts have no row.
    pub orphans_skipped: usize,
    /// How many rollouts have no id.
    pub without_id: usize,
    /// How many conversations have no time at all.
    pub without_time: usize,
    /// How many lines of rollouts, index and history are broken.
    pub bad_lines: u64,
    /// The limit of the history.
    pub max_bytes: Option<u64>,
    /// What could not be read.
    pub skipped: Vec<SkippedFile>,
    /// The files.
    pub files: Vec<PlannedHistoryFile>,
}

/// Plans a rebuild of the files of `home`. `table` is what the state database says, if there is one
/// that can be used.
///
/// # Errors
/// Folders that cannot be listed, a database that changed meanwhile, or the user stopped it. Single
/// rollouts that cannot be read are skipped and named in the plan.
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
    let mut gathered = gather(home, table, options.include_orphans, &mut skipped)?;
    let beyond_limit = apply_limit(home, &mut gathered, options.max_threads, &mut skipped)?;
    let mut titles = Titles::default();
    let mut prompts = options.only.wants_history().then(Prompts::default);
    let mut bad_lines = scan(
        home,
        &mut gathered,
        &index,
        &mut titles,
        prompts.as_mut(),
        &mut skipped,
        progress,
    )?;
    let restored = gathered.conversations.iter().filter(|c| c.is_restored);
    let without_time = restored.clone().filter(|c| c.updated.is_none()).count();
    let mut plan = RebuildPlan {
        source: gathered.source,
        refreshed: restored.count() - without_time,
        beyond_limit,
        names_kept: 0,
        titles_taken: 0,
        history_entries: 0,
        history_trimmed: 0,
        history_dropped: 0,
        history_beyond_limit: 0,
        orphans_skipped: gathered.orphans,
        without_id: gathered.without_id,
        without_time,
        bad_lines: 0,
        max_bytes: options.max_bytes,
        skipped,
        files: Vec::new(),
    };
    if options.only.wants_index() {
        bad_lines += index.bad_lines;
        let mut lines = IndexLines::default();
        lines.gather(&gathered, database.as_deref(), &index, &mut titles)?;
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
        bad_lines += prompts.compare(home, &gathered, &mut plan)?;
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
