//! The texts of each conversation, as ranges of row ids.
//!
//! Row ids ascend in the order in which texts are written, whatever their conversation: lists of texts have the differences of
//! row ids, so small ones make the index smaller by a fifth. A conversation has one range for each time that
//! others were written before it grew.

use super::error::IndexError;
use super::store::{IndexStore, TextId};
use rusqlite::params;

/// The key of the number that the next text gets. Numbers are never reused, so a search during an update does not
/// confuse two texts.
pub(super) const NEXT_TEXT: &str = "next_text";

/// The ranges of all conversations at one time.
#[derive(Debug)]
pub(crate) struct TextSpans {
    /// The first row id and the conversation of each range, in order. A range ends where the next one begins.
    spans: Vec<(i64, i64)>,
    /// The row id after the last text. Texts from this id on were added after the search began.
    pub end: i64,
}

impl TextSpans {
    pub(crate) fn read(store: &IndexStore) -> Result<Self, IndexError> {
        let next = store.read_meta(NEXT_TEXT)?.unwrap_or(0);
        let sql = "SELECT first, conversation FROM span ORDER BY first";
        let spans = store.query_rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let end = TextId::first_of(next).0;
        Ok(Self { spans, end })
    }

    /// Returns the first and the last possible row id of each range, and its conversation.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (i64, i64, i64)> {
        let ends = self.spans.iter().skip(1).map(|(first, _)| *first);
        let ranges = self.spans.iter().zip(ends.chain([self.end]));
        ranges.map(|((first, conversation), end)| (*first, end - 1, *conversation))
    }
}

/// Returns the first and the last possible row id of each range of a conversation, in order.
pub(crate) fn list_ranges(
    store: &IndexStore,
    conversation: i64,
) -> rusqlite::Result<Vec<(i64, i64)>> {
    let mut statement = store.connection.prepare_cached(
        "SELECT first, coalesce((SELECT min(n.first) FROM span n WHERE n.first>span.first)-1, ?2) \
         FROM span WHERE conversation=?1 ORDER BY first",
    )?;
    let ranges = statement.query_map(params![conversation, i64::MAX], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    ranges.collect()
}
