//! Finds live conversations that lack messages which an archive or another copy has, and conversations that only
//! copies have ([`gone`]).
//!
//! Codex rewrites rollouts: it compacts or migrates a rollout in place, or continues a rollout in another one. So
//! [`search`] compares the messages of each live conversation with those of its copies. It does not decode a copy that
//! is a prefix of the live rollout.

pub(crate) mod acceptance;
pub(crate) mod archived;
mod bases;
mod compare;
pub(crate) mod fullest;
pub(crate) mod gone;
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

/// Returns the reason to keep the last archive or snapshot with `count` conversations that the home lacks, as a clause.
/// `id` is the id of one of them.
pub(crate) fn describe_gone(id: &str, count: usize) -> String {
    match count {
        1 => format!("alone has the conversation {}", short_id(id)),
        _ => format!("alone has {count} conversations"),
    }
}

fn short_id(id: &str) -> String {
    id.chars().take(8).collect()
}
