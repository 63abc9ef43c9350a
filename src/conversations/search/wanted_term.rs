//! A term as the index is asked for it: as it is written, then in its other forms, then as a beginning of words.

use super::postings::build_fts_query;
use super::query::Term;
use super::word_forms::{MIN_BEGINNING_CHARS, list_inflections, list_spellings};
use crate::conversations::index::tokens::PART_MARK;
use crate::conversations::index::{IndexError, IndexStore};
use std::cmp::Reverse;

/// The shortest word for which other spellings are tried, in bytes.
const MIN_CORRECTED_BYTES: usize = 4;

pub(super) struct WantedTerm<'q> {
    pub term: &'q Term,
    /// Queries of FTS5. Each finds what those before it find, and more.
    levels: Vec<String>,
}

impl<'q> WantedTerm<'q> {
    pub(super) fn new(store: &IndexStore, term: &'q Term) -> Result<Self, IndexError> {
        let exact = build_fts_query([term]);
        let mut forms = Vec::new();
        if term.is_plain {
            let word = &term.words[0].word;
            let inflections = list_inflections(word);
            for form in inflections.iter().chain([word]) {
                for token in [form.clone(), format!("{PART_MARK}{form}")] {
                    let query = format!("\"{token}\"");
                    if token != *word && has_match(store, &query)? {
                        forms.push(query);
                    }
                }
            }
            if !term.parts.is_empty() {
                let parts = term.parts.iter();
                let parts: Vec<_> = parts.map(|part| format_part(part)).collect();
                forms.push(format!("({})", parts.join(" AND ")));
            }
        }
        let mut levels = vec![exact];
        levels.extend(
            (!forms.is_empty()).then(|| format!("({} OR {})", levels[0], forms.join(" OR "))),
        );
        Ok(Self { term, levels })
    }

    /// Finds words that begin with a plain one too.
    pub(super) fn add_beginnings(&mut self) {
        let Some(word) = self.term.words.first().filter(|_| self.term.is_plain) else {
            return;
        };
        if word.word.chars().count() >= MIN_BEGINNING_CHARS {
            let word = &word.word;
            let found = self.widest();
            let level = format!("({found} OR \"{word}\"* OR \"{PART_MARK}{word}\"*)");
            self.levels.push(level);
        }
    }

    /// Returns the query that finds most.
    pub(super) fn widest(&self) -> &str {
        self.levels.last().map_or("", String::as_str)
    }

    /// Returns the queries that find less than [`Self::widest`].
    pub(super) fn narrower(&self) -> &[String] {
        &self.levels[..self.levels.len().saturating_sub(1)]
    }
}

/// Returns the FTS5 query for texts with all terms.
pub(super) fn join_queries<'t>(terms: impl IntoIterator<Item = &'t WantedTerm<'t>>) -> String {
    let queries: Vec<_> = terms.into_iter().map(WantedTerm::widest).collect();
    queries.join(" AND ")
}

fn format_part(part: &str) -> String {
    format!("(\"{part}\" OR \"{PART_MARK}{part}\")")
}

/// Returns the most frequent word of the index that is spelled like a plain term, if the index has no form of it.
///
/// # Errors
/// The index cannot be read.
pub(super) fn find_spelling(store: &IndexStore, term: &Term) -> Result<Option<String>, IndexError> {
    let word = &term.words[0].word;
    if !term.is_plain || word.len() < MIN_CORRECTED_BYTES {
        return Ok(None);
    }
    let mut wanted = WantedTerm::new(store, term)?;
    wanted.add_beginnings();
    if has_match(store, wanted.widest())? {
        return Ok(None);
    }
    let mut found = Vec::new();
    for spelling in list_spellings(word) {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ?1 LIMIT 1000)";
        let texts: Option<i64> =
            store.query_optional(sql, [format!("\"{spelling}\"")], |row| row.get(0))?;
        found.extend(
            texts
                .filter(|texts| *texts > 0)
                .map(|texts| (Reverse(texts), spelling)),
        );
    }
    Ok(found.into_iter().min().map(|(_, spelling)| spelling))
}

fn has_match(store: &IndexStore, query: &str) -> Result<bool, IndexError> {
    let sql = "SELECT 1 FROM words WHERE words MATCH ?1 LIMIT 1";
    let found = store.query_optional(sql, [query], |_| Ok(()))?;
    Ok(found.is_some())
}
