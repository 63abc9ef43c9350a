//! Rebuilds `session_index.jsonl` and `history.jsonl` from the rollouts and the table `threads`.
//!
//! [`plan()`] changes no file. [`apply()`] replaces each file under the lock that Codex takes, and can keep a copy of
//! the previous file. Lines that Codex appended since the plan are preserved.
//!
//! Memory holds the prompts, up to 1 GB, and the title of each conversation; the contents of rollouts are read as
//! streams.

mod apply;
mod conversations;
mod index;
mod plan;
mod prompts;
mod scan;

pub use apply::{RebuiltFile, apply, preview};
pub use conversations::{TableRow, read_table};
pub(crate) use plan::PlannedHistoryFile;
pub use plan::{
    ConversationCounts, PromptCounts, RebuildOptions, RebuildPlan, RebuildSource, RebuildTarget,
    UnusedCounts,
};

use self::conversations::{ConversationSet, gather_conversations};
use self::index::IndexLines;
use self::prompts::Prompts;
use self::scan::{Contents, add_rollout_contents, apply_limit};
use super::HistoryError;
use super::session_index::{self, ThreadNameIndex};
use crate::io::Progress;
use std::path::Path;

/// Plans a rebuild of the files of `home`. `table` is the table of the state database, if it is
/// usable.
///
/// # Errors
/// A folder, the index or the history cannot be read, the prompts are too large, a temp file cannot be written, or the
/// user interrupts. A rollout that cannot be read is skipped and listed in the plan.
pub fn plan(
    home: &Path,
    table: Option<Vec<TableRow>>,
    options: RebuildOptions,
    progress: &dyn Progress,
) -> Result<RebuildPlan, HistoryError> {
    // The length is read before the history, so that lines that Codex appends meanwhile are kept.
    let history_len = apply::file_len(&home.join(super::prompts::FILE_NAME));

    let index = ThreadNameIndex::read(home)?;
    let mut skipped = Vec::new();
    let mut set = gather_conversations(home, table, options.include_orphans, &mut skipped)?;
    let beyond_limit = apply_limit(home, &mut set, options.max_threads, &mut skipped)?;

    let mut prompts = options.only.wants_history().then(Prompts::default);
    let mut contents = Contents {
        index: &index,
        prompts: prompts.as_mut(),
    };
    let bad_lines = add_rollout_contents(home, &mut set, &mut contents, &mut skipped, progress)?;

    let restored = set.conversations.iter().filter(|c| !c.is_beyond_limit);
    let without_time = restored.clone().filter(|c| c.updated.is_none()).count();
    let refreshed = restored.filter(|c| c.updated.is_some());

    let mut plan = RebuildPlan {
        source: set.source,
        conversations: ConversationCounts {
            refreshed: refreshed.clone().count(),
            without_file: refreshed.filter(|c| c.files.is_empty()).count(),
            beyond_limit,
            names_kept: 0,
            titles_taken: 0,
        },
        prompts: PromptCounts::default(),
        unused: UnusedCounts {
            orphans_skipped: set.orphans_skipped,
            without_id: set.rollouts_without_id,
            without_time,
            bad_lines,
        },
        max_bytes: options.max_bytes,
        skipped,
        files: Vec::new(),
    };

    if options.only.wants_index() {
        plan.add_index(&set, &index)?;
    }
    if let Some(mut prompts) = prompts {
        prompts.remove_copies();
        plan.add_history(home, &set, prompts, history_len)?;
    }

    Ok(plan)
}

impl RebuildPlan {
    /// Plans the new `session_index.jsonl`. `index` is the current one.
    fn add_index(
        &mut self,
        set: &ConversationSet,
        index: &ThreadNameIndex,
    ) -> Result<(), HistoryError> {
        let lines = IndexLines::gather(set, index)?;
        self.conversations.names_kept = lines.names_kept;
        let mut file = PlannedHistoryFile::new(session_index::FILE_NAME, index.len_when_read);
        self.conversations.titles_taken = lines.write_without_taken_titles(&mut file)?;
        self.unused.bad_lines += index.bad_lines;
        self.files.push(file);
        Ok(())
    }

    /// Plans the new `history.jsonl`. `len_when_read` is the length of the current one.
    fn add_history(
        &mut self,
        home: &Path,
        set: &ConversationSet,
        prompts: Prompts,
        len_when_read: u64,
    ) -> Result<(), HistoryError> {
        self.prompts = prompts.count_removed_lines(home, set, &mut self.unused.bad_lines)?;
        let mut file = PlannedHistoryFile::new(super::prompts::FILE_NAME, len_when_read);
        self.prompts.trimmed = prompts.write(&mut file, self.max_bytes)?;
        self.prompts.entries = file.lines;
        self.files.push(file);
        Ok(())
    }
}
