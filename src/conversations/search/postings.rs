//! The texts of the index that have the words of a term, by conversation.

use super::query::Term;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{
    IndexError, IndexStore, TextId, TextSpans, WordQuery, WordSearcher, role_bits,
};

/// The texts of one conversation that have the words of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub conversation: i64,
    pub texts: u32,
    /// The best of them to show: one of the user or the assistant rather than one of a tool.
    pub best: TextId,
    pub has_title: bool,
}

#[derive(Clone, Copy)]
pub(super) struct PostingReader<'a> {
    pub store: &'a IndexStore,
    pub spans: &'a TextSpans,
    pub words: &'a WordSearcher<'a>,
    /// Only texts of this author.
    pub role: Option<Role>,
}

/// Returns the query for texts with the words of a term, each as it is written.
pub(super) fn exact_query(term: &Term) -> WordQuery {
    let words = term.words.iter().map(|word| {
        let text = word.word.clone();
        if word.is_prefix {
            WordQuery::Beginning(text)
        } else {
            WordQuery::Word(text)
        }
    });
    WordQuery::All(words.collect())
}

impl PostingReader<'_> {
    /// Returns the conversations with texts that a query finds, in the order of their numbers.
    pub(super) fn read(self, query: &WordQuery) -> Result<Vec<Posting>, IndexError> {
        let texts = self.words.find(query)?;
        let wanted = self.role.map_or(u64::MAX, role_bits);
        let ranges = self.spans.ranges.iter();
        let postings = ranges.filter_map(|(first, last, conversation)| {
            let parts = texts.parts(*first, *last);
            summarize(
                *conversation,
                parts.map(|(base, bits)| (base, bits & wanted)),
            )
        });
        Ok(merge(postings.collect()))
    }
}

/// Returns the posting of one span from the bits of its texts; `None` if there are none.
fn summarize(conversation: i64, parts: impl Iterator<Item = (i64, u64)>) -> Option<Posting> {
    let messages = role_bits(Role::User) | role_bits(Role::Assistant);
    // The first of each kind, the best kind first.
    let kinds = [messages, role_bits(Role::Title), role_bits(Role::Tool)];
    let mut firsts = [None; 3];
    let mut texts = 0;
    for (base, bits) in parts {
        texts += bits.count_ones();
        for (first, kind) in firsts.iter_mut().zip(kinds) {
            let found = bits & kind;
            if first.is_none() && found != 0 {
                *first = Some(TextId(base + i64::from(found.trailing_zeros())));
            }
        }
    }
    Some(Posting {
        conversation,
        texts,
        best: firsts.into_iter().flatten().next()?,
        has_title: firsts[1].is_some(),
    })
}

/// Returns one posting for each conversation, in the order of their numbers.
fn merge(mut postings: Vec<Posting>) -> Vec<Posting> {
    postings.sort_by_key(|posting| posting.conversation);
    postings.dedup_by(|later, first| {
        let is_same = later.conversation == first.conversation;
        if is_same {
            first.append(*later);
        }
        is_same
    });
    postings
}

impl Posting {
    /// Adds later texts of the same conversation.
    fn append(&mut self, later: Self) {
        self.texts += later.texts;
        let preference = |posting: &Self| display_preference(posting.best.role());
        if preference(&later) > preference(self) {
            self.best = later.best;
        }
        self.has_title |= later.has_title;
    }
}

/// Returns a larger number for texts that are better to show.
fn display_preference(role: Role) -> u8 {
    match role {
        Role::Tool => 0,
        Role::Title => 1,
        Role::Assistant | Role::User => 2,
    }
}
