//! Wording of conflicts: the reason, and the outcome if `conflict.policy` decides.

use super::inputs::Planner;
use crate::codex::rollout::Relation;
use crate::sync::decide::{FileFacts, FileKind, Presence};
use crate::sync::scan::Side;
use crate::sync::version_vector::CausalOrder;

impl Planner<'_> {
    /// Describes a conflict of a plain file that `conflict.policy` decides in favour of the version on `from`.
    pub(super) fn policy_outcome(&self, facts: FileFacts, from: Side) -> String {
        let loser = if self.request.config.backup.before_overwrite {
            "the other one is in the snapshot"
        } else {
            "the other one is overwritten"
        };
        format!("{}: {}, {loser}", conflict_reason(facts), winner(from))
    }
}

/// Names the version that wins a conflict.
pub(super) fn winner(from: Side) -> &'static str {
    match from {
        Side::Local => "the version of this machine wins",
        Side::Remote => "the version in the cloud folder wins",
    }
}

/// Explains why two versions conflict; continues a sentence that begins with the path.
pub(super) fn conflict_reason(facts: FileFacts) -> String {
    let known = facts.local != Presence::New && facts.remote != Presence::New;
    match (facts.kind, known) {
        _ if facts.causal_order == CausalOrder::OlderUnattested => {
            "the cloud folder has an older version that no machine has published"
        }
        (FileKind::Rollout, true) => "continued differently on both sides since the last sync",
        (FileKind::Rollout, false) => "was continued differently on both sides",
        (_, true) => "changed on both sides since the last sync",
        (_, false) if facts.relation == Some(Relation::Diverged) => {
            "differs on both sides and was never synced"
        }
        (_, false) => "differs on both sides at equal mtimes and was never synced",
    }
    .into()
}
