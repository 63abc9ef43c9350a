//! Plans for conflict copies that wait for a decision. Each is replicated to both sides until the user resolves it on
//! any machine, and is removed when it is resolved or when its conversation contains all its lines.

use crate::codex::rollout::{self, Relation};
use crate::io::file_open;
use crate::sync::conflict_copies::ConflictCopy;
use crate::sync::contents;
use crate::sync::index_updates::ContentChange;
use crate::sync::notice::{Notice, NoticeList};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::sync_step::{Op, StateUpdate, SyncAction, SyncStep};
use crate::sync::resolutions;
use crate::sync::scan::{Side, Stat};
use std::path::Path;

/// Reason for removing a conflict copy.
const NO_LONGER_NEEDED: &str = "no longer needed: it was resolved, or its conversation contains it";

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
    /// Resolutions of other machines, to add to the state. This machine publishes them too, because the manifests of
    /// the others may disappear one day.
    pub(crate) learned_resolutions: Vec<String>,
}

/// Plans all conflict copies. `steps` are those of the conversations, which can make copies obsolete.
pub(crate) fn plan_conflict_copies(inputs: &Inputs<'_>, steps: &[SyncStep]) -> ConflictCopyPlan {
    let mut plan = ConflictCopyPlan::default();
    let copies = &inputs.conflict_copies;
    let [own, others] = inputs.resolutions();
    plan.learned_resolutions = resolutions::newer_records(own, others);
    for (name, copy) in &copies.all {
        if inputs.may_drop(name) {
            plan.steps
                .extend(update_step(copy, NO_LONGER_NEEDED, drop_ops(copy)));
        } else if let Some(step) = containing_step(inputs, copy, steps) {
            plan.added_ops.push((step, drop_ops(copy)));
        } else if is_contained(inputs, copy, steps) {
            plan.steps
                .extend(update_step(copy, NO_LONGER_NEEDED, drop_ops(copy)));
        } else {
            plan.replicate(inputs, copy);
        }
    }
    plan
}

impl ConflictCopyPlan {
    /// Adds the step that replicates a conflict copy that waits for a decision, and lists it.
    fn replicate(&mut self, inputs: &Inputs<'_>, copy: &ConflictCopy) {
        let source = if copy.is_placeholder {
            CopySource::NotNeeded
        } else {
            copy_source(inputs, copy)
        };
        match source {
            // The cloud folder has only its placeholder, and `sync resolve` on this machine needs the content.
            CopySource::NotNeeded if copy.local.is_none() => {
                let why = "is not downloaded to this machine";
                self.notices
                    .push(NoticeList::Waiting.notice(&copy.name, why));
            }
            CopySource::NotNeeded => {}
            CopySource::Side(from) => {
                let reason = if copy.local.is_some() && copy.remote.is_some() {
                    "one of its two files does not match the digest in its name"
                } else {
                    "kept on both sides until you decide"
                };
                let name = copy.name.clone();
                let op = Op::ReplicateConflictCopy { from, name };
                self.steps.extend(update_step(copy, reason, vec![op]));
            }
            CopySource::Unavailable => {
                let why = "does not match the digest in its name yet";
                self.notices
                    .push(NoticeList::Waiting.notice(&copy.name, why));
                return;
            }
        }
        let size = copy.local.or(copy.remote).map_or(0, |stat| stat.size);
        self.pending.push((copy.name.clone(), size));
    }
}

/// Returns the step that replicates or removes a conflict copy, if there is anything to do.
fn update_step(copy: &ConflictCopy, reason: &str, ops: Vec<Op>) -> Option<SyncStep> {
    let has_ops = !ops.is_empty();
    has_ops.then(|| SyncStep {
        // Not the key of a synced file: the state never has it.
        key: format!("fork:{}", copy.name),
        path: copy.name.clone(),
        action: SyncAction::UpdateConflictCopy,
        reason: reason.into(),
        bytes: 0,
        ops,
        state_update: StateUpdate::None,
        change: ContentChange::Unchanged,
        conflict: None,
    })
}

