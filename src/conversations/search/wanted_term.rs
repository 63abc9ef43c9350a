//! The queries of the index for one term, each wider than the one before: for the term as it is written, for its other
//! forms, and for words that begin with it.

use super::postings::exact_query;
use super::query::Term;
use super::word_forms::{MIN_BEGINNING_CHARS, list_inflections, list_spellings};
use crate::conversations::index::tokens::PART_MARK;
use crate::conversations::index::{IndexError, WordQuery, WordSearcher};
use std::cmp::Reverse;

/// The length in bytes of the shortest word for which other spellings are tried.
const MIN_CORRECTED_BYTES: usize = 4;

pub(super) struct WantedTerm<'q> {
    pub term: &'q Term,
    /// The queries of the term, at least one. Each query finds all texts of the previous one, and may find more.
    levels: Vec<WordQuery>,
}

impl<'q> WantedTerm<'q> {
    pub(super) fn new(words: &WordSearcher<'_>, term: &'q Term) -> Result<Self, IndexError> {
        let exact = exact_query(term);
        let mut forms = Vec::new();
        if term.is_plain {
            let word = &term.words[0].word;
            let inflections = list_inflections(word);
            let tokens = inflections.iter().chain([word]).flat_map(with_mark);
            let tokens: Vec<_> = tokens.filter(|token| token != word).collect();
            forms.extend(words.find_known(tokens)?.into_iter().map(WordQuery::Word));
            if !term.parts.is_empty() {
                let parts = term.parts.iter();
                let parts = parts.map(|part| {
                    let tokens = with_mark(part).map(WordQuery::Word);
                    WordQuery::Any(tokens.to_vec())
                });
                forms.push(WordQuery::All(parts.collect()));
            }
        }
        let mut levels = vec![exact];
        if !forms.is_empty() {
            forms.insert(0, levels[0].clone());
            levels.push(WordQuery::Any(forms));
        }
        Ok(Self { term, levels })
    }

    /// If the term is a plain word, makes it also find longer words that begin with it.
    pub(super) fn add_beginnings(&mut self) {
        let Some(word) = self.term.words.first().filter(|_| self.term.is_plain) else {
            return;
        };
        if word.word.chars().count() >= MIN_BEGINNING_CHARS {
            let mut queries = with_mark(&word.word).map(WordQuery::Beginning).to_vec();
            queries.push(self.widest_query().clone());
            self.levels.push(WordQuery::Any(queries));
        }
    }

    pub(super) fn widest_query(&self) -> &WordQuery {
        &self.levels[self.levels.len() - 1]
    }

    /// Returns all queries except [`Self::widest_query`], the narrowest first.
    pub(super) fn narrower_queries(&self) -> &[WordQuery] {
        &self.levels[..self.levels.len().saturating_sub(1)]
    }
}

/// Returns the query for texts that have all terms.
pub(super) fn join_queries<'t>(terms: impl IntoIterator<Item = &'t WantedTerm<'t>>) -> WordQuery {
    let queries = terms.into_iter().map(WantedTerm::widest_query).cloned();
    WordQuery::All(queries.collect())
}

/// Returns the two forms in which the index may have a word: as a whole word, and marked as a part of another word.
fn with_mark(word: &String) -> [String; 2] {
    [word.clone(), format!("{PART_MARK}{word}")]
}

/// Returns the most frequent word of the index with a similar spelling as a term. Returns `None` if the term is no
/// plain word, is too short, or is found in the index itself, or if there is no similar word.
///
/// # Errors
/// The index cannot be read.
pub(super) fn find_spelling(
    words: &WordSearcher<'_>,
    term: &Term,
) -> Result<Option<String>, IndexError> {
    let word = &term.words[0].word;
    if !term.is_plain || word.len() < MIN_CORRECTED_BYTES {
        return Ok(None);
    }
    let mut wanted = WantedTerm::new(words, term)?;
    wanted.add_beginnings();
    if words.find(wanted.widest_query())?.len() > 0 {
        return Ok(None);
    }
    let mut spellings = Vec::new();
    for spelling in words.find_known(list_spellings(word).into_iter().collect())? {
        let texts = words.find(&WordQuery::Word(spelling.clone()))?.len();
        spellings.extend((texts > 0).then_some((Reverse(texts), spelling)));
    }
    Ok(spellings.into_iter().min().map(|(_, spelling)| spelling))
}
