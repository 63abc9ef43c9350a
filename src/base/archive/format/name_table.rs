//! A compact table of entry names, and sets of names as bits.
//!
//! A home has hundreds of thousands of files, and a restore needs each name in several lists: the
//! archive, the home, its plan, and the safety backup. All lists of one operation share one table.
//! It stores each name once, without the prefix that it shares with its predecessor. The lists hold
//! numbers.

use super::entry_name::EntryName;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// The first name of a block is stored without prefix compression. A lookup decodes half a block on average.
const NAMES_PER_BLOCK: usize = 16;

/// Number of a name in a [`NameTable`], counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

impl NameId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// An append-only table of distinct names. Threads may share it.
#[derive(Debug, Default)]
pub struct NameTable(RwLock<NameTableInner>);

impl NameTable {
    /// Returns the number of `name`. Adds the name if it is new.
    pub fn intern(&self, name: &EntryName) -> NameId {
        let bytes = name.as_path().as_os_str().as_encoded_bytes();
        if let Some(id) = self.lock_shared().find(bytes) {
            return id;
        }
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have added it in between.
        names.find(bytes).unwrap_or_else(|| names.add(bytes))
    }

    /// Returns the number of `path`, or `None` if the table does not have it.
    pub(crate) fn find(&self, path: &Path) -> Option<NameId> {
        self.lock_shared().find(path.as_os_str().as_encoded_bytes())
    }

    pub fn name(&self, id: NameId) -> EntryName {
        let mut bytes = Vec::with_capacity(128);
        self.lock_shared().decode(id.index(), &mut bytes);
        EntryName::from_checked_bytes(bytes)
    }

    fn lock_shared(&self) -> RwLockReadGuard<'_, NameTableInner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct NameTableInner {
    /// For each name: the length of the prefix that it shares with its predecessor, the length of the suffix, and the
    /// suffix.
    text: Vec<u8>,
    /// Offset in `text` of the first name of each block.
    blocks: Vec<usize>,
    len: u32,
    /// The name that was added last.
    last_name: Vec<u8>,
    /// The hash and the number of each name. With the hash, growth and most comparisons decode no name.
    ids_by_hash: HashTable<(u32, NameId)>,
    // Random, so that no archive can have names whose hashes are all equal.
    hashes: RandomState,
}

impl NameTableInner {
    fn find(&self, bytes: &[u8]) -> Option<NameId> {
        let hash = self.hash(bytes);
        let mut name = Vec::with_capacity(bytes.len() + 64);
        let is_name = |&(stored_hash, id): &(u32, NameId)| {
            if stored_hash != hash {
                return false;
            }
            self.decode(id.index(), &mut name);
            name == bytes
        };
        let (_, id) = self.ids_by_hash.find(to_table_hash(hash), is_name)?;
        Some(*id)
    }

    #[allow(clippy::cast_possible_truncation, reason = "32 bits of it are enough")]
    fn hash(&self, bytes: &[u8]) -> u32 {
        self.hashes.hash_one(bytes) as u32
    }

    fn add(&mut self, bytes: &[u8]) -> NameId {
        let id = NameId(self.len);
        let shared_len = if id.index().is_multiple_of(NAMES_PER_BLOCK) {
            self.blocks.push(self.text.len());
            0
        } else {
            // Names come mostly in order, so that neighbours share their folders.
            let shared_bytes = self.last_name.iter().zip(bytes).take_while(|(a, b)| a == b);
            shared_bytes.count()
        };

        // Encodes the name as the length of the shared prefix, the length of the suffix, and the suffix.
        let suffix = &bytes[shared_len..];
        for len in [shared_len, suffix.len()] {
            let len = u16::try_from(len);
            debug_assert!(len.is_ok(), "a name has at most 4,095 bytes");
            self.text
                .extend_from_slice(&len.unwrap_or_default().to_le_bytes());
        }
        self.text.extend_from_slice(suffix);
        self.last_name.clear();
        self.last_name.extend_from_slice(bytes);
        self.len += 1;

        let hash = self.hash(bytes);
        // A growing table computes the hashes of its entries again.
        let hash_entry = |&(hash, _): &(u32, NameId)| to_table_hash(hash);
        self.ids_by_hash
            .insert_unique(to_table_hash(hash), (hash, id), hash_entry);
        id
    }

    fn decode(&self, index: usize, name: &mut Vec<u8>) {
        name.clear();
        let mut offset = self.blocks[index / NAMES_PER_BLOCK];
        for _ in 0..=index % NAMES_PER_BLOCK {
            offset = self.decode_next(offset, name);
        }
    }

    /// Decodes the name at `offset` of `text` into `name`, which has to hold the preceding name. Returns the
    /// offset of the next name.
    fn decode_next(&self, offset: usize, name: &mut Vec<u8>) -> usize {
        // The suffix follows two lengths of two bytes each.
        let suffix_start = offset + 4;
        let suffix_end = suffix_start + read_len(&self.text, offset + 2);
        name.truncate(read_len(&self.text, offset));
        name.extend_from_slice(&self.text[suffix_start..suffix_end]);
        suffix_end
    }
}

