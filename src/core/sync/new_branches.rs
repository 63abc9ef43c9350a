//! Finds the branches of conversations that a plan brings together.

use super::config::SyncConfig;
use super::plan::{Op, SyncPlan, SyncStep};
use super::rewind_knowledge::{self, RewindKnowledge};
use super::sides::Side;
use super::state::SyncState;
use super::{branches, resolutions, rollouts};
use crate::codex::rollout::OrderedRolloutId;
use crate::history::files;
use crate::history::rollout::read_last_ordinal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

struct KeyedRollout {
    key: String,
    path: PathBuf,
}

/// The rollouts of a thread, by their ids.
type Rollouts = BTreeMap<OrderedRolloutId, KeyedRollout>;

/// The rollouts of a thread that a plan changes.
#[derive(Default)]
struct ChangedThread {
    /// The rollouts that the plan copies to this machine, with their paths on the remote side.
    downloads: Rollouts,
    /// The ids of rollouts that the plan uploads for the first time.
    first_uploads: BTreeSet<OrderedRolloutId>,
    /// The ids of rollouts that diverged: each side has lines that the other side lacks.
    diverged_ids: BTreeSet<OrderedRolloutId>,
    /// The keys of the rollouts that the plan uploads or downloads.
    keys: BTreeSet<String>,
}

/// Adds two kinds of records to the plan. A record of a new branch tells that two machines continued a conversation
/// from different messages. A record of a rewind tells which rollout the user knew when the rewind began; it is added
/// with the first upload of the rewind.
///
/// `apply` makes the records durable before it copies a file of the conversation: after a kill, both sides have the
/// files, and no later plan could tell that the branches are new.
pub fn record_new_branches(plan: &mut SyncPlan, state: &SyncState, config: &SyncConfig) {
    let changed_threads = find_changed_threads(plan, state, config);
    if changed_threads.is_empty() {
        return;
    }

    let mut rollouts_by_thread = find_rollouts(&config.local, &changed_threads);
    let mut own_records = state.resolutions.clone();
    let learned: BTreeSet<_> = plan.records.learned_resolutions.iter().cloned().collect();
    let mut knowledge_by_thread = RewindKnowledge::read(&[&own_records, &learned]);

    for (thread, changed) in &changed_threads {
        let local_rollouts = rollouts_by_thread.remove(thread).unwrap_or_default();
        let mut knowledge = knowledge_by_thread.remove(thread).unwrap_or_default();
        let mut new_records = record_own_rewinds(&local_rollouts, changed, state, &mut knowledge);
        own_records.extend(new_records.iter().cloned());
        for key in find_new_branches(&local_rollouts, changed, &knowledge) {
            let name = branches::record_name(&key);
            new_records.extend(resolutions::record_keep(&name, &mut own_records, &learned));
        }

        for key in &changed.keys {
            let published = plan.records.published_records.entry(key.clone());
            published.or_default().extend(new_records.iter().cloned());
        }
    }
}

/// Adds the rewinds that began on this machine to `knowledge`. Returns the records of those that the plan uploads for
/// the first time.
fn record_own_rewinds(
    local_rollouts: &Rollouts,
    changed_thread: &ChangedThread,
    state: &SyncState,
    knowledge: &mut RewindKnowledge,
) -> Vec<String> {
    let mut records = Vec::new();
    for (id, KeyedRollout { key, .. }) in local_rollouts {
        // Only a rollout without a sync and without a record began on this machine, where the user knew the one before.
        if state.files.contains_key(key) || knowledge.has_records(id) {
            continue;
        }
        let Some((previous_id, previous)) = local_rollouts.range(..id.clone()).next_back() else {
            continue;
        };

        // If the previous rollout cannot be read, the user counts as knowing none of its lines.
        let last_ordinal = read_last_ordinal(&previous.path).unwrap_or(0);
        knowledge.add(id, &previous_id.id, last_ordinal);
        if changed_thread.first_uploads.contains(id) {
            let record = rewind_knowledge::record_name(key, &previous_id.id, last_ordinal);
            records.push(record);
        }
    }
    records
}

