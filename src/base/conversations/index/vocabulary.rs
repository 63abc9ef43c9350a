//! Gives each different word of many texts a number.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher as _;

/// Numbers words in the order of their first occurrence. Stores all words in one buffer, without an allocation for
/// each.
#[derive(Default)]
pub(super) struct Vocabulary {
    hasher: DefaultHashBuilder,
    /// The place of each word. It has the start and the length of the word, so a lookup need not read `ends`.
    places: HashTable<WordPlace>,
    bytes: Vec<u8>,
    /// For each word, its end in `bytes`.
    ends: Vec<u32>,
}

#[derive(Clone, Copy)]
struct WordPlace {
    number: u32,
    start: u32,
    len: u32,
}

impl WordPlace {
    fn word(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..][..self.len as usize]
    }
}

impl Vocabulary {
    pub(super) fn with_capacity(words: usize) -> Self {
        Self {
            places: HashTable::with_capacity(words),
            ..Self::default()
        }
    }

    /// Returns the number of a word. A new word gets the next number.
    pub(super) fn intern(&mut self, word: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(word);
        let has_word = |place: &WordPlace| place.word(&self.bytes) == word;
        let hash_place = |place: &WordPlace| self.hasher.hash_one(place.word(&self.bytes));
        let place_entry = self.places.entry(hash, has_word, hash_place);

        let to_u32 = |len| u32::try_from(len).unwrap_or(u32::MAX);
        let new_place = WordPlace {
            number: to_u32(self.ends.len()),
            start: to_u32(self.bytes.len()),
            len: to_u32(word.len()),
        };

        let number = place_entry.or_insert(new_place).get().number;
        // Only a new place has this number, so the word is new.
        if number == new_place.number {
            self.bytes.extend_from_slice(word);
            self.ends.push(new_place.start + new_place.len);
        }

        number
    }

    /// Returns the number of a word, or `None` if the word is unknown.
    pub(super) fn find(&self, word: &[u8]) -> Option<u32> {
        let has_word = |place: &WordPlace| place.word(&self.bytes) == word;
        let place = self.places.find(self.hasher.hash_one(word), has_word);
        place.map(|place| place.number)
    }

    /// Returns the words in the order of their numbers.
    pub(super) fn words(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let word = &self.bytes[start..*end as usize];
            start = *end as usize;
            word
        })
    }

    /// Returns the words in ascending order, with their numbers.
    pub(super) fn iter_sorted(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let words: Vec<_> = self.words().collect();

        // The first bytes of most words differ, and comparing these as numbers is faster.
        let numbered = words.iter().zip(0u32..);
        let mut order: Vec<_> = numbered
            .map(|(word, number)| (prefix_key(word), number))
            .collect();

        order.sort_unstable_by(|(a, a_number), (b, b_number)| {
            let compare_whole = || words[*a_number as usize].cmp(words[*b_number as usize]);
            a.cmp(b).then_with(compare_whole)
        });

        let numbers = order.into_iter().map(|(_, number)| number as usize);
        numbers.map(move |number| (number, words[number]))
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// Returns the first eight bytes of a word as a number. The numbers have the same order as the bytes.
fn prefix_key(word: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    let len = word.len().min(bytes.len());
    bytes[..len].copy_from_slice(&word[..len]);
    u64::from_be_bytes(bytes)
}
