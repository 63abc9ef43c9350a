//! The encoding of posting lists, and of blocks of words with their posting lists. The posting list of a word has the
//! numbers of all texts with the word.
//!
//! A list begins with the number of its first text as a [variable number](super::variable_numbers). Then follows the
//! distance from each text to the next one in Elias' delta code, in which smaller numbers have fewer bits: 1 bit for 1,
//! 15 bits for 500. The last byte is filled with zeros, which are no code.
//!
//! A block has words in ascending order. A word begins with a byte: 3 bits for the length of the prefix that it shares
//! with the previous word, 4 bits for the length of the suffix after that, and a 1 if its list has only one text. A
//! length that is too large for its bits continues in a variable number. Then follow the suffix, the length of the list
//! (unless it has only one text), and the list.

use super::variable_numbers::{push_varint, take_varint, varint_len};
use std::iter::Peekable;

/// The size of a block in bytes, with which a row of an SQLite table fills a page. All blocks are padded with zeros to
/// this size. SQLite overwrites a row in place only if the size stays the same; otherwise a copy of deleted words may
/// remain in the page.
pub(super) const BLOCK_BYTES: usize = 4050;

/// A list begins in the current block only if at least this many bytes are left there. Otherwise it begins in the next
/// block.
const MIN_LIST_BYTES: usize = 64;

/// The number of bits of the largest distance between two texts. Its code fits into the bits that [`DistanceReader`]
/// holds.
const MAX_DISTANCE_BITS: u32 = 46;

/// The largest values of the two lengths in the first byte of a word. With these values, the length continues in a
/// variable number.
const MAX_SHARED: usize = 7;
const MAX_SUFFIX: usize = 15;

/// A list of the numbers of texts in ascending order.
#[derive(Debug, Clone, Default)]
pub(super) struct PostingList {
    bytes: Vec<u8>,
    /// The number of the last text.
    last: i64,
    /// The bits that follow `bytes`, beginning with the highest bit. There are millions of lists, so `bytes` are
    /// usually not in the processor's cache. Most texts are added without access to `bytes`.
    pending: u64,
    pending_bits: u32,
}

impl PostingList {
    /// Appends the number of a text, which must be larger than the last number. Ignores a smaller or equal number, and
    /// one that exceeds the last number by 2^[`MAX_DISTANCE_BITS`] or more.
    pub(super) fn push(&mut self, number: i64) {
        if self.is_empty() {
            push_varint(&mut self.bytes, number);
            self.last = number;
            return;
        }

        let distance = number.wrapping_sub(self.last).cast_unsigned();
        // Only a damaged index has such numbers.
        if distance == 0 || distance >> MAX_DISTANCE_BITS != 0 {
            return;
        }

        self.last = number;
        let distance_bits = u64::BITS - distance.leading_zeros();
        let length_bits = u32::BITS - distance_bits.leading_zeros();
        // The code has a zero for each bit of `distance_bits` except the first, then `distance_bits`, then the distance
        // without its first bit, which is always a 1.
        let code = u64::from(distance_bits) << (distance_bits - 1)
            | distance & !(1 << (distance_bits - 1));
        let code_bits = 2 * length_bits - 1 + distance_bits - 1;

        if code_bits > u64::BITS - self.pending_bits {
            self.move_whole_bytes();
        }
        self.pending_bits += code_bits;
        self.pending |= code << (u64::BITS - self.pending_bits);
    }

    /// Moves all complete bytes of `pending` to `bytes`, so that at most 7 bits remain.
    fn move_whole_bytes(&mut self) {
        let whole_bytes = self.pending_bits / 8;
        let pending = self.pending.to_be_bytes();
        self.bytes
            .extend_from_slice(&pending[..whole_bytes as usize]);
        self.pending = self.pending.checked_shl(8 * whole_bytes).unwrap_or(0);
        self.pending_bits %= 8;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the size of the encoded list in bytes.
    fn encoded_len(&self) -> usize {
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

/// Decodes a list into the numbers of its texts. A damaged list ends early.
pub(super) fn decode_text_numbers(mut bytes: &[u8]) -> impl Iterator<Item = i64> {
    let first = take_varint(&mut bytes);
    let mut distances = DistanceReader {
        bytes,
        bits: 0,
        bit_count: 0,
    };
    std::iter::successors(first, move |last| {
        Some(last.wrapping_add(distances.next_distance()?))
    })
}

struct DistanceReader<'a> {
    bytes: &'a [u8],
    /// The next bits, beginning with the highest bit. The bits after them are zero.
    bits: u64,
    /// The number of bits in `bits`.
    bit_count: u32,
}

impl DistanceReader<'_> {
    /// Returns the next distance; `None` at the end, and for bits that are no code.
    fn next_distance(&mut self) -> Option<i64> {
        // Fills `bits` as long as another byte fits into its 64 bits.
        while self.bit_count <= 56
            && let Some(byte) = self.bytes.split_off_first()
        {
            self.bits |= u64::from(*byte) << (56 - self.bit_count);
            self.bit_count += 8;
        }

        let zeros = self.bits.leading_zeros();
        // A valid code has at most the zeros of a distance of `MAX_DISTANCE_BITS`.
        if zeros > MAX_DISTANCE_BITS.ilog2() {
            return None;
        }

        // After the zeros comes `distance_bits`, which has one bit more than there are zeros.
        let length_end = 2 * zeros + 1;
        let distance_bits = u32::try_from(self.bits >> (u64::BITS - length_end)).ok()?;
        // Then comes the distance without its first bit, which is always a 1.
        let code_end = length_end + distance_bits - 1;
        if code_end > self.bit_count {
            return None;
        }

        let code_suffix = self.bits << length_end;
        let bits_after_code = u64::BITS + 1 - distance_bits;
        let suffix = code_suffix.checked_shr(bits_after_code).unwrap_or(0);

        self.bits <<= code_end;
        self.bit_count -= code_end;
        Some((1 << (distance_bits - 1) | suffix).cast_signed())
    }
}

/// Decodes a length. `head_value` is its value in the first byte of the word. If that is `max_head_value`, the length
/// continues in `bytes`.
fn take_length(bytes: &mut &[u8], head_value: usize, max_head_value: usize) -> Option<usize> {
    if head_value < max_head_value {
        return Some(head_value);
    }
    head_value.checked_add(usize::try_from(take_varint(bytes)?).ok()?)
}

/// Reads the words of a block in order.
pub(super) struct BlockReader<'a> {
    remaining: &'a [u8],
    pub(super) word: Vec<u8>,
}

