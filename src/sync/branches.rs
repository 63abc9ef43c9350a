//! Conversations that two machines continued from different places, because one of them was rewound.
//!
//! A rewind begins another rollout, so the files do not conflict, and both branches are kept. Codex goes on with the
//! newest rollout, and shows the other branch no more.

use super::index_updates::ContentChange;
use super::plan::{Op, StateUpdate, SyncPlan, SyncStep};
use super::rollouts;
use super::sides::Side;
use crate::history::files;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// A rollout that a plan changes.
struct ChangedRollout<'a> {
    thread: String,
    id: String,
    /// The path relative to the Codex home.
    path: &'a str,
}

impl<'a> ChangedRollout<'a> {
    fn of(step: &'a SyncStep) -> Option<Self> {
        let StateUpdate::Synced { local, .. } = &step.state_update else {
            return None;
        };
        Some(Self {
            thread: rollouts::id(&step.key)?,
            id: rollouts::rollout_id(&step.key)?,
            path: &local.path,
        })
    }
}

/// Returns the conversations of which a plan brings together two branches, each with the path of the rollout with the
/// turns that Codex does not show, relative to the Codex home.
pub(crate) fn branched(plan: &SyncPlan, home: &Path) -> BTreeMap<String, String> {
    let new = changed(plan, |step| step.change == ContentChange::New);
    let arrived: Vec<_> = new
        .into_iter()
        .filter(|rollout| rollouts::is_rewind(rollout.path))
        .collect();
    let uploaded = changed(plan, is_uploaded);
    let mut branched = BTreeMap::new();
    for rewind in &arrived {
        // Without this rewind, this machine continued another rollout.
        let own = uploaded.iter().filter(|own| own.thread == rewind.thread);
        let hidden = own.map(|own| if own.id < rewind.id { own } else { rewind });
        branched.extend(hidden.map(|hidden| (hidden.thread.clone(), hidden.path.to_owned())));
    }
    let mut extended = changed(plan, |step| step.change == ContentChange::Extended);
    if !extended.is_empty() {
        // Without the rewind of this machine, another one continued the rollout behind its place.
        let left = left_by_rewinds(home, &arrived);
        extended.retain(|rollout| left.contains(&rollout.id));
        branched.extend(extended.into_iter().map(|r| (r.thread, r.path.to_owned())));
    }
    branched
}

fn changed(plan: &SyncPlan, wanted: impl Fn(&SyncStep) -> bool) -> Vec<ChangedRollout<'_>> {
    let steps = plan.steps.iter().filter(|step| wanted(step));
    steps.filter_map(ChangedRollout::of).collect()
}

fn is_uploaded(step: &SyncStep) -> bool {
    let sides = (Side::Local, Side::Remote);
    let is_upload = |op: &Op| matches!(op, Op::Copy(copy) if (copy.from.side, copy.to.0) == sides);
    step.ops.iter().any(is_upload)
}

/// Returns the ids of the rollouts that rewinds of the home continue, without those that `arrived`.
fn left_by_rewinds(home: &Path, arrived: &[ChangedRollout<'_>]) -> HashSet<String> {
    let (files, _) = files::find_readable(home);
    let parents = files.iter().filter_map(|file| {
        let path = file.relative.to_str()?;
        let id = rollouts::rollout_id(&rollouts::key(path)?)?;
        let is_known = rollouts::is_rewind(path) && arrived.iter().all(|new| new.id != id);
        is_known.then(|| rollouts::parent(&file.path(home)))?
    });
    parents.collect()
}
