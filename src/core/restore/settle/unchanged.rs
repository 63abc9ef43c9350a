//! Stages unchanged files as hard links, or decides that they can stay in place.

use crate::archive::copy_attributes;
use crate::codex::{HomeEntryKind, home, kind_of};
use crate::io::{IoContext, IoError, atomic, file_id, links, tree};
use crate::journal::{self, KeptAs};
use crate::restore::OutsideDatabases;
use crate::restore::error::RestoreError;
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::plan::writable_folders::exchanges_single_files;
use crate::restore::stage::staged_home::{Stage, StageRoot};
use crate::restore::stage::workspace::Workspace;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::{fs, io};

/// Stages the files that the plan does not change, and decides whether each changed file is exchanged by itself. If so,
/// the unchanged files stay in place and need no link.
pub(crate) fn stage_unchanged(
    work: &mut Workspace<'_>,
    outside: &OutsideDatabases,
) -> Result<(), RestoreError> {
    let plan = &work.plan;
    let changes_home_only =
        plan.target == RestoreTarget::Home && outside.live_and_staging_folder().is_none();
    let is_small = exchanges_single_files(plan, &work.stage.home().live);
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

    // The targets of linked folders come first. Such a target is not exchanged if nothing is staged for it.
    for root in stage.linked_roots() {
        link_root(plan, root)?;
    }

    if stage.home().is_whole {
        return link_root(plan, stage.home());
    }

    let home = stage.home();
    for name in list_changed_top_names(plan, stage)? {
        let (live, staged) = (home.live.join(&name), home.staged.join(&name));
        link_entry(plan, &live, Path::new(&name), &staged)?;
    }
    Ok(())
}

/// Returns the top-level names of the home that change, without the linked folders.
pub(crate) fn list_changed_top_names(
    plan: &RestorePlan,
    stage: &Stage,
) -> Result<BTreeSet<OsString>, IoError> {
    let linked_roots = stage.linked_roots();
    let mut top_names: BTreeSet<OsString> = BTreeSet::new();

    for name in plan.writes.iter().chain(plan.removed.iter()) {
        let is_linked = |root: &StageRoot| name.as_path().starts_with(&root.prefix);
        if !top_names.contains(name.top()) && !linked_roots.iter().any(is_linked) {
            top_names.insert(name.top().to_owned());
        }
    }

    let staged = tree::list_if_exists(&stage.home().staged)?;
    top_names.extend(staged.into_iter().map(|(name, _)| name));
    Ok(top_names)
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

/// Links the unchanged files of `root`. Does nothing if the root is a file or does not exist.
fn link_root(plan: &RestorePlan, root: &StageRoot) -> Result<(), IoError> {
    match root.live.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.is_dir() => return Ok(()),
        Ok(_) => {}
        Err(e) => return Err(e).at("read", &root.live),
    }

    atomic::create_unsynced_folder(&root.staged)?;
    for (name, _) in tree::list(&root.live).at("list", &root.live)? {
        // The root may contain its own staging folder. Elsewhere, an entry of that name is the user's.
        if !journal::is_staging_folder_within(Path::new(&name)) {
            let (live, staged) = (root.live.join(&name), root.staged.join(&name));
            link_entry(plan, &live, &root.prefix.join(&name), &staged)?;
        }
    }
    if root.staged.is_dir() {
        copy_attributes(&root.live, &root.staged)?;
    }
    Ok(())
}

/// Returns true for a live entry that is never linked: the plan removes it, it is a leftover of a restore, or it is
/// auth.json, which `login` stages.
fn is_never_linked(plan: &RestorePlan, relative: &Path) -> bool {
    plan.removed.contains(relative)
        || relative == Path::new(home::AUTH_JSON)
        || (kind_of(relative) == HomeEntryKind::Transient
            && journal::parse_kept_name(relative) == Some(KeptAs::Leftover))
}

/// Returns true if the plan replaces the live file `relative`, or if the file is never linked.
pub(crate) fn stays_unlinked(plan: &RestorePlan, relative: &Path) -> bool {
    is_never_linked(plan, relative) || plan.writes.contains(relative)
}

/// Checks that an exchange of `live` discards only files that the plan replaces or removes, because the safety
/// backup does not have other files.
///
/// # Errors
/// The exchange would discard another file, or `live` cannot be read.
pub(crate) fn check_no_loss(
    plan: &RestorePlan,
    live: &Path,
    relative: &Path,
) -> Result<(), IoError> {
    let Some((_, meta)) = file_id::stat(live)? else {
        return Ok(());
    };

    if meta.is_dir() && !is_never_linked(plan, relative) {
        for (name, _) in tree::list(live).at("list", live)? {
            check_no_loss(plan, &live.join(&name), &relative.join(&name))?;
        }
        return Ok(());
    }

    if stays_unlinked(plan, relative) {
        return Ok(());
    }

    let why = "the archive has another entry at this path, and the safety backup does not have the live one";
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why)).at("keep", live)
}

fn link_entry(
    plan: &RestorePlan,
    live: &Path,
    relative: &Path,
    staged: &Path,
) -> Result<(), IoError> {
    if is_never_linked(plan, relative) {
        return Ok(());
    }

    // An error ends the restore: an entry that is not linked would be removed with the old home.
    let Some((_, live_meta)) = file_id::stat(live)? else {
        return Ok(());
    };

    // If the archive has an entry at this path, it is staged already. Of two folders, the contents are merged.
    if let Ok(staged_meta) = staged.symlink_metadata()
        && !(staged_meta.is_dir() && live_meta.is_dir())
    {
        return check_no_loss(plan, live, relative);
    }

    if !live_meta.is_dir() {
        atomic::create_unsynced_folder(atomic::parent_of(staged))?;
        // A link takes no space. A process that has the file open goes on with the same file after the exchange.
        return links::link_or_copy_entry(live, &live_meta, staged);
    }

    let may_drop_if_empty = match kind_of(relative) {
        HomeEntryKind::Unknown
        | HomeEntryKind::Transient
        | HomeEntryKind::Tmp
        | HomeEntryKind::Worktrees => false,
        // A restore of the whole archive creates the empty folders of the archive, and drops other empty folders of the
        // kinds that the archive covers.
        _ => !plan.partial && !plan.merge,
    };
    if !may_drop_if_empty {
        atomic::create_unsynced_folder(staged)?;
    }

    // Lists the whole folder first: one open descriptor per level would be too many for a deep path.
    for (name, _) in tree::list(live).at("list", live)? {
        let (live, staged) = (live.join(&name), staged.join(&name));
        link_entry(plan, &live, &relative.join(&name), &staged)?;
    }
    // The staged folder is missing if it was left out because it is empty.
    if staged.symlink_metadata().is_ok_and(|m| m.is_dir()) {
        copy_attributes(live, staged)?;
    }

    Ok(())
}
