//! Compares the Codex program with that of the last archive of its home. A new version may rewrite conversations and
//! migrate databases (0.169).

use super::records::ArchiveRecord;
use super::store;
use crate::archive::BackupMode;
use crate::codex::Program;
use std::path::Path;

/// Compares a program with the last full archive of a home. Returns a sentence without a full stop if they are of
/// different builds; `None` if both builds are the same or one of them is unknown.
pub(crate) fn describe_codex_change(
    records: &[ArchiveRecord],
    home: &Path,
    program: &Program,
) -> Option<String> {
    let last_archive = store::find_last_of_home(records, home, BackupMode::Full)?;
    let archived = last_archive.metadata.codex_build.clone()?;
    let current = program.build_id()?;
    let is_version = |build: &str| !build.contains(' ');
    (archived != current).then(|| {
        if is_version(&archived) && is_version(&current) {
            format!("Codex is {current}; the last archive was made with {archived}")
        } else {
            "Codex was replaced since the last archive".to_owned()
        }
    })
}
