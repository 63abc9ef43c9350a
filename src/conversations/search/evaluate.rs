//! Finds the conversations that match a query, by the index.
//!
//! The index gives the texts that have a term. Phrases and code are checked in the rollouts, in the order of the results
//! and only until enough are found.

use super::candidates::{CandidateFinder, Closeness, FoundCandidates, MatchNeed, RankedCandidate};
use super::conversation_texts::ConversationTexts;
use super::postings::PostingReader;
use super::query::{Query, Term};
use super::relaxation::Relaxation;
use super::snippet::{self, Snippet};
use super::wanted_term::{WantedTerm, join_queries};
use crate::codex::rollout::is_plain;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexError, IndexStore, TextSpans, WordQuery, WordSearcher};
use crate::io::progress::check_interrupt;
use std::cmp::Ordering;
use std::collections::BTreeMap;

pub(crate) use super::found_conversation::FoundConversation;

/// The largest number of conversations beyond the limit that are counted, which takes a few milliseconds.
const MAX_COUNTED: usize = 1000;

/// With fewer found conversations, words are also searched as prefixes of longer words.
const FEW_CONVERSATIONS: usize = 20;

/// The number of conversations, and of texts of each, that are searched for the words in one sentence.
const MAX_REFINED: usize = 50;
const MAX_REFINED_TEXTS: usize = 4;

/// A conversation that matches, with its best text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    pub conversation: FoundConversation,
    /// The turn of the text; `None` for the title.
    pub turn: Option<u32>,
    pub role: Role,
    /// The time of the text in milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// The part of the text with the most matches.
    pub snippet: Snippet,
    /// The relevance; only the order within one search has a meaning.
    pub score: f64,
}

/// The result of a search in an index.
#[derive(Debug, Default)]
pub(crate) struct SearchResult {
    pub hits: Vec<Hit>,
    /// The number of conversations that match; `None` if it is large, or if phrases or code would have to be checked in
    /// the rollouts.
    pub total: Option<usize>,
    /// The part of the query that was ignored to find something.
    pub relaxation: Option<Relaxation>,
    /// Words that the index does not have, with the spellings that were searched instead.
    pub spellings: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HitOrder {
    /// The most relevant first
    Best,
    /// The most recently changed conversation first
    Newest,
}

pub(crate) struct SearchOptions<'a> {
    /// Only texts of this author; titles are no texts of an author.
    pub role: Option<Role>,
    pub order: HitOrder,
    /// The largest number of hits.
    pub limit: usize,
    /// Returns true for conversations that pass the filter.
    pub accepts: &'a dyn Fn(&FoundConversation) -> bool,
    /// Redacts a whole text before a snippet is cut from it: a part of a secret is not recognized.
    pub safe: &'a dyn Fn(String) -> String,
}

/// Returns the conversations of the index that Codex did not list at the last update.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn list_unlisted(store: &IndexStore) -> Result<Vec<FoundConversation>, IndexError> {
    let columns = FoundConversation::COLUMNS;
    let sql = format!("SELECT {columns} FROM conversation WHERE listed=0");
    store.query_rows(&sql, [], FoundConversation::from_row)
}

/// Searches the index for conversations with all terms.
///
/// # Errors
/// The index cannot be read, or the user interrupts.
pub(crate) fn search(
    store: &IndexStore,
    query: &Query,
    options: &SearchOptions<'_>,
) -> Result<SearchResult, IndexError> {
    search_terms(store, &TextSpans::read(store)?, &query.terms, options)
}

/// Searches for conversations with all terms, with their words in all forms. If few conversations are found, also
/// searches for longer words with these beginnings.
pub(super) fn search_terms(
    store: &IndexStore,
    spans: &TextSpans,
    terms: &[Term],
    options: &SearchOptions<'_>,
) -> Result<SearchResult, IndexError> {
    let words = WordSearcher::new(store, &spans.texts);
    let mut search = Search::new((store, spans, &words), terms, MatchNeed::All, options)?;
    let (result, counts) = search.run()?;
    if result.total.is_none_or(|total| total >= FEW_CONVERSATIONS) {
        return Ok(result);
    }
    let rare = search.wanted.iter_mut().zip(counts);
    let rare = rare.filter(|(wanted, count)| wanted.term.is_plain && *count < FEW_CONVERSATIONS);
    let widened: Vec<_> = rare.map(|(wanted, _)| wanted).collect();
    if widened.is_empty() {
        return Ok(result);
    }
    for wanted in widened {
        wanted.add_beginnings();
    }
    Ok(search.run()?.0)
}

