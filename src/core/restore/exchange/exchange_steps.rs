//! Plans the steps that exchange the staged paths of a restore with the live ones.

use super::single_files;
use crate::codex::{database, home};
use crate::io::{IoContext, IoError, atomic, tree};
use crate::journal::{self, Step};
use crate::restore::error::RestoreError;
use crate::restore::settle::outside_databases::OutsideDatabases;
use crate::restore::settle::unchanged::list_changed_top_names;
use crate::restore::stage::staged_home::StageRoot;
use crate::restore::stage::workspace::Workspace;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Returns the exchange steps in the order in which they have to run.
pub(crate) fn plan_steps(
    work: &Workspace<'_>,
    outside: &OutsideDatabases,
) -> Result<Vec<Step>, RestoreError> {
    let (plan, stage) = (&work.plan, &work.stage);
    if work.exchanges_files {
        return single_files::plan_steps(plan, stage);
    }

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
        let names = list_changed_top_names(plan, stage);
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
    // A folder with such a name was kept by an earlier restore.
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
        } else if database::may_be_sqlite(&staging.join(&name)) {
            steps.push(Step::record(live, staging.join(&name))?);
        }
    }

    Ok(steps)
}

/// Returns the steps that exchange these top-level entries of `root` one by one. Moves a live entry that is not staged
/// into `old_folder`. The login is last.
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
    let ordered = other_names.chain(top_names.get(&login));

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
