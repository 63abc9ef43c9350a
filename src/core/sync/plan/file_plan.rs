//! The plan for one file: the outcome, the notices to print, and the records to publish.

use super::sync_step::{Conflict, SyncStep};
use crate::sync::contents::TextDigest;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::Notice;
use crate::sync::state::{SideFile, SyncedFile};

#[derive(Debug, Default)]
pub(crate) struct FilePlan {
    pub(crate) outcome: FileOutcome,
    /// Notices about the file and about the copies that cloud clients made of the file.
    pub(crate) notices: Vec<Notice>,
    /// Records to publish before the step: ids of deletions that the step cancels because it creates the file again,
    /// and names of versions that no machine has to wait for any more.
    pub(crate) published_records: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) enum FileOutcome {
    /// The plan changes the file on neither side, and does not count it as equal.
    #[default]
    LeftAsIs,
    /// Both sides have the same version. Contains the record for the state, unless the state has an equal record.
    Equal(Option<SyncedFile>),
    Step(SyncStep),
    /// The file waits for a decision of the user.
    Conflict(Conflict),
}

impl FileOutcome {
    /// Returns the outcome for a file with the same version on both sides. `last` is the record of the last sync;
    /// `text` is the text of both sides, if it is known.
    pub(crate) fn record_equal(
        last: Option<&SyncedFile>,
        local: &FileVersion,
        remote: &FileVersion,
        text: Option<TextDigest>,
    ) -> Self {
        let record = SyncedFile {
            local: SideFile::new(&local.observed.path, local.observed.stat),
            remote: SideFile::new(&remote.observed.path, remote.observed.stat),
            text,
        };
        Self::Equal((last != Some(&record)).then_some(record))
    }
}

impl From<Notice> for FilePlan {
    fn from(notice: Notice) -> Self {
        Self {
            notices: vec![notice],
            ..Self::default()
        }
    }
}

impl From<FileOutcome> for FilePlan {
    fn from(outcome: FileOutcome) -> Self {
        Self {
            outcome,
            ..Self::default()
        }
    }
}
