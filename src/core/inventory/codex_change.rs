//! Compares the Codex program with that of the last archive of its home. A new version of Codex may rewrite
//! conversations and migrate databases, as 0.169 does.

use super::records::ArchiveRecord;
use super::store;
use crate::archive::BackupMode;
use crate::codex::Program;
use std::path::Path;

/// Compares a program with the last full archive of a home on the machine with the id `machine`. Returns a sentence
/// without a full stop if they are of different builds; `None` if both builds are the same or one of them is unknown.
pub fn describe_codex_change(
    records: &[ArchiveRecord],
    home: &Path,
    machine: Option<&str>,
    program: &Program,
) -> Option<String> {
    let last_archive = store::find_last_of_home(records, home, machine, BackupMode::Full)?;
    let archived_build = last_archive.metadata.codex_build.clone()?;
    let current_build = program.build_id()?;

    // Without a version, a build is identified by the size and the time of its file, with spaces in between.
    let is_version = |build: &str| !build.contains(' ');

    (archived_build != current_build).then(|| {
        if is_version(&archived_build) && is_version(&current_build) {
            format!("Codex is {current_build}; the last archive was made with {archived_build}")
        } else {
            "Codex was replaced since the last archive".to_owned()
        }
    })
}
