//! A folder with an old state and a new one to put into its place, for the tests of a swap.

use super::super::step::{BeforeExchange, Step};
use super::Swap;
use std::fs;
use std::path::PathBuf;

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
        let swap = Swap::begin(&self.at(STAGING), NOTHING).unwrap();
        let staged = self.at(STAGING).join("new");
        fs::create_dir_all(staged.join("folder")).unwrap();
        for name in ["auth", "added", "folder/x"] {
            fs::write(staged.join(name), "new").unwrap();
        }
        let steps = ["auth", "folder", "added", "gone"]
            .map(|n| Step::new(self.at("live").join(n), staged.join(n)));
        (swap, steps.into())
    }

    pub(super) fn state(&self) -> String {
        ["auth", "added", "gone", "folder/x"]
            .map(|n| fs::read_to_string(self.at("live").join(n)).unwrap_or_else(|_| "-".into()))
            .join(" ")
    }
}

pub(super) const NOTHING: BeforeExchange<'_> = &|_, _| Ok(false);
pub(super) const STAGING: &str = "x.codex-manager-restore";
pub(super) const OLD: &str = "old - old old";
pub(super) const NEW: &str = "new new - new";
