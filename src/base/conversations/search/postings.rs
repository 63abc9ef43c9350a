//! Groups the texts that a query of the index finds by their conversations.

use super::query::Term;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexError, TextId, WordQuery, WordSearcher, role_mask};

/// The texts of one conversation that a query finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub conversation: i64,
    /// The number of found texts.
    pub text_count: u32,
    /// The first text of the kind that is best to show: a message, otherwise the title, otherwise a text of a tool.
    pub best_text: TextId,
    /// True if the title is one of the found texts.
    pub has_title: bool,
}

/// Returns the query for texts that have all words of a term as they are written.
pub(super) fn build_exact_query(term: &Term) -> WordQuery {
    let words = term.words.iter().map(|word| {
        let text = word.word.clone();
        if word.is_prefix {
            WordQuery::Prefix(text)
        } else {
            WordQuery::Word(text)
        }
    });
    WordQuery::All(words.collect())
}

impl WordSearcher<'_> {
    /// Returns one posting for each conversation with texts that a query finds, in the order of the conversations'
    /// numbers.
    pub(super) fn read_postings(&self, query: &WordQuery) -> Result<Vec<Posting>, IndexError> {
        let texts = self.find_texts(query)?;
        let postings = self.spans.ranges.iter().filter_map(|range| {
            let groups = texts.bit_groups(range.first, range.last);
            summarize_span(range.conversation, groups)
        });
        Ok(merge_by_conversation(postings.collect()))
    }
}

/// Returns the posting of one span, given the bits of its found texts. `None` if no text was found.
fn summarize_span(conversation: i64, groups: impl Iterator<Item = (i64, u64)>) -> Option<Posting> {
    /// The index of titles in `kind_masks`.
    const TITLE_KIND: usize = 1;

    let message_mask = role_mask(Role::User) | role_mask(Role::Assistant);
    // The kinds of texts, the best one to show first.
    let kind_masks = [message_mask, role_mask(Role::Title), role_mask(Role::Tool)];
    let mut first_of_kinds = [None; 3];
    let mut text_count = 0;

    for (base, bits) in groups {
        text_count += bits.count_ones();
        for (first, kind_mask) in first_of_kinds.iter_mut().zip(kind_masks) {
            let bits_of_kind = bits & kind_mask;
            if first.is_none() && bits_of_kind != 0 {
                *first = Some(TextId(base + i64::from(bits_of_kind.trailing_zeros())));
            }
        }
    }

    Some(Posting {
        conversation,
        text_count,
        best_text: first_of_kinds.into_iter().flatten().next()?,
        has_title: first_of_kinds[TITLE_KIND].is_some(),
    })
}

/// Merges the postings of each conversation, and orders them by the conversations' numbers.
fn merge_by_conversation(mut postings: Vec<Posting>) -> Vec<Posting> {
    postings.sort_by_key(|posting| posting.conversation);
    postings.dedup_by(|later, first| {
        let is_same = later.conversation == first.conversation;
        if is_same {
            first.add_later(*later);
        }
        is_same
    });
    postings
}

impl Posting {
    /// Adds the posting of later texts of the same conversation.
    fn add_later(&mut self, later: Self) {
        self.text_count += later.text_count;
        let preference = |posting: &Self| display_preference(posting.best_text.role());
        if preference(&later) > preference(self) {
            self.best_text = later.best_text;
        }
        self.has_title |= later.has_title;
    }
}

/// Returns a larger number for an author whose texts are better to show.
fn display_preference(role: Role) -> u8 {
    match role {
        Role::Tool => 0,
        Role::Title => 1,
        Role::Assistant | Role::User => 2,
    }
}
