//! The plan of a rebuild, and the options from which it is made.

use crate::history::SkippedFile;
use crate::io::{IoContext, IoError};
use serde::Serialize;
use std::io::{self, BufRead, BufReader, Seek, Write};
use tempfile::SpooledTempFile;

/// The files to rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RebuildTarget {
    /// `session_index.jsonl`, the names of conversations
    SessionIndex,
    /// `history.jsonl`, the prompts of the user
    History,
    /// Both of these files
    Both,
}

impl RebuildTarget {
    pub(super) fn wants_index(self) -> bool {
        self != Self::History
    }

    pub(super) fn wants_history(self) -> bool {
        self != Self::SessionIndex
    }
}

/// The options of [`super::plan()`].
#[derive(Debug, Clone, Copy)]
pub struct RebuildOptions {
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
    pub lines: usize,
    pub(super) text: SpooledTempFile,
    /// The length of the new content.
    pub(super) new_len: u64,
    /// The length of the current file when it was read.
    pub(super) len_when_read: u64,
}

/// Maximum size of new content in memory, in bytes. Larger content moves to an unnamed temp file.
const SPOOL_BYTES: usize = 1 << 20;

impl PlannedHistoryFile {
    pub(super) fn new(name: &'static str, len_when_read: u64) -> Self {
        Self {
            name,
            lines: 0,
            text: SpooledTempFile::new(SPOOL_BYTES),
            new_len: 0,
            len_when_read,
        }
    }

    /// Adds an entry as one line of compact JSON, and returns the length of the line.
    pub(super) fn push(&mut self, entry: &impl Serialize) -> Result<u64, IoError> {
        // Cannot fail: all fields of entries are strings and numbers.
        let mut line = serde_json::to_vec(entry).unwrap_or_default();
        line.push(b'\n');
        add_temp_folder_to_error(self.text.write_all(&line))?;
        self.new_len += line.len() as u64;
        self.lines += 1;
        Ok(line.len() as u64)
    }

    /// Removes the first lines until the content is at most `max_bytes` bytes long. Returns the number of these lines.
    pub(super) fn trim(&mut self, max_bytes: u64) -> Result<usize, IoError> {
        let mut removed_lines = 0;
        if self.new_len <= max_bytes {
            return Ok(removed_lines);
        }

        add_temp_folder_to_error(self.text.rewind())?;
        let text = std::mem::replace(&mut self.text, SpooledTempFile::new(SPOOL_BYTES));
        let mut reader = BufReader::new(text);

        while self.new_len > max_bytes {
            self.new_len -= add_temp_folder_to_error(reader.skip_until(b'\n'))? as u64;
            removed_lines += 1;
        }

        add_temp_folder_to_error(io::copy(&mut reader, &mut self.text))?;
        self.lines -= removed_lines;
        Ok(removed_lines)
    }
}

/// Names the folder of temp files in an error, because an unnamed temp file has no path.
fn add_temp_folder_to_error<T>(result: io::Result<T>) -> Result<T, IoError> {
    result.at("use a temp file in", std::env::temp_dir())
}

/// The result of [`super::plan()`].
#[derive(Debug)]
pub struct RebuildPlan {
    pub source: RebuildSource,
    pub conversations: ConversationCounts,
    pub prompts: PromptCounts,
    /// The input that the rebuilt files lack.
    pub unused: UnusedCounts,
    /// The size limit of `history.jsonl` in bytes.
    pub max_bytes: Option<u64>,
    pub skipped: Vec<SkippedFile>,
    pub files: Vec<PlannedHistoryFile>,
}

/// Numbers of conversations. The JSON keys are an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ConversationCounts {
    /// Conversations in the rebuilt files.
    pub refreshed: usize,
    /// Conversations in the rebuilt files that have a row, but no rollout in `sessions/`.
    pub without_file: usize,
    /// Conversations left out by the limit.
    pub beyond_limit: usize,
    /// Names kept although the conversation is left out.
    pub names_kept: usize,
    /// Conversations without a name in the index, because their title is a name that the user gave to another
    /// one.
    pub titles_taken: usize,
}

/// Numbers of prompts. The JSON keys are an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PromptCounts {
    /// Prompts in the new history.
    #[serde(rename = "history_entries")]
    pub entries: usize,
    /// Oldest prompts removed by `max_bytes`.
    #[serde(rename = "history_trimmed")]
    pub trimmed: usize,
    /// Lines of the current history that the new one lacks, apart from `beyond_limit`.
    #[serde(rename = "history_dropped")]
    pub dropped: usize,
    /// The number of dropped lines of conversations on disk. Their rollouts lack these prompts, or the rebuild leaves
    /// the conversations out.
    #[serde(rename = "history_unrecorded")]
    pub unrecorded: usize,
    /// Lines of the current history whose conversation the limit leaves out.
    #[serde(rename = "history_beyond_limit")]
    pub beyond_limit: usize,
}

impl PromptCounts {
    /// Returns an upper bound of the number of lines that a rebuild removes from the current history. The exact number
    /// may be lower, because `max_bytes` may cut lines that only a rollout has.
    #[must_use]
    pub fn max_removed(&self) -> usize {
        self.dropped + self.beyond_limit + self.trimmed
    }
}

/// Numbers of rollouts, conversations and lines that cannot be used. The JSON keys are an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UnusedCounts {
    /// Rollouts skipped because they have no row.
    pub orphans_skipped: usize,
    /// Rollouts that name no conversation.
    pub without_id: usize,
    /// Conversations without any time.
    pub without_time: usize,
    /// Lines of rollouts, index and history that cannot be parsed.
    pub bad_lines: u64,
}
