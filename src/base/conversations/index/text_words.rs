//! Collects the words of texts in the form in which the index stores them: of the texts in a block of lines, and of all
//! texts that are not written yet.

use super::posting_list::PostingList;
use super::tokens::{
    MIN_PART_LETTERS, PART_MARK, TextRun, find_word_parts, fold_text, split_grams, split_runs,
    truncate_word, without_base64,
};
use super::vocabulary::Vocabulary;
use super::word_runs::RunWriter;
use rusqlite::Connection;
use std::borrow::Cow;

/// The approximate number of different words in a block of lines.
const BLOCK_WORDS: usize = 7000;

/// Collects the words of texts. Each word counts once per text, because the index knows no positions and no
/// frequencies.
#[derive(Default)]
pub(super) struct TextWords {
    vocabulary: Vocabulary,
    /// Pairs of a word and a text with that word, as numbers, in the order of the texts.
    pairs: Vec<(u32, u32)>,
    /// For each word, the number of the last text with that word, plus 1; 0 for a word of no text.
    last_text_plus_one: Vec<u32>,
    /// The number of texts so far.
    text_count: u32,
    /// A buffer for a word with [`PART_MARK`], which saves an allocation for each.
    marked_part: String,
}

/// The words of texts, each with the numbers of the texts that have it.
pub(super) struct WordLists {
    vocabulary: Vocabulary,
    /// For each word, the end of its list in `texts`.
    ends: Vec<u32>,
    /// The lists of all words, one after another.
    texts: Vec<u32>,
    /// The number of texts, including those without words.
    pub(super) text_count: usize,
}

impl WordLists {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u32])> {
        let mut start = 0;
        let lists = self.ends.iter().map(move |end| {
            let list = &self.texts[start..*end as usize];
            start = *end as usize;
            list
        });
        self.vocabulary.words().zip(lists)
    }
}

impl TextWords {
    /// Creates an empty collection with space for the words of a block of lines.
    pub(super) fn with_block_capacity() -> Self {
        Self {
            vocabulary: Vocabulary::with_capacity(BLOCK_WORDS),
            ..Self::default()
        }
    }

    /// Adds the words of the next text. Returns the number of the text, or `None` if the text has no words.
    pub(super) fn add_text(&mut self, text: &str) -> Option<u32> {
        let pairs_before = self.pairs.len();
        self.text_count += 1;
        self.add_words(text);
        (self.pairs.len() > pairs_before).then_some(self.text_count - 1)
    }

    /// Adds the words of a text, and the parts of these words with the prefix [`PART_MARK`].
    fn add_words(&mut self, text: &str) {
        let text = without_base64(text);
        let folded = fold_text(&text);

        for run in split_runs(&folded) {
            match run {
                TextRun::Word(word) => self.add_word(truncate_word(word)),
                TextRun::Unspaced(run) => split_grams(run).for_each(|gram| self.add_word(gram)),
            }
        }

        let parts = find_word_parts(&text);
        if parts.is_empty() {
            return;
        }

        // `parts` are ranges of `text`. Folding keeps these offsets only if the text is ASCII.
        let lower = if text.is_ascii() {
            Cow::Borrowed(&*folded)
        } else {
            Cow::Owned(text.to_ascii_lowercase())
        };

        for range in parts {
            let part = truncate_word(&lower[range]);
            let begins_with_digit = part.as_bytes()[0].is_ascii_digit();
            let is_worth_indexing = part.len() >= MIN_PART_LETTERS && !begins_with_digit;
            // A query for a part also finds the same word without the mark.
            if is_worth_indexing && !self.has_word(part) {
                // Taken out of `self`, because `add_word` needs all of `self`.
                let mut marked = std::mem::take(&mut self.marked_part);
                marked.clear();
                marked.push(PART_MARK);
                marked.push_str(part);
                self.add_word(&marked);
                self.marked_part = marked;
            }
        }
    }

