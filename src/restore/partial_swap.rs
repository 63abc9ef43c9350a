//! Exchange steps for a home that is not exchanged as a whole: its files one by one, and those of
//! its folders that can be renamed as a whole. Used for a restore of a few files, for a home on an
//! overlay, and if an unchanged file cannot be linked.
//!
//! On an overlay, as in a container, a folder of a lower layer cannot be renamed. A folder that was
//! created in the container can be, with everything in it.

use super::error::RestoreError;
use super::exchange_mode::ExchangeMode;
use super::plan::RestorePlan;
use super::stage::{HardLinker, Stage, StageRoot, is_access_denied, lstat};
use super::step::ExchangeStep;
use crate::archive::contents::ArchiveListing;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::{IoContext, IoError, atomic, long_path, space, tree};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Returns true if the system can rename the folder `live`. Tries to rename it over `occupied`, a
/// folder with an entry. That fails either way, but with EXDEV instead of ENOTEMPTY for a folder of
/// a lower layer.
fn can_rename_folder(live: &Path, occupied: &Path) -> bool {
    #[allow(clippy::disallowed_methods, reason = "nothing is renamed")]
    let rename =
        |from: &Path, to: &Path| long_path::with_both(from, to, |from, to| fs::rename(from, to));
    if let Err(e) = rename(live, occupied) {
        return matches!(
            e.kind(),
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
        );
    }
    // No known system allows this rename. Undone at once.
    let _ = rename(occupied, live);
    false
}

/// Returns the path of the occupied folder that [`can_rename_folder`] needs as its target.
fn rename_probe(root: &StageRoot) -> PathBuf {
    atomic::parent_of(&root.staged).join("full")
}

fn create_rename_probe(root: &StageRoot) -> Result<PathBuf, IoError> {
    let occupied = rename_probe(root);
    atomic::create_private_folder(&occupied.join("folder"))?;
    Ok(occupied)
}

fn is_folder(path: &Path) -> bool {
    lstat(path).is_ok_and(|meta| meta.is_dir())
}

/// Returns true if the home is on an overlay and its own folder cannot be renamed.
pub(super) fn is_needed(stage: &Stage, wanted: &ExchangeMode) -> Result<bool, IoError> {
    let home = stage.home();
    if !space::has_layers(&home.live) {
        return Ok(false);
    }
    let occupied = create_rename_probe(home)?;
    Ok(!wanted.is_whole_home() || !can_rename_folder(&home.live, &occupied))
}

/// Links unchanged files into the stage for folders that are exchanged as a whole, and returns
/// these folders by their paths in the home. All other unchanged files stay in place.
pub(super) fn link_movable_folders(
    plan: &RestorePlan,
    stage: &Stage,
    contents: ArchiveListing<'_>,
) -> Result<BTreeSet<PathBuf>, RestoreError> {
    let own = stage.staging_folders();
    let mut whole_folders = movable_folders(plan, stage, contents)?;
    let linker = HardLinker::new(plan, &own);
    let mut failed = Vec::new();
    for folder in &whole_folders {
        let root = stage.root_of(folder);
        let result = match folder.strip_prefix(&root.prefix) {
            Ok(rest) if !rest.as_os_str().is_empty() => linker.link_entry_of(root, rest),
            _ => linker.link_root(root),
        };
        match result {
            // A file of another user may allow neither reads nor links. It stays in place.
            Err(e) if is_access_denied(&e) => failed.push(folder.clone()),
            other => other?,
        }
    }
    for folder in failed {
        whole_folders.remove(&folder);
    }
    let kept = plan.partial.then_some(stage.home().live.as_path());
    stage.set_folder_attributes(contents, kept)?;
    Ok(whole_folders)
}

/// Returns the outermost folders with changes that can be exchanged as a whole, by their paths in
/// the home.
fn movable_folders(
    plan: &RestorePlan,
    stage: &Stage,
    contents: ArchiveListing<'_>,
) -> Result<BTreeSet<PathBuf>, IoError> {
    for root in &stage.roots {
        create_rename_probe(root)?;
    }
    let mut movable = MovableFolders::default();
    let mut last = PathBuf::new();
    for name in plan.writes.iter().chain(plan.removed.iter()) {
        let folder = name.as_path().parent().unwrap_or(Path::new(""));
        if folder != last {
            movable.add(stage.root_of(folder), folder);
            folder.clone_into(&mut last);
        }
    }
    // Folders in which only mode and time change.
    for folder in contents.folders.iter().filter(|_| !plan.partial) {
        let path = folder.path.as_path();
        if kind_of(path) != HomeEntryKind::Transient {
            movable.add(stage.root_of(path), path);
        }
    }
    Ok(movable.movable)
}

