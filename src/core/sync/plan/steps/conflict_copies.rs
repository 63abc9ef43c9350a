//! Plans for conflict copies that wait for a decision. Each is replicated to both sides until the user resolves it on
//! any machine, and is removed when it is resolved or when its conversation contains all its lines.

use crate::sync::conflict_copies::ConflictCopy;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::facts::conflict_copy_facts::ConflictCopyState;
use crate::sync::plan::sync_step::{Conflict, Op, SyncAction, SyncStep};
use crate::sync::sides::Side;
use crate::sync::{resolutions, rollouts};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(crate) struct ConflictCopyPlan {
    /// Steps that replicate or remove conflict copies.
    pub(crate) steps: Vec<SyncStep>,
    /// Ops to add to steps of conversations, by the index of the step. They remove a copy once the conversation that
    /// contains it is in place.
    pub(crate) added_ops: Vec<(usize, Vec<Op>)>,
    /// Conflict copies that wait for a decision: file name and size in bytes.
    pub(crate) pending: Vec<(String, u64)>,
    pub(crate) notices: Vec<Notice>,
}

/// Returns new records that obsolete conflict copies may be dropped. Without a record, a conflict copy that this
/// machine dropped would come back from the snapshots of other machines. Conflict copies of a conversation in conflict
/// stay, because this sync does not publish the conversation.
pub(crate) fn record_obsolete_copies(
    copies: &[(&ConflictCopy, ConflictCopyState)],
    conflicts: &[Conflict],
    [own_records, other_records]: [&BTreeSet<String>; 2],
) -> Vec<String> {
    let is_in_conflict = |copy: &ConflictCopy| {
        let mut keys = conflicts
            .iter()
            .filter_map(|conflict| rollouts::key(&conflict.path));
        keys.any(|key| copy.belongs_to(&key))
    };

    let obsolete_copies = copies.iter().filter(|(copy, state)| {
        let is_obsolete = matches!(
            state,
            ConflictCopyState::Obsolete | ConflictCopyState::ObsoleteAfter(_)
        );
        is_obsolete && !is_in_conflict(copy)
    });

    let mut records = own_records.clone();
    for (copy, _) in obsolete_copies {
        resolutions::record_drop(&copy.name, &mut records, other_records);
    }
    records.difference(own_records).cloned().collect()
}

/// Plans the conflict copies. `equals_conversation` returns true for a copy that needs no decision because its
/// conversation has the same text. Through the vault, such a copy stays.
pub(crate) fn plan_conflict_copies(
    copies: Vec<(&ConflictCopy, ConflictCopyState)>,
    equals_conversation: impl Fn(&ConflictCopy) -> bool,
) -> ConflictCopyPlan {
    let mut plan = ConflictCopyPlan::default();
    for (copy, state) in copies {
        let name = || copy.name.clone();
        let mut is_pending = true;

        match state {
            ConflictCopyState::Obsolete => {
                let why = "no longer needed: it was resolved, or its conversation contains it";
                plan.steps
                    .extend(build_update_step(copy, why, build_drop_ops(copy)));
                is_pending = false;
            }

            ConflictCopyState::ObsoleteAfter(step_index) => {
                plan.added_ops.push((step_index, build_drop_ops(copy)));
                is_pending = false;
            }

            ConflictCopyState::Replicated => {}
            ConflictCopyState::OnlyOn(from) => {
                let why = if copy.local.is_some() && copy.remote.is_some() {
                    "one of its two files does not match the digest in its name"
                } else {
                    "kept on both sides until you decide"
                };
                let op = Op::ReplicateConflictCopy { from, name: name() };
                plan.steps.extend(build_update_step(copy, why, vec![op]));
            }

            ConflictCopyState::NotDownloaded => {
                let why = "is not downloaded to this machine; have the cloud client download it";
                plan.notices.push(NoticeList::Waiting.notice(name(), why));
            }

            ConflictCopyState::Damaged => {
                let why =
                    "has not arrived completely: its content does not match the digest in its name";
                plan.notices.push(NoticeList::Waiting.notice(name(), why));
                // Neither side has the content, so the user cannot decide yet.
                is_pending = false;
            }
        }

        if is_pending && !equals_conversation(copy) {
            let size = copy.local.or(copy.remote).map_or(0, |stat| stat.size);
            plan.pending.push((name(), size));
        }
    }
    plan
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