    fn add_word(&mut self, word: &str) {
        let number = self.vocabulary.intern(word.as_bytes());
        let word_index = number as usize;
        if word_index == self.last_text_plus_one.len() {
            self.last_text_plus_one.push(0);
        }
        if self.last_text_plus_one[word_index] != self.text_count {
            self.last_text_plus_one[word_index] = self.text_count;
            self.pairs.push((number, self.text_count - 1));
        }
    }

    pub(super) fn into_lists(self) -> WordLists {
        // A counting sort: `ends` has the number of texts of each word, then the starts of the lists, then their ends.
        let mut ends = vec![0; self.vocabulary.len() + 1];
        for (word, _text) in &self.pairs {
            ends[*word as usize + 1] += 1;
        }
        for word in 1..ends.len() {
            ends[word] += ends[word - 1];
        }

        let mut texts = vec![0; self.pairs.len()];
        for (word, text) in &self.pairs {
            let end: &mut u32 = &mut ends[*word as usize];
            texts[*end as usize] = *text;
            *end += 1;
        }

        WordLists {
            vocabulary: self.vocabulary,
            ends,
            texts,
            text_count: self.text_count as usize,
        }
    }

    /// Returns true if the last added text has this word.
    fn has_word(&self, word: &str) -> bool {
        let number = self.vocabulary.find(word.as_bytes());
        number.is_some_and(|number| self.last_text_plus_one[number as usize] == self.text_count)
    }
}

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
        let mut buffer = std::mem::take(self);

        let mut writer = RunWriter::new(connection)?;
        for (number, word) in buffer.vocabulary.iter_sorted() {
            let list = std::mem::take(&mut buffer.lists[number]);
            if !list.is_empty() {
                writer.push(word, &list.into_bytes())?;
            }
        }

        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::MAX_WORD_BYTES;
    use super::*;

    fn words(text: &str) -> String {
        let mut words = TextWords::default();
        let _ = words.add_text(text);
        let all: Vec<_> = words.vocabulary.words().collect();
        String::from_utf8(all.join(&b' ')).unwrap()
    }

    #[test]
    fn words_are_folded_and_split() {
        for (text, expected) in [
            ("Foo_bar.rs --flag E0499", "foo bar rs flag e0499"),
            ("Ärger café ＡＢＣ ΟΔΟΣ", "arger cafe abc οδοσ"),
            ("日本語版", "日本語 本語版 語版 版"),
            ("a b a", "a b"),
            ("foo日本bar", "foo 日本 本 bar"),
            ("go🚀🚀 👍🏽", "go 🚀 👍"),
            ("한국어", "한국어 국어 어"),
            ("がぎ", "がぎ ぎ"),
            ("\u{1}—“x”", "x"),
            (
                "chargeWithRetry() HTTPServer2 with",
                "chargewithretry httpserver2 with .charge .retry .http .server",
            ),
            (
                "9f31c2a E0502 utf8 fooBar foo_bar",
                "9f31c2a e0502 utf8 foobar foo bar .utf",
            ),
            ("", ""),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
        let long = "x".repeat(100);
        assert_eq!(words(&long).len(), MAX_WORD_BYTES);
        let noise = "aB3+/".repeat(60);
        assert_eq!(words(&format!("a {noise}== b")), "a b");
    }

    #[test]
    fn the_list_of_a_word_has_each_text_once() {
        let mut words = TextWords::default();
        for text in ["b a b", "", "c fooBar a", "fooBar foo"] {
            let _ = words.add_text(text);
        }
        let lists = words.into_lists();
        let lists = lists.iter().map(|(word, texts)| {
            let word = String::from_utf8(word.to_vec()).unwrap();
            (word, texts.to_vec())
        });
        let expected: [(&str, &[u32]); 7] = [
            ("b", &[0]),
            ("a", &[0, 2]),
            ("c", &[2]),
            ("foobar", &[2, 3]),
            (".foo", &[2]),
            (".bar", &[2, 3]),
            ("foo", &[3]),
        ];
        let expected = expected.map(|(word, texts)| (word.to_owned(), texts.to_vec()));
        assert_eq!(lists.collect::<Vec<_>>(), expected);
    }
}