/// Searches for the conversations with the most terms, among those whose texts satisfy all conditions. Also returns the
/// number of terms that each of them has.
pub(super) fn search_most(
    store: &IndexStore,
    spans: &TextSpans,
    terms: &[Term],
    options: &SearchOptions<'_>,
) -> Result<(SearchResult, usize), IndexError> {
    let words = WordSearcher::new(store, &spans.texts);
    let need = MatchNeed::MostBelow(usize::MAX);
    let mut search = Search::new((store, spans, &words), terms, need, options)?;
    for wanted in &mut search.wanted {
        wanted.add_beginnings();
    }
    loop {
        let candidates = search.find()?.candidates;
        let matched = candidates.first().map_or(0, RankedCandidate::count_matched);
        let result = search.collect(candidates)?;
        if matched == 0 || !result.hits.is_empty() {
            return Ok((result, matched));
        }
        search.need = MatchNeed::MostBelow(matched);
    }
}

struct Search<'a> {
    reader: PostingReader<'a>,
    terms: &'a [Term],
    wanted: Vec<WantedTerm<'a>>,
    need: MatchNeed,
    options: &'a SearchOptions<'a>,
}

impl<'a> Search<'a> {
    fn new(
        (store, spans, words): (&'a IndexStore, &'a TextSpans, &'a WordSearcher<'a>),
        terms: &'a [Term],
        need: MatchNeed,
        options: &'a SearchOptions<'a>,
    ) -> Result<Self, IndexError> {
        let positive = terms.iter().filter(|term| !term.is_negated);
        let wanted = positive.map(|term| WantedTerm::new(words, term));
        Ok(Self {
            reader: PostingReader {
                store,
                spans,
                words,
                role: options.role,
            },
            terms,
            wanted: wanted.collect::<Result<_, _>>()?,
            need,
            options,
        })
    }

    fn find(&self) -> Result<FoundCandidates, IndexError> {
        let accepts = |number| Ok(self.read_accepted(number)?.is_some());
        let finder = CandidateFinder {
            reader: self.reader,
            wanted: &self.wanted,
            excluded: self.terms.iter().filter(|term| term.is_negated).collect(),
            need: self.need,
            accepts: &accepts,
        };
        finder.find()
    }

    /// Returns the hits, and the number of conversations with each term.
    fn run(&self) -> Result<(SearchResult, Vec<usize>), IndexError> {
        let found = self.find()?;
        Ok((self.collect(found.candidates)?, found.counts))
    }

    fn collect(&self, mut candidates: Vec<RankedCandidate>) -> Result<SearchResult, IndexError> {
        candidates.sort_by(|a, b| self.compare(a, b));
        if self.options.order == HitOrder::Best && self.wanted.len() > 1 {
            candidates = self.mark_sentences(candidates)?;
            candidates.sort_by(|a, b| self.compare(a, b));
        }
        self.collect_hits(candidates)
    }

    /// Returns the terms that a candidate has, and the query for texts with all of them.
    fn matched_terms(&self, candidate: &RankedCandidate) -> (Vec<&Term>, WordQuery) {
        let terms = self.wanted.iter().enumerate();
        let matched = terms.filter(|(number, _)| candidate.has_term(*number));
        let matched = matched.map(|(_, wanted)| wanted);
        let expression = join_queries(matched.clone());
        (matched.map(|wanted| wanted.term).collect(), expression)
    }

    /// Returns the conversation, if it passes the filter.
    fn read_accepted(&self, number: i64) -> Result<Option<FoundConversation>, IndexError> {
        let columns = FoundConversation::COLUMNS;
        let sql = format!("SELECT {columns} FROM conversation WHERE id=?1");
        let store = self.reader.store;
        let found = store.query_optional(&sql, [number], FoundConversation::from_row)?;
        Ok(found.filter(|found| (self.options.accepts)(found)))
    }

    fn compare(&self, a: &RankedCandidate, b: &RankedCandidate) -> Ordering {
        let newest = b.updated_ms.cmp(&a.updated_ms);
        let best = || {
            b.closeness
                .cmp(&a.closeness)
                .then(b.score.total_cmp(&a.score))
        };
        match self.options.order {
            HitOrder::Best => best().then(newest),
            HitOrder::Newest => newest.then_with(best),
        }
        .then(b.number.cmp(&a.number))
    }

    /// Marks candidates that have all their terms in one sentence. Reads only the first [`MAX_REFINED`] that have them in
    /// one text. Drops candidates that the filter rejects on the way.
    fn mark_sentences(
        &self,
        candidates: Vec<RankedCandidate>,
    ) -> Result<Vec<RankedCandidate>, IndexError> {
        let mut read = 0;
        let mut kept = Vec::with_capacity(candidates.len());
        for mut candidate in candidates {
            if candidate.closeness == Closeness::Text && read < MAX_REFINED {
                let Some(conversation) = self.read_accepted(candidate.number)? else {
                    continue;
                };
                read += 1;
                // A compressed rollout would be read from its beginning.
                if is_plain(&conversation.path) {
                    self.find_sentence(&mut candidate, &conversation)?;
                }
                candidate.conversation = Some(conversation);
            }
            kept.push(candidate);
        }
        Ok(kept)
    }

