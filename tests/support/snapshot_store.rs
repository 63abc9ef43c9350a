//! A store of immutable snapshots that shows a new snapshot late to other machines, and machines that sync through it.

use super::cloud::{
    Killed, Machine, Rng, Settling, UserWrite, apply_or_kill, files_below, is_interrupted,
};
use codex_manager_core::io::hash::Sha256Digest;
use codex_manager_core::sync::apply;
use codex_manager_core::sync::plan::{self, PlanRequest, SyncPlan};
use codex_manager_core::sync::snapshots::{
    HOME, Join, MANIFEST, Publication, Remote, RemoteError, RemoteSnapshot, SnapshotManifest,
};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// A snapshot with the bytes of its files.
struct Stored {
    snapshot: RemoteSnapshot,
    files: BTreeMap<String, Vec<u8>>,
    /// Names of the machines that do not see it yet.
    hidden_from: BTreeSet<String>,
}

#[derive(Default)]
pub(crate) struct Store {
    all: RefCell<Vec<Stored>>,
    made: Cell<usize>,
    replicas: Cell<usize>,
}

/// When a publication is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishKill {
    Never,
    Before,
    /// The snapshot exists, but its machine does not know.
    After,
}

/// The store as one machine sees it.
struct View<'s> {
    store: &'s Store,
    machine: &'s str,
    others: &'s [String],
    kill: PublishKill,
    /// True if the others see the next snapshot late.
    is_late: bool,
    published: Cell<usize>,
    /// Writes to the home while the store reads the next snapshot.
    writes: &'s [UserWrite],
}

impl Store {
    /// Shows each hidden snapshot to a machine, with this chance in percent.
    pub(crate) fn reveal(&self, machine: &str, rng: &mut Rng, percent: usize) {
        for one in self.all.borrow_mut().iter_mut() {
            if rng.chance(percent) {
                one.hidden_from.remove(machine);
            }
        }
    }

    pub(crate) fn reveal_all(&self) {
        for one in self.all.borrow_mut().iter_mut() {
            one.hidden_from.clear();
        }
    }

    /// Removes all but the newest `keep` snapshots of each replica.
    pub(crate) fn forget(&self, keep: usize) {
        let mut all = self.all.borrow_mut();
        let mut left: BTreeMap<String, usize> = BTreeMap::new();
        for one in all.iter() {
            *left.entry(one.snapshot.replica.clone()).or_default() += 1;
        }
        all.retain(|one| {
            let count = left.get_mut(&one.snapshot.replica).unwrap();
            *count -= 1;
            *count < keep
        });
    }

    /// Returns true if a snapshot has a file of this name.
    pub(crate) fn has_file(&self, name: &str) -> bool {
        let all = self.all.borrow();
        let mut paths = all.iter().flat_map(|one| one.files.keys());
        paths.any(|path| path.ends_with(name))
    }

    /// Lists the snapshots.
    pub(crate) fn listing(&self) -> String {
        let all = self.all.borrow();
        let lines = all.iter().map(|one| format!("{:?}", one.snapshot));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn count(&self) -> usize {
        self.all.borrow().len()
    }
}

impl Remote for View<'_> {
    type Error = RemoteError;

    fn new_replica_id(&self) -> String {
        self.store.replicas.set(self.store.replicas.get() + 1);
        format!("{:016x}", self.store.replicas.get())
    }

    fn snapshots(&self) -> Result<Vec<RemoteSnapshot>, RemoteError> {
        let all = self.store.all.borrow();
        let seen = all
            .iter()
            .filter(|one| !one.hidden_from.contains(self.machine));
        Ok(seen.map(|one| one.snapshot.clone()).collect())
    }

    fn manifest(&self, snapshot: &RemoteSnapshot) -> Result<SnapshotManifest, RemoteError> {
        let all = self.store.all.borrow();
        let one = all.iter().find(|one| one.snapshot.id == snapshot.id);
        SnapshotManifest::parse(&one.unwrap().files[MANIFEST][..], &snapshot.machine)
    }

    fn fetch(
        &self,
        snapshot: &RemoteSnapshot,
        _: &SnapshotManifest,
        wanted: &BTreeSet<&str>,
        folder: &Path,
    ) -> Result<(), RemoteError> {
        let all = self.store.all.borrow();
        let one = all.iter().find(|one| one.snapshot.id == snapshot.id);
        for path in wanted {
            let path = format!("{HOME}/{path}");
            let target = folder.join(&path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, &one.unwrap().files[&path]).unwrap();
        }
        Ok(())
    }

    fn publish(&self, tree: &Path, publication: &Publication) -> Result<String, RemoteError> {
        if self.kill == PublishKill::Before {
            resume_unwind(Box::new(Killed));
        }
        self.writes.iter().for_each(UserWrite::perform);
        let mut all = self.store.all.borrow_mut();
        self.store.made.set(self.store.made.get() + 1);
        let id = format!(
            "{:08}{}",
            self.store.made.get() + 10_000_000,
            publication.replica
        );
        let files = files_below(tree).into_iter();
        let files = files.map(|path| {
            let bytes = fs::read(tree.join(&path)).unwrap();
            (path, bytes)
        });
        let files: BTreeMap<_, _> = files
            .filter(|(path, _)| !path.contains("/machines/"))
            .collect();
        assert_manifest_is_true(&files, self.machine);
        let others = self.others.iter().filter(|_| self.is_late);
        all.push(Stored {
            snapshot: publication.clone().with_id(id.clone()),
            files,
            hidden_from: others
                .filter(|name| *name != self.machine)
                .cloned()
                .collect(),
        });
        self.published.set(self.published.get() + 1);
        if self.kill == PublishKill::After {
            resume_unwind(Box::new(Killed));
        }
        // restic 0.14 prints only the beginning.
        Ok(id[..8].to_owned())
    }
}

