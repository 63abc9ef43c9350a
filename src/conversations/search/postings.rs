//! The texts of the index that have the words of a term, by conversation.
//!
//! SQLite walks over 10 to 20 million texts in a second, and the most frequent words are in most texts. So the
//! rarest term of a query decides in which conversations the others are looked up, and a long list is read by
//! several threads.

use super::query::Term;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexError, IndexStore, TextId};
use crate::io::parallel;
use rusqlite::{Connection, params};
use std::ops::RangeInclusive;

/// The number of texts that are read of each term at first: a few milliseconds. Small in unit tests, so that their
/// random queries have long lists.
const FIRST_TEXTS: usize = if cfg!(test) { 4 } else { 50_000 };

/// The number of conversations up to which each is looked up instead of reading a list of all.
pub(super) const MAX_LOOKUPS: usize = if cfg!(test) { 3 } else { 500 };

/// The texts of one conversation that have the words of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Posting {
    pub conversation: i64,
    pub texts: u32,
    /// The best of them to show: one of the user or the assistant rather than one of a tool.
    pub best: TextId,
    pub has_title: bool,
}

/// The conversations with the words of a term, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct PostingList {
    pub postings: Vec<Posting>,
    /// The number of conversations with the words; a lower bound if the list is restricted.
    pub conversations: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PostingReader<'a> {
    pub store: &'a IndexStore,
    /// Only texts of this author.
    pub role: Option<Role>,
}

/// Returns the FTS5 query for texts with the words of all terms, each as it is written.
pub(super) fn build_fts_query<'a>(terms: impl IntoIterator<Item = &'a Term>) -> String {
    let words = terms.into_iter().flat_map(|term| &term.words).map(|word| {
        // Words have no quotes: they are letters, digits and symbols.
        format!("\"{}\"{}", word.word, if word.is_prefix { "*" } else { "" })
    });
    words.collect::<Vec<_>>().join(" AND ")
}

/// Returns true for queries with beginnings of words. SQLite merges the lists of all words with a beginning for each lookup.
fn is_slow_lookup(expression: &str) -> bool {
    expression.contains('*')
}

/// Returns a larger number for texts that are better to show.
fn display_preference(role: Role) -> u8 {
    match role {
        Role::Tool => 0,
        Role::Title => 1,
        Role::Assistant | Role::User => 2,
    }
}

