//! Finds the conversations that match a query, by the index.
//!
//! The index gives the texts that have all words of a term. Lists of texts are in the order of conversations,
//! so terms are joined by merging. Phrases and code are checked in the rollouts, in the order of the results
//! and only until enough are found.

use super::postings::{
    MAX_LOOKUPS, Posting, PostingReader, build_fts_query, intersect, rarity_weight,
};
use super::query::{CheckedText, Query, Term};
use super::snippet::{self, Snippet};
use super::texts::TextReader;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexError, IndexStore, Place, TextId};
use crate::io::progress::is_interrupted;
use rusqlite::{Row, params};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::PathBuf;

/// The factor of the score if all terms are in one text, and of a term in the title.
const ONE_TEXT_FACTOR: f64 = 2.0;
const TITLE_FACTOR: f64 = 1.5;

/// The number of conversations beyond the limit that are counted, a few milliseconds.
const MAX_COUNTED: usize = 1000;

/// The fields of a conversation that a search needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundConversation {
    /// The id in lower case.
    pub session: String,
    /// Its rollout, plain or compressed.
    pub path: PathBuf,
    /// Its title; empty if it has none.
    pub title: String,
    /// The folder that it works in.
    pub cwd: String,
    /// The time of its last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    pub archived: bool,
    /// True if Codex lists it.
    pub listed: bool,
}

/// A conversation that matches, with its best text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hit {
    pub conversation: FoundConversation,
    /// The turn of the text; `None` for the title.
    pub turn: Option<u32>,
    pub role: Role,
    /// The time of the text in milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// The part of the text with the first match.
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
    /// Returns true for conversations that may be found.
    pub accepts: &'a dyn Fn(&FoundConversation) -> bool,
}

const COLUMNS: &str = "session, path, title, cwd, updated, archived, listed";

fn parse_conversation(row: &Row<'_>) -> rusqlite::Result<FoundConversation> {
    Ok(FoundConversation {
        session: row.get(0)?,
        path: PathBuf::from(row.get::<_, String>(1)?),
        title: row.get(2)?,
        cwd: row.get(3)?,
        updated_ms: row.get(4)?,
        archived: row.get(5)?,
        listed: row.get(6)?,
    })
}

/// Returns the conversations of the index that Codex did not list at the last update.
///
/// # Errors
/// The index cannot be read.
pub(crate) fn list_unlisted(store: &IndexStore) -> Result<Vec<FoundConversation>, IndexError> {
    let sql = format!("SELECT {COLUMNS} FROM conversation WHERE listed=0");
    store.query_rows(&sql, [], parse_conversation)
}

/// Searches the index.
///
/// # Errors
/// The index cannot be read, or the user interrupts.
pub(crate) fn search(
    store: &IndexStore,
    query: &Query,
    options: &SearchOptions<'_>,
) -> Result<SearchResult, IndexError> {
    let search = Search {
        store,
        query,
        options,
    };
    let mut candidates = search.find_candidates()?;
    search.sort(&mut candidates);
    search.collect_hits(candidates)
}

struct Search<'a> {
    store: &'a IndexStore,
    query: &'a Query,
    options: &'a SearchOptions<'a>,
}

/// A conversation that has the words of all terms.
struct Candidate {
    number: i64,
    updated_ms: Option<i64>,
    best: TextId,
    is_one_text: bool,
    score: f64,
}

