//! Computes the exchange steps of a restore, and the folders that it works in.

use super::RestoreError;
use super::apply::{RestoreRun, is_access_denied};
use super::leftovers;
use super::plan::RestorePlan;
use super::stage::{self, StageRoot};
use super::step::ExchangeStep;
use super::swap::{self, Swap, SwapError};
use crate::codex::database;
use crate::codex::home::{self, kind_of};
use crate::io::{IoContext, atomic, space};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

impl RestoreRun<'_> {
    /// Returns the top-level names of the home that change.
    pub(super) fn changed_top_names(&self) -> BTreeSet<OsString> {
        let linked = &self.stage.roots[1..];
        let mut tops: BTreeSet<OsString> = BTreeSet::new();
        for name in self.plan.writes.iter().chain(self.plan.removed.iter()) {
            let is_linked = |root: &StageRoot| name.as_path().starts_with(&root.prefix);
            if !tops.contains(name.top()) && !linked.iter().any(is_linked) {
                tops.insert(name.top().to_owned());
            }
        }
        if let Ok(entries) = fs::read_dir(&self.stage.home().staged) {
            tops.extend(entries.flatten().map(|e| e.file_name()));
        }
        tops
    }

    /// Returns for each root its staged path and the path that the new state is moved to if the
    /// restore is undone: beside the live folder, or within it if nothing can be moved out.
    pub(super) fn undo_destinations(&self) -> Vec<(PathBuf, PathBuf)> {
        let at = self.request.now.timestamp();
        let place = |root: &StageRoot| {
            let name = root.live.file_name().unwrap_or_default();
            if root.staged.starts_with(&root.live) {
                root.live.join(format!(".codex-manager-undone-{at}"))
            } else {
                let name = name.to_string_lossy();
                root.live
                    .with_file_name(format!("{name}.undone-restore-{at}"))
            }
        };
        let roots = self.stage.roots.iter();
        roots.map(|r| (r.staged.clone(), place(r))).collect()
    }

    /// Returns the steps that exchange the staged paths with the live ones.
    pub(super) fn steps(&self) -> Result<Vec<ExchangeStep>, RestoreError> {
        if self.file_by_file {
            return self.partial_steps();
        }
        let mut steps = Vec::new();
        for root in self.stage.roots[1..]
            .iter()
            .filter(|r| r.staged.symlink_metadata().is_ok())
        {
            if root.whole {
                steps.push(ExchangeStep::new(root.live.clone(), root.staged.clone()));
                continue;
            }
            let mut names = entry_names(&root.live)?;
            names.extend(entry_names(&root.staged)?);
            let within = swap::folder_within(&root.live);
            names.remove(within.file_name().unwrap_or_default());
            names.retain(|name| !leftovers::is_leftover_name(Path::new(name)));
            steps.extend(stage::steps_by_entry(root, &names, &within.join("old"))?);
        }
        if let Some((folder, staging)) = &self.outside {
            let removed_names = self.outside_removed.iter().filter_map(|p| p.file_name());
            let mut names = entry_names(staging)?;
            names.extend(removed_names.map(OsString::from));
            for name in names {
                let live = folder.join(&name);
                // SQLite would apply an old `-wal` to the new database.
                for sidecar in home::database_sidecars(&live)
                    .into_iter()
                    .filter(|p| p.exists())
                {
                    let removed = staging
                        .join("old")
                        .join(sidecar.file_name().unwrap_or_default());
                    atomic::create_private_folder(atomic::parent_of(&removed))?;
                    steps.push(ExchangeStep::new(sidecar, removed));
                }
                if self.outside_removed.contains(&live) {
                    let old = staging.join("old");
                    atomic::create_private_folder(&old)?;
                    steps.push(ExchangeStep::new(live, old.join(&name)));
                } else if database::is_sqlite(&staging.join(&name)) {
                    steps.push(ExchangeStep::new(live, staging.join(&name)));
                }
            }
        }
        let root = self.stage.home();
        if self.whole {
            steps.push(ExchangeStep::new(root.live.clone(), root.staged.clone()));
        } else {
            let old = self.swap.folder().join("old");
            steps.extend(stage::steps_by_entry(
                root,
                &self.changed_top_names(),
                &old,
            )?);
        }
        Ok(steps)
    }
}

/// Returns the top-level links and mounts whose content the archive replaces: the target is
/// replaced, the link stays. Logins, settings and databases are not among them, because there the
/// link itself is replaced.
pub(super) fn linked_roots(
    folder: &Path,
    plan: &RestorePlan,
) -> Result<Vec<StageRoot>, RestoreError> {
    let mut roots = Vec::new();
    let mounts = stage::mounts_in(folder)?;
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(roots);
    };
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let prefix = PathBuf::from(entry.file_name());
        let is_replaced_by_content = kind_of(&prefix).is_followed_through_links();
        let is_link = entry.file_type().at("read", entry.path())?.is_symlink();
        let is_mount = mounts.contains(&entry.path()) && entry.path().is_dir();
        if !(is_link || is_mount) || is_replaced_by_content || !plan.changes_below(&prefix) {
            continue;
        }
        let Ok(target) = entry.path().canonicalize() else {
            continue;
        };
        if is_mount || !target.starts_with(folder) {
            let whole = stage::mounts_in(&target)?.is_empty()
                && space::same_file_system(&target, atomic::parent_of(&target));
            let staging = if whole {
                swap::folder_beside(&target)
            } else {
                swap::folder_within(&target)
            };
            roots.push(StageRoot {
                prefix,
                live: target,
                staged: staging.join("new"),
                whole,
            });
        }
    }
    Ok(roots)
}

/// Adds the staging folder of `root` to the swap. If it cannot be created beside the live folder,
/// it is created within it.
pub(super) fn add_root(swap: &mut Swap, mut root: StageRoot) -> Result<StageRoot, RestoreError> {
    match swap.add_folder(atomic::parent_of(&root.staged)) {
        Err(SwapError::Io(e)) if is_access_denied(&e) && root.whole && root.live.is_dir() => {
            root.whole = false;
            root.staged = swap::folder_within(&root.live).join("new");
            swap.add_folder(atomic::parent_of(&root.staged))?;
        }
        added => added?,
    }
    Ok(root)
}

fn entry_names(folder: &Path) -> Result<BTreeSet<OsString>, RestoreError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).at("list", folder)? {
        names.insert(entry.at("list", folder)?.file_name());
    }
    Ok(names)
}
