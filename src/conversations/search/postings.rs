//! The texts of the index that have the words of a term, by conversation.
//!
//! SQLite walks over 10 to 20 million texts in a second, and the most frequent words are in most texts. So the
//! rarest term of a query decides in which conversations the others are looked up, and a long list is read by
//! several threads.

use super::query::Term;
use crate::codex::rollout_lines::Role;
use crate::conversations::index::{IndexError, IndexStore, TextId, TextSpans, list_ranges};
use crate::io::parallel;
use rusqlite::{Connection, params};

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
    pub spans: &'a TextSpans,
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
        let (postings, rest) = self.read_first(expression)?;
        let Some(from) = rest else {
            return Ok(postings);
        };
        if conversations.len() <= MAX_LOOKUPS && !is_slow_lookup(expression) {
            return self.read_in_conversations(expression, conversations);
        }
        self.read_rest(expression, postings, from)
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
            lists.push(self.read_first(expression)?);
        }
        let whole = lists.iter().filter(|(_, rest)| rest.is_none());
        let rarest = whole.map(|(postings, _)| postings).min_by_key(|p| p.len());
        let few = rarest.filter(|postings| needs_all && postings.len() <= MAX_LOOKUPS);
        let few: Option<Vec<i64>> = few.map(|p| p.iter().map(|p| p.conversation).collect());
        let lists = lists.into_iter().zip(expressions);
        lists
            .map(|((mut postings, rest), expression)| {
                let mut conversations = postings.len();
                match (&few, rest) {
                    (_, None) => {}
                    (Some(few), _) if !is_slow_lookup(expression) => {
                        postings = self.read_in_conversations(expression, few)?;
                    }
                    (_, Some(from)) => {
                        postings = self.read_rest(expression, postings, from)?;
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
        let mut found = Collector::new(self.spans, self.role);
        for number in conversations {
            self.store.run(|connection| {
                for range in list_ranges(self.store, *number)? {
                    read(connection, expression, range, &mut found)?;
                }
                Ok(())
            })?;
        }
        Ok(merge(found.postings))
    }

    /// Reads the beginning of a list. Returns the row id to read on from too; `None` if that is all of it.
    fn read_first(self, expression: &str) -> Result<(Vec<Posting>, Option<i64>), IndexError> {
        let mut found = Collector::new(self.spans, self.role);
        let rest = self.store.run(|connection| {
            let sql = "SELECT rowid FROM words WHERE words MATCH ?1";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([expression])?;
            let mut next = 0;
            for _ in 0..FIRST_TEXTS {
                let Some(row) = rows.next()? else {
                    return Ok(None);
                };
                let id = TextId(row.get(0)?);
                found.add(id);
                next = id.0 + 1;
            }
            Ok(Some(next))
        })?;
        Ok((merge(found.postings), rest))
    }

    /// Reads the rest of a list that [`PostingReader::read_first`] began, in several threads.
    fn read_rest(
        self,
        expression: &str,
        mut postings: Vec<Posting>,
        from: i64,
    ) -> Result<Vec<Posting>, IndexError> {
        let ranges = split(from, self.spans.end, parallel::threads());
        let (path, spans, role) = (self.store.path(), self.spans, self.role);
        parallel::run_each_ordered(
            ranges.len(),
            ranges.iter().copied(),
            |range| {
                // A connection of SQLite serves one thread.
                let store = IndexStore::connect(path)?;
                let mut part = Collector::new(spans, role);
                store.run(|connection| read(connection, expression, range, &mut part))?;
                Ok(part.postings)
            },
            |part: Result<Vec<Posting>, IndexError>| {
                postings.append(&mut part?);
                Ok::<_, IndexError>(())
            },
        )?;
        Ok(merge(postings))
    }
}

/// Divides the row ids from `from` up to `end` into at most `parts` ranges of about equal size, each with its last one.
fn split(from: i64, end: i64, parts: usize) -> Vec<(i64, i64)> {
    let parts = i64::try_from(parts).unwrap_or(1).max(1);
    let size = ((end - from).max(0) / parts) + 1;
    let starts = (0..parts).map(|part| from + part * size);
    let ranges = starts.map(|start| (start, (start + size).min(end) - 1));
    ranges.filter(|(first, last)| first <= last).collect()
}

/// Reads the texts of a range of row ids.
fn read(
    connection: &Connection,
    expression: &str,
    (first, last): (i64, i64),
    found: &mut Collector<'_>,
) -> rusqlite::Result<()> {
    let sql = "SELECT rowid FROM words WHERE words MATCH ?1 AND rowid BETWEEN ?2 AND ?3";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![expression, first, last])?;
    while let Some(row) = rows.next()? {
        found.add(TextId(row.get(0)?));
    }
    Ok(())
}

/// Counts texts, which come in the order of their row ids, by conversation.
struct Collector<'a> {
    spans: &'a TextSpans,
    role: Option<Role>,
    /// One for each range of row ids.
    postings: Vec<Posting>,
    /// The end of the range of the last posting.
    end: i64,
}

impl<'a> Collector<'a> {
    fn new(spans: &'a TextSpans, role: Option<Role>) -> Self {
        Self {
            spans,
            role,
            postings: Vec::new(),
            end: 0,
        }
    }

    fn add(&mut self, id: TextId) {
        if self.role.is_some_and(|role| id.role() != role) {
            return;
        }
        let mut posting = Posting {
            conversation: 0,
            texts: 1,
            best: id,
            has_title: id.role() == Role::Title,
        };
        if let Some(last) = self.postings.last_mut().filter(|_| id.0 < self.end) {
            last.append(posting);
        } else if let Some((conversation, end)) = self.spans.find(id) {
            posting.conversation = conversation;
            self.postings.push(posting);
            self.end = end;
        }
    }
}

impl Posting {
    /// Adds later texts of the same conversation.
    fn append(&mut self, later: Self) {
        self.texts += later.texts;
        let preference = |posting: &Self| display_preference(posting.best.role());
        if preference(&later) > preference(self) {
            self.best = later.best;
        }
        self.has_title |= later.has_title;
    }
}

/// Returns one posting for each conversation, in the order of their numbers.
fn merge(mut postings: Vec<Posting>) -> Vec<Posting> {
    postings.sort_by_key(|posting| posting.conversation);
    postings.dedup_by(|later, first| {
        let is_same = later.conversation == first.conversation;
        if is_same {
            first.append(*later);
        }
        is_same
    });
    postings
}