/// Repeats a hash in both halves of 64 bits: a hash table uses the low bits for the slot, and the high bits for a tag.
fn to_table_hash(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

/// Reads a length of two bytes at `offset`. Names have at most 4,095 bytes.
fn read_len(text: &[u8], offset: usize) -> usize {
    usize::from(u16::from_le_bytes([text[offset], text[offset + 1]]))
}

/// A set of names of one [`NameTable`].
#[derive(Debug, Clone, Default)]
pub struct NameSet {
    names: Arc<NameTable>,
    /// One bit per number of the table.
    bits: Vec<u64>,
    len: usize,
}

impl NameSet {
    /// Creates an empty set whose names are stored in `names`.
    pub fn with_name_table(names: &Arc<NameTable>) -> Self {
        Self {
            names: Arc::clone(names),
            bits: Vec::new(),
            len: 0,
        }
    }

    /// Returns the table that stores the names of the set.
    pub fn name_table(&self) -> &Arc<NameTable> {
        &self.names
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a name. Returns false if the set already had it.
    pub fn insert(&mut self, name: &EntryName) -> bool {
        self.insert_id(self.names.intern(name))
    }

    /// Adds the name with number `id` of the same table. Returns false if the set already had it.
    pub(crate) fn insert_id(&mut self, id: NameId) -> bool {
        let (word, mask) = locate_bit(id);
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let is_new = self.bits[word] & mask == 0;
        self.bits[word] |= mask;
        self.len += usize::from(is_new);
        is_new
    }

    pub fn remove(&mut self, path: &Path) {
        if let Some(id) = self.names.find(path).filter(|id| self.contains_id(*id)) {
            let (word, mask) = locate_bit(id);
            self.bits[word] &= !mask;
            self.len -= 1;
        }
    }

    pub fn contains(&self, path: &Path) -> bool {
        self.len > 0 && self.names.find(path).is_some_and(|id| self.contains_id(id))
    }

    /// Returns true if the set has the name with number `id` of the same table.
    pub(crate) fn contains_id(&self, id: NameId) -> bool {
        let (word, mask) = locate_bit(id);
        self.bits.get(word).is_some_and(|bits| bits & mask != 0)
    }

    /// Returns the names in the order in which they were added to the table.
    pub fn iter(&self) -> impl Iterator<Item = EntryName> + '_ {
        self.ids().map(|id| self.names.name(id))
    }

    fn ids(&self) -> impl Iterator<Item = NameId> + '_ {
        (0..).zip(&self.bits).flat_map(|(word, bits)| {
            let set_bits = (0..64).filter(move |bit| bits >> bit & 1 == 1);
            set_bits.map(move |bit| NameId(word * 64 + bit))
        })
    }

    /// Returns the names in alphabetical order.
    pub fn to_sorted_names(&self) -> Vec<EntryName> {
        let mut names: Vec<_> = self.iter().collect();
        names.sort_unstable();
        names
    }

    /// Returns the names of this set that are not in `other`, a set of the same table.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut difference = Self::with_name_table(&self.names);
        for id in self.ids().filter(|id| !other.contains_id(*id)) {
            difference.insert_id(id);
        }
        difference
    }

    /// Returns true if a parent folder of `path`, at any level, is in the set.
    pub fn contains_ancestor_of(&self, path: &Path) -> bool {
        !self.is_empty() && path.ancestors().skip(1).any(|above| self.contains(above))
    }
}

/// Returns the index of the word in [`NameSet::bits`], and the mask of the bit in that word.
fn locate_bit(id: NameId) -> (usize, u64) {
    (id.index() / 64, 1 << (id.0 % 64))
}

impl Extend<EntryName> for NameSet {
    fn extend<T: IntoIterator<Item = EntryName>>(&mut self, names: T) {
        for name in names {
            self.insert(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(text: &str) -> EntryName {
        EntryName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_of_great_length_round_trip() {
        let table = NameTable::default();
        let long = name(&vec!["x".repeat(200); 15].join("/"));
        let longer = name(&format!("{long}/y"));
        let ids = [&long, &longer].map(|n| table.intern(n));
        assert_eq!(ids.map(|id| table.name(id)), [long, longer]);
    }

    proptest! {
        #[test]
        fn name_set_behaves_like_a_btree_set(
            names in prop::collection::vec("[ab]{1,3}(/[ab]{1,2}){0,2}", 0..200),
            taken_out in prop::collection::vec(0_usize..200, 0..50),
        ) {
            let table = Arc::new(NameTable::default());
            let (mut set, mut plain) = (NameSet::with_name_table(&table), BTreeSet::new());
            for name in names.iter().map(|n| name(n)) {
                prop_assert_eq!(set.insert(&name), plain.insert(name));
            }
            for name in taken_out.iter().filter_map(|i| names.get(*i)).map(|n| name(n)) {
                set.remove(name.as_path());
                plain.remove(&name);
            }
            prop_assert_eq!(set.len(), plain.len());
            for name in names.iter().map(|n| name(n)) {
                prop_assert_eq!(set.contains(name.as_path()), plain.contains(&name));
            }
            prop_assert_eq!(set.to_sorted_names(), plain.into_iter().collect::<Vec<_>>());
        }
    }
}
