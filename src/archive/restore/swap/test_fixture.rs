//! A folder with an old state and a new one to put into its place, for the tests of a swap.

use super::super::step::Step;
use super::Swap;
use super::journal::State;
use super::late_writes::clock_of;
use super::recovery::Guard;
use crate::codex::process::Holder;
use crate::io::IoError;
use std::fs;
use std::path::{Path, PathBuf};

/// A live file, a live folder, a name to add and a name to remove, and what is staged for them.
pub(super) struct World {
    pub(super) root: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let world = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(world.at("live")).unwrap();
        for (name, text) in [("auth", "old"), ("gone", "old"), ("folder/x", "old")] {
            let path = world.at("live").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        world
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn begin(&self) -> (Swap, Vec<Step>) {
        let swap = Swap::begin(&self.at(STAGING), &self.at("live"), NOTHING).unwrap();
        let staged = self.at(STAGING).join("new");
        fs::create_dir_all(staged.join("folder")).unwrap();
        for name in ["auth", "added", "folder/x"] {
            fs::write(staged.join(name), "new").unwrap();
        }
        let steps = ["auth", "folder", "added", "gone"]
            .map(|n| Step::new(self.at("live").join(n), staged.join(n)));
        (swap, steps.into())
    }

    /// A swap that is about to do its first step, with this state in its journal.
    pub(super) fn begin_to(&self, state: State) -> Swap {
        let (mut swap, steps) = self.begin();
        swap.journal.since = swap.prepare_asides().unwrap();
        swap.journal.steps = steps;
        swap.set(state).unwrap();
        swap
    }

    /// Does `work` and ends as a kill does: no destructor is run, but the lock goes.
    #[allow(clippy::unused_self, reason = "read as what happens to the world")]
    pub(super) fn kill(&self, mut swap: Swap, work: impl FnOnce(&Swap)) {
        work(&swap);
        swap.finished = true;
    }

    /// Waits for the next tick of the disk's clock.
    pub(super) fn pass_time(&self) {
        let now = || clock_of(self.root.path()).unwrap();
        let before = now();
        while now() <= before {}
    }

    /// The text of every file, but for those that a test put by.
    pub(super) fn texts(&self) -> Vec<String> {
        let walk = walkdir::WalkDir::new(self.root.path()).sort_by_file_name();
        let files = walk.into_iter().map(Result::unwrap);
        let files = files.filter(|e| e.file_type().is_file());
        let files = files.filter(|e| !e.path().starts_with(self.at("kept")));
        files
            .map(|e| fs::read_to_string(e.path()).unwrap())
            .collect()
    }

    /// The names of what was left beside live ones.
    pub(super) fn found(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("live")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("found")).collect()
    }

    pub(super) fn state(&self) -> String {
        ["auth", "added", "gone", "folder/x"]
            .map(|n| fs::read_to_string(self.at("live").join(n)).unwrap_or_else(|_| "-".into()))
            .join(" ")
    }
}

/// Knows of no logins and of nobody.
pub(super) struct Nothing;

impl Guard for Nothing {
    fn keep_login(&self, _going: &Path, _coming: &Path) -> Result<(), IoError> {
        Ok(())
    }

    fn save_login(&self, _going: &Path, _staying: &Path) -> Result<(), IoError> {
        Ok(())
    }

    fn holders(&self, _home: &Path) -> Vec<Holder> {
        Vec::new()
    }
}

pub(super) const NOTHING: &dyn Guard = &Nothing;
pub(super) const STAGING: &str = "x.codex-manager-restore";
pub(super) const OLD: &str = "old - old old";
pub(super) const NEW: &str = "new new - new";
