//! Searches for a part of the query, if no conversation has all of it.

use super::evaluate::{Relaxation, SearchOptions, SearchResult, search_most_terms, search_terms};
use super::query::{Query, Term};
use super::wanted_term::find_similar_word;
use crate::conversations::index::{IndexError, IndexStore, TextSpans, WordSearcher};
use std::collections::BTreeMap;

/// Searches for conversations that have all terms. If there are none, searches for the single words of unquoted
/// phrases. If there are still none, corrects the spelling of words that the index lacks, and if the query has several
/// plain words, finds the conversations with the most of them. Never ignores quoted terms, excluded terms or code.
///
/// # Errors
/// The index cannot be read, or the user interrupts.
pub fn search_forgiving(
    store: &IndexStore,
    query: &Query,
    options: &SearchOptions<'_>,
) -> Result<SearchResult, IndexError> {
    let spans = TextSpans::read(store)?;
    let result = search_terms(store, &spans, &query.terms, options)?;
    if !result.hits.is_empty() {
        return Ok(result);
    }

    if let Some(terms) = &query.as_words {
        let result = search_terms(store, &spans, terms, options)?;
        if !result.hits.is_empty() {
            return Ok(SearchResult {
                relaxation: Some(Relaxation::PhraseAsWords),
                ..result
            });
        }
    }

    let mut terms = query.as_words.as_ref().unwrap_or(&query.terms).clone();
    let spellings = correct_spellings(store, &spans, &mut terms)?;
    let positive_terms = terms.iter().filter(|term| !term.is_negated);
    let term_count = positive_terms.clone().count();
    // A query with a single word cannot do without that word.
    if positive_terms.filter(|term| term.is_plain).count() < 2 {
        return Ok(SearchResult {
            spellings,
            ..SearchResult::default()
        });
    }

    let (result, matched_count) = search_most_terms(store, &spans, &terms, options)?;
    let is_relaxed = matched_count < term_count && !result.hits.is_empty();
    Ok(SearchResult {
        relaxation: is_relaxed.then_some(Relaxation::FewerWords {
            matched: matched_count,
            total: term_count,
        }),
        spellings,
        ..result
    })
}

/// Replaces words without a match by words with a similar spelling. Returns the replacements by the replaced words.
fn correct_spellings(
    store: &IndexStore,
    spans: &TextSpans,
    terms: &mut [Term],
) -> Result<BTreeMap<String, String>, IndexError> {
    let mut spellings = BTreeMap::new();
    let of_any_author = None;
    let words = WordSearcher::new(store, spans, of_any_author);
    for term in terms.iter_mut().filter(|term| term.is_plain) {
        if let Some(similar_word) = find_similar_word(&words, term)? {
            let word = std::mem::replace(&mut term.words[0].word, similar_word.clone());
            // The parts are those of the replaced word.
            term.parts.clear();
            spellings.insert(word, similar_word);
        }
    }
    Ok(spellings)
}
