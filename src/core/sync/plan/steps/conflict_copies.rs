//! Plans for conflict copies that wait for a decision. Each is replicated to both sides until the user resolves it on
//! any machine, and is removed when it is resolved or when its conversation contains all its lines.

use crate::sync::conflict_copies::ConflictCopy;
use crate::sync::notice::NoticeList;
use crate::sync::plan::facts::conflict_copy_facts::{ConflictCopyFacts, ConflictCopyState};
use crate::sync::plan::sync_plan::SyncPlan;
use crate::sync::plan::sync_step::{Conflict, Op, SyncAction, SyncStep};
use crate::sync::sides::Side;
use crate::sync::{resolutions, rollouts};
use std::collections::BTreeSet;

/// Returns new records by which all machines may drop the obsolete conflict copies. Without a record, a conflict copy
/// that this machine dropped would come back from the snapshots of other machines. Conflict copies of a conversation in
/// conflict stay, because this sync does not publish the conversation.
pub(crate) fn record_obsolete_copies(
    copies: &[ConflictCopyFacts<'_>],
    conflicts: &[Conflict],
    [own_records, other_records]: [&BTreeSet<String>; 2],
) -> Vec<String> {
    let is_in_conflict = |copy: &ConflictCopy| {
        let mut keys = conflicts
            .iter()
            .filter_map(|conflict| rollouts::key(&conflict.path));
        keys.any(|key| copy.belongs_to(&key))
    };

    let mut records = own_records.clone();
    for facts in copies.iter().filter(|facts| facts.state.is_obsolete()) {
        if !is_in_conflict(facts.copy) {
            resolutions::record_drop(&facts.copy.name, &mut records, other_records);
        }
    }
    records.difference(own_records).cloned().collect()
}

/// Adds to the plan the steps that replicate or remove conflict copies, and the list of the copies that wait for a
/// decision.
pub(crate) fn add_conflict_copies(plan: &mut SyncPlan, copies: &[ConflictCopyFacts<'_>]) {
    let SyncPlan { steps, notices, .. } = plan;
    for ConflictCopyFacts { copy, state, .. } in copies {
        let name = || copy.name.clone();
        match *state {
            ConflictCopyState::Obsolete => {
                let why = "no longer needed: it was resolved, or its conversation contains it";
                steps.extend(build_update_step(copy, why, build_drop_ops(copy)));
            }

            // Removed once the conversation that contains it is in place.
            ConflictCopyState::ObsoleteAfter(step_index) => {
                steps[step_index].ops.extend(build_drop_ops(copy));
            }

            ConflictCopyState::Replicated => {}
            ConflictCopyState::OnlyOn(from) => {
                let why = if copy.local.is_some() && copy.remote.is_some() {
                    "one of its two files does not match the digest in its name"
                } else {
                    "kept on both sides until you decide"
                };
                let op = Op::ReplicateConflictCopy { from, name: name() };
                steps.extend(build_update_step(copy, why, vec![op]));
            }

            ConflictCopyState::NotDownloaded => {
                let why = "is not downloaded to this machine; have the cloud client download it";
                notices.extend([NoticeList::Waiting.notice(name(), why)]);
            }
            ConflictCopyState::Damaged => {
                let why =
                    "has not arrived completely: its content does not match the digest in its name";
                notices.extend([NoticeList::Waiting.notice(name(), why)]);
            }
        }
    }

    let pending = copies.iter().filter(|facts| facts.is_pending);
    let with_sizes = pending.map(|ConflictCopyFacts { copy, .. }| {
        let size = copy.local.or(copy.remote).map_or(0, |stat| stat.size);
        (copy.name.clone(), size)
    });
    notices.conflict_copies = with_sizes.collect();
}

/// Returns the step that replicates or removes a conflict copy; `None` if `ops` is empty.
fn build_update_step(copy: &ConflictCopy, reason: &str, ops: Vec<Op>) -> Option<SyncStep> {
    // This key is never in the state, because it is not the key of a synced file.
    let key = format!("fork:{}", copy.name);
    let action = SyncAction::UpdateConflictCopy;
    (!ops.is_empty()).then(|| SyncStep {
        ops,
        ..SyncStep::new(&key, &copy.name, action, reason)
    })
}

/// Returns the ops that remove a conflict copy from the sides that have it.
fn build_drop_ops(copy: &ConflictCopy) -> Vec<Op> {
    let sides = [(Side::Local, copy.local), (Side::Remote, copy.remote)];
    let sides_with_copy = sides.into_iter().filter(|(_, stat)| stat.is_some());
    sides_with_copy
        .map(|(side, _)| Op::DropConflictCopy {
            side,
            name: copy.name.clone(),
        })
        .collect()
}