/// Returns the branches that Codex will not show and that the user did not know when the newest rollout of the thread
/// began. Each branch is given by the key of its last rollout.
fn find_new_branches(
    local_rollouts: &Rollouts,
    changed_thread: &ChangedThread,
    knowledge: &RewindKnowledge,
) -> Vec<String> {
    let downloads = &changed_thread.downloads;
    let ids = local_rollouts.keys().chain(downloads.keys());
    // The records of a newer rollout arrive before the rollout, so the ids in `knowledge` count too.
    let ids: BTreeSet<&OrderedRolloutId> = ids.chain(knowledge.ids()).collect();
    let newest = match ids.last() {
        Some(newest) if ids.len() > 1 => *newest,
        _ => return Vec::new(),
    };

    // Of the local branches, only the shown one and diverged ones can be new. An earlier sync has recorded the others.
    let shown_rollout = local_rollouts.last_key_value();
    let diverged_ids = &changed_thread.diverged_ids;
    let rollouts = local_rollouts.iter();
    let diverged_rollouts = rollouts.filter(|(id, _)| diverged_ids.contains(*id));
    let local_ends = shown_rollout.into_iter().chain(diverged_rollouts);
    let local_ends = local_ends.filter(|(id, _)| !downloads.contains_key(*id));

    // In a diverged rollout, a line number does not tell which lines the user knew.
    let has_diverged =
        |id: &OrderedRolloutId| diverged_ids.contains(id) || knowledge.has_diverged(id, &ids);
    let was_unknown = |id: &OrderedRolloutId, path: &Path| {
        let last_ordinal = read_last_ordinal(path);
        last_ordinal.is_some_and(|last| knowledge.knows(newest, id, last, &ids) == Some(false))
    };
    let new_ends = local_ends.chain(downloads).filter(|(id, rollout)| {
        *id != newest && (has_diverged(id) || was_unknown(id, &rollout.path))
    });
    new_ends.map(|(_, rollout)| rollout.key.clone()).collect()
}

/// Returns the threads with a rollout that the plan uploads or downloads, by thread id in lower case.
fn find_changed_threads(
    plan: &SyncPlan,
    state: &SyncState,
    config: &SyncConfig,
) -> BTreeMap<String, ChangedThread> {
    let mut threads: BTreeMap<String, ChangedThread> = BTreeMap::new();
    for step in &plan.steps {
        let Some(ids) = rollouts::ids(&step.key) else {
            continue;
        };

        let download_source = find_copy_source(step, Side::Remote);
        let is_uploaded = find_copy_source(step, Side::Local).is_some();
        if download_source.is_none() && !is_uploaded {
            continue;
        }

        let changed = threads.entry(ids.thread).or_default();
        if let Some(path) = download_source {
            let rollout = KeyedRollout {
                key: step.key.clone(),
                path: config.file_path(Side::Remote, path),
            };
            changed.downloads.insert(ids.rollout.clone(), rollout);
        }
        if step.replaces_lines {
            changed.diverged_ids.insert(ids.rollout.clone());
        }
        if is_uploaded && !state.files.contains_key(&step.key) {
            changed.first_uploads.insert(ids.rollout);
        }
        changed.keys.insert(step.key.clone());
    }

    // The versions of a conflict diverged, whether or not the plan copies them.
    for conflict in &plan.conflicts {
        let key = rollouts::key(&conflict.path);
        if let Some(ids) = key.and_then(|key| rollouts::ids(&key))
            && let Some(changed) = threads.get_mut(&ids.thread)
        {
            changed.diverged_ids.insert(ids.rollout);
        }
    }

    threads
}

/// Returns the path of the file that the step copies from the side `from` to the other side; `None` if it copies none.
fn find_copy_source(step: &SyncStep, from: Side) -> Option<&str> {
    step.ops.iter().find_map(|op| match op {
        Op::Copy(copy) if copy.from.side == from && copy.to.side != from => Some(&*copy.from.path),
        _ => None,
    })
}

/// Finds the rollouts of these threads in the home; a folder that cannot be read counts as empty.
fn find_rollouts(
    home: &Path,
    threads: &BTreeMap<String, ChangedThread>,
) -> BTreeMap<String, Rollouts> {
    let mut rollouts_by_thread: BTreeMap<String, Rollouts> = BTreeMap::new();
    let (files, _skipped) = files::find_readable(home);
    for file in files {
        let path = file.relative.to_str().map(|path| path.replace('\\', "/"));
        if let Some(key) = path.and_then(|path| rollouts::key(&path))
            && let Some(ids) = rollouts::ids(&key)
            && threads.contains_key(&ids.thread)
        {
            let path = file.path(home);
            let rollouts = rollouts_by_thread.entry(ids.thread).or_default();
            rollouts.insert(ids.rollout, KeyedRollout { key, path });
        }
    }
    rollouts_by_thread
}
