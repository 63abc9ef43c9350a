//! Finds the conversations that have the words of a query, and scores them.
//!
//! Rarer words count more. A word in the form of the query counts more than in another form. Among conversations with
//! about the same score, the newer one comes first.

use super::conversation_filter::FoundConversation;
use super::options::SearchOptions;
use super::postings::{Posting, build_exact_query};
use super::query::Term;
use super::wanted_term::{WantedTerm, join_queries};
use crate::conversations::index::{IndexError, TextId, WordSearcher};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

/// A term has several queries, each wider than the one before: the word as it is written, its other forms, and
/// words that begin with it. The score is multiplied by this factor for each query that does not find the conversation.
const FORM_FACTOR: f64 = 0.5;

/// The part of its score that the newest conversation gets in addition.
const RECENCY_BONUS: f64 = 0.1;

/// The bonus of a conversation is halved for each period of this many days by which it is older than the newest one.
const RECENCY_HALF_LIFE_DAYS: f64 = 30.0;

const MS_PER_DAY: f64 = 86_400_000.0;

/// With fewer candidates, the time of each is looked up by itself. Otherwise the times of all conversations are read.
const MAX_LOOKUPS: usize = 500;

/// The distance between the terms of a query in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closeness {
    /// No text of the conversation is known to have all terms.
    Scattered,
    /// One text has all terms: a message, command, output or title.
    Text,
    /// One sentence has all terms.
    Sentence,
}

pub(super) struct RankedCandidate {
    /// The number of the conversation in the index.
    pub number: i64,
    /// One bit per term; a bit is set if the conversation has the term.
    pub matched_bits: u64,
    pub updated_ms: Option<i64>,
    /// The best text to show.
    pub best_text: TextId,
    pub closeness: Closeness,
    pub score: f64,
    /// The fields of the conversation, if they were already read.
    pub conversation: Option<FoundConversation>,
}

impl RankedCandidate {
    /// Returns the bit of a term in [`Self::matched_bits`]. A query has at most 64 terms.
    fn term_bit(term_index: usize) -> u64 {
        1 << term_index
    }

    pub(super) fn has_term(&self, term_index: usize) -> bool {
        self.matched_bits & Self::term_bit(term_index) != 0
    }

    pub(super) fn count_matched_terms(&self) -> usize {
        self.matched_bits.count_ones() as usize
    }
}

/// The terms that a conversation must have to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MatchNeed {
    All,
    /// All phrases and code, and as many words as any conversation has. Conversations with at least the given number of
    /// terms are ignored, because an earlier attempt rejected them.
    MostBelow(usize),
}

pub(super) struct FoundCandidates {
    /// The candidates in the order of their numbers.
    pub candidates: Vec<RankedCandidate>,
    /// The number of conversations that have each term.
    pub conversations_per_term: Vec<usize>,
}

