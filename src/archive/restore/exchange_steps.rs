//! Which names a restore exchanges: the places that it works in, and the steps for what was staged there.

use super::RestoreError;
use super::apply::{Work, is_denied};
use super::plan::RestorePlan;
use super::remains;
use super::stage::{self, Root};
use super::step::Step;
use super::swap::{self, Swap, SwapError};
use crate::codex::database;
use crate::codex::home::{self, kind_of};
use crate::io::{IoContext, atomic, space};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

impl Work<'_> {
    /// The top-level names that change.
    pub(super) fn tops(&self) -> BTreeSet<OsString> {
        let linked = &self.stage.roots[1..];
        let mut tops: BTreeSet<OsString> = BTreeSet::new();
        for name in self.plan.writes.iter().chain(self.plan.removed.iter()) {
            let is_linked = |root: &Root| name.as_path().starts_with(&root.prefix);
            if !tops.contains(name.top()) && !linked.iter().any(is_linked) {
                tops.insert(name.top().to_owned());
            }
        }
        if let Ok(entries) = fs::read_dir(&self.stage.home().staged) {
            tops.extend(entries.flatten().map(|e| e.file_name()));
        }
        tops
    }

    /// Where the new state of each root goes should the restore have to be undone: beside what it
    /// would have replaced; within it, under a name of ours, where nothing can be moved out.
    pub(super) fn leave_at(&self) -> Vec<(PathBuf, PathBuf)> {
        let at = self.request.now.timestamp();
        let place = |root: &Root| {
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

    /// The steps that put what is staged into place.
    pub(super) fn steps(&self) -> Result<Vec<Step>, RestoreError> {
        if self.by_file {
            return self.steps_in_pieces();
        }
        let mut steps = Vec::new();
        for root in self.stage.roots[1..]
            .iter()
            .filter(|r| r.staged.symlink_metadata().is_ok())
        {
            if root.whole {
                steps.push(Step::new(root.live.clone(), root.staged.clone()));
                continue;
            }
            let mut names = entry_names(&root.live)?;
            names.extend(entry_names(&root.staged)?);
            let within = swap::folder_within(&root.live);
            names.remove(within.file_name().unwrap_or_default());
            names.retain(|name| !remains::is_named_remains(Path::new(name)));
            steps.extend(stage::steps_by_entry(root, &names, &within.join("old"))?);
        }
        if let Some((folder, staging)) = &self.outside {
            let gone = self.outside_removed.iter().filter_map(|p| p.file_name());
            let mut names = entry_names(staging)?;
            names.extend(gone.map(OsString::from));
            for name in names {
                let live = folder.join(&name);
                for beside in home::database_sidecars(&live)
                    .into_iter()
                    .filter(|p| p.exists())
                {
                    let aside = staging
                        .join("old")
                        .join(beside.file_name().unwrap_or_default());
                    atomic::create_private_folder(atomic::parent_of(&aside))?;
                    steps.push(Step::new(beside, aside));
                }
                if self.outside_removed.contains(&live) {
                    let old = staging.join("old");
                    atomic::create_private_folder(&old)?;
                    steps.push(Step::new(live, old.join(&name)));
                } else if database::is_sqlite(&staging.join(&name)) {
                    steps.push(Step::new(live, staging.join(&name)));
                }
            }
        }
        let root = self.stage.home();
        if self.whole {
            steps.push(Step::new(root.live.clone(), root.staged.clone()));
        } else {
            let old = self.swap.folder().join("old");
            steps.extend(stage::steps_by_entry(root, &self.tops(), &old)?);
        }
        Ok(steps)
    }
}

/// The top-level links to elsewhere whose content the archive replaces: what they lead to is
/// replaced, the links stay. Never so for logins, settings and databases: those are replaced as
/// names.
pub(super) fn linked_roots(folder: &Path, plan: &RestorePlan) -> Result<Vec<Root>, RestoreError> {
    let mut roots = Vec::new();
    let mounts = stage::mounts_in(folder)?;
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(roots);
    };
    for entry in entries {
        let entry = entry.at("list", folder)?;
        let prefix = PathBuf::from(entry.file_name());
        let is_name = kind_of(&prefix).is_followed_through_links();
        let is_link = entry.file_type().at("read", entry.path())?.is_symlink();
        let is_mount = mounts.contains(&entry.path()) && entry.path().is_dir();
        if !(is_link || is_mount) || is_name || !plan.changes_below(&prefix) {
            continue;
        }
        let Ok(target) = entry.path().canonicalize() else {
            continue;
        };
        if is_mount || !target.starts_with(folder) {
            let whole = stage::mounts_in(&target)?.is_empty()
                && space::same_file_system(&target, atomic::parent_of(&target));
            let beside = if whole {
                swap::folder_beside(&target)
            } else {
                swap::folder_within(&target)
            };
            roots.push(Root {
                prefix,
                live: target,
                staged: beside.join("new"),
                whole,
            });
        }
    }
    Ok(roots)
}

/// Adds the folder that `root` is staged in to the swap: within the live one where nothing can be made
/// beside it.
pub(super) fn add_root(swap: &mut Swap, mut root: Root) -> Result<Root, RestoreError> {
    match swap.add_folder(atomic::parent_of(&root.staged)) {
        Err(SwapError::Io(e)) if is_denied(&e) && root.whole && root.live.is_dir() => {
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
