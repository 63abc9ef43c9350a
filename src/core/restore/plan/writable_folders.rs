//! Predicts whether this user may exchange the entries that a restore changes, before anything is staged.

use super::live_files::LiveFiles;
use super::request::{RestoreRequest, RestoreTarget};
use super::restore_plan::RestorePlan;
use crate::archive::{EntryName, parse_rollout_name};
use crate::codex::kind_of;
use crate::io::replacement::is_mount_point;
use crate::io::{OrdinaryPath, atomic, links, space};
use crate::restore::error::RestoreError;
use std::path::{Path, PathBuf};

/// The largest number of changed files that a partial restore exchanges one by one. With more files, it links the rest
/// of the home into the stage instead.
const MAX_SINGLE_FILE_EXCHANGES: usize = 16;

/// Returns true if a restore of a few files exchanges them one by one. Linking all unchanged files would cost more than
/// the restore itself.
pub(crate) fn exchanges_single_files(plan: &RestorePlan, home: &Path) -> bool {
    plan.partial
        && plan.writes.len() + plan.removed.len() <= MAX_SINGLE_FILE_EXCHANGES
        && can_write_folders(plan, home)
}

/// Returns true if each changed file is in a folder that this process may write, or if it may not
/// write the home. Otherwise, the home has to be exchanged as a whole.
fn can_write_folders(plan: &RestorePlan, home: &Path) -> bool {
    // The new home gets the mode of the old one, so it could not be filled.
    if !space::is_writable(home) {
        return true;
    }
    let mut changed = plan.writes.iter().chain(plan.removed.iter());
    changed.all(|name| find_unwritable_folder(plan, home, &name).is_none())
}

/// Returns the existing folder in which the entry `name` is or will be, if this process may not write it.
fn find_unwritable_folder(plan: &RestorePlan, home: &Path, name: &EntryName) -> Option<PathBuf> {
    let path = name.as_path();
    let mut live = home.join(path);
    // The restore exchanges the target of a link at the top level.
    let is_followed = !kind_of(path).is_link_replaced() && !plan.removed.contains(path);
    if is_followed && live.is_symlink() {
        live = live.canonical_or_self();
    }
    let mut folders = live.ancestors().skip(1);
    let folder = folders.find(|folder| folder.is_dir())?;
    (!space::is_writable(folder)).then(|| folder.to_path_buf())
}

/// Fails if the restore would have to rename an entry in a folder that this process may not write. A folder that moves to
/// another folder must be writable itself. The exchange checks its steps again.
///
/// # Errors
/// [`RestoreError::UnwritableFolder`].
pub(super) fn check_writable(
    request: &RestoreRequest<'_>,
    plan: &RestorePlan,
    live: &LiveFiles,
) -> Result<(), RestoreError> {
    let home = request.folder.canonical_or_self();
    if request.target != RestoreTarget::Home || !home.is_dir() {
        return Ok(());
    }

    // The plan also lists logs of databases that do not exist, and rollouts that the home has with the same content.
    let may_stay = |name: &EntryName| {
        parse_rollout_name(name.as_path()).is_some() && !plan.added.contains(name.as_path())
    };
    let writes = plan.writes.iter().filter(|name| !may_stay(name));
    let removed = plan
        .removed
        .iter()
        .filter(|name| live.names.contains(name.as_path()));
    let mut changed = writes.chain(removed).filter(|name| !name.is_manager_name());

    let parent = atomic::parent_of(&home);
    let is_exchanged_whole = || {
        space::is_writable(parent)
            && !is_mount_point(&home)
            && !links::lies_in(request.manager_home, &home)
    };
    let is_fixed_folder = |path: &Path| {
        path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
            && !is_mount_point(path)
            && !space::is_writable(path)
    };

    let unwritable = if exchanges_single_files(plan, &home) {
        changed.find_map(|name| find_unwritable_folder(plan, &home, &name))
    } else if changed.next().is_none() {
        None
    } else if !space::is_writable(&home) {
        Some(home)
    } else if is_exchanged_whole() {
        None
    } else {
        let names = plan.writes.iter().chain(plan.removed.iter());
        let mut top_entries = names.map(|name| home.join(name.top()));
        top_entries.find(|path| is_fixed_folder(path))
    };
    match unwritable {
        Some(folder) => Err(RestoreError::UnwritableFolder(folder)),
        None => Ok(()),
    }
}
