//! Compares the Codex program with that of the last archive of its home. A new version may rewrite conversations and
//! migrate databases (0.169).

use super::records::ArchiveRecord;
use super::store;
use crate::archive::BackupMode;
use crate::codex::Program;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

/// Two different builds of Codex: that of the last archive, and the current one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodexChange {
    archived: String,
    current: String,
}

impl CodexChange {
    /// Compares a program with the last full archive of a home. Returns `None` if both builds are the same or one of
    /// them is unknown.
    pub(crate) fn compare_with_last_archive(
        records: &[ArchiveRecord],
        home: &Path,
        program: &Program,
    ) -> Option<Self> {
        let last = store::find_last_of_home(records, home, BackupMode::Full)?;
        let archived = last.metadata.codex_build.clone()?;
        let current = program.build_id()?;
        (archived != current).then_some(Self { archived, current })
    }
}

impl Display for CodexChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_version = |build: &str| !build.contains(' ');
        if is_version(&self.archived) && is_version(&self.current) {
            let Self { archived, current } = self;
            write!(
                f,
                "Codex is {current}; the last archive was made with {archived}"
            )
        } else {
            write!(f, "Codex was replaced since the last archive")
        }
    }
}
