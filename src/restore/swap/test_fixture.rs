//! The fixture of the tests of a swap: a folder with an old state and a staged new one.

use super::super::step::ExchangeStep;
use super::Swap;
use super::journal::JournalState;
use super::recovery::RecoveryGuard;
use crate::codex::process::Holder;
use crate::io::IoError;
use crate::restore::write_times::filesystem_clock_ns;
use std::fs;
use std::path::{Path, PathBuf};

/// A live file, a live folder, a name to add and a name to remove, with their staged versions.
pub(super) struct SwapFixture {
    pub(super) root: tempfile::TempDir,
}

impl SwapFixture {
    pub(super) fn new() -> Self {
        let fixture = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir(fixture.path("live")).unwrap();
        for (name, text) in [("auth", "old"), ("gone", "old"), ("folder/x", "old")] {
            let path = fixture.path("live").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fixture
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(super) fn begin(&self) -> (Swap, Vec<ExchangeStep>) {
        let swap = Swap::begin(&self.path(STAGING), &self.path("live"), NO_GUARD).unwrap();
        let staged = self.path(STAGING).join("new");
        fs::create_dir_all(staged.join("folder")).unwrap();
        for name in ["auth", "added", "folder/x"] {
            fs::write(staged.join(name), "new").unwrap();
        }
        let steps = ["auth", "folder", "added", "gone"]
            .map(|n| ExchangeStep::new(self.path("live").join(n), staged.join(n)));
        (swap, steps.into())
    }

    /// Begins a swap that is about to do its first step, with `state` in its journal.
    pub(super) fn begin_in_state(&self, state: JournalState) -> Swap {
        let (mut swap, steps) = self.begin();
        swap.journal.since_ns = swap.prepare_folders().unwrap();
        swap.journal.steps = steps;
        swap.set_state(state).unwrap();
        swap
    }

    /// Runs `work`, then ends as after a kill: no destructor runs, but the lock is released.
    #[allow(clippy::unused_self, reason = "reads as an action on the fixture")]
    pub(super) fn kill(&self, mut swap: Swap, work: impl FnOnce(&Swap)) {
        work(&swap);
        swap.finished = true;
    }

    /// Waits for the next tick of the file system's clock.
    pub(super) fn wait_for_clock_tick(&self) {
        let now = || filesystem_clock_ns(self.root.path()).unwrap();
        let before = now();
        while now() <= before {}
    }

    /// Returns the text of every file, except for those in `kept`.
    pub(super) fn file_contents(&self) -> Vec<String> {
        let walk = walkdir::WalkDir::new(self.root.path()).sort_by_file_name();
        let files = walk.into_iter().map(Result::unwrap);
        let files = files.filter(|e| e.file_type().is_file());
        let files = files.filter(|e| !e.path().starts_with(self.path("kept")));
        files
            .map(|e| fs::read_to_string(e.path()).unwrap())
            .collect()
    }

    /// Returns the names of later writes beside live files.
    pub(super) fn late_write_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("live")).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("found")).collect()
    }

    pub(super) fn live_state(&self) -> String {
        ["auth", "added", "gone", "folder/x"]
            .map(|n| fs::read_to_string(self.path("live").join(n)).unwrap_or_else(|_| "-".into()))
            .join(" ")
    }
}

/// A guard without logins and without processes.
pub(super) struct NoGuard;

impl RecoveryGuard for NoGuard {
    fn keep_newer_login(&self, _outgoing: &Path, _incoming: &Path) -> Result<(), IoError> {
        Ok(())
    }

    fn save_dropped_login(&self, _outgoing: &Path, _remaining: &Path) -> Result<(), IoError> {
        Ok(())
    }

    fn holders(&self, _home: &Path) -> Vec<Holder> {
        Vec::new()
    }
}

pub(super) const NO_GUARD: &dyn RecoveryGuard = &NoGuard;
pub(super) const STAGING: &str = "x.codex-manager-restore";
pub(super) const OLD: &str = "old - old old";
pub(super) const NEW: &str = "new new - new";