impl<'a> BlockReader<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self {
            remaining: block,
            word: Vec::new(),
        }
    }

    /// Moves to the next word and returns its list. Returns `None` at the end of the block, and at damage.
    pub(super) fn next_list(&mut self) -> Option<&'a [u8]> {
        let head = self.remaining.split_off_first()?;
        // Zeros fill the end of a block.
        if *head == 0 {
            return None;
        }

        // `head` has 3 bits for the shared length, 4 for the length of the suffix, and 1 if the list has a single text.
        let shared_len = take_length(&mut self.remaining, usize::from(head >> 5), MAX_SHARED)?;
        let suffix_len = take_length(&mut self.remaining, usize::from(head >> 1 & 15), MAX_SUFFIX)?;

        self.word.truncate(shared_len);
        self.word
            .extend_from_slice(self.remaining.split_off(..suffix_len)?);

        let is_single = head & 1 == 1;
        let list_len = if is_single {
            varint_len(self.remaining)
        } else {
            usize::try_from(take_varint(&mut self.remaining)?).ok()?
        };
        self.remaining.split_off(..list_len)
    }
}

/// A block that is being written.
#[derive(Default)]
pub(super) struct BlockWriter {
    pub(super) bytes: Vec<u8>,
    pub(super) first_word: Vec<u8>,
    last_word: Vec<u8>,
}

impl BlockWriter {
    /// Returns the number of bytes that are left for the list of a new word.
    pub(super) fn list_space(&self, word: &[u8]) -> usize {
        let shared = self.shared_len(word);
        // Five bytes for the lengths: the first byte, one more for each of the word's two lengths, and two for the
        // length of the list.
        BLOCK_BYTES.saturating_sub(self.bytes.len() + 5 + word.len() - shared)
    }

    /// Appends a word with as many of `texts` as fit into the block, and removes them from `texts`. Appends nothing if
    /// fewer than [`MIN_LIST_BYTES`] are left for the list.
    pub(super) fn push_fitting(
        &mut self,
        word: &[u8],
        texts: &mut Peekable<impl Iterator<Item = i64>>,
    ) {
        let space = self.list_space(word);
        if space < MIN_LIST_BYTES {
            return;
        }
        let mut list = PostingList::default();
        // The first number has at most ten bytes, a distance has fewer.
        while let Some(text) = texts.next_if(|_| list.encoded_len() + 10 <= space) {
            list.push(text);
        }
        self.append(word, &list.into_bytes());
    }

    /// Returns the length of the prefix that a word shares with the last word of the block.
    fn shared_len(&self, word: &[u8]) -> usize {
        let pairs = self.last_word.iter().zip(word);
        pairs.take_while(|(a, b)| a == b).count()
    }

    /// Appends a word and its list, even if the block becomes longer than [`BLOCK_BYTES`].
    pub(super) fn append(&mut self, word: &[u8], list: &[u8]) {
        let shared = self.shared_len(word);
        if self.bytes.is_empty() {
            self.first_word = word.to_vec();
        }
        self.last_word = word.to_vec();

        let suffix = &word[shared..];
        // A list with one text is a single variable number, which needs no length before it.
        let is_single = varint_len(list) == list.len();
        let (shared_in_head, suffix_in_head) =
            (shared.min(MAX_SHARED), suffix.len().min(MAX_SUFFIX));
        let head = shared_in_head << 5 | suffix_in_head << 1 | usize::from(is_single);

        self.bytes.push(head.to_le_bytes()[0]);
        if shared_in_head == MAX_SHARED {
            push_length(&mut self.bytes, shared - MAX_SHARED);
        }
        if suffix_in_head == MAX_SUFFIX {
            push_length(&mut self.bytes, suffix.len() - MAX_SUFFIX);
        }

        self.bytes.extend_from_slice(suffix);
        if !is_single {
            push_length(&mut self.bytes, list.len());
        }
        self.bytes.extend_from_slice(list);
    }
}

fn push_length(bytes: &mut Vec<u8>, len: usize) {
    push_varint(bytes, i64::try_from(len).unwrap_or(i64::MAX));
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
                blocks.last_mut().unwrap().push_fitting(word, &mut rest);
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
                let ids = decode_text_numbers(list);
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
    fn a_truncated_block_has_no_list_and_a_damaged_list_no_texts() {
        let mut block = BlockWriter::default();
        block.append(b"word", &list(&[1, 200, 3_000_000]));
        for len in 0..block.bytes.len() {
            let mut reader = BlockReader::new(&block.bytes[..len]);
            assert_eq!(reader.next_list(), None, "{len}");
        }
        assert_eq!(decode_text_numbers(&[0xff; 20]).count(), 0);
    }
}
