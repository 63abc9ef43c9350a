//! The step for one conversation in the making.

use crate::codex::rollout::Relation;
use crate::io::IoContext;
use crate::io::hash::Sha256Digest;
use crate::sync::conflict_copies;
use crate::sync::contents;
use crate::sync::decide::{CopyReason, FileDecision, FileFacts, conflict_reason, winner};
use crate::sync::notice::Notice;
use crate::sync::plan::error::PlanError;
use crate::sync::plan::facts::file_version::{FileVersion, text_digest};
use crate::sync::plan::inputs::Inputs;
use crate::sync::plan::sync_step::{CopyOp, ObservedFile, Op, Placement, SyncAction};
use crate::sync::rollouts;
use crate::sync::scan::Side;
use crate::sync::state::SyncedFile;

/// Reason for a conflict copy of a second file of the conversation.
const DIVERGED_COPY: &str = "was continued differently in a second file";
/// Reason for a conflict copy of the version that both sides had at the last sync.
const REWRITTEN: &str = "was rewritten since the last sync instead of continued";

/// The step for one conversation in the making.
pub(crate) struct ConversationDraft<'a> {
    pub(crate) key: &'a str,
    /// Relative path that output and JSON show.
    pub(crate) path: &'a str,
    pub(crate) last: Option<&'a SyncedFile>,
    pub(crate) ops: Vec<Op>,
    /// Names of the conflict copies that `ops` creates.
    pub(crate) new_copies: Vec<String>,
    pub(crate) notices: Vec<Notice>,
    /// Resolutions that the step publishes, as in [`FilePlan`](super::file_plan::FilePlan).
    pub(crate) published_records: Vec<String>,
}

impl ConversationDraft<'_> {
    /// Returns true if the version has a conflict copy, gets one in this step, or the user has decided to drop it.
    pub(crate) fn is_kept_or_resolved(&self, inputs: &Inputs<'_>, digest: &Sha256Digest) -> bool {
        let name = conflict_copies::file_name(self.key, digest);
        let is_kept =
            inputs.conflict_copies.all.contains_key(&name) || self.new_copies.contains(&name);
        is_kept || inputs.may_drop(&name)
    }

    /// Adds an op that stores a version as a conflict copy, unless [`Self::is_kept_or_resolved`]. While `sync resolve`
    /// decides about this conversation, earlier decisions do not count, so the losing version always gets a copy.
    pub(crate) fn keep_conflict_copy(
        &mut self,
        inputs: &Inputs<'_>,
        seen: &ObservedFile,
    ) -> Result<(), PlanError> {
        let (_, digest) = text_digest(inputs.config, seen)?;
        let name = conflict_copies::file_name(self.key, &digest);
        let is_kept = if inputs.has_policy_override(self.path) {
            self.new_copies.contains(&name)
        } else {
            self.is_kept_or_resolved(inputs, &digest)
        };
        if is_kept {
            return Ok(());
        }
        self.new_copies.push(name.clone());
        self.ops.push(Op::KeepConflictCopy {
            from: seen.clone(),
            name,
            digest,
        });
        Ok(())
    }

    /// Records that `old`, which Codex rewrote as `new`, and its beginnings are given up, as far as machines list them
    /// and they are longer than `new`. Machines would wait for them.
    pub(crate) fn give_up_rewritten(
        &mut self,
        inputs: &Inputs<'_>,
        old: &ObservedFile,
        new: &FileVersion,
    ) -> Result<(), PlanError> {
        let new_size = new.seen.stat.size;
        let path = old.full_path(inputs.config);
        for listed in inputs.attested_versions(self.key) {
            if listed.size > new_size {
                let beginning = contents::read(&path, Some(listed.size)).at("read", &path)?;
                if beginning.prefix_digest == Some(listed.digest) {
                    let name = conflict_copies::file_name(self.key, &listed.digest);
                    self.published_records.push(name);
                }
            }
        }
        Ok(())
    }

    /// Adds an op that moves a file into `folder` of its side, unless it is there. Returns the resulting placement.
    pub(crate) fn add_move(&mut self, seen: &ObservedFile, folder: &str) -> Placement {
        let to = rollouts::in_folder(folder, &seen.path);
        if to != seen.path {
            self.ops.push(Op::Rename {
                from: seen.clone(),
                to: to.clone(),
            });
        }
        Placement::existing(to, seen)
    }

    /// Adds ops that remove the duplicates of both sides. Their lines are in the main version or in a conflict copy.
    pub(crate) fn remove_duplicates(&mut self, duplicates: Vec<ObservedFile>) {
        for seen in duplicates {
            match self.ops.iter().position(|op| op.occupies(&seen)) {
                None => self.ops.push(Op::Remove(seen)),
                // A rename never replaces a file, so the duplicate has to go first.
                Some(at) if matches!(self.ops[at], Op::Rename { .. }) => {
                    self.ops.insert(at, Op::Remove(seen));
                }
                Some(_) => {}
            }
        }
    }

    /// Explains why the step makes conflict copies and which version wins; `None` if it makes none.
    pub(crate) fn conflict_note(&self, decision: FileDecision, facts: FileFacts) -> Option<String> {
        if self.new_copies.is_empty() {
            return None;
        }
        let is_diverged = facts.relation == Some(Relation::Diverged);
        let (why, winner) = match decision.copied_side() {
            Some((side, CopyReason::Policy)) => (conflict_reason(facts), winner(side)),
            Some((side, _)) if is_diverged => (REWRITTEN.to_owned(), winner(side)),
            _ => (
                DIVERGED_COPY.to_owned(),
                "the version under the conversation's own name wins",
            ),
        };
        let kept = match self.new_copies.len() {
            1 => "the other one is kept until you decide".to_owned(),
            n => format!("{n} others are kept until you decide"),
        };
        Some(format!("{why}: {winner}, {kept}"))
    }

    /// Returns the action and the reason of a step that copies nothing from side to side.
    pub(crate) fn action_without_copy(&self) -> (SyncAction, &'static str) {
        let moves = self.ops.iter().find_map(|op| match op {
            Op::Rename { from, .. } => Some(from.side),
            _ => None,
        });
        match moves {
            Some(Side::Local) => (SyncAction::MoveLocal, "moved in the cloud folder"),
            Some(Side::Remote) => (SyncAction::MoveCloud, "moved on this machine"),
            None if self
                .ops
                .iter()
                .any(|op| matches!(op, Op::KeepConflictCopy { .. })) =>
            {
                (SyncAction::KeepConflictCopy, DIVERGED_COPY)
            }
            None => (
                SyncAction::RemoveDuplicate,
                "a second file of one conversation",
            ),
        }
    }
}

impl Op {
    /// Returns true if the op writes to or removes the path of `seen`, so that the duplicate must not be removed
    /// after it.
    fn occupies(&self, seen: &ObservedFile) -> bool {
        match self {
            Self::Copy(CopyOp { to, .. }) => to.0 == seen.side && to.1 == seen.path,
            Self::Rename { from, to } => from.side == seen.side && *to == seen.path,
            Self::Remove(other) => other == seen,
            Self::Merge { .. }
            | Self::KeepConflictCopy { .. }
            | Self::ReplicateConflictCopy { .. }
            | Self::DropConflictCopy { .. } => false,
        }
    }
}