/// Returns the side to replicate a conflict copy from. Two files with equal size and time are not read completely.
fn copy_source(inputs: &Inputs<'_>, copy: &ConflictCopy) -> CopySource {
    let is_plausible = |side| {
        let path = inputs.conflict_copy_path(side, &copy.name);
        contents::is_zero_filled(&path, true, false).is_ok_and(|is_zero_filled| !is_zero_filled)
    };
    let stats_are_equal = copy.local.is_some() && copy.local == copy.remote;
    if stats_are_equal && is_plausible(Side::Local) && is_plausible(Side::Remote) {
        return CopySource::NotNeeded;
    }
    let is_intact = |side, stat: Option<Stat>| stat.is_some() && is_intact(inputs, side, copy);
    let local = is_intact(Side::Local, copy.local);
    match (local, is_intact(Side::Remote, copy.remote)) {
        (true, true) => CopySource::NotNeeded,
        (true, false) => CopySource::Side(Side::Local),
        (false, true) => CopySource::Side(Side::Remote),
        (false, false) => CopySource::Unavailable,
    }
}

/// Returns true if the file is readable, uncompressed and matches the digest in its name.
fn is_intact(inputs: &Inputs<'_>, side: Side, copy: &ConflictCopy) -> bool {
    let path = inputs.conflict_copy_path(side, &copy.name);
    let is_uncompressed = file_open::open(&path).and_then(|file| contents::is_uncompressed(&file));
    is_uncompressed.unwrap_or_default() && copy.matches(&path).unwrap_or_default()
}

/// Returns the index of the step that downloads a version containing all lines of the copy.
fn containing_step(inputs: &Inputs<'_>, copy: &ConflictCopy, steps: &[SyncStep]) -> Option<usize> {
    copy.local?;
    let path = inputs.conflict_copy_path(Side::Local, &copy.name);
    let contains_copy = |op: &Op| match op {
        Op::Copy(op) if op.to.0 == Side::Local => {
            let from = op.from.full_path(inputs.config);
            contains_all(&from, &path) && is_intact(inputs, Side::Local, copy)
        }
        _ => false,
    };
    steps
        .iter()
        .position(|step| copy.belongs_to(&step.key) && step.ops.iter().any(contains_copy))
}

/// Returns true if the local conversation contains all lines of the copy, for example because the user continued
/// the copy.
fn is_contained(inputs: &Inputs<'_>, copy: &ConflictCopy, steps: &[SyncStep]) -> bool {
    // A local conversation that was never synced exists on this machine only; dropping the copy could leave the
    // other machines without its lines.
    let Some(last) = copy.local.and_then(|_| copy.last_synced(inputs.state)) else {
        return false;
    };
    let main = inputs.config.local.join(&last.local.path);
    // A step that replaces the conversation removes the lines that it has now.
    let is_replaced =
        |step: &SyncStep| step.change == ContentChange::Replaced && copy.belongs_to(&step.key);
    if steps.iter().any(is_replaced) || !main.is_file() {
        return false;
    }
    let path = inputs.conflict_copy_path(Side::Local, &copy.name);
    // A truncated copy is contained in its conversation, but its missing rest may not be.
    contains_all(&main, &path) && is_intact(inputs, Side::Local, copy)
}

/// Returns true if a conversation contains all lines of another; false if one cannot be read, which is reported where
/// it is planned.
fn contains_all(conversation: &Path, other: &Path) -> bool {
    let relation = rollout::compare(conversation, other);
    relation.is_ok_and(|r| matches!(r, Relation::Equal | Relation::FirstExtends))
}

/// Side to replicate a conflict copy from.
enum CopySource {
    /// Nothing to copy: both sides have it, or the remote file is a placeholder.
    NotNeeded,
    /// This side has the only intact file.
    Side(Side),
    /// Neither side has an intact file.
    Unavailable,
}

/// Returns the ops that remove a conflict copy from the sides that have it.
fn drop_ops(copy: &ConflictCopy) -> Vec<Op> {
    let has = [(Side::Local, copy.local), (Side::Remote, copy.remote)];
    let on = has.into_iter().filter(|(_, stat)| stat.is_some());
    on.map(|(side, _)| Op::DropConflictCopy {
        side,
        name: copy.name.clone(),
    })
    .collect()
}
