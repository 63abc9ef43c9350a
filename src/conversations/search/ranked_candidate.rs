//! A conversation that has the words of a query, with what decides its place among the others.

use super::found_conversation::FoundConversation;
use crate::conversations::index::TextId;

/// The distance between the terms of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closeness {
    Scattered,
    /// In one message, command or output.
    Text,
    Sentence,
}

pub(super) struct RankedCandidate {
    pub number: i64,
    /// A bit for each term that it has.
    pub matched: u128,
    pub updated_ms: Option<i64>,
    /// The text to show.
    pub best: TextId,
    pub closeness: Closeness,
    pub score: f64,
    /// The conversation, if its fields were read already.
    pub conversation: Option<FoundConversation>,
}

impl RankedCandidate {
    /// Returns the bit of a term. A query has at most 64.
    pub(super) fn term_bit(number: usize) -> u128 {
        1 << number.min(127)
    }

    pub(super) fn has_term(&self, number: usize) -> bool {
        self.matched & Self::term_bit(number) != 0
    }

    pub(super) fn count_matched(&self) -> usize {
        usize::try_from(self.matched.count_ones()).unwrap_or(0)
    }
}
