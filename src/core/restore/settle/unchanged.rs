//! Stages unchanged files as hard links, or decides that they can stay in place.

use super::hard_linker::HardLinker;
use crate::io::{IoError, atomic, file_id, tree};
use crate::restore::OutsideDatabases;
use crate::restore::error::RestoreError;
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::stage::staged_home::{Stage, StageRoot};
use crate::restore::stage::workspace::Workspace;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::{fs, io};

/// The largest number of changed files that a partial restore exchanges one by one. With more files, it links the rest
/// of the home into the stage instead.
const MAX_SINGLE_FILE_EXCHANGES: usize = 16;

/// Stages the files that the plan does not change, and decides whether each changed file is exchanged by itself. The
/// unchanged files then stay in place and need no link.
pub(crate) fn stage_unchanged(
    work: &mut Workspace<'_>,
    outside: &OutsideDatabases,
) -> Result<(), RestoreError> {
    let plan = &work.plan;
    let changes_home_only =
        plan.target == RestoreTarget::Home && outside.live_and_staging_folder().is_none();
    let changed_count = plan.writes.len() + plan.removed.len();

    // Linking all unchanged files would cost more than the restore itself.
    let is_small = plan.partial && changed_count <= MAX_SINGLE_FILE_EXCHANGES;
    work.exchanges_files =
        changes_home_only && (is_small || cannot_rename_home(work.stage.home())?);
    if !work.exchanges_files {
        match link_into_stage(work) {
            // A file of another user may allow neither reads nor links. It can stay in place.
            Err(e) if e.is_access_denied() && changes_home_only => work.exchanges_files = true,
            linked => linked?,
        }
    }

    // A partial restore leaves the modes and times of existing folders.
    let stage = &work.stage;
    let live_home = work.plan.partial.then_some(stage.home().live.as_path());
    Ok(stage.set_folder_attributes(work.request.archive.contents(), live_home)?)
}

/// Links the unchanged live files of all roots into the stage.
fn link_into_stage(work: &Workspace<'_>) -> Result<(), IoError> {
    let (plan, stage) = (&work.plan, &work.stage);
    let linker = HardLinker { plan };

    // The targets of linked folders come first. Such a target is not exchanged if nothing is staged for it.
    for root in stage.linked_roots() {
        linker.link_root(root)?;
    }

    if stage.home().is_whole {
        return linker.link_root(stage.home());
    }

    for name in list_changed_top_names(plan, stage) {
        linker.link_path_in_root(stage.home(), Path::new(&name))?;
    }
    Ok(())
}

/// Returns the top-level names of the home that change, without the linked folders.
pub(crate) fn list_changed_top_names(plan: &RestorePlan, stage: &Stage) -> BTreeSet<OsString> {
    let linked_roots = stage.linked_roots();
    let mut top_names: BTreeSet<OsString> = BTreeSet::new();

    for name in plan.writes.iter().chain(plan.removed.iter()) {
        let is_linked = |root: &StageRoot| name.as_path().starts_with(&root.prefix);
        if !top_names.contains(name.top()) && !linked_roots.iter().any(is_linked) {
            top_names.insert(name.top().to_owned());
        }
    }

    let staged = tree::list(&stage.home().staged).unwrap_or_default();
    top_names.extend(staged.into_iter().map(|(name, _)| name));
    top_names
}

/// Returns true if the home is on an overlay file system and its folder cannot be renamed.
///
/// Tries to rename the home over a folder that is not empty. The rename always fails: with EXDEV if the home is in a
/// lower layer, else with ENOTEMPTY.
fn cannot_rename_home(root: &StageRoot) -> Result<bool, IoError> {
    if !file_id::is_overlay(&root.live) {
        return Ok(false);
    }

    let occupied = atomic::parent_of(&root.staged).join("full");
    atomic::create_unsynced_folder(&occupied.join("folder"))?;

    #[allow(clippy::disallowed_methods, reason = "nothing is renamed")]
    let renamed = fs::rename(&root.live, &occupied);
    // An error about the target means that the home itself can be renamed.
    let can_rename = renamed.is_err_and(|e| {
        matches!(
            e.kind(),
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
        )
    });
    Ok(!can_rename)
}
