//! The branches of conversations that a plan brings together.

use super::branches::record_name;
use super::config::SyncConfig;
use super::index_updates::ContentChange;
use super::ledger::Ledger;
use super::plan::{Op, StateUpdate, SyncPlan, SyncStep};
use super::resolutions;
use super::rollouts;
use super::sides::Side;
use super::state::{Replica, SyncState};
use crate::codex::rollout::RolloutName;
use crate::history::files;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

/// A rollout that a plan changes.
struct ChangedRollout<'a> {
    step: &'a SyncStep,
    thread: String,
    id: String,
}

impl<'a> ChangedRollout<'a> {
    fn of(step: &'a SyncStep) -> Option<Self> {
        matches!(step.state_update, StateUpdate::Synced { .. }).then_some(())?;
        Some(Self {
            step,
            thread: rollouts::id(&step.key)?,
            id: rollouts::rollout_id(&step.key)?,
        })
    }
}

/// Adds to a plan the records of the branches that it brings together. Each is durable before the first file of its
/// conversation, because no later plan would see that the branches are new.
pub(crate) fn record_new(
    plan: &mut SyncPlan,
    state: &SyncState,
    config: &SyncConfig,
    replica: &Replica,
) {
    let mut own = state.resolutions.clone();
    let learned = plan.records.learned_resolutions.iter().cloned();
    let learned: BTreeSet<_> = learned.collect();
    for (hidden, keys) in new_branches(plan, config, replica) {
        let added = resolutions::record_keep(&record_name(&hidden), &mut own, &learned);
        for key in keys {
            let published = plan.records.published_records.entry(key).or_default();
            published.extend(added.iter().cloned());
        }
    }
}

/// Returns the key of the last rollout of each new branch that Codex will not show, with the keys of the changed rollouts
/// of its conversation.
fn new_branches(
    plan: &SyncPlan,
    config: &SyncConfig,
    replica: &Replica,
) -> BTreeMap<String, Vec<String>> {
    let arrived = select_changed(plan, |step| {
        step.change == ContentChange::New && rollouts::is_rewind(rollouts::file_name(&step.key))
    });
    let uploaded = select_changed(plan, is_uploaded);
    let mut extended = select_changed(plan, |step| step.change == ContentChange::Extended);
    let mut branches = BTreeMap::new();
    let threads: BTreeSet<&str> = arrived.iter().map(|rollout| &*rollout.thread).collect();
    for thread in threads {
        // Without the rewind that arrives, this machine continued another rollout.
        let of_thread = |all: &'_ [ChangedRollout<'_>]| -> Option<(String, String)> {
            let own = all.iter().filter(|rollout| rollout.thread == thread);
            own.map(|r| (r.id.clone(), r.step.key.clone())).max()
        };
        let (Some(remote), Some(local)) = (of_thread(&arrived), of_thread(&uploaded)) else {
            continue;
        };
        let keys = arrived.iter().chain(&uploaded);
        let keys = keys.filter(|rollout| rollout.thread == thread);
        let keys = keys.map(|rollout| rollout.step.key.clone()).collect();
        branches.insert(remote.min(local).1, keys);
    }
    if !extended.is_empty() {
        // Without the rewind of this machine, another one continued the rollout behind its place. A rewind of another
        // machine does not count: the lines may be older than it, and arrive after it.
        let left = find_rewound_rollouts(&config.local, &find_own_rewinds(replica, &uploaded));
        extended.retain(|rollout| left.contains(&rollout.id));
        let keys = extended.into_iter().map(|rollout| rollout.step.key.clone());
        branches.extend(keys.map(|key| (key.clone(), vec![key])));
    }
    branches
}

fn select_changed(plan: &SyncPlan, wanted: impl Fn(&SyncStep) -> bool) -> Vec<ChangedRollout<'_>> {
    let steps = plan.steps.iter().filter(|step| wanted(step));
    steps.filter_map(ChangedRollout::of).collect()
}

fn is_uploaded(step: &SyncStep) -> bool {
    let sides = (Side::Local, Side::Remote);
    let is_upload = |op: &Op| matches!(op, Op::Copy(copy) if (copy.from.side, copy.to.0) == sides);
    step.ops.iter().any(is_upload)
}

/// Returns the ids of the rewinds that this machine made: it attests them, or uploads them now.
fn find_own_rewinds(replica: &Replica, uploaded: &[ChangedRollout<'_>]) -> HashSet<String> {
    // If the ledger is unreadable, the plan has failed already.
    let attested = Ledger::read(&replica.folder).unwrap_or_default().files;
    let attested = attested.keys().filter_map(|path| rollouts::key(path));
    let attested = attested.filter_map(|key| rollouts::rollout_id(&key));
    let uploaded = uploaded.iter().map(|rollout| rollout.id.clone());
    attested.chain(uploaded).collect()
}

/// Returns the ids of the rollouts that these rewinds of the home continue.
fn find_rewound_rollouts(home: &Path, rewinds: &HashSet<String>) -> HashSet<String> {
    let (files, _) = files::find_readable(home);
    let parents = files.iter().filter_map(|file| {
        let name = RolloutName::parse(&file.relative)?;
        let id = name.rollout_id()?.to_lowercase();
        let is_own = name.is_rewind() && rewinds.contains(&id);
        is_own.then(|| rollouts::parent(&file.path(home)))?
    });
    parents.collect()
}
