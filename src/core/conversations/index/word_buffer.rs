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
    pub(super) memory_bytes: usize,
}

impl WordBuffer {
    /// Adds the words of the texts of a block. `text_numbers` has the number of each text in ascending order, or `None`
    /// for a text that is not indexed.
    pub(super) fn add_words(&mut self, words: &WordLists, text_numbers: &[Option<i64>]) {
        for (word, texts) in words.iter() {
            let word_number = self.vocabulary.intern(word) as usize;
            if word_number == self.lists.len() {
                self.lists.push(PostingList::default());
                self.memory_bytes += WORD_BYTES;
            }
            let list = &mut self.lists[word_number];
            let indexed_texts = texts.iter().filter_map(|text| text_numbers[*text as usize]);
            indexed_texts.for_each(|number| list.push(number));
            self.memory_bytes += texts.len();
        }
    }

    /// Writes the words to the index as a run, and empties the buffer.
    pub(super) fn write_run(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Self {
            vocabulary,
            mut lists,
            ..
        } = std::mem::take(self);

        let mut writer = RunWriter::new(connection)?;
        for (number, word) in vocabulary.iter_sorted() {
            let list = std::mem::take(&mut lists[number]);
            if !list.is_empty() {
                writer.push(word, &list.into_bytes())?;
            }
        }

        writer.finish()
    }
}
