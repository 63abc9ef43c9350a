//! The input of a plan.

use crate::sync::config::{ConflictPolicy, SyncConfig};
use crate::sync::state::Replica;

/// The configuration and the flags of a [`plan`](super::plan()).
#[derive(Debug, Clone, Copy)]
pub struct PlanRequest<'a> {
    pub config: &'a SyncConfig,
    /// The stored state for this pair of Codex home and cloud folder.
    pub replica: &'a Replica,
    /// `--refill`: copies the files that the cloud folder lacks to it, even if the folder seems unmounted.
    pub refill: bool,
    /// `--accept-unlisted`: uses remote files that no machine attests.
    pub accept_unlisted: bool,
    /// `--delete-many`: copies deletions to the other side, even if they are many.
    pub delete_many: bool,
    /// `--allow-secrets`: paths of files that are synced although they seem to contain a secret.
    pub allow_secrets: &'a [String],
    /// `sync resolve`: the policy for this one path, instead of `conflict.policy`.
    pub policy_override: Option<(&'a str, ConflictPolicy)>,
    /// `sync resolve`: finds the version of each conflict that has to be kept. That reads the head of each rollout.
    pub finds_needed_versions: bool,
}

impl<'a> PlanRequest<'a> {
    /// Returns true while `sync resolve` decides about the file at this path.
    pub(super) fn decides(&self, path: &str) -> bool {
        self.policy_override
            .is_some_and(|(decided, _)| decided == path)
    }

    /// Creates a request without flags.
    pub fn new(config: &'a SyncConfig, replica: &'a Replica) -> Self {
        Self {
            config,
            replica,
            refill: false,
            accept_unlisted: false,
            delete_many: false,
            allow_secrets: &[],
            policy_override: None,
            finds_needed_versions: false,
        }
    }
}
