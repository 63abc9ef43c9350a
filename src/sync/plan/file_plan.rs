//! The plan for one file: its outcome, and what is reported and recorded besides.

use super::sync_step::{Conflict, SyncStep};
use crate::io::hash::Sha256Digest;
use crate::sync::file_version::FileVersion;
use crate::sync::notice::Notice;
use crate::sync::state::{SideFile, SyncedFile};

#[derive(Debug, Default)]
pub(crate) struct FilePlan {
    pub(crate) outcome: FileOutcome,
    /// Reports about the file and about the copies that cloud clients made of it.
    pub(crate) notices: Vec<Notice>,
    /// Resolutions to publish before the step: ids of deletions that it cancels because it creates the file again, and
    /// names of versions that no machine has to wait for any more.
    pub(crate) published_records: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) enum FileOutcome {
    /// The file stays unchanged on both sides.
    #[default]
    Left,
    /// Both sides have the same version. Contains its record, unless the state has that already.
    Equal(Option<SyncedFile>),
    Step(SyncStep),
    /// The file waits for a decision of the user.
    Conflict(Conflict),
}

impl FileOutcome {
    /// Returns the outcome for a file with the same version on both sides. `last` is its record; `contents` has the
    /// length and digest of its text, if known.
    pub(crate) fn record_equal(
        last: Option<&SyncedFile>,
        local: &FileVersion,
        remote: &FileVersion,
        contents: Option<(u64, Sha256Digest)>,
    ) -> Self {
        let place = |version: &FileVersion| SideFile {
            path: version.seen.path.clone(),
            stat: version.seen.stat,
        };
        let found = SyncedFile {
            local: place(local),
            remote: place(remote),
            contents,
        };
        Self::Equal((last != Some(&found)).then_some(found))
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
