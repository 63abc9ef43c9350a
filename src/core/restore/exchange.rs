//! Phase 4: the steps that exchange the staged state with the live one. Each file is a step in three cases: a restore
//! of a few files, an unchanged file that cannot be linked, and an overlay file system, as in a container, that cannot
//! rename the home.

use crate::archive::EntryName;
use crate::codex::{database, home};
use crate::io::replacement::is_mount_point;
use crate::io::{IoContext, IoError, atomic, space, tree};
use crate::journal::{self, Step};
use crate::restore::error::RestoreError;
use crate::restore::plan::restore_plan::RestorePlan;
use crate::restore::settle::outside_databases::OutsideDatabases;
use crate::restore::settle::unchanged::{check_no_loss, list_changed_top_names, stays_unlinked};
use crate::restore::stage::staged_home::{Stage, StageRoot};
use crate::restore::stage::workspace::Workspace;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the exchange steps in the order in which they have to run.
///
/// # Errors
/// A step would replace a mounted file, such as a database whose rows change.
pub(crate) fn plan_steps(
    work: &Workspace<'_>,
    outside: &OutsideDatabases,
) -> Result<Vec<Step>, RestoreError> {
    let steps = if work.exchanges_files {
        plan_file_steps(&work.plan, &work.stage)?
    } else {
        plan_root_steps(work, outside)?
    };
    if let Some(step) = steps.iter().find(|step| is_mount_point(&step.live)) {
        return Err(RestoreError::MountedFile(step.live.clone()));
    }
    check_writable(&steps)?;
    Ok(steps)
}

/// Fails if the restore would replace a mounted file, such as a database whose rows change.
///
/// # Errors
/// [`RestoreError::MountedFile`].
pub(crate) fn refuse_mounts(work: &Workspace<'_>) -> Result<(), RestoreError> {
    let changed = work.plan.writes.iter().chain(work.plan.removed.iter());
    // A mount point deeper in the home is refused when the workspace is opened.
    let top_names = changed.filter(|name| name.as_path().components().count() == 1);
    let mut live_paths = top_names.map(|name| {
        let root = work.stage.root_of(name.as_path());
        root.live_path(name.as_path())
    });
    match live_paths.find(|path| is_mount_point(path)) {
        Some(path) => Err(RestoreError::MountedFile(path)),
        None => Ok(()),
    }
}

/// Returns a sentence for each top-level link to a file that the restore replaces by a file.
pub(crate) fn describe_replaced_links(work: &Workspace<'_>) -> Vec<String> {
    let (plan, home) = (&work.plan, work.stage.home());
    let describe = |name: EntryName| {
        let (live, staged) = (
            home.live.join(name.as_path()),
            home.staged.join(name.as_path()),
        );
        let target = fs::read_link(&live).ok()?;
        staged
            .symlink_metadata()
            .is_ok_and(|meta| meta.is_file())
            .then(|| {
                let (name, target) = (live.display(), target.display());
                format!("{name} was a link to {target}, and is a file now")
            })
    };
    let top_names = plan
        .writes
        .iter()
        .filter(|name| name.as_path().components().count() == 1);
    top_names.filter_map(describe).collect()
}

/// Fails if this process may not rename the live entry of a step. A folder that moves to another folder must be
/// writable itself.
fn check_writable(steps: &[Step]) -> Result<(), RestoreError> {
    let folders = steps.iter().flat_map(|step| {
        let moved_folder = Some(&*step.live).filter(|live| is_folder(live));
        moved_folder
            .into_iter()
            .chain([atomic::parent_of(&step.live)])
    });
    let mut folders = folders.filter(|folder| folder.is_dir());
    match folders.find(|folder| !space::is_writable(folder)) {
        Some(folder) => Err(RestoreError::UnwritableFolder(folder.to_path_buf())),
        None => Ok(()),
    }
}

