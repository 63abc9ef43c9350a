//! What a conflict is called, and how it ends where `conflict.policy` decides it.

use super::Planner;
use crate::codex::rollout::Relation;
use crate::sync::decide::{FileFacts, FileKind, Presence};
use crate::sync::scan::Side;
use crate::sync::version_vector::CausalOrder;

impl Planner<'_> {
    /// How a conflict between two versions of a plain file ends by `conflict.policy`: the one on `from`
    /// goes on.
    pub(super) fn policy_outcome(&self, facts: FileFacts, from: Side) -> String {
        let loser = if self.request.config.backup.before_overwrite {
            "the other one is in the snapshot"
        } else {
            "the other one is overwritten"
        };
        format!("{}: {}, {loser}", conflict_reason(facts), winner(from))
    }
}

/// Which version of a conflict goes on.
pub(super) fn winner(from: Side) -> &'static str {
    match from {
        Side::Local => "the version of this machine goes on",
        Side::Remote => "the version in the cloud folder goes on",
    }
}

pub(super) fn conflict_reason(facts: FileFacts) -> String {
    let known = facts.local != Presence::New && facts.remote != Presence::New;
    match (facts.kind, known) {
        _ if facts.causal_order == CausalOrder::OlderUnattested => {
            "an older version is in the cloud folder, and nobody says that it was put there"
        }
        (FileKind::Rollout, true) => "went on differently on both sides since the last sync",
        (FileKind::Rollout, false) => "went on differently on both sides",
        (_, true) => "changed on both sides since the last sync",
        (_, false) if facts.relation == Some(Relation::Diverged) => {
            "differs, and no sync has seen it before"
        }
        (_, false) => "differs at equal times, and no sync has seen it before",
    }
    .into()
}