/// A search for conversations with some terms. [`super::evaluate`] ranks the candidates that it finds.
pub(super) struct Search<'a> {
    pub words: &'a WordSearcher<'a>,
    pub terms: &'a [Term],
    pub wanted_terms: Vec<WantedTerm<'a>>,
    pub need: MatchNeed,
    pub options: &'a SearchOptions<'a>,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        words: &'a WordSearcher<'a>,
        terms: &'a [Term],
        need: MatchNeed,
        options: &'a SearchOptions<'a>,
    ) -> Result<Self, IndexError> {
        let positive_terms = terms.iter().filter(|term| !term.is_negated);
        let wanted_terms = positive_terms.map(|term| WantedTerm::read(words, term));

        Ok(Self {
            words,
            terms,
            wanted_terms: wanted_terms.collect::<Result<_, _>>()?,
            need,
            options,
        })
    }

    /// Finds the candidates in one read transaction, because this reads the index alone.
    pub(super) fn find_candidates(&self) -> Result<FoundCandidates, IndexError> {
        let _transaction = self.words.store.begin_read()?;
        let widest_queries = self.wanted_terms.iter().map(WantedTerm::widest_query);
        let lists = widest_queries.map(|query| self.words.read_postings(query));
        let lists: Vec<_> = lists.collect::<Result<_, _>>()?;

        let mut candidates = self.join_lists(&lists);
        self.remove_excluded(&mut candidates)?;

        if let MatchNeed::MostBelow(limit) = self.need {
            candidates.retain(|candidate| candidate.count_matched_terms() < limit);
            candidates = self.keep_accepted_with_most_terms(candidates)?;
        }

        self.add_scores(&lists, &mut candidates)?;
        self.mark_single_texts(&mut candidates)?;
        self.set_times(&mut candidates)?;
        raise_scores_of_newer(&mut candidates);

        Ok(FoundCandidates {
            candidates,
            conversations_per_term: lists.iter().map(Vec::len).collect(),
        })
    }

    /// Returns the conversations that have all required terms, in the order of their numbers.
    fn join_lists(&self, lists: &[Vec<Posting>]) -> Vec<RankedCandidate> {
        let needs_all = self.need == MatchNeed::All;
        let mut bits_and_best: HashMap<i64, (u64, TextId)> = HashMap::new();
        // The bits of the required terms.
        let mut required_bits = 0;

        for (term_index, (list, wanted)) in lists.iter().zip(&self.wanted_terms).enumerate() {
            let bit = RankedCandidate::term_bit(term_index);
            // Plain words are required only if all terms are.
            if needs_all || !wanted.term.is_plain {
                required_bits |= bit;
            }

            // If all terms are required, a conversation without the first one cannot be a candidate.
            let adds_conversations = term_index == 0 || !needs_all;
            for posting in list {
                if let Some((bits, _)) = bits_and_best.get_mut(&posting.conversation) {
                    *bits |= bit;
                } else if adds_conversations {
                    bits_and_best.insert(posting.conversation, (bit, posting.best_text));
                }
            }
        }

        bits_and_best.retain(|_, (bits, _)| *bits & required_bits == required_bits);
        let candidates = bits_and_best.into_iter();
        let candidates = candidates.map(|(number, (matched_bits, best_text))| RankedCandidate {
            number,
            matched_bits,
            updated_ms: None,
            best_text,
            closeness: Closeness::Scattered,
            score: 0.0,
            conversation: None,
        });

        let mut candidates: Vec<_> = candidates.collect();
        candidates.sort_by_key(|candidate| candidate.number);
        candidates
    }

    /// Drops candidates that the filter rejects. Of the accepted candidates, keeps those with the most terms.
    fn keep_accepted_with_most_terms(
        &self,
        mut candidates: Vec<RankedCandidate>,
    ) -> Result<Vec<RankedCandidate>, IndexError> {
        candidates.sort_by_key(|candidate| Reverse(candidate.count_matched_terms()));
        let mut accepted: Vec<RankedCandidate> = Vec::new();

        for candidate in candidates {
            let most_terms = accepted.first().map(RankedCandidate::count_matched_terms);
            if most_terms.is_some_and(|most_terms| candidate.count_matched_terms() < most_terms) {
                break;
            }
            if self.read_if_accepted(candidate.number)?.is_some() {
                accepted.push(candidate);
            }
        }

        accepted.sort_by_key(|candidate| candidate.number);
        Ok(accepted)
    }

    /// Returns the conversation with this number, if it passes the filter.
    pub(super) fn read_if_accepted(
        &self,
        number: i64,
    ) -> Result<Option<FoundConversation>, IndexError> {
        let columns = FoundConversation::COLUMNS;
        let sql = format!("SELECT {columns} FROM conversation WHERE id=?1");
        let store = self.words.store;
        let conversation = store.query_optional(&sql, [number], FoundConversation::from_row)?;
        Ok(conversation.filter(|c| (self.options.accepts)(c)))
    }

    fn remove_excluded(&self, candidates: &mut Vec<RankedCandidate>) -> Result<(), IndexError> {
        // The words alone exclude no phrase and no code. The ranking checks these in the texts later.
        let negated_terms = self.terms.iter().filter(|term| term.is_negated);
        for term in negated_terms.filter(|term| term.check.is_none()) {
            let with_term = self.words.read_postings(&build_exact_query(term))?;
            candidates.retain(|candidate| !has_posting(&with_term, candidate.number));
        }
        Ok(())
    }

    fn add_scores(
        &self,
        lists: &[Vec<Posting>],
        candidates: &mut [RankedCandidate],
    ) -> Result<(), IndexError> {
        let total_count = self.words.store.count_conversations()?;
        let numbers: Vec<_> = candidates.iter().map(|c| c.number).collect();
        // The score of the term whose text is currently the best text of each candidate.
        let mut best_scores = vec![0.0; candidates.len()];

        for (list, wanted) in lists.iter().zip(&self.wanted_terms) {
            let narrower_queries = wanted.narrower_queries().iter();
            let narrower_lists = narrower_queries.map(|query| self.words.read_postings(query));
            let narrower_lists: Vec<_> = narrower_lists.collect::<Result<_, _>>()?;
            let rarity = rarity_weight(total_count, list.len());

            for posting in list {
                let number = posting.conversation;
                let Ok(i) = numbers.binary_search(&number) else {
                    continue;
                };

                // The lists begin with the narrowest, so each one without the conversation is a step to a wider form.
                let is_without = |narrower: &&Vec<Posting>| !has_posting(narrower, number);
                let wider_steps = narrower_lists.iter().take_while(is_without).count();

                let form_factor = FORM_FACTOR.powi(i32::try_from(wider_steps).unwrap_or(i32::MAX));
                let score = rarity * form_factor * frequency_weight(posting);
                candidates[i].score += score;

                // A text with a rarer word is better to show.
                if score > best_scores[i] {
                    best_scores[i] = score;
                    candidates[i].best_text = posting.best_text;
                }
            }
        }

        Ok(())
    }

    /// Marks the candidates that have all their terms in one text. That text becomes the best text of the candidate.
    fn mark_single_texts(&self, candidates: &mut [RankedCandidate]) -> Result<(), IndexError> {
        let sets_of_terms: BTreeSet<u64> = candidates.iter().map(|c| c.matched_bits).collect();
        for term_bits in sets_of_terms {
            let has_these_terms = |candidate: &RankedCandidate| candidate.matched_bits == term_bits;

            // A single term is always in one text.
            if term_bits.is_power_of_two() {
                let with_these_terms = candidates.iter_mut().filter(|c| has_these_terms(c));
                with_these_terms.for_each(|candidate| candidate.closeness = Closeness::Text);
                continue;
            }

            let numbered_terms = self.wanted_terms.iter().enumerate();
            let these_terms = numbered_terms
                .filter(|(number, _)| term_bits & RankedCandidate::term_bit(*number) != 0);
            let joined_query = join_queries(these_terms.map(|(_, wanted)| wanted));

            for posting in self.words.read_postings(&joined_query)? {
                let position = candidates.binary_search_by_key(&posting.conversation, |c| c.number);
                if let Ok(at) = position
                    && has_these_terms(&candidates[at])
                {
                    candidates[at].closeness = Closeness::Text;
                    candidates[at].best_text = posting.best_text;
                }
            }
        }
        Ok(())
    }

    /// Sets the times of the candidates, which must be in the order of their numbers.
    fn set_times(&self, candidates: &mut [RankedCandidate]) -> Result<(), IndexError> {
        let store = self.words.store;
        if candidates.len() < MAX_LOOKUPS {
            let sql = "SELECT updated FROM conversation WHERE id=?1";
            for candidate in candidates {
                let updated = store.query_optional(sql, [candidate.number], |row| row.get(0))?;
                candidate.updated_ms = updated.flatten();
            }
            return Ok(());
        }

        // A lookup for each of many candidates takes longer than one pass over the index by time.
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

/// Returns true if a list, which is in the order of the conversations' numbers, has the conversation.
fn has_posting(list: &[Posting], conversation: i64) -> bool {
    let position = list.binary_search_by_key(&conversation, |posting| posting.conversation);
    position.is_ok()
}

/// Returns the weight of a term. Rarer terms have a higher weight.
#[allow(clippy::cast_precision_loss, reason = "the score is an estimate")]
fn rarity_weight(total_count: i64, count_with_word: usize) -> f64 {
    (1.0 + total_count as f64 / (count_with_word as f64 + 1.0)).ln()
}

/// Returns the weight of the texts with a term. Many texts count almost as much as a title, but never more.
fn frequency_weight(posting: &Posting) -> f64 {
    if posting.has_title {
        return 2.0;
    }
    let texts = f64::from(posting.text_count);
    2.0 * texts / (texts + 1.0)
}

/// Raises the scores of newer conversations. The age of a conversation counts relative to the newest candidate.
#[allow(clippy::cast_precision_loss, reason = "the score is an estimate")]
fn raise_scores_of_newer(candidates: &mut [RankedCandidate]) {
    let newest = candidates.iter().filter_map(|c| c.updated_ms).max();
    for candidate in candidates {
        if let (Some(newest), Some(updated)) = (newest, candidate.updated_ms) {
            let days = newest.saturating_sub(updated) as f64 / MS_PER_DAY;
            candidate.score *= 1.0 + RECENCY_BONUS * (-days / RECENCY_HALF_LIFE_DAYS).exp2();
        }
    }
}