/// Returns the steps that exchange whole roots, or their top-level entries.
fn plan_root_steps(
    work: &Workspace<'_>,
    outside: &OutsideDatabases,
) -> Result<Vec<Step>, RestoreError> {
    let (plan, stage) = (&work.plan, &work.stage);
    let mut steps = Vec::new();
    for root in stage.linked_roots() {
        steps.extend(plan_linked_root(root)?);
    }

    if let Some((live_folder, staging)) = outside.live_and_staging_folder() {
        let removed = &outside.removed_paths;
        steps.extend(plan_outside_databases(live_folder, &staging, removed)?);
    }

    // The home is exchanged last, because it has the login.
    let root = stage.home();
    if root.is_whole {
        steps.push(Step::record(root.live.clone(), root.staged.clone())?);
    } else {
        let names = list_changed_top_names(plan, stage)?;
        let old_folder = work.transaction.folder().join("old");
        steps.extend(plan_entry_steps(root, &names, &old_folder)?);
    }

    Ok(steps)
}

/// Returns the steps for a linked folder or file. If nothing is staged for it, there are no steps.
fn plan_linked_root(root: &StageRoot) -> Result<Vec<Step>, RestoreError> {
    if root.staged.symlink_metadata().is_err() {
        return Ok(Vec::new());
    }

    if root.is_whole {
        let step = Step::record(root.live.clone(), root.staged.clone())?;
        return Ok(vec![step]);
    }

    let mut names = list_entry_names(&root.live)?;
    names.extend(list_entry_names(&root.staged)?);

    let staging_folder = journal::staging_folder_within(&root.live);
    // The staging folder is within the linked folder, and an exchange would move the journal away.
    names.remove(staging_folder.file_name().unwrap_or_default());
    // Folders with such names were kept by earlier restores, and stay.
    names.retain(|name| journal::parse_kept_name(name.as_ref()).is_none());

    Ok(plan_entry_steps(root, &names, &staging_folder.join("old"))?)
}

/// Returns the steps for the databases in `folder`, which is outside of the home. Exchanges the databases that are
/// staged in `staging`, and removes the live databases `removed`. Before each database, removes its live `-wal`, `-shm`
/// and `-journal`.
fn plan_outside_databases(
    folder: &Path,
    staging: &Path,
    removed: &[PathBuf],
) -> Result<Vec<Step>, RestoreError> {
    let mut steps = Vec::new();
    let removed_names = removed.iter().filter_map(|p| p.file_name());
    let mut names = list_entry_names(staging)?;
    names.extend(removed_names.map(OsString::from));
    let old_folder = staging.join("old");

    for name in names {
        let live = folder.join(&name);
        // SQLite would apply an old `-wal` to the new database.
        let sidecars = home::database_sidecars(&live).into_iter();
        for sidecar in sidecars.filter(|path| path.exists()) {
            let moved_to = old_folder.join(sidecar.file_name().unwrap_or_default());
            atomic::create_unsynced_folder(&old_folder)?;
            steps.push(Step::record(sidecar, moved_to)?);
        }

        if removed.contains(&live) {
            atomic::create_unsynced_folder(&old_folder)?;
            steps.push(Step::record(live, old_folder.join(&name))?);
        // The staging folder also has the folder `old` and the files of the transaction.
        } else if database::may_be_sqlite(&staging.join(&name)) {
            steps.push(Step::record(live, staging.join(&name))?);
        }
    }

    Ok(steps)
}

/// Returns the steps that exchange these top-level entries of `root` one by one. Moves a live entry that is not staged
/// into `old_folder`. The sidecar files of databases are first, the login is last.
fn plan_entry_steps(
    root: &StageRoot,
    top_names: &BTreeSet<OsString>,
    old_folder: &Path,
) -> Result<Vec<Step>, IoError> {
    atomic::create_unsynced_folder(old_folder)?;
    let mut steps = Vec::new();

    // Until the login is exchanged, the home is complete for the old account.
    let login = OsString::from(home::AUTH_JSON);
    let other_names = top_names.iter().filter(|name| **name != login);
    // SQLite would apply an old `-wal` to the new database.
    let (sidecars, other_names): (Vec<_>, Vec<_>) =
        other_names.partition(|name| home::database_of_sidecar(Path::new(name)).is_some());
    let ordered = sidecars.into_iter().chain(other_names);
    let ordered = ordered.chain(top_names.get(&login));

    for name in ordered {
        let (live, staged) = (root.live.join(name), root.staged.join(name));
        if staged.symlink_metadata().is_ok() {
            steps.push(Step::record(live, staged)?);
        } else if live.symlink_metadata().is_ok() {
            steps.push(Step::record(live, old_folder.join(name))?);
        }
    }

    Ok(steps)
}