impl PostingReader<'_> {
    /// Returns the texts of a query in these conversations, which are ordered by number, and maybe in others.
    pub(super) fn read_near(
        self,
        expression: &str,
        conversations: &[i64],
    ) -> Result<Vec<Posting>, IndexError> {
        let mut postings = Vec::new();
        if self.read_first(expression, &mut postings)? {
            return Ok(postings);
        }
        if conversations.len() <= MAX_LOOKUPS && !is_slow_lookup(expression) {
            return self.read_in_conversations(expression, conversations);
        }
        self.read_rest(expression, &mut postings)?;
        Ok(postings)
    }

    /// Returns the texts of each query. With `needs_all`, if one query finds few conversations, the lists of others may
    /// lack conversations without it.
    pub(super) fn read_each(
        self,
        expressions: &[&str],
        needs_all: bool,
    ) -> Result<Vec<PostingList>, IndexError> {
        let mut lists = Vec::new();
        for expression in expressions {
            let mut postings = Vec::new();
            let is_whole = self.read_first(expression, &mut postings)?;
            lists.push((postings, is_whole));
        }
        let whole = lists.iter().filter(|(_, is_whole)| *is_whole);
        let rarest = whole.map(|(postings, _)| postings).min_by_key(|p| p.len());
        let few = rarest.filter(|postings| needs_all && postings.len() <= MAX_LOOKUPS);
        let few: Option<Vec<i64>> = few.map(|p| p.iter().map(|p| p.conversation).collect());
        let lists = lists.into_iter().zip(expressions);
        lists
            .map(|((mut postings, is_whole), expression)| {
                let mut conversations = postings.len();
                match &few {
                    _ if is_whole => {}
                    Some(few) if !is_slow_lookup(expression) => {
                        postings = self.read_in_conversations(expression, few)?;
                    }
                    _ => {
                        self.read_rest(expression, &mut postings)?;
                        conversations = postings.len();
                    }
                }
                Ok(PostingList {
                    postings,
                    conversations,
                })
            })
            .collect()
    }

    fn read_in_conversations(
        self,
        expression: &str,
        conversations: &[i64],
    ) -> Result<Vec<Posting>, IndexError> {
        let mut postings = Vec::new();
        for number in conversations {
            self.store.run(|connection| {
                let range = *number..=*number;
                read(connection, expression, range, self.role, &mut postings)
            })?;
        }
        Ok(postings)
    }

    /// Reads the beginning of a list. Returns true if that is all of it; else the last conversation may be incomplete.
    fn read_first(self, expression: &str, postings: &mut Vec<Posting>) -> Result<bool, IndexError> {
        self.store.run(|connection| {
            let sql = "SELECT rowid FROM words WHERE words MATCH ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([expression])?;
            for _ in 0..FIRST_TEXTS {
                match rows.next()? {
                    Some(row) => add(TextId(row.get(0)?), self.role, postings),
                    None => return Ok(true),
                }
            }
            Ok(false)
        })
    }

    /// Reads the rest of a list that [`PostingReader::read_first`] began, in several threads.
    fn read_rest(self, expression: &str, postings: &mut Vec<Posting>) -> Result<(), IndexError> {
        // The last conversation may be incomplete, so it is read again as a whole.
        let from = postings.pop().map_or(0, |last| last.conversation);
        let ranges = split(
            from..=self.store.max_conversation_id()?,
            parallel::threads(),
        );
        let (path, role) = (self.store.path(), self.role);
        parallel::run_each_ordered(
            ranges.len(),
            ranges.iter().cloned(),
            |range| {
                let mut part = Vec::new();
                // A connection of SQLite serves one thread.
                let store = IndexStore::connect(path)?;
                store.run(|connection| read(connection, expression, range, role, &mut part))?;
                Ok(part)
            },
            |part: Result<Vec<Posting>, IndexError>| {
                postings.append(&mut part?);
                Ok(())
            },
        )
    }
}

/// Divides a range into at most `parts` of about equal size.
fn split(range: RangeInclusive<i64>, parts: usize) -> Vec<RangeInclusive<i64>> {
    let (first, last) = (*range.start(), *range.end());
    let parts = i64::try_from(parts).unwrap_or(1).max(1);
    let size = ((last - first).max(0) / parts) + 1;
    let starts = (0..parts).map(|part| first + part * size);
    let ranges = starts.map(|start| start..=(start + size - 1).min(last));
    ranges.filter(|range| !range.is_empty()).collect()
}

/// Reads the texts of a range of conversations.
fn read(
    connection: &Connection,
    expression: &str,
    conversations: RangeInclusive<i64>,
    role: Option<Role>,
    postings: &mut Vec<Posting>,
) -> rusqlite::Result<()> {
    let sql = "SELECT rowid FROM words WHERE words MATCH ?1 AND rowid BETWEEN ?2 AND ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let (first, _) = TextId::conversation_range(*conversations.start());
    let (_, last) = TextId::conversation_range(*conversations.end());
    let mut rows = statement.query(params![expression, first, last])?;
    while let Some(row) = rows.next()? {
        add(TextId(row.get(0)?), role, postings);
    }
    Ok(())
}

fn add(id: TextId, role: Option<Role>, postings: &mut Vec<Posting>) {
    if role.is_some_and(|role| id.role() != role) {
        return;
    }
    let has_title = id.role() == Role::Title;
    match postings.last_mut() {
        Some(last) if last.conversation == id.conversation() => {
            last.texts += 1;
            if display_preference(id.role()) > display_preference(last.best.role()) {
                last.best = id;
            }
            last.has_title |= has_title;
        }
        _ => postings.push(Posting {
            conversation: id.conversation(),
            texts: 1,
            best: id,
            has_title,
        }),
    }
}
