//! Notices about files: a path with a reason, and the list of the plan that shows both.

use super::sides::Side;
use std::io;

/// A reason that the output prints after the path of a file.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) list: NoticeList,
    pub(crate) path: String,
    pub(crate) why: String,
}

/// The list of a plan that gets a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoticeList {
    /// The sync waits for the file.
    Waiting,
    /// The sync waits for the file because no machine attests its present content.
    WaitingUnlisted,
    /// The file stays as it is on both sides.
    Skipped,
    /// The file is not synced, for a reason that does not make the run partial.
    Warning,
    /// A fact that needs no action.
    Note,
    /// The entry of the Codex home is never synced, or the configuration excludes it.
    Excluded,
}

impl NoticeList {
    /// Returns the list for the entries of a side that are not synced.
    pub(crate) fn of_unsynced(side: Side) -> Self {
        side.select(Self::Excluded, Self::Note)
    }

    pub(crate) fn notice(self, path: impl Into<String>, why: impl Into<String>) -> Notice {
        Notice {
            list: self,
            path: path.into(),
            why: why.into(),
        }
    }
}

/// Returns the reason printed for a file that a run leaves alone because reading it failed. Cloud clients
/// remove and replace files at any moment, so "not found" does not indicate a disk error.
pub(super) fn describe_read_failure(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        "it was removed while the sync was running; the next run checks again".to_owned()
    } else {
        format!("it cannot be read ({error})")
    }
}
