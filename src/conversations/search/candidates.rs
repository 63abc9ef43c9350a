//! Finds and scores the conversations with the words of a query.
//!
//! Rarer words count more. A word counts more in the form of the query than in another form. Of conversations with
//! about the same score, the newer one comes first.

use super::found_conversation::FoundConversation;
use super::postings::{Posting, PostingReader, exact_query};
use super::query::Term;
use super::wanted_term::{WantedTerm, join_queries};
use crate::conversations::index::{IndexError, TextId};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// The factor of the score for each narrower query of a term that does not find the conversation: that for the word as it
/// is written, then that for its other forms.
const FORM_FACTOR: f64 = 0.5;

/// The share that the newest conversation gets on top of its score, and the days after which the share is halved.
const NEW_BONUS: f64 = 0.1;
const NEW_DAYS: f64 = 30.0;

const MS_PER_DAY: f64 = 86_400_000.0;

/// Below this number of conversations, their times are looked up one by one instead of reading the times of all.
const MAX_LOOKUPS: usize = 500;

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
    pub matched: u64,
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
    fn term_bit(number: usize) -> u64 {
        1 << number
    }

    pub(super) fn has_term(&self, number: usize) -> bool {
        self.matched & Self::term_bit(number) != 0
    }

    pub(super) fn count_matched(&self) -> usize {
        self.matched.count_ones() as usize
    }
}

/// The terms that a conversation must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MatchNeed {
    All,
    /// All phrases and code, and as many words as any conversation has, but together fewer than this number of terms.
    MostBelow(usize),
}

pub(super) struct FoundCandidates {
    /// In the order of their numbers.
    pub candidates: Vec<RankedCandidate>,
    /// The number of conversations with each term.
    pub counts: Vec<usize>,
}

pub(super) struct CandidateFinder<'a> {
    pub reader: PostingReader<'a>,
    pub wanted: &'a [WantedTerm<'a>],
    pub excluded: Vec<&'a Term>,
    pub need: MatchNeed,
    /// Returns true for conversations that may be found.
    pub accepts: &'a dyn Fn(i64) -> Result<bool, IndexError>,
}

