//! Links rollouts into the stage that the home already has with the archived content, so that they are neither
//! unpacked nor written again.
//!
//! Only rollouts, because the restore edits other files in the stage, and an edit through a hard link would change
//! the live file.

use super::plan::{RestorePlan, RestoreTarget};
use super::stage::Stage;
use crate::archive::ArchiveError;
use crate::archive::contents::ArchiveListing;
use crate::archive::entry::FileEntry;
use crate::archive::name_table::NameSet;
use crate::archive::scan::has_attributes_of;
use crate::codex::home::kind_of;
use crate::io::progress::is_interrupted;
use crate::io::{IoContext, IoError, atomic, file_open, hash, parallel};
use std::fs;
use std::path::Path;

/// The largest number of rollouts that wait to be compared.
const MAX_WAITING: usize = 64;

/// Links the equal rollouts of the home into the stage, and returns their names. A rollout that cannot be read or
/// linked counts as different.
///
/// # Errors
/// The stage cannot be written; [`ArchiveError::Interrupted`].
pub(super) fn link_equal(
    contents: ArchiveListing<'_>,
    plan: &RestorePlan,
    stage: &Stage,
) -> Result<NameSet, ArchiveError> {
    let mut equal = NameSet::with_names(plan.writes.names());
    if plan.target != RestoreTarget::Home {
        return Ok(equal);
    }
    let is_candidate = |file: &FileEntry| {
        let path = file.path.as_path();
        kind_of(path).is_rollout_folder() && plan.changes_file(path)
    };
    parallel::ordered(
        MAX_WAITING,
        |file: FileEntry| -> Result<Option<FileEntry>, ArchiveError> {
            if is_interrupted() {
                return Err(ArchiveError::Interrupted);
            }
            Ok(link_if_equal(&file, stage)?.then_some(file))
        },
        |linked| {
            if let Some(file) = linked? {
                equal.insert(&file.path);
            }
            Ok(())
        },
        |jobs| {
            let mut files = contents.files.iter().filter(is_candidate);
            files
                .try_for_each(|file| jobs.submit(file))
                .map_err(|parallel::ConsumerFailed| ArchiveError::Interrupted)
        },
    )?;
    Ok(equal)
}

/// Links the live file of `file` into the stage if both are equal. Returns true if it did.
fn link_if_equal(file: &FileEntry, stage: &Stage) -> Result<bool, IoError> {
    let relative = file.path.as_path();
    let live = stage.root_of(relative).live_path(relative);
    let has_attributes = |path: &Path| {
        let meta = path.symlink_metadata();
        meta.is_ok_and(|meta| meta.is_file() && has_attributes_of(&meta, file))
    };
    if !has_attributes(&live) {
        return Ok(false);
    }
    let staged = stage.staged_path(relative);
    atomic::create_private_folder(atomic::parent_of(&staged))?;
    if fs::hard_link(&live, &staged).is_err() {
        return Ok(false);
    }
    // The link is compared, not the live path, which can be replaced at any time.
    if has_attributes(&staged) && has_content(&staged, file) {
        return Ok(true);
    }
    fs::remove_file(&staged).at("remove", &staged)?;
    Ok(false)
}

fn has_content(path: &Path, file: &FileEntry) -> bool {
    let digest = file_open::open_no_link(path).and_then(|mut file| hash::sha256_of(&mut file));
    digest.is_ok_and(|(digest, size)| {
        size == file.size && file.sha256.is_some_and(|of| of.to_string() == digest)
    })
}
