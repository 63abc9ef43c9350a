//! The kinds of synced files, which sync compares, merges and replaces in different ways.

use super::{line_merge, rollouts};

/// The kind of a file, which follows from its key. Of two versions of a rollout or a file of lines, one that continues
/// the other is newer. For plain files, that proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A rollout of a conversation, to which Codex appends lines.
    Rollout,
    /// A file whose lines can be merged.
    Lines,
    /// Any other file, replaced as a whole.
    Plain,
}

impl FileKind {
    pub(crate) fn from_key(key: &str) -> Self {
        if rollouts::is_key(key) {
            Self::Rollout
        } else if line_merge::is_mergeable(key) {
            Self::Lines
        } else {
            Self::Plain
        }
    }

    pub(crate) fn has_lines(self) -> bool {
        self != Self::Plain
    }
}