    fn find_sentence(
        &self,
        candidate: &mut RankedCandidate,
        conversation: &FoundConversation,
    ) -> Result<(), IndexError> {
        let (terms, expression) = self.matched_terms(candidate);
        let mut texts = ConversationTexts::new(self.reader, candidate.number, conversation);
        for id in texts
            .find_ids(&expression)?
            .into_iter()
            .take(MAX_REFINED_TEXTS)
        {
            let (_, all) = texts.read_texts(id)?;
            if all
                .iter()
                .any(|text| snippet::has_all_in_sentence(text, &terms))
            {
                candidate.closeness = Closeness::Sentence;
                candidate.best = id;
                // A message is preferred to the title: the title often repeats the first message, and has no turn to
                // open.
                if id.role() != Role::Title {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Checks the candidates in order and returns the hits of the first that match, at most `limit`.
    fn collect_hits(&self, candidates: Vec<RankedCandidate>) -> Result<SearchResult, IndexError> {
        let needs_check = self.terms.iter().any(|term| term.check.is_some());
        let mut found = Vec::new();
        let mut in_one_text = 0;
        let mut rest = candidates.into_iter();
        while let Some(next) = rest.as_slice().first() {
            // `check_texts` may find the terms of the next candidate in several texts only, and then it ranks after others.
            // So only hits that rank before it in any case count towards the limit.
            let certainly_before = match self.options.order {
                HitOrder::Best if next.closeness > Closeness::Scattered => in_one_text,
                HitOrder::Best | HitOrder::Newest => found.len(),
            };
            if certainly_before >= self.options.limit {
                break;
            }
            check_interrupt().map_err(|_| IndexError::Interrupted)?;
            let Some(mut candidate) = rest.next() else {
                break;
            };
            let conversation = match candidate.conversation.take() {
                None => self.read_accepted(candidate.number)?,
                known => known,
            };
            let Some(conversation) = conversation else {
                continue;
            };
            if needs_check && !self.check_texts(&mut candidate, &conversation)? {
                continue;
            }
            in_one_text += usize::from(candidate.closeness > Closeness::Scattered);
            found.push((candidate, conversation));
        }
        let more = match rest.len() {
            0 => Some(0),
            1..=MAX_COUNTED if !needs_check => Some(self.count_accepted(rest)?),
            _ => None,
        };
        let total = more.map(|more| found.len() + more);
        found.sort_by(|(a, _), (b, _)| self.compare(a, b));
        found.truncate(self.options.limit);
        let hits = found
            .into_iter()
            .map(|(candidate, conversation)| self.make_hit(&candidate, conversation));
        Ok(SearchResult {
            hits: hits.collect::<Result<_, _>>()?,
            total,
            ..SearchResult::default()
        })
    }

    /// Returns the number of candidates that pass the filter.
    fn count_accepted(
        &self,
        candidates: impl Iterator<Item = RankedCandidate>,
    ) -> Result<usize, IndexError> {
        let mut count = 0;
        for candidate in candidates {
            count += usize::from(self.read_accepted(candidate.number)?.is_some());
        }
        Ok(count)
    }

    /// Returns true if a candidate satisfies the conditions on its texts. Corrects its closeness and its best text.
    fn check_texts(
        &self,
        candidate: &mut RankedCandidate,
        conversation: &FoundConversation,
    ) -> Result<bool, IndexError> {
        // Terms to exclude first: one match ends the check.
        let mut texts = ConversationTexts::new(self.reader, candidate.number, conversation);
        let checked = self.terms.iter().filter(|term| term.check.is_some());
        for term in checked.clone().filter(|term| term.is_negated) {
            if texts.find_term(term)?.is_some() {
                return Ok(false);
            }
        }
        if candidate.closeness > Closeness::Scattered {
            let (terms, expression) = self.matched_terms(candidate);
            if let Some(best) = texts.find_first_match(&terms, &expression)? {
                candidate.best = best;
                return Ok(true);
            }
            if terms.len() == 1 {
                return Ok(false);
            }
            // The words are in one text, but not as the phrase or the code that was asked for.
            candidate.closeness = Closeness::Scattered;
        }
        let mut best = None;
        for term in checked.filter(|term| !term.is_negated) {
            match texts.find_term(term)? {
                Some(id) => best = best.or(Some(id)),
                None => return Ok(false),
            }
        }
        candidate.best = best.unwrap_or(candidate.best);
        Ok(true)
    }

    fn make_hit(
        &self,
        candidate: &RankedCandidate,
        conversation: FoundConversation,
    ) -> Result<Hit, IndexError> {
        let mut texts = ConversationTexts::new(self.reader, candidate.number, &conversation);
        let (place, all) = texts.read_texts(candidate.best)?;
        let snippets = all.into_iter().rev();
        let best = snippets
            .map(|text| snippet::make_snippet(&(self.options.safe)(text), self.terms))
            .max_by_key(|snippet| snippet.matches.len());
        Ok(Hit {
            turn: place.turn,
            role: candidate.best.role(),
            at_ms: place.at,
            snippet: best.unwrap_or_default(),
            score: (candidate.score * 1000.0).round() / 1000.0,
            conversation,
        })
    }
}
