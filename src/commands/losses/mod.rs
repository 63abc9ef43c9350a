//! Conversations that lack messages which an archive or another copy has.
//!
//! Codex rewrites rollouts: it compacts them in place, migrates them, continues others. [`search`] compares each live
//! conversation with its copies, by messages. A copy whose bytes the live rollout begins with is not decoded.

mod compare;
pub(super) mod live;
pub(super) mod places;
mod prefix;
pub(super) mod report;
pub(super) mod search;
