//! Buffers the words of texts that are not written to the index yet.

use super::posting_list::PostingList;
use super::text_words::WordLists;
use super::vocabulary::Vocabulary;
use super::word_runs::RunWriter;
use rusqlite::Connection;

/// The approximate memory of a word in bytes, without its list.
const WORD_BYTES: usize = 64;

#[derive(Default)]
pub(super) struct WordBuffer {
    vocabulary: Vocabulary,
    /// The texts of each word, by the number of the word.
    lists: Vec<PostingList>,
    /// The approximate memory of the buffer in bytes.
    pub(super) bytes: usize,
}

impl WordBuffer {
    /// Adds the words of the texts of a block. `numbers` has the number of each text in ascending order, or `None` for
    /// a text that is not indexed.
    pub(super) fn add(&mut self, words: &WordLists, numbers: &[Option<i64>]) {
        for (word, texts) in words.iter() {
            let number = self.vocabulary.intern(word) as usize;
            if number == self.lists.len() {
                self.lists.push(PostingList::default());
                self.bytes += WORD_BYTES;
            }
            let list = &mut self.lists[number];
            let numbers = texts.iter().filter_map(|text| numbers[*text as usize]);
            numbers.for_each(|number| list.push(number));
            self.bytes += texts.len();
        }
    }

    /// Writes the words to the index as a run, and empties the buffer.
    pub(super) fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Self {
            vocabulary,
            mut lists,
            ..
        } = std::mem::take(self);
        let mut writer = RunWriter::new(connection)?;
        for (number, word) in vocabulary.sorted() {
            let list = std::mem::take(&mut lists[number]);
            if !list.is_empty() {
                writer.push(word, &list.into_bytes())?;
            }
        }
        writer.finish()
    }
}