impl Search<'_> {
    fn reader(&self) -> PostingReader<'_> {
        PostingReader {
            store: self.store,
            role: self.options.role,
        }
    }

    fn is_searched(&self, id: TextId) -> bool {
        self.options.role.is_none_or(|role| id.role() == role)
    }

    /// Returns the conversations that have the words of all terms and pass the filter.
    fn find_candidates(&self) -> Result<Vec<Candidate>, IndexError> {
        let total = self.store.count_conversations()?;
        let reader = self.reader();
        let positive: Vec<_> = self.terms(false).collect();
        let mut scored: Option<Vec<(Posting, f64)>> = None;
        for list in reader.read_each(&positive)? {
            let weight = rarity_weight(total, list.conversations);
            let postings = list.postings.into_iter().map(|posting| {
                let title = if posting.has_title { TITLE_FACTOR } else { 1.0 };
                let score = weight * (1.0 + f64::from(posting.texts).ln()) * title;
                (posting, score)
            });
            scored = Some(match scored {
                None => postings.collect(),
                Some(all) => intersect(all, postings),
            });
        }
        let mut scored = scored.unwrap_or_default();
        for term in self.terms(true).filter(|term| term.check.is_none()) {
            let numbers: Vec<_> = scored.iter().map(|(p, _)| p.conversation).collect();
            // A term to exclude may be in most texts of the index.
            let with_term = if numbers.len() <= MAX_LOOKUPS {
                reader.read_in_conversations(term, &numbers)?
            } else {
                reader.read_all([term])?
            };
            let excludes = |number: i64| {
                with_term
                    .binary_search_by_key(&number, |posting| posting.conversation)
                    .is_ok()
            };
            scored.retain(|(posting, _)| !excludes(posting.conversation));
        }
        let in_one = match positive.len() {
            0 | 1 => HashMap::new(),
            _ => {
                let in_one = reader.read_all(positive.iter().copied())?;
                let best = in_one.into_iter().map(|p| (p.conversation, p.best));
                best.collect()
            }
        };
        let mut candidates = Vec::new();
        for (posting, score) in scored {
            let number = posting.conversation;
            let best = in_one.get(&number);
            let is_one_text = positive.len() == 1 || best.is_some();
            candidates.push(Candidate {
                number,
                updated_ms: None,
                best: best.copied().unwrap_or(posting.best),
                is_one_text,
                score: if is_one_text {
                    score * ONE_TEXT_FACTOR
                } else {
                    score
                },
            });
        }
        self.set_times(&mut candidates)?;
        Ok(candidates)
    }

    /// Sets the times of candidates, which are ordered by number: of many by reading an index of all times.
    fn set_times(&self, candidates: &mut [Candidate]) -> Result<(), IndexError> {
        if candidates.len() < MAX_LOOKUPS {
            let sql = "SELECT updated FROM conversation WHERE id=?1";
            for candidate in candidates {
                let updated = self
                    .store
                    .query_optional(sql, [candidate.number], |row| row.get(0))?;
                candidate.updated_ms = updated.flatten();
            }
            return Ok(());
        }
        self.store.run(|connection| {
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

    fn terms(&self, is_negated: bool) -> impl Iterator<Item = &Term> {
        let terms = self.query.terms.iter();
        terms.filter(move |term| term.is_negated == is_negated)
    }

    /// Returns the conversation, if it passes the filter.
    fn read_accepted(&self, number: i64) -> Result<Option<FoundConversation>, IndexError> {
        let sql = format!("SELECT {COLUMNS} FROM conversation WHERE id=?1");
        let found = self
            .store
            .query_optional(&sql, [number], parse_conversation)?;
        Ok(found.filter(|found| (self.options.accepts)(found)))
    }

    fn sort(&self, candidates: &mut [Candidate]) {
        candidates.sort_by(|a, b| self.compare(a, b));
    }

    fn compare(&self, a: &Candidate, b: &Candidate) -> Ordering {
        let newest = b.updated_ms.cmp(&a.updated_ms);
        let best = || {
            b.is_one_text
                .cmp(&a.is_one_text)
                .then(b.score.total_cmp(&a.score))
        };
        match self.options.order {
            HitOrder::Best => best().then(newest),
            HitOrder::Newest => newest.then_with(best),
        }
        .then(b.number.cmp(&a.number))
    }

    /// Checks the candidates in order and returns the hits of the first that match, at most `limit`.
    fn collect_hits(&self, candidates: Vec<Candidate>) -> Result<SearchResult, IndexError> {
        let needs_check = self.query.terms.iter().any(|term| term.check.is_some());
        let mut found = Vec::new();
        let mut in_one_text = 0;
        let mut rest = candidates.into_iter().peekable();
        while let Some(next) = rest.peek() {
            // A candidate may turn out to have its terms in several texts, and then comes after others.
            let before_it = match self.options.order {
                HitOrder::Best if next.is_one_text => in_one_text,
                HitOrder::Best | HitOrder::Newest => found.len(),
            };
            if before_it >= self.options.limit {
                break;
            }
            if is_interrupted() {
                return Err(IndexError::Interrupted);
            }
            let Some(mut candidate) = rest.next() else {
                break;
            };
            let Some(conversation) = self.read_accepted(candidate.number)? else {
                continue;
            };
            if needs_check && !self.check(&mut candidate, &conversation)? {
                continue;
            }
            in_one_text += usize::from(candidate.is_one_text);
            found.push((candidate, conversation));
        }
        let total = match rest.len() {
            0 => Some(found.len()),
            1..=MAX_COUNTED if !needs_check => Some(found.len() + self.count_accepted(rest)?),
            _ => None,
        };
        found.sort_by(|(a, _), (b, _)| self.compare(a, b));
        found.truncate(self.options.limit);
        let hits = found
            .into_iter()
            .map(|(candidate, conversation)| self.make_hit(&candidate, conversation))
            .collect::<Result<_, _>>()?;
        Ok(SearchResult { hits, total })
    }

    /// Returns the number of candidates that pass the filter.
    fn count_accepted(
        &self,
        candidates: impl Iterator<Item = Candidate>,
    ) -> Result<usize, IndexError> {
        let mut count = 0;
        for candidate in candidates {
            count += usize::from(self.read_accepted(candidate.number)?.is_some());
        }
        Ok(count)
    }

    /// Returns true if a candidate fulfils the conditions on its texts. Corrects its best text.
    fn check(
        &self,
        candidate: &mut Candidate,
        conversation: &FoundConversation,
    ) -> Result<bool, IndexError> {
        // Terms to exclude first: one match ends the check.
        let mut texts = ConversationTexts::new(self, candidate.number, conversation);
        for term in self.terms(true).filter(|term| term.check.is_some()) {
            if texts.find_first_match(&[term])?.is_some() {
                return Ok(false);
            }
        }
        let positive: Vec<_> = self.terms(false).collect();
        if candidate.is_one_text {
            if let Some(best) = texts.find_first_match(&positive)? {
                candidate.best = best;
                return Ok(true);
            }
            if positive.len() == 1 {
                return Ok(false);
            }
            candidate.is_one_text = false;
            // The words are in one text, but not as the phrase or the code that was asked for.
            candidate.score /= ONE_TEXT_FACTOR;
        }
        let mut best = None;
        for term in positive.iter().filter(|term| term.check.is_some()) {
            match texts.find_first_match(&[term])? {
                Some(id) => best = best.or(Some(id)),
                None => return Ok(false),
            }
        }
        candidate.best = best.unwrap_or(candidate.best);
        Ok(true)
    }

    fn make_hit(
        &self,
        candidate: &Candidate,
        conversation: FoundConversation,
    ) -> Result<Hit, IndexError> {
        let mut texts = ConversationTexts::new(self, candidate.number, &conversation);
        let (place, all) = texts.read_texts(candidate.best)?;
        let text = all
            .into_iter()
            .map(|text| snippet::make_snippet(&text, self.query))
            .max_by_key(|snippet| snippet.matches.len());
        Ok(Hit {
            turn: place.turn,
            role: candidate.best.role(),
            at_ms: place.at,
            snippet: text.unwrap_or_default(),
            score: (candidate.score * 1000.0).round() / 1000.0,
            conversation,
        })
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct TextPlace {
    turn: Option<u32>,
    at: Option<i64>,
    line: Option<Place>,
}

struct ConversationTexts<'a> {
    search: &'a Search<'a>,
    number: i64,
    path: PathBuf,
    title: String,
    /// The number of the rollout that is open, with its reader.
    reader: Option<(usize, TextReader)>,
}

impl<'a> ConversationTexts<'a> {
    fn new(search: &'a Search<'a>, number: i64, conversation: &FoundConversation) -> Self {
        Self {
            search,
            number,
            path: conversation.path.clone(),
            title: conversation.title.clone(),
            reader: None,
        }
    }

    /// Returns the first text that has the words of all `terms` and fulfils their conditions.
    fn find_first_match(&mut self, terms: &[&Term]) -> Result<Option<TextId>, IndexError> {
        let ids = self.find_ids(terms)?;
        // A compressed rollout is read from its beginning, once for these texts.
        self.reader = None;
        for id in ids {
            let (_, texts) = self.read_texts(id)?;
            let fulfils = |text: &String| {
                let mut checked = CheckedText::new(text);
                let mut checks = terms.iter().filter_map(|term| term.check.as_ref());
                checks.all(|check| checked.fulfils(check))
            };
            if texts.iter().any(fulfils) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns the texts with the words of all `terms`: the title, then the others in the order of the rollout.
    fn find_ids(&self, terms: &[&Term]) -> Result<Vec<TextId>, IndexError> {
        let sql = "SELECT rowid FROM words WHERE words MATCH ?1 AND rowid BETWEEN ?2 AND ?3";
        let expression = build_fts_query(terms.iter().copied());
        let (first, last) = TextId::conversation_range(self.number);
        let store = self.search.store;
        let mut ids: Vec<TextId> =
            store.query_rows(sql, params![expression, first, last], |row| {
                Ok(TextId(row.get(0)?))
            })?;
        ids.retain(|id| self.search.is_searched(*id));
        ids.sort_by_key(|id| id.role() != Role::Title);
        Ok(ids)
    }

    /// Returns the place of a text, and the texts there. Empty if the rollout cannot be read any more.
    fn read_texts(&mut self, id: TextId) -> Result<(TextPlace, Vec<String>), IndexError> {
        if id.role() == Role::Title {
            return Ok((TextPlace::default(), vec![self.title.clone()]));
        }
        let sql = "SELECT turn, at, offset FROM message WHERE id=?1";
        let place = self.search.store.query_optional(sql, [id.0], |row| {
            Ok(TextPlace {
                turn: row.get(0)?,
                at: row.get(1)?,
                line: row.get::<_, Option<i64>>(2)?.map(Place::from_number),
            })
        })?;
        let place = place.unwrap_or_default();
        let Some(line) = place.line else {
            return Ok((place, Vec::new()));
        };
        let reader = match self.reader.take() {
            Some((rollout, reader)) if rollout == line.rollout => Some(reader),
            _ => TextReader::open(&self.read_rollout_path(line.rollout)?).ok(),
        };
        let mut texts = Vec::new();
        if let Some(mut reader) = reader {
            texts = reader
                .read_texts(line.offset, id.role())
                .unwrap_or_default();
            self.reader = Some((line.rollout, reader));
        }
        Ok((place, texts))
    }

    fn read_rollout_path(&self, number: usize) -> Result<PathBuf, IndexError> {
        let sql = "SELECT rollouts FROM conversation WHERE id=?1";
        let store = self.search.store;
        let list: Option<Option<String>> =
            store.query_optional(sql, [self.number], |row| row.get(0))?;
        let list = list
            .flatten()
            .and_then(|list| serde_json::from_str::<Vec<PathBuf>>(&list).ok());
        let path =
            list.and_then(|mut list| (number < list.len()).then(|| list.swap_remove(number)));
        Ok(path.unwrap_or_else(|| self.path.clone()))
    }
}
