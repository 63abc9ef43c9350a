//! Finds the texts of the index that have given words.

use super::posting_list::{BlockReader, decode_text_numbers};
use super::store::{IndexError, IndexStore};
use super::text_spans::{TextSet, TextSpans};
use super::word_runs::{self, WordRun};
use crate::codex::rollout_lines::Role;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// A condition on the words of a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum WordQuery {
    Word(String),
    /// Any word with this prefix.
    Prefix(String),
    All(Vec<WordQuery>),
    Any(Vec<WordQuery>),
}

/// Evaluates queries, and caches the results.
pub(crate) struct WordSearcher<'a> {
    pub store: &'a IndexStore,
    pub spans: &'a TextSpans,
    /// The texts that a query may find: all except deleted ones, or those of one author.
    texts: TextSet,
    cache: RefCell<HashMap<WordQuery, Rc<TextSet>>>,
}

impl<'a> WordSearcher<'a> {
    /// With a `role`, queries find only texts of this author.
    pub(crate) fn new(store: &'a IndexStore, spans: &'a TextSpans, role: Option<Role>) -> Self {
        let mut texts = spans.texts.clone();
        if let Some(role) = role {
            texts.retain_role(role);
        }
        Self {
            store,
            spans,
            texts,
            cache: RefCell::default(),
        }
    }

    pub(crate) fn find_texts(&self, query: &WordQuery) -> Result<Rc<TextSet>, IndexError> {
        if let Some(cached_texts) = self.cache.borrow().get(query) {
            return Ok(Rc::clone(cached_texts));
        }
        let texts = Rc::new(self.find_uncached(query)?);
        let mut cache = self.cache.borrow_mut();
        cache.insert(query.clone(), Rc::clone(&texts));
        Ok(texts)
    }

    /// Returns the words among `words` that the index has, including words whose texts were all deleted.
    pub(crate) fn filter_indexed(&self, mut words: Vec<String>) -> Result<Vec<String>, IndexError> {
        // In sorted order, words are often in the same block as the previous word.
        words.sort_unstable();

        self.run_in_transaction(|connection, runs| {
            let mut is_indexed = vec![false; words.len()];
            for run in runs {
                let mut last_block = BlockWords::default();
                for (word, is_found) in words.iter().zip(&mut is_indexed) {
                    if !*is_found {
                        *is_found = has_word(connection, *run, word.as_bytes(), &mut last_block)?;
                    }
                }
            }

            let checked_words = words.into_iter().zip(is_indexed);
            let indexed_words =
                checked_words.filter_map(|(word, is_found)| is_found.then_some(word));
            Ok(indexed_words.collect())
        })
    }

    fn find_uncached(&self, query: &WordQuery) -> Result<TextSet, IndexError> {
        self.run_in_transaction(|connection, runs| {
            let mut set = self.evaluate(connection, runs, query)?;
            set.retain_common(&self.texts);
            Ok(set)
        })
    }

    /// Calls `find` in one transaction.
    fn run_in_transaction<T>(
        &self,
        find: impl FnOnce(&Connection, &[WordRun]) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        let _transaction = self.store.begin_read()?;
        self.store
            .run(|connection| find(connection, &word_runs::list_runs(connection)?))
    }

    /// Returns the texts that a query finds. For [`WordQuery::All`], these are the texts that all parts find; without
    /// parts, none.
    fn evaluate(
        &self,
        connection: &Connection,
        runs: &[WordRun],
        query: &WordQuery,
    ) -> rusqlite::Result<TextSet> {
        let mut set = self.texts.empty_copy();
        let WordQuery::All(parts) = query else {
            self.insert_matches(connection, runs, query, &mut set)?;
            return Ok(set);
        };

        if let Some((first, others)) = parts.split_first() {
            set = self.evaluate(connection, runs, first)?;
            for part in others {
                set.retain_common(&self.evaluate(connection, runs, part)?);
            }
        }
        Ok(set)
    }

    /// Inserts the texts that a query finds into `set`, so that all words of a [`WordQuery::Any`] share one set.
    fn insert_matches(
        &self,
        connection: &Connection,
        runs: &[WordRun],
        query: &WordQuery,
        set: &mut TextSet,
    ) -> rusqlite::Result<()> {
        let (word, is_prefix) = match query {
            WordQuery::Word(word) => (word, false),
            WordQuery::Prefix(word) => (word, true),
            WordQuery::Any(parts) => {
                let mut parts = parts.iter();
                return parts.try_for_each(|part| self.insert_matches(connection, runs, part, set));
            }
            // Only texts with all parts belong to the result, so they cannot be inserted part by part.
            WordQuery::All(_) => {
                let texts = self.evaluate(connection, runs, query)?;
                set.insert_all(&texts);
                return Ok(());
            }
        };

        for run in runs {
            visit_posting_lists(connection, *run, word.as_bytes(), is_prefix, &mut |list| {
                decode_text_numbers(list).for_each(|number| set.insert_number(number));
            })?;
        }
        Ok(())
    }
}

/// The words of the block that was read last.
#[derive(Default)]
struct BlockWords {
    /// The number of the block; 0 before the first one.
    block: i64,
    words: Vec<Vec<u8>>,
}

/// Returns true if a run has a word. Keeps the words of the block that it reads in `last_block`.
fn has_word(
    connection: &Connection,
    run: WordRun,
    word: &[u8],
    last_block: &mut BlockWords,
) -> rusqlite::Result<bool> {
    // A word can only be in the last block whose first word is not larger.
    let sql = "SELECT block FROM block_word WHERE run=?1 AND word<=?2 ORDER BY word DESC, block DESC LIMIT 1";
    let mut find = connection.prepare_cached(sql)?;
    let block = find.query_row(params![run.id, word], |row| row.get(0));
    let Some(block) = block.optional()? else {
        return Ok(false);
    };

    if last_block.block != block {
        let block_bytes = word_runs::read_block(connection, block)?;
        let mut reader = BlockReader::new(&block_bytes);
        let mut words = Vec::new();
        while reader.next_list().is_some() {
            words.push(reader.word.clone());
        }
        *last_block = BlockWords { block, words };
    }

    let words = &last_block.words;
    Ok(words.binary_search_by(|other| (**other).cmp(word)).is_ok())
}

/// Calls `visit` with the lists of a word in a run. If `is_prefix`, also visits the lists of longer words that begin
/// with the word.
fn visit_posting_lists(
    connection: &Connection,
    run: WordRun,
    word: &[u8],
    is_prefix: bool,
    visit: &mut dyn FnMut(&[u8]),
) -> rusqlite::Result<()> {
    // The lists of the word may begin in the middle of the last block whose first word is smaller.
    let sql = "SELECT block FROM block_word WHERE run=?1 AND word<?2 ORDER BY word DESC, block DESC LIMIT 1";
    let mut find = connection.prepare_cached(sql)?;
    let first_block = find.query_row(params![run.id, word], |row| row.get(0));

    for block in first_block.optional()?.unwrap_or(run.first_block)..=run.last_block {
        let block_bytes = word_runs::read_block(connection, block)?;
        let mut reader = BlockReader::new(&block_bytes);
        while let Some(list) = reader.next_list() {
            let listed_word = &*reader.word;
            if listed_word == word || is_prefix && listed_word.starts_with(word) {
                visit(list);
            } else if listed_word > word {
                return Ok(());
            }
        }
    }
    Ok(())
}
