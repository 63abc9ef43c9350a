//! Stages hard links to rollouts that the home has with the same content as the archive, so that they are not written
//! again.
//!
//! Links only rollouts: the restore edits some other files in the stage, and an edit through a hard link would change
//! the live file.

use super::staged_home::{Stage, StageRoot};
use crate::archive::scan::has_attributes_of;
use crate::archive::{ArchiveError, ArchiveManifest, FileEntry, NameSet};
use crate::codex::kind_of;
use crate::io::progress::check_interrupt;
use crate::io::{IoContext, IoError, Progress, atomic, file_id, parallel, sharing};
use crate::journal::JournalError;
use crate::restore::error::RestoreError;
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::unchanged_files::has_archived_content;
use std::path::Path;

/// The largest number of rollouts that are queued for the comparison.
const MAX_QUEUED_ROLLOUTS: usize = 64;

/// Links the rollouts of the home that are equal to the archived ones into the stage, and returns their names. A
/// rollout that cannot be read or linked counts as different. Reports the compared bytes to `progress`. Does nothing
/// for `--to`.
///
/// # Errors
/// The stage cannot be written, or the user interrupts.
pub(crate) fn link_equal_rollouts(
    contents: &ArchiveManifest,
    plan: &RestorePlan,
    stage: &Stage,
    progress: &dyn Progress,
) -> Result<NameSet, ArchiveError> {
    let mut linked_names = NameSet::with_name_table(plan.writes.name_table());
    if plan.target != RestoreTarget::Home {
        return Ok(linked_names);
    }

    let linkable_roots = find_linkable_roots(stage);
    let is_candidate = |file: &FileEntry| {
        let path = file.path.as_path();
        kind_of(path).is_rollout_folder()
            && plan.writes.contains(path)
            && !plan.added.contains(path)
            && !plan.removed.contains(path)
            && linkable_roots.contains(&stage.root_of(path).live.as_path())
    };

    // Several threads compare the candidates. The results come in the order of the archive.
    parallel::run_each_ordered(
        MAX_QUEUED_ROLLOUTS,
        contents.files.iter().filter(is_candidate),
        |file: FileEntry| -> Result<Option<FileEntry>, ArchiveError> {
            let is_linked = link_if_equal(&file, stage, progress)?;
            check_interrupt().map_err(|_| ArchiveError::Interrupted)?;
            Ok(is_linked.then_some(file))
        },
        |linked| {
            if let Some(file) = linked? {
                linked_names.insert(&file.path);
            }
            Ok::<_, ArchiveError>(())
        },
    )?;

    Ok(linked_names)
}

/// Fails with [`JournalError::WrittenMeanwhile`] if a rollout was written after [`link_equal_rollouts`] linked it.
pub(crate) fn check_linked_rollouts_unchanged(
    contents: &ArchiveManifest,
    plan: &RestorePlan,
    stage: &Stage,
) -> Result<(), RestoreError> {
    let is_linked = |file: &FileEntry| {
        let path = file.path.as_path();
        stage.equal_rollouts.contains(path) && plan.writes.contains(path)
    };

    // If Codex appends to a rollout that it has open, the hard link in the stage grows too.
    let mut linked_files = contents.files.iter().filter(is_linked);
    let changed_file = linked_files
        .find(|file| !has_archived_attributes(&stage.staged_path(file.path.as_path()), file));

    if let Some(file) = changed_file {
        let path = file.path.as_path();
        return Err(RestoreError::Journal(JournalError::WrittenMeanwhile {
            files: vec![stage.root_of(path).live_path(path)],
            kept: Vec::new(),
        }));
    }
    Ok(())
}

/// Returns the live paths of the roots in which files can be hard-linked. On an overlay file system, a hard link copies
/// the file, so roots there are excluded. If several links of the home lead to one folder, the archive has its files
/// once for each link, so this folder is excluded too.
fn find_linkable_roots(stage: &Stage) -> Vec<&Path> {
    let is_linkable = |root: &&StageRoot| {
        let roots = stage.roots.iter();
        let roots_of_folder = roots.filter(|other_root| other_root.staged == root.staged);
        roots_of_folder.count() == 1 && !file_id::is_overlay(&root.live)
    };
    let roots = stage.roots.iter().filter(is_linkable);
    roots.map(|root| root.live.as_path()).collect()
}

/// Links the live file into the stage if it is equal to the archived `file`. Returns true if it was linked.
fn link_if_equal(
    file: &FileEntry,
    stage: &Stage,
    progress: &dyn Progress,
) -> Result<bool, IoError> {
    let relative = file.path.as_path();
    let live = stage.root_of(relative).live_path(relative);
    let Some((compared_id, _)) = file_id::stat(&live)? else {
        return Ok(false);
    };

    // Compared before it is linked: adding and removing a link would change the ctime, which looks like a write.
    if !has_archived_attributes(&live, file) || !has_archived_content(&live, file, progress) {
        return Ok(false);
    }

    let staged = stage.staged_path(relative);
    atomic::create_unsynced_folder(atomic::parent_of(&staged))?;
    if sharing::hard_link(&live, &staged).is_err() {
        return Ok(false);
    }

    let staged_stat = file_id::stat(&staged)?;
    if staged_stat.is_some_and(|(id, _)| id.is_same(compared_id))
        && has_archived_attributes(&staged, file)
    {
        return Ok(true);
    }

    // The live file was replaced or written after the comparison.
    sharing::remove_file(&staged).at("remove", &staged)?;
    Ok(false)
}

fn has_archived_attributes(path: &Path, file: &FileEntry) -> bool {
    let meta = path.symlink_metadata();
    meta.is_ok_and(|meta| meta.is_file() && has_attributes_of(&meta, file))
}
