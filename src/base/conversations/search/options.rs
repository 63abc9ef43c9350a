//! The options of a search in the index.

use super::conversation_filter::FoundConversation;
use crate::codex::rollout_lines::Role;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HitOrder {
    /// The most relevant first
    Best,
    /// The most recently changed conversation first
    Newest,
}

pub struct SearchOptions<'a> {
    /// Searches only texts of this author.
    pub role: Option<Role>,
    pub order: HitOrder,
    /// The largest number of hits.
    pub limit: usize,
    /// Returns true for conversations that pass the filter.
    pub accepts: &'a dyn Fn(&FoundConversation) -> bool,
}