/// Asserts that a snapshot has the listed content of each file, except for lines that the user added since.
fn assert_manifest_is_true(files: &BTreeMap<String, Vec<u8>>, machine: &str) {
    let manifest = std::str::from_utf8(&files[MANIFEST]).unwrap();
    for line in manifest.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(path) = line["file"][0].as_str() else {
            continue;
        };
        let size = usize::try_from(line["file"][1]["size"].as_u64().unwrap()).unwrap();
        let content = files.get(&format!("{HOME}/{path}"));
        let listed = content.and_then(|bytes| bytes.get(..size));
        let digest = listed.map(|bytes| Sha256Digest::of(bytes).to_string());
        let is_true = digest.as_deref() == line["file"][1]["digest"].as_str();
        assert!(is_true, "{machine} lists {line} for {content:?}");
        let is_text = Path::new(path).extension().is_some_and(|e| e == "jsonl");
        let is_whole = !is_text || listed.is_some_and(|text| text.ends_with(b"\n"));
        assert!(is_whole, "{machine} lists half a line: {line}");
    }
}

/// The faults of a run through the store: its early end, and the machines that see its snapshot late.
pub(crate) struct StoreRun<'a> {
    pub(crate) killed_before: Option<usize>,
    pub(crate) kill: PublishKill,
    pub(crate) is_late: bool,
    /// Changes that the user makes while the snapshot is published.
    pub(crate) writes: Vec<UserWrite>,
    /// True if the user begins them before.
    pub(crate) writes_early: bool,
    pub(crate) others: &'a [String],
}

impl Machine {
    /// Joins the machines of the store, and publishes. Returns true if the run changed a file, published a snapshot or
    /// was stopped.
    pub(crate) fn sync_with(
        &mut self,
        store: &Store,
        run: StoreRun<'_>,
        settling: Settling,
    ) -> bool {
        let staging = self.home.with_file_name("staging");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).unwrap();
        let kept = self.home.with_file_name("kept");
        let name = self.name.clone();
        let view = View {
            store,
            machine: &name,
            others: run.others,
            kill: run.kill,
            is_late: run.is_late,
            published: Cell::new(0),
            writes: &run.writes,
        };
        let (config, replica) = (self.config.clone(), self.replica.clone());
        let mut join = Join::open(&view, &config, &replica, &staging, &kept, true)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut changed = false;
        let before = join.inspect_home().unwrap();
        let is_idle = join.idle_plan(&before).unwrap().is_some();
        let mut plans = Vec::new();
        while join.stage().unwrap_or_else(|e| panic!("{name}: {e}")) {
            match self.sync_round(&join, run.killed_before, settling) {
                Some((plan, done)) => {
                    changed |= done;
                    plans.push(plan);
                }
                None => return true,
            }
            if run.writes_early && !join.has_further_round() {
                run.writes.iter().for_each(UserWrite::begin);
            }
            join.settle().unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        let published = catch_unwind(AssertUnwindSafe(|| join.publish()));
        let has_done = match published {
            Ok(published) => {
                let id = published.unwrap_or_else(|e| panic!("{name}: {e}"));
                join.keep_tree();
                let has_done = changed || id.is_some();
                assert!(!is_idle || !has_done, "{name} was not idle: {plans:#?}");
                if let [plan] = &*plans {
                    join.record_idle(&before, plan).unwrap();
                }
                self.was_idle = is_idle;
                has_done
            }
            Err(panic) if panic.is::<Killed>() => true,
            Err(panic) => resume_unwind(panic),
        };
        for write in run.writes {
            write.end();
            self.note_write(write);
        }
        has_done
    }

    /// Returns the plan, and true if the round changed a file; `None` if it was killed or stopped.
    fn sync_round<R: Remote>(
        &mut self,
        join: &Join<'_, R>,
        killed_before: Option<usize>,
        settling: Settling,
    ) -> Option<(SyncPlan, bool)> {
        self.runs += 1;
        let request = PlanRequest {
            delete_many: settling != Settling::NotYet,
            ..PlanRequest::new(&join.config, &join.replica)
        };
        let (plan, state) =
            plan::plan(&request).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if settling != Settling::NotYet {
            let open = (&plan.conflicts, &plan.notices.waiting);
            assert!(
                open.0.is_empty() && open.1.is_empty(),
                "{}: {open:?}",
                self.name
            );
        }
        assert_eq!(plan.notices.undelivered, [], "{}", self.name);
        if plan.is_stopped_by_conflict(join.config.policy.rules.conflict) {
            return None;
        }
        let chosen = plan.steps.iter().filter(|step| step.conflict.is_some());
        self.skills_in_conflict
            .extend(chosen.map(|step| step.path.clone()));
        let places = (&join.config, &join.replica);
        let applied = apply_or_kill(places, self.runs, killed_before, |request| {
            apply::apply(&plan, state, request)
        })?;
        self.note_skills(&join.config.cloud);
        match applied {
            Ok(report) => {
                assert_eq!(report.skipped, [], "{}: {:#?}", self.name, plan.steps);
                Some((plan, !report.done.is_empty()))
            }
            Err(error) if is_interrupted(&error) => None,
            Err(error) => panic!("{}: {error}", self.name),
        }
    }
}