impl CandidateFinder<'_> {
    pub(super) fn find(&self) -> Result<FoundCandidates, IndexError> {
        let queries = self.wanted.iter().map(WantedTerm::widest_query);
        let lists = queries.map(|query| self.reader.read(query));
        let lists: Vec<_> = lists.collect::<Result<_, _>>()?;
        let mut candidates = self.join(&lists);
        self.remove_excluded(&mut candidates)?;
        if let MatchNeed::MostBelow(limit) = self.need {
            candidates.retain(|candidate| candidate.count_matched() < limit);
            candidates = self.keep_most(candidates)?;
        }
        self.add_scores(&lists, &mut candidates)?;
        self.find_close(&mut candidates)?;
        self.set_times(&mut candidates)?;
        prefer_newer(&mut candidates);
        Ok(FoundCandidates {
            candidates,
            counts: lists.iter().map(Vec::len).collect(),
        })
    }

    /// Returns the conversations with enough of the terms, in the order of their numbers.
    fn join(&self, lists: &[Vec<Posting>]) -> Vec<RankedCandidate> {
        let needs_all = self.need == MatchNeed::All;
        let mut matched: HashMap<i64, (u64, TextId)> = HashMap::new();
        let mut required = 0;
        for (number, (list, wanted)) in lists.iter().zip(self.wanted).enumerate() {
            let bit = RankedCandidate::term_bit(number);
            if needs_all || !wanted.term.is_plain {
                required |= bit;
            }
            for posting in list {
                let known = matched.get_mut(&posting.conversation);
                if let Some((bits, _)) = known {
                    *bits |= bit;
                } else if number == 0 || !needs_all {
                    matched.insert(posting.conversation, (bit, posting.best));
                }
            }
        }
        matched.retain(|_, (bits, _)| *bits & required == required);
        let candidates = matched.into_iter();
        let candidates = candidates.map(|(number, (matched, best))| RankedCandidate {
            number,
            matched,
            updated_ms: None,
            best,
            closeness: Closeness::Scattered,
            score: 0.0,
            conversation: None,
        });
        let mut candidates: Vec<_> = candidates.collect();
        candidates.sort_by_key(|candidate| candidate.number);
        candidates
    }

    /// Keeps the candidates with the most terms among those that may be found.
    fn keep_most(
        &self,
        mut candidates: Vec<RankedCandidate>,
    ) -> Result<Vec<RankedCandidate>, IndexError> {
        candidates.sort_by_key(|candidate| Reverse(candidate.count_matched()));
        let mut kept: Vec<RankedCandidate> = Vec::new();
        for candidate in candidates {
            let most = kept.first().map(RankedCandidate::count_matched);
            if most.is_some_and(|most| candidate.count_matched() < most) {
                break;
            }
            if (self.accepts)(candidate.number)? {
                kept.push(candidate);
            }
        }
        kept.sort_by_key(|candidate| candidate.number);
        Ok(kept)
    }

    fn remove_excluded(&self, candidates: &mut Vec<RankedCandidate>) -> Result<(), IndexError> {
        for term in self.excluded.iter().filter(|term| term.check.is_none()) {
            let with_term = self.reader.read(&exact_query(term))?;
            candidates.retain(|candidate| {
                let number = candidate.number;
                let found = with_term.binary_search_by_key(&number, |p| p.conversation);
                found.is_err()
            });
        }
        Ok(())
    }

    fn add_scores(
        &self,
        lists: &[Vec<Posting>],
        candidates: &mut [RankedCandidate],
    ) -> Result<(), IndexError> {
        let total = self.reader.store.count_conversations()?;
        let numbers: Vec<_> = candidates.iter().map(|c| c.number).collect();
        // The score of the best text of each candidate.
        let mut best = vec![0.0; candidates.len()];
        for (list, wanted) in lists.iter().zip(self.wanted) {
            let narrower = wanted.narrower_queries().iter();
            let narrower: Vec<_> = narrower
                .map(|level| self.reader.read(level))
                .collect::<Result<_, _>>()?;
            let rarity = rarity_weight(total, list.len());
            for posting in list {
                let number = posting.conversation;
                let Ok(at) = numbers.binary_search(&number) else {
                    continue;
                };
                let lacks = |level: &&Vec<Posting>| {
                    let found = level.binary_search_by_key(&number, |p| p.conversation);
                    found.is_err()
                };
                let level = narrower.iter().take_while(lacks).count();
                let texts = f64::from(posting.texts);
                let count = if posting.has_title {
                    2.0
                } else {
                    2.0 * texts / (texts + 1.0)
                };
                let form = FORM_FACTOR.powi(i32::try_from(level).unwrap_or(i32::MAX));
                let score = rarity * form * count;
                candidates[at].score += score;
                // The rarer word is the better one to show.
                if score > best[at] {
                    best[at] = score;
                    candidates[at].best = posting.best;
                }
            }
        }
        Ok(())
    }

    /// Marks the candidates that have all their terms in one text, which becomes their best one.
    fn find_close(&self, candidates: &mut [RankedCandidate]) -> Result<(), IndexError> {
        let kinds: BTreeSet<u64> = candidates.iter().map(|c| c.matched).collect();
        for matched in kinds {
            let is_of_kind = |candidate: &RankedCandidate| candidate.matched == matched;
            // A single term is in one text.
            if matched.is_power_of_two() {
                let of_kind = candidates.iter_mut().filter(|c| is_of_kind(c));
                of_kind.for_each(|candidate| candidate.closeness = Closeness::Text);
                continue;
            }
            let terms = self.wanted.iter().enumerate();
            let terms =
                terms.filter(|(number, _)| matched & RankedCandidate::term_bit(*number) != 0);
            let expression = join_queries(terms.map(|(_, wanted)| wanted));
            for posting in self.reader.read(&expression)? {
                let found = candidates.binary_search_by_key(&posting.conversation, |c| c.number);
                if let Ok(at) = found
                    && is_of_kind(&candidates[at])
                {
                    candidates[at].closeness = Closeness::Text;
                    candidates[at].best = posting.best;
                }
            }
        }
        Ok(())
    }

    /// Sets the times of candidates, which are ordered by number. For many, reads the times of all conversations.
    fn set_times(&self, candidates: &mut [RankedCandidate]) -> Result<(), IndexError> {
        let store = self.reader.store;
        if candidates.len() < MAX_LOOKUPS {
            let sql = "SELECT updated FROM conversation WHERE id=?1";
            for candidate in candidates {
                let updated = store.query_optional(sql, [candidate.number], |row| row.get(0))?;
                candidate.updated_ms = updated.flatten();
            }
            return Ok(());
        }
        store.run(|connection| {
            let sql =
                "SELECT id, updated FROM conversation INDEXED BY conversation_updated ORDER BY id";
            let mut times = connection.prepare_cached(sql)?;
            let mut rows = times.query([])?;
            let mut candidates = candidates.iter_mut().peekable();
            while let Some(row) = rows.next()? {
                let number: i64 = row.get(0)?;
                while candidates.next_if(|c| c.number < number).is_some() {}
                if let Some(candidate) = candidates.next_if(|c| c.number == number) {
                    candidate.updated_ms = row.get(1)?;
                }
            }
            Ok(())
        })
    }
}

/// Returns the weight of a word: the rarer, the higher.
#[allow(clippy::cast_precision_loss, reason = "the score is an estimate")]
fn rarity_weight(conversations: i64, with_word: usize) -> f64 {
    (1.0 + conversations as f64 / (with_word as f64 + 1.0)).ln()
}

/// Raises the scores of newer conversations, by their age compared to the newest one.
#[allow(clippy::cast_precision_loss, reason = "the score is an estimate")]
fn prefer_newer(candidates: &mut [RankedCandidate]) {
    let newest = candidates.iter().filter_map(|c| c.updated_ms).max();
    for candidate in candidates {
        if let (Some(newest), Some(updated)) = (newest, candidate.updated_ms) {
            let days = newest.saturating_sub(updated) as f64 / MS_PER_DAY;
            candidate.score *= 1.0 + NEW_BONUS * (-days / NEW_DAYS).exp2();
        }
    }
}
