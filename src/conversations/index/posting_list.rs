//! Lists of texts, and blocks of words with their lists, as bytes.
//!
//! A list has the row id of its first text, and for each other one the difference to that before it. A block has words in
//! order, each without the beginning that it shares with the word before it, and its list. All numbers are variable:
//! seven bits a byte, the lowest first.

use super::store::TextId;

/// The size of a block, in bytes: the largest row that fits a page of SQLite.
const BLOCK_BYTES: usize = 4050;

/// A list begins in the current block only if this many bytes are left there; otherwise in the next block.
const MIN_LIST_BYTES: usize = 64;

/// A list of texts in ascending order.
#[derive(Debug, Clone, Default)]
pub(super) struct PostingList {
    pub(super) bytes: Vec<u8>,
    last: i64,
}

impl PostingList {
    /// Appends a text, which must be larger than all others.
    pub(super) fn push(&mut self, TextId(id): TextId) {
        push_number(&mut self.bytes, id - self.last);
        self.last = id;
    }
}

/// Returns the texts of a list. A damaged list ends early.
pub(super) fn texts(mut bytes: &[u8]) -> impl Iterator<Item = TextId> {
    let mut last = 0i64;
    std::iter::from_fn(move || {
        last = last.wrapping_add(take_number(&mut bytes)?);
        Some(TextId(last))
    })
}

fn push_number(bytes: &mut Vec<u8>, number: i64) {
    let mut rest = number.cast_unsigned();
    while rest >= 0x80 {
        bytes.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    bytes.push(rest.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0;
    let mut shift = 0;
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= i64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
        shift += 7;
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
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
        let shared = usize::try_from(take_number(&mut self.rest)?).ok()?;
        let suffix = take_bytes(&mut self.rest)?;
        self.word.truncate(shared);
        self.word.extend_from_slice(suffix);
        take_bytes(&mut self.rest)
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
    /// Appends a word and its list. Returns the part of the list that does not fit into the block.
    pub(super) fn push(&mut self, word: &[u8], list: &[u8]) -> Option<PostingList> {
        let pairs = self.last.iter().zip(word);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        // Two bytes for each length.
        let space = BLOCK_BYTES.saturating_sub(self.bytes.len() + 6 + word.len() - shared);
        if list.len() <= space {
            self.append(word, shared, list);
            return None;
        }
        let mut rest = PostingList::default();
        if space < MIN_LIST_BYTES {
            texts(list).for_each(|id| rest.push(id));
            return Some(rest);
        }
        let mut begin = PostingList::default();
        let mut ids = texts(list);
        // A number has at most ten bytes.
        while begin.bytes.len() + 10 <= space
            && let Some(id) = ids.next()
        {
            begin.push(id);
        }
        ids.for_each(|id| rest.push(id));
        self.append(word, shared, &begin.bytes);
        Some(rest)
    }

    fn append(&mut self, word: &[u8], shared: usize, list: &[u8]) {
        if self.bytes.is_empty() {
            self.first = word.to_vec();
        }
        self.last = word.to_vec();
        push_len(&mut self.bytes, shared);
        push_bytes(&mut self.bytes, &word[shared..]);
        push_bytes(&mut self.bytes, list);
    }
}

fn push_len(bytes: &mut Vec<u8>, len: usize) {
    push_number(bytes, i64::try_from(len).unwrap_or(i64::MAX));
}

fn push_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    push_len(bytes, part.len());
    bytes.extend_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(ids: &[i64]) -> Vec<u8> {
        let mut list = PostingList::default();
        for id in ids {
            list.push(TextId(*id));
        }
        list.bytes
    }

    #[test]
    fn blocks_have_the_words_and_lists_that_were_written() {
        let long: Vec<i64> = (0..20_000).map(|n| n * n).collect();
        let words: [(&[u8], &[i64]); 4] = [
            (b"a", &[0, 3]),
            (b"ab", &[i64::MAX]),
            (b"abc", &long),
            (b"b", &[7]),
        ];
        let mut blocks = vec![BlockWriter::default()];
        for (word, ids) in words {
            let mut rest = list(ids);
            while let Some(more) = blocks.last_mut().unwrap().push(word, &rest) {
                blocks.push(BlockWriter::default());
                rest = more.bytes;
            }
        }
        assert!(blocks.len() > 5);
        let mut read: Vec<(Vec<u8>, Vec<i64>)> = Vec::new();
        for block in &blocks {
            assert!(block.bytes.len() <= BLOCK_BYTES);
            let mut reader = BlockReader::new(&block.bytes);
            while let Some(list) = reader.next_list() {
                let ids = texts(list).map(|id| id.0);
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
    fn damaged_blocks_end_early() {
        let mut block = BlockWriter::default();
        block.push(b"word", &list(&[1, 200, 3_000_000]));
        for len in 0..block.bytes.len() {
            let mut reader = BlockReader::new(&block.bytes[..len]);
            assert_eq!(reader.next_list(), None, "{len}");
        }
        assert_eq!(texts(&[0xff; 20]).count(), 0);
    }
}
