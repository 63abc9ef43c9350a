//! Exchanging a home in pieces where it cannot be exchanged as a whole: each file by itself, and what can
//! be moved of its folders as a whole.
//!
//! On an overlay, as in a container, a folder of a lower layer cannot be renamed; one that was made since
//! can, with all that is in it.

use super::RestoreError;
use super::apply::{RestoreRun, is_access_denied};
use super::stage::{HardLinker, StageRoot, lstat};
use super::step::ExchangeStep;
use crate::codex::home::{self, Kind, kind_of};
use crate::io::{IoContext, IoError, atomic, long_path, space, tree};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether the system would rename the folder `live`. It is asked to put it into the place of `occupied`, a
/// folder that something is in: that is refused either way, and before, with another answer, what is
/// of a lower layer.
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
    // No system that is known does that: back, at once.
    let _ = rename(occupied, live);
    false
}

/// Where a folder of ours is beside the new state of `root` that has something in it.
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

impl RestoreRun<'_> {
    /// Whether the home has to be exchanged in pieces because of the layers that it lies in.
    pub(super) fn needs_partial_swap(&self) -> Result<bool, IoError> {
        if !space::has_layers(&self.folder) {
            return Ok(false);
        }
        let occupied = create_rename_probe(self.stage.home())?;
        Ok(!self.whole || !can_rename_folder(&self.folder, &occupied))
    }

    /// Carries what stays over in those folders that are exchanged as a whole; elsewhere it stays where
    /// it is.
    pub(super) fn link_movable_folders(&mut self) -> Result<(), RestoreError> {
        let own = self.staging_folders();
        let mut whole_folders = self.movable_folders()?;
        let linker = self.hard_linker(&own);
        let mut failed = Vec::new();
        for folder in &whole_folders {
            let root = self.stage.root_of(folder);
            let linked = match folder.strip_prefix(&root.prefix) {
                Ok(rest) if !rest.as_os_str().is_empty() => linker.link_entry_of(root, rest),
                _ => linker.link_root(root),
            };
            match linked {
                // A file of another user, which may be neither read nor linked, stays where it is.
                Err(e) if is_access_denied(&e) => failed.push(folder.clone()),
                other => other?,
            }
        }
        for folder in failed {
            whole_folders.remove(&folder);
        }
        (self.file_by_file, self.whole) = (true, false);
        self.whole_folders = whole_folders;
        let kept = self.plan.partial.then_some(self.folder.as_path());
        Ok(self.stage.set_folder_attributes(self.contents, kept)?)
    }

    /// The outermost folders that can be exchanged as a whole, of those that something changes in; by
    /// their paths in the home.
    fn movable_folders(&self) -> Result<BTreeSet<PathBuf>, RestoreError> {
        for root in &self.stage.roots {
            create_rename_probe(root)?;
        }
        let mut movable = MovableFolders::default();
        let mut last = PathBuf::new();
        for name in self.plan.writes.iter().chain(self.plan.removed.iter()) {
            let folder = name.as_path().parent().unwrap_or(Path::new(""));
            if folder != last {
                movable.add(self.stage.root_of(folder), folder);
                folder.clone_into(&mut last);
            }
        }
        // Those that only get the archive's mode and time.
        for folder in self.contents.folders.iter().filter(|_| !self.plan.partial) {
            let path = folder.path.as_path();
            if kind_of(path) != Kind::Transient {
                movable.add(self.stage.root_of(path), path);
            }
        }
        Ok(movable.movable)
    }

    /// A step for each file, for each folder that is new, and for each that goes as a whole; the login
    /// last.
    pub(super) fn partial_steps(&self) -> Result<Vec<ExchangeStep>, RestoreError> {
        let own = self.staging_folders();
        let mut steps = PartialSteps {
            linker: self.hard_linker(&own),
            whole_folders: &self.whole_folders,
            steps: Vec::new(),
        };
        for root in self.stage.roots.iter().rev() {
            steps.add(&root.prefix, &root.live, &root.staged)?;
        }
        for folder in &self.whole_folders {
            if lstat(&self.stage.staged_path(folder)).is_err() {
                steps.remove(self.stage.root_of(folder), folder)?;
            }
        }
        // What is exchanged takes its name along: a second step of that, or of one below it, would take
        // the new one away.
        let exchanged = steps.steps.iter().map(|step| step.live.clone());
        let exchanged: HashSet<PathBuf> = exchanged.collect();
        for name in self.plan.removed.iter() {
            let root = self.stage.root_of(name.as_path());
            let live = root.live_path(name.as_path());
            if !live.ancestors().any(|above| exchanged.contains(above)) {
                steps.remove(root, name.as_path())?;
            }
        }
        let mut steps = steps.steps;
        steps.sort_by_key(|step| step.is_for(&self.folder.join(home::AUTH_JSON)));
        Ok(steps)
    }
}

/// Finds folders that can be exchanged as a whole; by their paths in the home.
#[derive(Default)]
struct MovableFolders {
    movable: BTreeSet<PathBuf>,
    /// Those that cannot be.
    fixed: HashSet<PathBuf>,
}

impl MovableFolders {
    /// Adds the outermost one of `folder` and what is above it in `root`, if there is one.
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

/// Steps that are being collected.
struct PartialSteps<'a> {
    linker: HardLinker<'a>,
    whole_folders: &'a BTreeSet<PathBuf>,
    steps: Vec<ExchangeStep>,
}

impl PartialSteps<'_> {
    /// Adds the steps for what is staged at `staged`; `relative` is its path in the home.
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
            // What was carried over before that turned out to be impossible for all: it is there.
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

    /// Adds the step that takes away what stands at `relative`, a path in the home.
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
