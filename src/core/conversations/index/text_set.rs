//! A set of texts with one bit for each [`TextId`]. A text has four possible ids, one for each author, and so four
//! bits. In the set of all texts, the bit of the text's author is set.

use super::store::TextId;
use crate::codex::rollout_lines::Role;

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
    pub(super) fn insert_bits(&mut self, id: i64, bits: u8) {
        let group_number = usize::try_from(id >> 6).unwrap_or(usize::MAX);
        if let Some(group) = self.bits.get_mut(group_number) {
            *group |= u64::from(bits) << (id & 63);
        }
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
        self.bits
            .iter()
            .map(|bits| bits.count_ones() as usize)
            .sum()
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
            let places = (0..64).filter(move |place| bits >> place & 1 == 1);
            places.map(move |place| TextId(base + place))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_the_texts_that_were_inserted() {
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
