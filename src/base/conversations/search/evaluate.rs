//! Finds the conversations that match a query, by means of the index.
//!
//! The index knows which texts have a word. Phrases and code are checked in the rollouts, in the order of the results,
//! and only until there are enough results.

use super::candidates::{Closeness, MatchNeed, RankedCandidate, Search};
pub use super::conversation_filter::FoundConversation;
use super::conversation_texts::ConversationTexts;
pub use super::options::{HitOrder, SearchOptions};
use super::query::{Query, Term};
use super::snippet::{self, Snippet};
use super::wanted_term::join_queries;
use crate::codex::rollout::is_plain;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexError, IndexStore, TextSpans, WordQuery, WordSearcher};
use crate::io::progress::check_interrupt;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// Conversations beyond the limit of hits are counted if there are at most this many, which takes a few milliseconds.
const MAX_COUNTED: usize = 1000;

/// If a search finds fewer conversations, it also finds longer words that begin with the words of the query.
const FEW_CONVERSATIONS: usize = 20;

/// The number of conversations whose texts are searched for a sentence with all terms.
const MAX_REFINED: usize = 50;

/// The number of texts of each conversation that are searched for a sentence with all terms.
const MAX_REFINED_TEXTS: usize = 4;

/// A conversation that matches, with its best text.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub conversation: FoundConversation,
    /// The turn of the text; `None` for the title.
    pub turn: Option<u32>,
    pub role: Role,
    /// The time of the text in milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// The part of the text with the most matches.
    pub snippet: Snippet,
    /// The relevance, which is only comparable with that of other hits of the same search.
    pub score: f64,
}

#[derive(Debug, Default)]
pub struct SearchResult {
    pub hits: Vec<Hit>,
    /// The number of conversations that match. `None` if there are too many to count, or if counting would have to
    /// check phrases or code in the rollouts.
    pub total: Option<usize>,
    /// The part of the query that was ignored, because otherwise nothing would be found.
    pub relaxation: Option<Relaxation>,
    /// The words that the index does not have, with similar words that it has. If the query has several plain words,
    /// these were searched instead.
    pub spellings: BTreeMap<String, String>,
}

/// Returns the conversations of the index that had no row in Codex's database when the index was last updated.
///
/// # Errors
/// The index cannot be read.
pub fn list_unlisted(store: &IndexStore) -> Result<Vec<FoundConversation>, IndexError> {
    let columns = FoundConversation::COLUMNS;
    let sql = format!("SELECT {columns} FROM conversation WHERE listed=0");
    store.query_rows(&sql, [], FoundConversation::from_row)
}

/// Searches the index for conversations that have all terms of a query.
///
/// # Errors
/// The index cannot be read, or the user interrupts.
pub fn search(
    store: &IndexStore,
    query: &Query,
    options: &SearchOptions<'_>,
) -> Result<SearchResult, IndexError> {
    search_terms(store, &TextSpans::read(store)?, &query.terms, options)
}

/// Searches for conversations that have all terms, with words in any of their forms. If it finds few conversations, it
/// also accepts longer words that begin with rare words of the query.
pub(super) fn search_terms(
    store: &IndexStore,
    spans: &TextSpans,
    terms: &[Term],
    options: &SearchOptions<'_>,
) -> Result<SearchResult, IndexError> {
    let words = WordSearcher::new(store, spans, options.role);

    let mut search = Search::new(&words, terms, MatchNeed::All, options)?;
    let found = search.find_candidates()?;
    let result = search.rank_and_collect(found.candidates)?;
    if result.total.is_none_or(|total| total >= FEW_CONVERSATIONS) {
        // An unknown total counts as many conversations.
        return Ok(result);
    }

    let mut has_rare_term = false;
    let wanted_terms = search.wanted_terms.iter_mut();
    for (wanted, conversation_count) in wanted_terms.zip(found.conversations_per_term) {
        if wanted.term.is_plain && conversation_count < FEW_CONVERSATIONS {
            wanted.add_prefix_query();
            has_rare_term = true;
        }
    }
    if !has_rare_term {
        return Ok(result);
    }
    search.rank_and_collect(search.find_candidates()?.candidates)
}

/// Searches for the conversations that have the most terms of the query and pass the checks of their texts. Also
/// returns the number of terms that they have.
pub(super) fn search_most_terms(
    store: &IndexStore,
    spans: &TextSpans,
    terms: &[Term],
    options: &SearchOptions<'_>,
) -> Result<(SearchResult, usize), IndexError> {
    let words = WordSearcher::new(store, spans, options.role);
    let need = MatchNeed::MostBelow(usize::MAX);
    let mut search = Search::new(&words, terms, need, options)?;

    for wanted in &mut search.wanted_terms {
        wanted.add_prefix_query();
    }
    loop {
        let candidates = search.find_candidates()?.candidates;
        let matched_count = candidates
            .first()
            .map_or(0, RankedCandidate::count_matched_terms);
        let result = search.rank_and_collect(candidates)?;
        // No candidate with this many terms passed its checks, so candidates with fewer terms come next.
        if matched_count == 0 || !result.hits.is_empty() {
            return Ok((result, matched_count));
        }
        search.need = MatchNeed::MostBelow(matched_count);
    }
}

