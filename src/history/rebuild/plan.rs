//! The plan of a rebuild, and the options from which it is made.

use crate::history::SkippedFile;
use memchr::memchr;
use serde::Serialize;

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
    pub(super) text: Vec<u8>,
    /// The length of the current file when it was read.
    pub(super) read_bytes: u64,
}

impl PlannedHistoryFile {
    pub(super) fn new(name: &'static str, read_bytes: u64) -> Self {
        Self {
            name,
            lines: 0,
            text: Vec::new(),
            read_bytes,
        }
    }

    /// Adds an entry as one line of compact JSON, and returns the length of the line.
    pub(super) fn push(&mut self, entry: &impl Serialize) -> usize {
        let length_before = self.text.len();
        // Cannot fail: all fields of entries are strings and numbers.
        let _ = serde_json::to_writer(&mut self.text, entry);
        self.text.push(b'\n');
        self.lines += 1;
        self.text.len() - length_before
    }

    /// Removes the first lines until the content is at most `target` bytes long. Returns the number of these lines.
    pub(super) fn trim(&mut self, target: usize) -> usize {
        let (mut start, mut trimmed) = (0, 0);
        while self.text.len() - start > target
            && let Some(newline) = memchr(b'\n', &self.text[start..])
        {
            start += newline + 1;
            trimmed += 1;
        }
        self.text.drain(..start);
        self.lines -= trimmed;
        trimmed
    }
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
    /// Conversations named by their id, because their title is a name that the user gave to another
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
    /// Lines of the current history that no rollout in the rebuild has.
    #[serde(rename = "history_dropped")]
    pub dropped: usize,
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