fn list_entry_names(folder: &Path) -> Result<BTreeSet<OsString>, IoError> {
    let entries = tree::list(folder).at("list", folder)?.into_iter();
    Ok(entries.map(|(name, _)| name).collect())
}

fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// Returns a step for each file, for each new folder, and for each removed file. The sidecar files of databases are
/// first, the login is last.
fn plan_file_steps(plan: &RestorePlan, stage: &Stage) -> Result<Vec<Step>, IoError> {
    let mut steps = Vec::new();

    // The home is the first root, and is exchanged after the folders that it links to.
    for root in stage.roots.iter().rev() {
        add_file_steps(plan, &root.prefix, &root.live, &root.staged, &mut steps)?;
    }

    // A removal at or below a path that is exchanged would remove a part of the new state.
    let exchanged: HashSet<_> = steps.iter().map(|s: &Step| s.live.clone()).collect();
    for name in plan.removed.iter() {
        let root = stage.root_of(name.as_path());
        let live = root.live_path(name.as_path());
        if !live.ancestors().any(|above| exchanged.contains(above)) {
            add_removal(root, live, &mut steps)?;
        }
    }

    let live_login = stage.home().live.join(home::AUTH_JSON);
    // SQLite would apply an old `-wal` to the new database. The sort is stable, so the other steps keep their order.
    steps.sort_by_key(|step| {
        (
            step.live == live_login,
            home::database_of_sidecar(&step.live).is_none(),
        )
    });
    Ok(steps)
}

/// Adds the steps that exchange `staged`, and everything below it, with `live`. `relative` is the path of `live` in
/// the home.
///
/// # Errors
/// A step would discard a live file that the plan neither replaces nor removes.
fn add_file_steps(
    plan: &RestorePlan,
    relative: &Path,
    live: &Path,
    staged: &Path,
    steps: &mut Vec<Step>,
) -> Result<(), IoError> {
    let Ok(staged_meta) = staged.symlink_metadata() else {
        return Ok(());
    };

    if staged_meta.is_dir() && is_folder(live) {
        for (name, _) in tree::list(staged).at("list", staged)? {
            let (live, staged) = (live.join(&name), staged.join(&name));
            add_file_steps(plan, &relative.join(&name), &live, &staged, steps)?;
        }
        return Ok(());
    }

    if live.symlink_metadata().is_ok() {
        let are_both_files = !staged_meta.is_dir() && !is_folder(live);
        // This unchanged file was linked into the stage before linking the whole home failed. The live file stays.
        if are_both_files && !stays_unlinked(plan, relative) {
            return Ok(());
        }
        check_no_loss(plan, live, relative)?;
    }

    let step = Step::record(live.to_path_buf(), staged.to_path_buf())?;
    if !step.is_same_file() {
        steps.push(step);
    }

    Ok(())
}

/// Adds the step that moves `live` into the folder `old` beside the staged root.
fn add_removal(root: &StageRoot, live: PathBuf, steps: &mut Vec<Step>) -> Result<(), IoError> {
    if live.symlink_metadata().is_ok() {
        let old_folder = atomic::parent_of(&root.staged).join("old");
        atomic::create_unsynced_folder(&old_folder)?;
        // Named by number, because removed files of different folders may have the same name.
        let name = steps.len().to_string();
        steps.push(Step::record(live, old_folder.join(name))?);
    }
    Ok(())
}
