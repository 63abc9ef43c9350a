//! Conversations that lack messages which an archive or another copy has.
//!
//! Codex rewrites rollouts: it compacts them in place, migrates them, continues others. [`search`] compares each live
//! conversation with its copies, by messages. A copy whose bytes the live rollout begins with is not decoded.

pub(super) mod archived;
mod compare;
pub(super) mod fullest;
pub(super) mod live;
pub(super) mod place;
pub(super) mod places;
mod prefix;
pub(super) mod report;
mod rollout_copy;
pub(super) mod search;

/// Returns the reason to keep the last copy of messages that a conversation lacks.
pub(super) fn last_copy(id: &str) -> String {
    let id: String = id.chars().take(8).collect();
    format!("has messages that {id} lost")
}
