//! Exchanging a home in pieces where it cannot be exchanged as a whole: each file by itself, and what can
//! be moved of its folders as a whole.
//!
//! On an overlay, as in a container, a folder of a lower layer cannot be renamed; one that was made since
//! can, with all that is in it.

use super::RestoreError;
use super::apply::{Work, is_denied};
use super::stage::{Carry, Root, look};
use super::step::Step;
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::io::{IoContext, IoError, atomic, long_path, space, tree};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Whether the system would rename the folder `live`. It is asked to put it into the place of `full`, a
/// folder that something is in: that is refused either way, and before, with another answer, what is
/// of a lower layer.
fn can_be_moved(live: &Path, full: &Path) -> bool {
    #[allow(clippy::disallowed_methods, reason = "nothing is renamed")]
    let rename =
        |from: &Path, to: &Path| long_path::with_both(from, to, |from, to| fs::rename(from, to));
    if let Err(e) = rename(live, full) {
        return matches!(
            e.kind(),
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
        );
    }
    // No system that is known does that: back, at once.
    let _ = rename(full, live);
    false
}

/// Where a folder of ours is beside the new state of `root` that has something in it.
fn full_folder(root: &Root) -> PathBuf {
    atomic::parent_of(&root.staged).join("full")
}

fn make_full_folder(root: &Root) -> Result<PathBuf, IoError> {
    let full = full_folder(root);
    atomic::create_private_folder(&full.join("folder"))?;
    Ok(full)
}

fn is_folder(path: &Path) -> bool {
    look(path).is_ok_and(|meta| meta.is_dir())
}

impl Work<'_> {
    /// Whether the home has to be exchanged in pieces because of the layers that it lies in.
    pub(super) fn is_layered(&self) -> Result<bool, IoError> {
        if !space::has_layers(&self.folder) {
            return Ok(false);
        }
        let full = make_full_folder(self.stage.home())?;
        Ok(!self.whole || !can_be_moved(&self.folder, &full))
    }

    /// Carries what stays over in those folders that are exchanged as a whole; elsewhere it stays where
    /// it is.
    pub(super) fn carry_pieces(&mut self) -> Result<(), RestoreError> {
        let own = self.own_folders();
        let mut whole_folders = self.movable_folders()?;
        let carry = self.carrier(&own);
        let mut failed = Vec::new();
        for folder in &whole_folders {
            let root = self.stage.root_of(folder);
            let carried = match folder.strip_prefix(&root.prefix) {
                Ok(rest) if !rest.as_os_str().is_empty() => carry.within(root, rest),
                _ => carry.root(root),
            };
            match carried {
                // A file of another user, which may be neither read nor linked, stays where it is.
                Err(e) if is_denied(&e) => failed.push(folder.clone()),
                other => other?,
            }
        }
        for folder in failed {
            whole_folders.remove(&folder);
        }
        (self.by_file, self.whole) = (true, false);
        self.whole_folders = whole_folders;
        let kept = self.plan.partial.then_some(self.folder.as_path());
        Ok(self.stage.finish_folders(self.contents, kept)?)
    }

    /// The outermost folders that can be exchanged as a whole, of those that something changes in; by
    /// their paths in the home.
    fn movable_folders(&self) -> Result<BTreeSet<PathBuf>, RestoreError> {
        for root in &self.stage.roots {
            make_full_folder(root)?;
        }
        let mut movable = Movable::default();
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
            if kind_of(path) != HomeEntryKind::Transient {
                movable.add(self.stage.root_of(path), path);
            }
        }
        Ok(movable.found)
    }

    /// A step for each file, for each folder that is new, and for each that goes as a whole; the login
    /// last.
    pub(super) fn steps_in_pieces(&self) -> Result<Vec<Step>, RestoreError> {
        let own = self.own_folders();
        let mut pieces = Pieces {
            carry: self.carrier(&own),
            whole_folders: &self.whole_folders,
            steps: Vec::new(),
        };
        for root in self.stage.roots.iter().rev() {
            pieces.add(&root.prefix, &root.live, &root.staged)?;
        }
        for folder in &self.whole_folders {
            if look(&self.stage.place(folder)).is_err() {
                pieces.remove(self.stage.root_of(folder), folder)?;
            }
        }
        // What is exchanged takes its name along: a second step of that, or of one below it, would take
        // the new one away.
        let exchanged = pieces.steps.iter().map(|step| step.live.clone());
        let exchanged: HashSet<PathBuf> = exchanged.collect();
        for name in self.plan.removed.iter() {
            let root = self.stage.root_of(name.as_path());
            let live = root.live_place(name.as_path());
            if !live.ancestors().any(|above| exchanged.contains(above)) {
                pieces.remove(root, name.as_path())?;
            }
        }
        let mut steps = pieces.steps;
        steps.sort_by_key(|step| step.is_of(&self.folder.join(home::AUTH_JSON)));
        Ok(steps)
    }
}

/// Finds folders that can be exchanged as a whole; by their paths in the home.
#[derive(Default)]
struct Movable {
    found: BTreeSet<PathBuf>,
    /// Those that cannot be.
    fixed: HashSet<PathBuf>,
}

impl Movable {
    /// Adds the outermost one of `folder` and what is above it in `root`, if there is one.
    fn add(&mut self, root: &Root, folder: &Path) {
        let full = full_folder(root);
        let (mut relative, mut live) = (root.prefix.clone(), root.live.clone());
        let is_linked = !relative.as_os_str().is_empty();
        if is_linked && root.whole && self.look_at(&relative, &live, &full) {
            return;
        }
        for part in folder.strip_prefix(&root.prefix).unwrap_or(folder) {
            relative.push(part);
            live.push(part);
            if !is_folder(&live) || self.look_at(&relative, &live, &full) {
                return;
            }
        }
    }

    fn look_at(&mut self, relative: &Path, live: &Path, full: &Path) -> bool {
        if self.found.contains(relative) {
            return true;
        }
        if self.fixed.contains(relative) {
            return false;
        }
        let is_movable = is_folder(live) && can_be_moved(live, full);
        let those = if is_movable {
            self.found.insert(relative.to_path_buf())
        } else {
            self.fixed.insert(relative.to_path_buf())
        };
        debug_assert!(those, "looked at once");
        is_movable
    }
}

/// Steps that are being collected.
struct Pieces<'a> {
    carry: Carry<'a>,
    whole_folders: &'a BTreeSet<PathBuf>,
    steps: Vec<Step>,
}

impl Pieces<'_> {
    /// Adds the steps for what is staged at `staged`; `relative` is its path in the home.
    fn add(&mut self, relative: &Path, live: &Path, staged: &Path) -> Result<(), IoError> {
        let Ok(new) = look(staged) else {
            return Ok(());
        };
        let is_new = look(live).is_err();
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
            if !new.is_dir() && !is_folder(live) && !self.carry.replaces(relative) {
                return Ok(());
            }
            self.carry.check_replaced(live, relative)?;
        }
        let step = Step::new(live.to_path_buf(), staged.to_path_buf());
        if !step.is_of_one_file() {
            self.steps.push(step);
        }
        Ok(())
    }

    /// Adds the step that takes away what stands at `relative`, a path in the home.
    fn remove(&mut self, root: &Root, relative: &Path) -> Result<(), IoError> {
        let live = root.live_place(relative);
        if look(&live).is_ok() {
            let old = atomic::parent_of(&root.staged).join("old");
            atomic::create_private_folder(&old)?;
            let number = self.steps.len().to_string();
            self.steps.push(Step::new(live, old.join(number)));
        }
        Ok(())
    }
}
