//! The change of a conversation or of a file since an archive.

use crate::ui::{Cell, Style, variant_name};
use serde::Serialize;

/// The kind of a change since the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    Removed,
    Changed,
    Added,
}

impl Change {
    /// Compares the two versions of something; `None` if they are equal.
    pub(super) fn between<T: PartialEq>(archived: Option<T>, live: Option<T>) -> Option<Self> {
        match (archived, live) {
            (Some(_), None) => Some(Self::Removed),
            (None, Some(_)) => Some(Self::Added),
            (archived, live) => (archived != live).then_some(Self::Changed),
        }
    }

    pub(super) fn cell(self) -> Cell {
        let style = match self {
            Self::Removed => Style::Warn,
            Self::Changed => Style::Plain,
            Self::Added => Style::Good,
        };
        Cell::new(style, variant_name(self))
    }
}
