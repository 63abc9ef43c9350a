//! Lists of texts, and blocks of words with their lists, as bytes.
//!
//! A list has the number of its first text as a [variable number](super::variable_numbers), then the distance from each text to the
//! next one in Elias' delta code: fewer bits the smaller it is, 1 bit for 1 and 15 bits for 500. The last byte is filled with zeros,
//! which are no code.
//!
//! A block has words in order. Each is a byte with the length of the beginning that it shares with the word before it (3
//! bits), the length of the rest (4 bits), and a 1 if its list has one text; a length that is too large continues
//! in a variable number. Then come the rest of the word, the length of the list unless it has one text, and the list.

use super::variable_numbers::{number_len, push_number, take_number};
use std::iter::Peekable;

/// The size of a block, in bytes: a row of an SQLite table that fills its page. All blocks have it, padded with zeros:
/// SQLite overwrites a row in place only with one of its size, and otherwise may leave a copy of deleted words in the page.
pub(super) const BLOCK_BYTES: usize = 4050;

/// A list begins in the current block only if this many bytes are left there; otherwise in the next block.
const MIN_LIST_BYTES: usize = 64;

/// The largest distances of two texts have this number of bits, so that a code fits into what [`DistanceReader`] holds.
const MAX_DISTANCE_BITS: u32 = 46;

/// The largest lengths that fit into the first byte of a word.
const SHARED_MAX: usize = 7;
const SUFFIX_MAX: usize = 15;

/// A list of the numbers of texts in ascending order.
#[derive(Debug, Clone, Default)]
pub(super) struct PostingList {
    bytes: Vec<u8>,
    last: i64,
    /// The bits after `bytes`, the first one highest. An index has millions of lists: most texts are added without a
    /// look at `bytes`, which are not in the processor's cache.
    pending: u64,
    pending_bits: u32,
}

impl PostingList {
    /// Appends a text, which must be larger than all others.
    pub(super) fn push(&mut self, number: i64) {
        if self.is_empty() {
            push_number(&mut self.bytes, number);
            self.last = number;
            return;
        }
        let distance = number.wrapping_sub(self.last).cast_unsigned();
        // Only the lists of a damaged index have others.
        if distance == 0 || distance >> MAX_DISTANCE_BITS != 0 {
            return;
        }
        self.last = number;
        let len = u64::BITS - distance.leading_zeros();
        let len_bits = u32::BITS - len.leading_zeros();
        // The length of the length in zeros, the length, and the distance without its first bit, which is a 1.
        let code = u64::from(len) << (len - 1) | distance & !(1 << (len - 1));
        let count = 2 * len_bits - 1 + len - 1;
        if count > u64::BITS - self.pending_bits {
            self.move_whole_bytes();
        }
        self.pending_bits += count;
        self.pending |= code << (u64::BITS - self.pending_bits);
    }

    /// Moves the whole bytes of `pending` to `bytes`, so that at most 7 bits are left.
    fn move_whole_bytes(&mut self) {
        let whole = self.pending_bits / 8;
        let pending = self.pending.to_be_bytes();
        self.bytes.extend_from_slice(&pending[..whole as usize]);
        self.pending = self.pending.checked_shl(8 * whole).unwrap_or(0);
        self.pending_bits %= 8;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the size in bytes.
    fn len(&self) -> usize {
        self.bytes.len() + self.pending_bits.div_ceil(8) as usize
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.pending_bits = self.pending_bits.next_multiple_of(8);
        self.move_whole_bytes();
        self.bytes
    }
}

impl FromIterator<i64> for PostingList {
    fn from_iter<I: IntoIterator<Item = i64>>(numbers: I) -> Self {
        let mut list = Self::default();
        numbers.into_iter().for_each(|number| list.push(number));
        list
    }
}

/// Returns the numbers of the texts of a list. A damaged list ends early.
pub(super) fn texts(mut bytes: &[u8]) -> impl Iterator<Item = i64> {
    let first = take_number(&mut bytes);
    let mut distances = DistanceReader {
        bytes,
        bits: 0,
        count: 0,
    };
    std::iter::successors(first, move |last| {
        Some(last.wrapping_add(distances.next_distance()?))
    })
}

struct DistanceReader<'a> {
    bytes: &'a [u8],
    /// The next bits, the first one highest, with zeros after them.
    bits: u64,
    count: u32,
}

impl DistanceReader<'_> {
    fn next_distance(&mut self) -> Option<i64> {
        while self.count <= 56
            && let Some((byte, rest)) = self.bytes.split_first()
        {
            self.bits |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            self.bytes = rest;
        }
        let zeros = self.bits.leading_zeros();
        // As many as a length of `MAX_DISTANCE_BITS` has.
        if zeros > MAX_DISTANCE_BITS.ilog2() {
            return None;
        }
        let len_end = 2 * zeros + 1;
        let len = u32::try_from(self.bits >> (u64::BITS - len_end)).ok()?;
        let end = len_end + len - 1;
        if end > self.count {
            return None;
        }
        let suffix = self.bits << len_end;
        let suffix = suffix.checked_shr(u64::BITS + 1 - len).unwrap_or(0);
        self.bits <<= end;
        self.count -= end;
        Some((1 << (len - 1) | suffix).cast_signed())
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// Returns a length of which the head of a word has the beginning. It continues in `bytes` if that is `max`.
fn take_length(bytes: &mut &[u8], begin: usize, max: usize) -> Option<usize> {
    if begin < max {
        return Some(begin);
    }
    begin.checked_add(usize::try_from(take_number(bytes)?).ok()?)
}

/// Reads the words of a block in order.
pub(super) struct BlockReader<'a> {
    rest: &'a [u8],
    pub(super) word: Vec<u8>,
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        let word = Vec::new();
        Self { rest, word }
    }

    /// Moves to the next word and returns its list; `None` at the end.
    pub(super) fn next_list(&mut self) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_first()?;
        if *head == 0 {
            return None;
        }
        self.rest = rest;
        let shared = take_length(&mut self.rest, usize::from(head >> 5), SHARED_MAX)?;
        let suffix = take_length(&mut self.rest, usize::from(head >> 1 & 15), SUFFIX_MAX)?;
        self.word.truncate(shared);
        self.word
            .extend_from_slice(take_bytes(&mut self.rest, suffix)?);
        let len = if head & 1 == 1 {
            number_len(self.rest)
        } else {
            usize::try_from(take_number(&mut self.rest)?).ok()?
        };
        take_bytes(&mut self.rest, len)
    }
}

