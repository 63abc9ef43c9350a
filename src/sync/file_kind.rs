//! The kinds of synced files, which are compared, merged and replaced in different ways.

use super::contents::ContentFormat;
use super::{line_merge, rollouts};

/// The kind of a file, which follows from its key. A longer rollout or file of lines is newer; the length of a plain file
/// shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// A conversation, which Codex only appends to.
    Rollout,
    /// A file whose lines can be merged.
    Lines,
    /// Any other file, replaced as a whole.
    Plain,
}

impl FileKind {
    /// Returns the kind of the file with this key.
    pub(crate) fn from_key(key: &str) -> Self {
        if rollouts::is_key(key) {
            Self::Rollout
        } else if line_merge::is_mergeable(key) {
            Self::Lines
        } else {
            Self::Plain
        }
    }

    pub(crate) fn content_format(self) -> ContentFormat {
        match self {
            Self::Rollout | Self::Lines => ContentFormat::Lines,
            Self::Plain => ContentFormat::Any,
        }
    }
}