/// Returns a step for each file, for each folder that is new, exchanged or removed as a whole, and
/// for each removed file. The login is last.
pub(super) fn steps(
    plan: &RestorePlan,
    stage: &Stage,
    whole_folders: &BTreeSet<PathBuf>,
) -> Result<Vec<ExchangeStep>, RestoreError> {
    let own = stage.staging_folders();
    let mut steps = PartialSteps {
        linker: HardLinker::new(plan, &own),
        whole_folders,
        steps: Vec::new(),
    };
    for root in stage.roots.iter().rev() {
        steps.add(&root.prefix, &root.live, &root.staged)?;
    }
    for folder in whole_folders {
        if lstat(&stage.staged_path(folder)).is_err() {
            steps.remove(stage.root_of(folder), folder)?;
        }
    }
    // A second step for an exchanged path, or for one below it, would move the new state away.
    let exchanged = steps.steps.iter().map(|step| step.live.clone());
    let exchanged: HashSet<PathBuf> = exchanged.collect();
    for name in plan.removed.iter() {
        let root = stage.root_of(name.as_path());
        let live = root.live_path(name.as_path());
        if !live.ancestors().any(|above| exchanged.contains(above)) {
            steps.remove(root, name.as_path())?;
        }
    }
    let mut steps = steps.steps;
    steps.sort_by_key(|step| step.is_for(&stage.home().live.join(home::AUTH_JSON)));
    Ok(steps)
}

/// Finds the folders that can be exchanged as a whole. Paths are relative to the home.
#[derive(Default)]
struct MovableFolders {
    movable: BTreeSet<PathBuf>,
    /// Folders that cannot be renamed.
    fixed: HashSet<PathBuf>,
}

impl MovableFolders {
    /// Adds the outermost folder that can be renamed, of `folder` and its ancestors in `root`.
    fn add(&mut self, root: &StageRoot, folder: &Path) {
        let occupied = rename_probe(root);
        let (mut relative, mut live) = (root.prefix.clone(), root.live.clone());
        let is_linked = !relative.as_os_str().is_empty();
        if is_linked && root.whole && self.probe(&relative, &live, &occupied) {
            return;
        }
        for part in folder.strip_prefix(&root.prefix).unwrap_or(folder) {
            relative.push(part);
            live.push(part);
            if !is_folder(&live) || self.probe(&relative, &live, &occupied) {
                return;
            }
        }
    }

    fn probe(&mut self, relative: &Path, live: &Path, occupied: &Path) -> bool {
        if self.movable.contains(relative) {
            return true;
        }
        if self.fixed.contains(relative) {
            return false;
        }
        let is_movable = is_folder(live) && can_rename_folder(live, occupied);
        let is_first = if is_movable {
            self.movable.insert(relative.to_path_buf())
        } else {
            self.fixed.insert(relative.to_path_buf())
        };
        debug_assert!(is_first, "looked at once");
        is_movable
    }
}

/// Collects the exchange steps of files and folders.
struct PartialSteps<'a> {
    linker: HardLinker<'a>,
    whole_folders: &'a BTreeSet<PathBuf>,
    steps: Vec<ExchangeStep>,
}

impl PartialSteps<'_> {
    /// Adds the steps for the staged path `staged`; `relative` is its path in the home.
    fn add(&mut self, relative: &Path, live: &Path, staged: &Path) -> Result<(), IoError> {
        let Ok(new) = lstat(staged) else {
            return Ok(());
        };
        let is_new = lstat(live).is_err();
        let are_folders = new.is_dir() && is_folder(live);
        if are_folders && !self.whole_folders.contains(relative) {
            for (name, _) in tree::list(staged).at("list", staged)? {
                self.add(
                    &relative.join(&name),
                    &live.join(&name),
                    &staged.join(&name),
                )?;
            }
            return Ok(());
        }
        if !is_new && !are_folders {
            // An unchanged file that was linked before linking the whole folder failed. It is in
            // place already.
            if !new.is_dir() && !is_folder(live) && !self.linker.is_replaced_or_dropped(relative) {
                return Ok(());
            }
            self.linker.check_no_loss(live, relative)?;
        }
        let step = ExchangeStep::new(live.to_path_buf(), staged.to_path_buf());
        if !step.is_same_file() {
            self.steps.push(step);
        }
        Ok(())
    }

    /// Adds the step that removes the live path `relative`, a path in the home.
    fn remove(&mut self, root: &StageRoot, relative: &Path) -> Result<(), IoError> {
        let live = root.live_path(relative);
        if lstat(&live).is_ok() {
            let old = atomic::parent_of(&root.staged).join("old");
            atomic::create_private_folder(&old)?;
            let number = self.steps.len().to_string();
            self.steps.push(ExchangeStep::new(live, old.join(number)));
        }
        Ok(())
    }
}
