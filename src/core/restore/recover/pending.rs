//! Finds interrupted restores, and finishes or undoes them.
//!
//! The journal of a restore is in a staging folder beside the home or within it. A [`JournalPointer`] names that
//! folder, so that a command for another home finds it too.

use super::journal_pointer::{JournalPointer, list_pointed_folders};
use super::login_guard::LoginGuard;
use crate::io::{Environment, LockHolder, OrdinaryPath, Timestamp, atomic, lock, user};
use crate::journal::{self, JournalError, KeptAs, Recovery};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Returns the staging folders of restores that may have been interrupted: those of `codex_home`, and those that a
/// pointer names. Each folder has the path of its pointer, if there is one.
pub fn find_candidate_folders(
    codex_home: &Path,
    manager_home: &Path,
) -> BTreeMap<PathBuf, Option<PathBuf>> {
    // A folder that cannot be inspected is a candidate too, so that its error is reported.
    let may_exist = |folder: &PathBuf| !matches!(journal::is_real_folder(folder), Ok(false));
    let folders_of_home = restore_staging_folders(codex_home).into_iter();
    let without_pointer = folders_of_home
        .filter(may_exist)
        .map(|folder| (folder, None));
    // For root, the pointer of a user must not lead to the restore of another one.
    let may_point_to = |folder: &Path| {
        let owner = user::read_owner(folder);
        !user::is_root() || owner.is_none() || owner == user::read_owner(manager_home)
    };
    let pointed_folders = list_pointed_folders(manager_home).into_iter();
    let pointed_folders = pointed_folders.filter(|(folder, _)| may_point_to(folder));
    let with_pointer = pointed_folders.map(|(folder, pointer)| (folder, Some(pointer)));
    // For a folder that is in both lists, the map keeps the later entry, which has the pointer.
    without_pointer.chain(with_pointer).collect()
}

/// Returns the process that is restoring `codex_home`; `None` if there is none.
pub fn find_running(codex_home: &Path) -> Option<LockHolder> {
    let folders = restore_staging_folders(codex_home);
    folders
        .iter()
        .find_map(|folder| journal::find_running(folder))
}

/// Returns the two staging folders in which a restore of this home can have its journal.
fn restore_staging_folders(codex_home: &Path) -> [PathBuf; 2] {
    let home = codex_home.canonical_or_self();
    [
        journal::staging_folder_beside(&home),
        journal::staging_folder_within(&home),
    ]
}

/// Returns the staging folders that stayed after restores of `codex_home` and after repairs of its databases.
pub fn list_kept_folders(codex_home: &Path) -> Vec<(PathBuf, KeptAs)> {
    let staging_folders = restore_staging_folders(codex_home).into_iter();
    let staging_folders = staging_folders.chain([journal::staging_folder_in(codex_home)]);
    let kept_folders = staging_folders.flat_map(|folder| journal::list_kept_folders(&folder));
    kept_folders.collect()
}

/// The result of the recovery of a restore.
pub(crate) struct RestoreRecovery {
    /// True if the restore is of the home of this command.
    pub(crate) is_of_this_home: bool,
    pub(crate) result: Result<Recovery, JournalError>,
}

/// Finishes or undoes every interrupted restore, and removes the pointers of ended restores. Returns the result for
/// each restore, also for a running one. If there is no restore, only lists a few folders.
pub(crate) fn recover_all(
    codex_home: &Path,
    manager_home: &Path,
    env: &Environment,
    now: Timestamp,
) -> Vec<RestoreRecovery> {
    let folders_of_home = restore_staging_folders(codex_home);
    let guard = LoginGuard {
        manager_home,
        env,
        now,
    };

    let mut recovered = Vec::new();
    for (folder, pointer) in find_candidate_folders(codex_home, manager_home) {
        let mut result = journal::recover(&folder, &guard);

        // A restore that is starting locks its pointer before its staging folder.
        if matches!(result, Ok(Recovery::None))
            && let Some(holder) = pointer.as_deref().and_then(lock::find_holder)
        {
            result = Ok(Recovery::InProgress(holder));
        }

        // Without the parent folder, the disk is perhaps not mounted and still has the staging folder.
        let has_ended = atomic::parent_of(&folder).is_dir()
            && matches!(
                result,
                Ok(Recovery::None | Recovery::Undone(_) | Recovery::Finished(_))
            );
        if has_ended
            && let Some(pointer) = pointer
            && let Err(e) = JournalPointer::remove(&pointer, &folder)
        {
            result = Err(e);
        }

        if !matches!(result, Ok(Recovery::None)) {
            recovered.push(RestoreRecovery {
                is_of_this_home: folders_of_home.contains(&folder),
                result,
            });
        }
    }

    recovered
}
