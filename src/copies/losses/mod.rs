//! Conversations that lack messages which an archive or another copy has.
//!
//! Codex rewrites rollouts: it compacts them in place, migrates them, continues others. [`search`] compares each live
//! conversation with its copies, by messages. A copy whose bytes the live rollout begins with is not decoded.

pub(crate) mod acceptance;
pub(crate) mod archived;
mod bases;
mod compare;
pub(crate) mod fullest;
mod hidden_turns;
pub(crate) mod live;
pub(crate) mod place;
pub(crate) mod places;
mod prefix;
pub(crate) mod report;
mod rollout_copy;
pub(crate) mod search;

/// Returns the reason to keep the last copy of messages that a conversation lacks.
pub(crate) fn describe_last_copy(id: &str) -> String {
    format!("has messages that {} lost", short_id(id))
}

fn short_id(id: &str) -> String {
    id.chars().take(8).collect()
}
