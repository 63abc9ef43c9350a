//! The queries of the index for one term, each wider than the one before: for the term as it is written, for its other
//! forms, and for words that begin with it.

use super::postings::build_exact_query;
use super::query::Term;
use super::word_forms::{MIN_PREFIX_CHARS, list_inflections, list_similar_words};
use crate::conversations::index::tokens::PART_MARK;
use crate::conversations::index::{IndexError, WordQuery, WordSearcher};
use std::cmp::Reverse;

/// The length in bytes of the shortest word for which other spellings are tried.
const MIN_CORRECTED_BYTES: usize = 4;

pub(super) struct WantedTerm<'q> {
    pub term: &'q Term,
    /// The queries of the term, at least one. Each query finds all texts of the previous one, and may find more.
    queries: Vec<WordQuery>,
}

impl<'q> WantedTerm<'q> {
    pub(super) fn read(words: &WordSearcher<'_>, term: &'q Term) -> Result<Self, IndexError> {
        let exact_query = build_exact_query(term);
        let mut form_queries = Vec::new();

        if term.is_plain {
            let word = &term.words[0].word;
            let inflected_words = list_inflections(word);
            // The index may have the word itself as a part of another word.
            let all_words = inflected_words.iter().chain([word]);
            let index_forms = all_words.flat_map(index_forms_of);
            let other_forms: Vec<_> = index_forms.filter(|form| form != word).collect();
            let other_forms = words.filter_indexed(other_forms)?.into_iter();
            form_queries.extend(other_forms.map(WordQuery::Word));

            // A name such as `chargeWithRetry` is also found in texts that have all its parts.
            if !term.parts.is_empty() {
                let part_queries = term.parts.iter().map(|part| {
                    let part_forms = index_forms_of(part).map(WordQuery::Word);
                    WordQuery::Any(part_forms.to_vec())
                });
                form_queries.push(WordQuery::All(part_queries.collect()));
            }
        }

        let mut queries = vec![exact_query];
        if !form_queries.is_empty() {
            // Each query includes the narrower one before it.
            form_queries.insert(0, queries[0].clone());
            queries.push(WordQuery::Any(form_queries));
        }

        Ok(Self { term, queries })
    }

    /// If the term is a plain word, makes it also find longer words that begin with it.
    pub(super) fn add_prefix_query(&mut self) {
        if self.term.is_plain
            && let Some(word) = self.term.words.first()
            && word.word.chars().count() >= MIN_PREFIX_CHARS
        {
            let mut queries = index_forms_of(&word.word).map(WordQuery::Prefix).to_vec();
            queries.push(self.widest_query().clone());
            self.queries.push(WordQuery::Any(queries));
        }
    }

    pub(super) fn widest_query(&self) -> &WordQuery {
        &self.queries[self.queries.len() - 1]
    }

    /// Returns all queries except [`Self::widest_query`], the narrowest first.
    pub(super) fn narrower_queries(&self) -> &[WordQuery] {
        &self.queries[..self.queries.len().saturating_sub(1)]
    }
}

/// Returns the query for texts that have all terms.
pub(super) fn join_queries<'t>(terms: impl IntoIterator<Item = &'t WantedTerm<'t>>) -> WordQuery {
    let queries = terms.into_iter().map(WantedTerm::widest_query).cloned();
    WordQuery::All(queries.collect())
}

/// Returns the two forms in which the index may have a word: as a whole word, and marked as a part of another word.
fn index_forms_of(word: &String) -> [String; 2] {
    [word.clone(), format!("{PART_MARK}{word}")]
}

/// Returns the most frequent word of the index with a similar spelling as a term. Returns `None` if the term is no
/// plain word, is too short, or is found in the index itself, or if there is no similar word.
///
/// # Errors
/// The index cannot be read.
pub(super) fn find_similar_word(
    words: &WordSearcher<'_>,
    term: &Term,
) -> Result<Option<String>, IndexError> {
    let word = &term.words[0].word;
    if !term.is_plain || word.len() < MIN_CORRECTED_BYTES {
        return Ok(None);
    }

    let mut wanted = WantedTerm::read(words, term)?;
    wanted.add_prefix_query();
    if words.find_texts(wanted.widest_query())?.len() > 0 {
        return Ok(None);
    }

    let mut spellings = Vec::new();
    for spelling in words.filter_indexed(list_similar_words(word).into_iter().collect())? {
        let text_count = words.find_texts(&WordQuery::Word(spelling.clone()))?.len();
        if text_count > 0 {
            spellings.push((Reverse(text_count), spelling));
        }
    }

    // Of equally frequent words, the first one in the alphabet.
    Ok(spellings.into_iter().min().map(|(_, spelling)| spelling))
}