/// A block that is being written.
#[derive(Default)]
pub(super) struct BlockWriter {
    pub(super) bytes: Vec<u8>,
    /// The first and the last word.
    pub(super) first: Vec<u8>,
    last: Vec<u8>,
}

impl BlockWriter {
    /// Returns the number of bytes that are left for the list of a word.
    pub(super) fn space(&self, word: &[u8]) -> usize {
        let shared = self.shared_len(word);
        // The first byte, one more for each length of the word, and two for that of the list.
        BLOCK_BYTES.saturating_sub(self.bytes.len() + 5 + word.len() - shared)
    }

    /// Appends a word with the first of `texts` that fit into the block. Appends nothing if fewer than
    /// [`MIN_LIST_BYTES`] are left for them.
    pub(super) fn push_first(
        &mut self,
        word: &[u8],
        texts: &mut Peekable<impl Iterator<Item = i64>>,
    ) {
        let space = self.space(word);
        if space < MIN_LIST_BYTES {
            return;
        }
        let mut first = PostingList::default();
        // A number has at most ten bytes, a distance fewer.
        while let Some(text) = texts.next_if(|_| first.len() + 10 <= space) {
            first.push(text);
        }
        self.append(word, &first.into_bytes());
    }

    /// Returns the length of the beginning that a word shares with the last one.
    fn shared_len(&self, word: &[u8]) -> usize {
        let pairs = self.last.iter().zip(word);
        pairs.take_while(|(a, b)| a == b).count()
    }

    /// Appends a word and its list, however long the block gets.
    pub(super) fn append(&mut self, word: &[u8], list: &[u8]) {
        let shared = self.shared_len(word);
        if self.bytes.is_empty() {
            self.first = word.to_vec();
        }
        self.last = word.to_vec();
        let suffix = &word[shared..];
        let is_single = number_len(list) == list.len();
        let (shared_begin, suffix_begin) = (shared.min(SHARED_MAX), suffix.len().min(SUFFIX_MAX));
        let head = shared_begin << 5 | suffix_begin << 1 | usize::from(is_single);
        self.bytes.push(head.to_le_bytes()[0]);
        if shared_begin == SHARED_MAX {
            push_len(&mut self.bytes, shared - SHARED_MAX);
        }
        if suffix_begin == SUFFIX_MAX {
            push_len(&mut self.bytes, suffix.len() - SUFFIX_MAX);
        }
        self.bytes.extend_from_slice(suffix);
        if !is_single {
            push_len(&mut self.bytes, list.len());
        }
        self.bytes.extend_from_slice(list);
    }
}

fn push_len(bytes: &mut Vec<u8>, len: usize) {
    push_number(bytes, i64::try_from(len).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[i64]) -> Vec<u8> {
        ids.iter().copied().collect::<PostingList>().into_bytes()
    }

    #[test]
    fn blocks_have_the_words_and_lists_that_were_written() {
        let long: Vec<i64> = (0..20_000).map(|n| n * n).collect();
        let words: [(&[u8], &[i64]); 6] = [
            (b"a", &[0, 3]),
            (b"ab", &[1 << 40]),
            (b"abababababababababababababababab", &[0, 1, 2, 1 << 45]),
            (b"ababababababababababababababababb", &[5, 6]),
            (b"abc", &long),
            (b"b", &[7]),
        ];
        let mut blocks = vec![BlockWriter::default()];
        for (word, ids) in words {
            let mut rest = ids.iter().copied().peekable();
            loop {
                blocks.last_mut().unwrap().push_first(word, &mut rest);
                if rest.peek().is_none() {
                    break;
                }
                blocks.push(BlockWriter::default());
            }
        }
        assert!(blocks.len() > 5);
        let mut read: Vec<(Vec<u8>, Vec<i64>)> = Vec::new();
        for block in &blocks {
            assert!(block.bytes.len() <= BLOCK_BYTES);
            let mut reader = BlockReader::new(&block.bytes);
            while let Some(list) = reader.next_list() {
                let ids = texts(list);
                match read.last_mut() {
                    Some((word, before)) if *word == reader.word => before.extend(ids),
                    _ => read.push((reader.word.clone(), ids.collect())),
                }
            }
        }
        let expected = words.map(|(word, ids)| (word.to_vec(), ids.to_vec()));
        assert_eq!(read, expected);
    }

    #[test]
    fn a_truncated_block_has_no_list_and_a_damaged_one_no_texts() {
        let mut block = BlockWriter::default();
        block.append(b"word", &list(&[1, 200, 3_000_000]));
        for len in 0..block.bytes.len() {
            let mut reader = BlockReader::new(&block.bytes[..len]);
            assert_eq!(reader.next_list(), None, "{len}");
        }
        assert_eq!(texts(&[0xff; 20]).count(), 0);
    }
}
