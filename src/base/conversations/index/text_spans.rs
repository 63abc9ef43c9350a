//! The texts of each conversation, with their authors and places.
//!
//! Texts of all conversations are numbered in the order in which they are written. Posting lists store differences
//! between numbers; the small differences of this order make the index smaller by a fifth. A span is a row with
//! successive texts of one conversation. A conversation has a span for each update that has read texts of it, or
//! several if there were more than [`MAX_TEXTS`].
//!
//! The column `roles` has four bits for each text. The bit of the author is set; a deleted text has no bit. The
//! first number of a span is even, so these bytes can be copied into the [`TextSet`] of all texts. The column `places`
//! has two numbers for each text: the differences of its place and of its turn from those of the previous text.

use super::store::{IndexError, IndexStore, Place, TextId};
use super::usage_ingest;
use super::variable_numbers::{push_varint, take_varint};
use crate::codex::rollout_lines::Role;
use rusqlite::{Row, params};

/// The key in `meta` of the number that the next text gets. Numbers are never reused, so that a search during an update
/// does not confuse two texts.
pub(super) const NEXT_TEXT: &str = "next_text";

/// The largest number of texts of a span. Their places about fill a page of the file.
const MAX_TEXTS: usize = 1024;

/// All texts in the index, as they were when the index was read.
#[derive(Debug)]
pub(crate) struct TextSpans {
    /// One element per span, in order.
    pub ranges: Vec<SpanRange>,
    /// All texts except deleted ones.
    pub texts: TextSet,
}

/// The possible text ids of a span.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanRange {
    pub first: i64,
    pub last: i64,
    /// The number of the conversation.
    pub conversation: i64,
}

impl TextSpans {
    pub(crate) fn read(store: &IndexStore) -> Result<Self, IndexError> {
        let next_text = store.read_meta(NEXT_TEXT)?.unwrap_or(0);
        let mut texts = TextSet::new(TextId::smallest_of(next_text).0);

        let sql = "SELECT first, roles, conversation FROM span ORDER BY first";
        let ranges = store.query_rows(sql, [], |row| {
            let (range, roles) = parse_range_row(row)?;
            for (id, bits) in (range.first..).step_by(8).zip(roles) {
                texts.insert_bits(id, *bits);
            }
            Ok(range)
        })?;

        Ok(Self { ranges, texts })
    }
}

/// The number that the next text gets, and the number of conversations. An update that adds texts changes the first,
/// and one that removes conversations the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRevision(Option<i64>, i64);

pub fn read_revision(store: &IndexStore) -> Result<IndexRevision, IndexError> {
    let next_text = store.read_meta(NEXT_TEXT)?;
    Ok(IndexRevision(next_text, store.count_conversations()?))
}

/// Reads a row with the columns `first`, `roles` and `conversation`. Also returns the roles.
fn parse_range_row<'r>(row: &'r Row<'_>) -> rusqlite::Result<(SpanRange, &'r [u8])> {
    let TextId(first) = TextId::smallest_of(row.get_ref(0)?.as_i64()?);
    let roles = row.get_ref(1)?.as_blob()?;
    // A byte stands for eight ids: it has the bits of two texts, and each text has four possible ids.
    let bytes = i64::try_from(roles.len()).unwrap_or(0);
    let range = SpanRange {
        first,
        last: first + 8 * bytes - 1,
        conversation: row.get_ref(2)?.as_i64()?,
    };
    Ok((range, roles))
}

