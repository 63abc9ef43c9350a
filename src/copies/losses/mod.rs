//! Finds live conversations that lack messages which an archive or another copy has.
//!
//! Codex rewrites rollouts: it compacts or migrates a rollout in place, or continues a rollout in another one. So
//! [`search`] compares the messages of each live conversation with those of its copies. It does not decode a copy that
//! is a prefix of the live rollout.

pub(crate) mod acceptance;
pub(crate) mod archived;
mod bases;
mod compare;
pub(crate) mod fullest;
pub(crate) mod live;
pub(crate) mod place;
pub(crate) mod places;
pub(crate) mod report;
mod rollout_copy;
pub(crate) mod search;

/// Returns the reason to keep an archive or snapshot with the last copy of messages, as a clause.
pub(crate) fn describe_last_copy(id: &str) -> String {
    format!("has messages that the conversation {} lost", short_id(id))
}

fn short_id(id: &str) -> String {
    id.chars().take(8).collect()
}