impl Search<'_> {
    /// Orders and checks the candidates, and returns the best ones as hits.
    fn rank_and_collect(
        &self,
        mut candidates: Vec<RankedCandidate>,
    ) -> Result<SearchResult, IndexError> {
        candidates.sort_by(|a, b| self.compare_rank(a, b));
        if self.options.order == HitOrder::Best && self.wanted_terms.len() > 1 {
            candidates = self.mark_sentences(candidates)?;
            candidates.sort_by(|a, b| self.compare_rank(a, b));
        }
        self.collect_hits(candidates)
    }

    /// Returns the terms that a candidate has, and the query for texts with all these terms.
    fn matched_terms_and_query(&self, candidate: &RankedCandidate) -> (Vec<&Term>, WordQuery) {
        let numbered_terms = self.wanted_terms.iter().enumerate();
        let numbered_matches = numbered_terms.filter(|(number, _)| candidate.has_term(*number));
        let matched = numbered_matches.map(|(_, wanted)| wanted);
        let joined_query = join_queries(matched.clone());
        (matched.map(|wanted| wanted.term).collect(), joined_query)
    }

    fn compare_rank(&self, a: &RankedCandidate, b: &RankedCandidate) -> Ordering {
        let newest_first = b.updated_ms.cmp(&a.updated_ms);
        let best_first = || {
            b.closeness
                .cmp(&a.closeness)
                .then(b.score.total_cmp(&a.score))
        };
        match self.options.order {
            HitOrder::Best => best_first().then(newest_first),
            HitOrder::Newest => newest_first.then_with(best_first),
        }
        .then(b.number.cmp(&a.number))
    }

    /// Marks candidates that have all their terms in one sentence. Reads only candidates with [`Closeness::Text`],
    /// until [`MAX_REFINED`] of them have passed the filter. Drops a candidate that the filter rejects.
    fn mark_sentences(
        &self,
        candidates: Vec<RankedCandidate>,
    ) -> Result<Vec<RankedCandidate>, IndexError> {
        let mut read_count = 0;
        let mut accepted = Vec::with_capacity(candidates.len());
        for mut candidate in candidates {
            if candidate.closeness == Closeness::Text && read_count < MAX_REFINED {
                let Some(conversation) = self.read_if_accepted(candidate.number)? else {
                    continue;
                };
                read_count += 1;
                // A compressed rollout is skipped, because it would have to be read from its beginning.
                if is_plain(&conversation.path) {
                    self.mark_if_in_sentence(&mut candidate, &conversation)?;
                }
                candidate.conversation = Some(conversation);
            }
            accepted.push(candidate);
        }

        Ok(accepted)
    }

    fn mark_if_in_sentence(
        &self,
        candidate: &mut RankedCandidate,
        conversation: &FoundConversation,
    ) -> Result<(), IndexError> {
        let (terms, joined_query) = self.matched_terms_and_query(candidate);
        let mut texts = ConversationTexts::new(self.words, candidate.number, conversation);

        let ids = texts.find_ids(&joined_query)?.into_iter();
        for id in ids.take(MAX_REFINED_TEXTS) {
            let (_place, texts_of_line) = texts.read_texts(id)?;
            let has_all_terms = |text: &String| snippet::has_all_in_sentence(text, &terms);
            if texts_of_line.iter().any(has_all_terms) {
                candidate.closeness = Closeness::Sentence;
                candidate.best_text = id;
                // A message is preferred to the title, which often repeats the first message and has no turn to open.
                if id.role() != Role::Title {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Checks the candidates in order until `limit` of them match, and returns these as hits.
    fn collect_hits(&self, candidates: Vec<RankedCandidate>) -> Result<SearchResult, IndexError> {
        let needs_check = self.terms.iter().any(|term| term.check.is_some());
        // A match whose terms turn out to be in several texts becomes `Scattered`. While the next candidate has its
        // terms in one text, it ranks before these matches, so they do not count towards the limit yet.
        let is_needed = |next: &RankedCandidate, match_count, in_one_text_count| {
            let certain_count = match self.options.order {
                HitOrder::Best if next.closeness > Closeness::Scattered => in_one_text_count,
                HitOrder::Best | HitOrder::Newest => match_count,
            };
            certain_count < self.options.limit
        };

        let mut matches = Vec::new();
        let mut in_one_text_count = 0;
        let mut unchecked = candidates.into_iter().peekable();
        while let Some(mut candidate) =
            unchecked.next_if(|next| is_needed(next, matches.len(), in_one_text_count))
        {
            check_interrupt().map_err(|_| IndexError::Interrupted)?;

            let conversation = match candidate.conversation.take() {
                None => self.read_if_accepted(candidate.number)?,
                read_conversation => read_conversation,
            };
            let Some(conversation) = conversation else {
                continue;
            };

            if needs_check && !self.check_and_correct_by_texts(&mut candidate, &conversation)? {
                continue;
            }

            if candidate.closeness > Closeness::Scattered {
                in_one_text_count += 1;
            }
            matches.push((candidate, conversation));
        }

        // The rest is counted only if it is short and no texts have to be read for it.
        let more_count = match unchecked.len() {
            0 => Some(0),
            1..=MAX_COUNTED if !needs_check => Some(self.count_accepted(unchecked)?),
            _ => None,
        };

        let total = more_count.map(|more_count| matches.len() + more_count);
        matches.sort_by(|(a, _), (b, _)| self.compare_rank(a, b));
        matches.truncate(self.options.limit);

        let hits = matches
            .into_iter()
            .map(|(candidate, conversation)| self.read_hit(&candidate, conversation));

        Ok(SearchResult {
            hits: hits.collect::<Result<_, _>>()?,
            total,
            ..SearchResult::default()
        })
    }

    fn count_accepted(
        &self,
        candidates: impl Iterator<Item = RankedCandidate>,
    ) -> Result<usize, IndexError> {
        let mut count = 0;
        for candidate in candidates {
            if self.read_if_accepted(candidate.number)?.is_some() {
                count += 1;
            }
        }
        Ok(count)
    }

    /// Returns true if a candidate passes the checks of its texts. Corrects the closeness and the best text of the
    /// candidate.
    fn check_and_correct_by_texts(
        &self,
        candidate: &mut RankedCandidate,
        conversation: &FoundConversation,
    ) -> Result<bool, IndexError> {
        // Excluded terms come first, because one match ends the check.
        let mut texts = ConversationTexts::new(self.words, candidate.number, conversation);
        let checked_terms = self.terms.iter().filter(|term| term.check.is_some());
        for term in checked_terms.clone().filter(|term| term.is_negated) {
            if texts.find_exact_match(term)?.is_some() {
                return Ok(false);
            }
        }

        if candidate.closeness > Closeness::Scattered {
            let (terms, joined_query) = self.matched_terms_and_query(candidate);
            if let Some(best) = texts.find_first_match(&terms, &joined_query)? {
                candidate.best_text = best;
                return Ok(true);
            }
            // A single term cannot be spread over several texts.
            if terms.len() == 1 {
                return Ok(false);
            }
            // One text has all words, but not as the phrase or the code of the query.
            candidate.closeness = Closeness::Scattered;
        }

        let mut best = None;
        for term in checked_terms.filter(|term| !term.is_negated) {
            match texts.find_exact_match(term)? {
                Some(id) => best = best.or(Some(id)),
                None => return Ok(false),
            }
        }

        candidate.best_text = best.unwrap_or(candidate.best_text);
        Ok(true)
    }

    fn read_hit(
        &self,
        candidate: &RankedCandidate,
        conversation: FoundConversation,
    ) -> Result<Hit, IndexError> {
        let mut texts = ConversationTexts::new(self.words, candidate.number, &conversation);
        let (place, line_texts) = texts.read_texts(candidate.best_text)?;

        // `max_by_key` returns the last of equal elements, so the reversed order gives the first one.
        let snippets = line_texts.into_iter().rev();
        let best_snippet = snippets
            .map(|text| snippet::make_snippet(&text, self.terms))
            .max_by_key(|snippet| snippet.matches.len());

        Ok(Hit {
            turn: place.turn,
            role: candidate.best_text.role(),
            at_ms: place.at_ms,
            snippet: best_snippet.unwrap_or_default(),
            score: (candidate.score * 1000.0).round() / 1000.0,
            conversation,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Relaxation {
    /// The words of an unquoted phrase need not be in a row.
    PhraseAsWords,
    /// The conversations have `matched` of the `total` words. No conversation has more.
    FewerWords { matched: usize, total: usize },
}

impl Relaxation {
    /// Returns the name in JSON output, which must not change.
    pub fn name(&self) -> &'static str {
        self.into()
    }
}

/// Returns a sentence for each word that no conversation has, with the similar word.
pub fn describe_spellings(spellings: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    let pairs = spellings.iter();
    pairs.map(|(word, spelling)| format!("nothing has {word}; did you mean {spelling}?"))
}

impl fmt::Display for Relaxation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhraseAsWords => {
                f.write_str("no conversation has these words in a row; these have all of them")
            }
            Self::FewerWords { matched, total } => {
                write!(
                    f,
                    "no conversation has all {total} words; these have {matched}"
                )
            }
        }
    }
}