/// Returns the ranges of the spans of a conversation, in order.
pub(crate) fn list_span_ranges(
    store: &IndexStore,
    conversation_id: i64,
) -> Result<Vec<SpanRange>, IndexError> {
    let sql = "SELECT first, roles, conversation FROM span WHERE conversation=?1 ORDER BY first";
    store.query_rows(sql, [conversation_id], |row| Ok(parse_range_row(row)?.0))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TextPosition {
    pub turn: u32,
    pub place: Place,
}

/// Returns the position of a text, or `None` if the text is no longer in the index. The result is meaningless for a
/// title, which has no position.
pub(crate) fn read_position(
    store: &IndexStore,
    id: TextId,
) -> Result<Option<TextPosition>, IndexError> {
    let sql = "SELECT first, places FROM span WHERE first<=?1 ORDER BY first DESC LIMIT 1";
    let position = store.query_optional(sql, [id.number()], |row| {
        let first: i64 = row.get(0)?;
        let i = usize::try_from(id.number() - first).unwrap_or(usize::MAX);
        Ok(decode_positions(row.get_ref(1)?.as_blob()?).nth(i))
    })?;
    Ok(position.flatten())
}

/// Decodes the column `places`, in which each text has the differences from the previous text.
fn decode_positions(mut bytes: &[u8]) -> impl Iterator<Item = TextPosition> {
    let (mut place_number, mut turn) = (0i64, 0i64);
    std::iter::from_fn(move || {
        place_number = place_number.wrapping_add(take_varint(&mut bytes)?);
        turn = turn.wrapping_add(take_varint(&mut bytes)?);
        Some(TextPosition {
            turn: u32::try_from(turn).ok()?,
            place: Place::from_number(place_number),
        })
    })
}

/// A span that is not written yet.
#[derive(Debug, Default)]
pub(super) struct NewSpan {
    /// The number of texts.
    count: usize,
    roles: Vec<u8>,
    places: Vec<u8>,
    /// The place of the last text's line, as a number.
    last_place: i64,
    last_turn: i64,
}

impl NewSpan {
    pub(super) fn is_full(&self) -> bool {
        self.count == MAX_TEXTS
    }

    /// Adds the next text. A title has no position.
    pub(super) fn push(&mut self, role: Role, position: Option<TextPosition>) {
        let bit = 1 << role as u8;
        // A byte has the bits of two texts.
        match self.roles.last_mut() {
            Some(byte) if !self.count.is_multiple_of(2) => *byte |= bit << 4,
            _ => self.roles.push(bit),
        }
        self.count += 1;

        let place = position.map_or(self.last_place, |position| position.place.to_number());
        let turn = position.map_or(self.last_turn, |position| i64::from(position.turn));
        push_varint(&mut self.places, place.wrapping_sub(self.last_place));
        push_varint(&mut self.places, turn.wrapping_sub(self.last_turn));
        (self.last_place, self.last_turn) = (place, turn);
    }

    /// Writes the span and empties it. `next_text` is the number after its last text. Returns the number that the next
    /// text gets, which is the next even number.
    pub(super) fn write(
        &mut self,
        store: &IndexStore,
        conversation_id: i64,
        next_text: i64,
    ) -> rusqlite::Result<i64> {
        let span = std::mem::take(self);

        let sql = "INSERT INTO span VALUES(?1, ?2, ?3, ?4)";
        if span.count > 0 {
            let first = next_text - i64::try_from(span.count).unwrap_or(0);
            store.execute(
                sql,
                params![first, conversation_id, span.roles, span.places],
            )?;
        }
        Ok(next_text + next_text % 2)
    }
}

/// Deletes the texts of a conversation that `is_deleted` selects by author and turn. Returns true if it deleted any.
pub(super) fn delete_matching_texts(
    store: &IndexStore,
    conversation_id: i64,
    is_deleted: impl Fn(Role, u32) -> bool,
) -> rusqlite::Result<bool> {
    let connection = &store.connection;
    let sql = "SELECT first, roles, places FROM span WHERE conversation=?1";
    let mut statement = connection.prepare_cached(sql)?;
    let spans = statement.query_map([conversation_id], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    let spans: Vec<(i64, Vec<u8>, Vec<u8>)> = spans.collect::<Result<_, _>>()?;

    let mut has_deleted_any = false;
    for (first, mut roles, place_bytes) in spans {
        let mut deleted_numbers = Vec::new();
        for (i, position) in decode_positions(&place_bytes).enumerate() {
            // A byte has the bits of two texts.
            let shift = 4 * (i % 2);
            let Some(byte) = roles.get_mut(i / 2) else {
                break;
            };

            let bits = *byte >> shift & 0xf;
            if bits == 0 {
                // The text was deleted before.
                continue;
            }

            let number = first + i64::try_from(i).unwrap_or(0);
            let id = TextId(TextId::smallest_of(number).0 + i64::from(bits.trailing_zeros()));
            if is_deleted(id.role(), position.turn) {
                *byte &= !(0xf << shift);
                deleted_numbers.push(number);
            }
        }

        if deleted_numbers.is_empty() {
            continue;
        }
        has_deleted_any = true;
        let update = "UPDATE span SET roles=?2 WHERE first=?1";
        store.execute(update, params![first, roles])?;
        for number in deleted_numbers {
            store.execute("INSERT INTO dead VALUES(?1)", [number])?;
        }
    }

    Ok(has_deleted_any)
}

/// A set of texts with one bit for each [`TextId`]. A text has four possible ids, one for each author, and so four
/// bits. In the set of all texts, the bit of the text's author is set.
#[derive(Debug, Clone)]
pub(crate) struct TextSet {
    bits: Vec<u64>,
}

/// Returns a mask of the bits of texts by one author, for 64 bits of a [`TextSet`].
pub(crate) const fn role_mask(role: Role) -> u64 {
    0x1111_1111_1111_1111 << role as u32
}

impl TextSet {
    /// Returns an empty set for text ids up to `end`.
    pub(super) fn new(end: i64) -> Self {
        let words = usize::try_from(end / 64 + 1).unwrap_or(0);
        let bits = vec![0; words];
        Self { bits }
    }

    /// Returns an empty set for the same text ids as this set.
    pub(super) fn empty_copy(&self) -> Self {
        let bits = vec![0; self.bits.len()];
        Self { bits }
    }

    /// Inserts all ids of the text with a number, because its author is unknown. Ignores numbers beyond the end.
    pub(super) fn insert_number(&mut self, number: i64) {
        let TextId(first_id) = TextId::smallest_of(number);
        let all_authors = 0xf;
        self.insert_bits(first_id, all_authors);
    }

    /// Inserts the text id `id + n` for each bit `n` that is set in `bits`. Ignores ids beyond the end.
    fn insert_bits(&mut self, id: i64, bits: u8) {
        let group_number = usize::try_from(id >> 6).unwrap_or(usize::MAX);
        if let Some(group) = self.bits.get_mut(group_number) {
            *group |= u64::from(bits) << (id & 63);
        }
    }

    pub(super) fn retain_role(&mut self, role: Role) {
        let mask = role_mask(role);
        self.bits.iter_mut().for_each(|bits| *bits &= mask);
    }

    pub(super) fn retain_common(&mut self, other: &Self) {
        for (bits, other_bits) in self.bits.iter_mut().zip(&other.bits) {
            *bits &= other_bits;
        }
    }

    pub(super) fn insert_all(&mut self, other: &Self) {
        for (bits, other_bits) in self.bits.iter_mut().zip(&other.bits) {
            *bits |= other_bits;
        }
    }

    pub(crate) fn len(&self) -> usize {
        let counts = self.bits.iter().map(|bits| bits.count_ones() as usize);
        counts.sum()
    }

    /// Returns the bits of the text ids from `first` to `last` in groups of 64, each with the text id of its lowest
    /// bit. Leaves out groups without any bit.
    pub(crate) fn bit_groups(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, u64)> {
        let start = usize::try_from(first >> 6).unwrap_or(0);
        let end = usize::try_from(last >> 6)
            .map_or(0, |group_number| group_number + 1)
            .min(self.bits.len());
        let groups = (first >> 6..).zip(self.bits.get(start..end).unwrap_or_default());

        groups
            .filter(|(_, bits)| **bits != 0)
            .map(move |(group_number, bits)| {
                let base = group_number << 6;
                let mut bits = *bits;

                // The first and the last group may have bits outside of the range.
                if base < first {
                    bits &= u64::MAX << (first - base);
                }
                if last - base < 63 {
                    bits &= u64::MAX >> (63 - (last - base));
                }

                (base, bits)
            })
    }

    /// Returns the texts with ids from `first` to `last`.
    pub(crate) fn texts_between(&self, first: i64, last: i64) -> impl Iterator<Item = TextId> {
        self.bit_groups(first, last).flat_map(|(base, bits)| {
            let set_bits = (0..64).filter(move |bit| bits >> bit & 1 == 1);
            set_bits.map(move |bit| TextId(base + bit))
        })
    }
}

/// The key in `meta` of a flag, which is 1 while the file of the index may still contain words of deleted texts.
pub(super) const ERASE_NEEDED: &str = "erasing";

/// Deletes the usage and the texts of a conversation, including its title.
pub(super) fn delete_conversation_texts(
    store: &IndexStore,
    conversation_id: i64,
) -> rusqlite::Result<()> {
    usage_ingest::delete_usage(store, conversation_id)?;
    let is_deleted = |_: Role, _: u32| true;
    delete_and_request_erasing(store, conversation_id, is_deleted)?;
    store.execute("DELETE FROM span WHERE conversation=?1", [conversation_id])
}

/// Deletes the texts of all turns after `last_turn`, because the user rolled these turns back.
pub(super) fn delete_turns_after(
    store: &IndexStore,
    conversation_id: i64,
    last_turn: u32,
) -> rusqlite::Result<()> {
    delete_and_request_erasing(store, conversation_id, |role, turn| {
        role != Role::Title && turn > last_turn
    })
}

/// Deletes the texts that `is_deleted` selects, and sets [`ERASE_NEEDED`] if there are any.
fn delete_and_request_erasing(
    store: &IndexStore,
    conversation_id: i64,
    is_deleted: impl Fn(Role, u32) -> bool,
) -> rusqlite::Result<()> {
    if delete_matching_texts(store, conversation_id, is_deleted)? {
        store.execute("INSERT OR REPLACE INTO meta VALUES(?1, 1)", [ERASE_NEEDED])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_the_inserted_texts_and_retain_common_keeps_those_of_both_sets() {
        let ids = [0, 3, 63, 64, 65, 127, 128, 500, 640];
        let mut set = TextSet::new(640);
        for id in ids {
            set.insert_bits(id & !7, 1 << (id & 7));
        }
        set.insert_number(2500);
        for first in 0..200 {
            for last in first..700 {
                let expected = ids.iter().copied().filter(|id| (first..=last).contains(id));
                let found: Vec<_> = set.texts_between(first, last).map(|id| id.0).collect();
                assert_eq!(found, expected.collect::<Vec<_>>(), "{first} {last}");
            }
        }
        let mut others = TextSet::new(640);
        for number in [0, 17, 18] {
            others.insert_number(number);
        }
        set.retain_common(&others);
        let found: Vec<_> = set.texts_between(0, 640).map(|id| id.0).collect();
        assert_eq!((set.len(), found), (2, vec![0, 3]));
    }
}
