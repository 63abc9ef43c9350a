//! Stores the words of the index, with the texts that have them.
//!
//! A run is a sequence of blocks, which have words in ascending order with their posting lists. Each commit writes a
//! run. When there are many runs, they are merged, small runs more often than large ones, so a word is written only a
//! few times however large the index is. The numbers of texts ascend from run to run. A deleted text stays in its runs
//! until they are merged or erased; until then, the table `dead` has its number.

use super::posting_list::{
    BLOCK_BYTES, BlockReader, BlockWriter, PostingList, decode_text_numbers,
};
use super::store::{IndexError, IndexStore, rewrite_conversations_sql};
use crate::io::progress::{check_interrupt, is_interrupted};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BinaryHeap, HashSet};

/// The number of runs of about the same size that are merged into one.
const MERGED_RUNS: usize = if cfg!(test) { 3 } else { 16 };

/// A run that has more than this many times the size of the newest one is not merged with it. Less than
/// [`MERGED_RUNS`], because a merged run would otherwise be merged again with the next such number of runs.
const MAX_SIZE_RATIO: i64 = if cfg!(test) { 2 } else { 8 };

#[derive(Debug, Clone, Copy)]
pub(super) struct WordRun {
    pub(super) id: i64,
    pub(super) first_block: i64,
    pub(super) last_block: i64,
}

/// Returns the runs, the oldest first.
pub(super) fn list_runs(connection: &Connection) -> rusqlite::Result<Vec<WordRun>> {
    let sql = "SELECT id, first, last FROM run ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let runs = statement.query_map([], |row| {
        Ok(WordRun {
            id: row.get(0)?,
            first_block: row.get(1)?,
            last_block: row.get(2)?,
        })
    })?;
    runs.collect()
}

/// Returns the numbers of deleted texts that runs may still contain.
fn list_deleted_texts(store: &IndexStore) -> Result<HashSet<i64>, IndexError> {
    store.query_rows("SELECT id FROM dead", [], |row| row.get(0))
}

/// Returns the bytes of a block. They are empty if the block was removed, because all of its texts were deleted.
pub(super) fn read_block(connection: &Connection, id: i64) -> rusqlite::Result<Vec<u8>> {
    let mut statement = connection.prepare_cached("SELECT data FROM block WHERE id=?1")?;
    let data = statement.query_row([id], |row| row.get(0)).optional()?;
    Ok(data.unwrap_or_default())
}

/// Writes a run. The words must be pushed in ascending order.
pub(super) struct RunWriter<'a> {
    connection: &'a Connection,
    run: WordRun,
    block: BlockWriter,
}

impl<'a> RunWriter<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        // The block number comes from `run`: a block whose texts were all deleted is no longer in `block`, but its
        // number is still in the range of its run.
        let sql = "SELECT coalesce(max(id), 0) + 1, coalesce(max(last), 0) + 1 FROM run";
        let next_numbers = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (id, first_block) = next_numbers?;

        Ok(Self {
            connection,
            run: WordRun {
                id,
                first_block,
                // The run has no block yet.
                last_block: first_block - 1,
            },
            block: BlockWriter::default(),
        })
    }

    pub(super) fn push(&mut self, word: &[u8], list: &[u8]) -> rusqlite::Result<()> {
        if list.len() <= self.block.list_space(word) {
            self.block.append(word, list);
            return Ok(());
        }

        // A list that does not fit continues in the next blocks.
        let mut texts = decode_text_numbers(list).peekable();
        loop {
            self.block.push_fitting(word, &mut texts);
            if texts.peek().is_none() {
                return Ok(());
            }
            self.write_block()?;
        }
    }

    fn write_block(&mut self) -> rusqlite::Result<()> {
        let block = std::mem::take(&mut self.block);
        if block.bytes.is_empty() {
            return Ok(());
        }
        self.run.last_block += 1;
        let block_number = self.run.last_block;
        let mut block_bytes = block.bytes;
        block_bytes.resize(BLOCK_BYTES, 0);
        let mut insert = (self.connection).prepare_cached("INSERT INTO block VALUES(?1, ?2)")?;
        insert.execute(params![block_number, block_bytes])?;
        insert_block_word(self.connection, self.run, block_number, &block.first_word)
    }

    pub(super) fn finish(mut self) -> rusqlite::Result<()> {
        self.write_block()?;
        let run = self.run;
        if run.last_block >= run.first_block {
            let mut insert =
                (self.connection).prepare_cached("INSERT INTO run VALUES(?1, ?2, ?3)")?;
            insert.execute(params![run.id, run.first_block, run.last_block])?;
        }
        Ok(())
    }
}

fn insert_block_word(
    connection: &Connection,
    run: WordRun,
    block_number: i64,
    first_word: &[u8],
) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO block_word VALUES(?1, ?2, ?3)")?;
    insert.execute(params![run.id, first_word, block_number])?;
    Ok(())
}

/// The next word of a run that is merged. Of equal words, the word of the oldest run comes first, because texts must
/// ascend.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct NextWord {
    word: Vec<u8>,
    /// The index of the run among the merged ones.
    run_index: usize,
}

/// Reads the words of a run in order.
struct RunCursor<'a> {
    connection: &'a Connection,
    run: WordRun,
    next_block: i64,
    /// The remaining words of the current block with their lists, in descending order.
    words: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> RunCursor<'a> {
    fn open(connection: &'a Connection, run: WordRun) -> rusqlite::Result<Self> {
        let mut cursor = Self {
            connection,
            run,
            next_block: run.first_block,
            words: Vec::new(),
        };
        cursor.fill_if_empty()?;
        Ok(cursor)
    }

    /// Reads the next block if the current one has no more words.
    fn fill_if_empty(&mut self) -> rusqlite::Result<()> {
        while self.words.is_empty() && self.next_block <= self.run.last_block {
            let data = read_block(self.connection, self.next_block)?;
            self.next_block += 1;
            let mut reader = BlockReader::new(&data);
            while let Some(list) = reader.next_list() {
                self.words.push((reader.word.clone(), list.to_vec()));
            }
            self.words.reverse();
        }
        Ok(())
    }

    /// Takes the current word out of the cursor, and returns it as an entry of a heap with the smallest word first.
    /// `None` at the end.
    fn take_word(&mut self, run_index: usize) -> Option<Reverse<NextWord>> {
        let (word, _list) = self.words.last_mut()?;
        let word = std::mem::take(word);
        Some(Reverse(NextWord { word, run_index }))
    }

    /// Returns the list of the current word, and moves to the next word.
    fn take_list(&mut self) -> rusqlite::Result<Vec<u8>> {
        let list = self.words.pop().map(|(_, list)| list);
        self.fill_if_empty()?;
        Ok(list.unwrap_or_default())
    }
}

/// Reads the words of several runs in ascending order, each with its lists joined.
struct RunMerger<'a> {
    cursors: Vec<RunCursor<'a>>,
    /// The next word of each cursor, with the smallest word first.
    next_words: BinaryHeap<Reverse<NextWord>>,
}

impl<'a> RunMerger<'a> {
    fn open(connection: &'a Connection, runs: &[WordRun]) -> rusqlite::Result<Self> {
        let cursors = runs.iter().map(|run| RunCursor::open(connection, *run));
        let mut cursors: Vec<_> = cursors.collect::<Result<_, _>>()?;
        let numbered_cursors = cursors.iter_mut().enumerate();
        let next_words = numbered_cursors
            .filter_map(|(run_index, cursor)| cursor.take_word(run_index))
            .collect();
        Ok(Self {
            cursors,
            next_words,
        })
    }

    /// Returns the next word and the list of its texts without the `deleted_texts`. The list may be empty.
    fn next_word(
        &mut self,
        deleted_texts: &HashSet<i64>,
    ) -> rusqlite::Result<Option<(Vec<u8>, PostingList)>> {
        let Some(Reverse(next)) = self.next_words.pop() else {
            return Ok(None);
        };
        let (word, mut run_index) = (next.word, next.run_index);

        let mut kept_list = PostingList::default();
        loop {
            let cursor = &mut self.cursors[run_index];
            let posting_list = cursor.take_list()?;
            let texts = decode_text_numbers(&posting_list);
            let kept_texts = texts.filter(|number| !deleted_texts.contains(number));
            kept_texts.for_each(|number| kept_list.push(number));
            self.next_words.extend(cursor.take_word(run_index));
            // The next word may be the same: a long list continues in the next block or in another run.
            match self.next_words.peek_mut() {
                Some(next) if next.0.word == word => run_index = PeekMut::pop(next).0.run_index,
                _ => return Ok(Some((word, kept_list))),
            }
        }
    }
}

/// Merges the newest runs into one, as long as at least [`MERGED_RUNS`] runs are of about the same size.
pub(super) fn merge_runs(store: &IndexStore) -> Result<(), IndexError> {
    loop {
        let transaction = store.begin_write()?;
        let runs = store.run(list_runs)?;
        let Some(merged_runs) = find_runs_to_merge(&runs) else {
            return Ok(());
        };

        merge_into_one_run(store, merged_runs)?;
        store.run(|_| transaction.commit())?;
    }
}

/// Returns the newest runs if they have to be merged. Tries each run as the newest one: a commit may write several
/// runs, and a merge may be interrupted, so a small run after many large ones must not hide them.
fn find_runs_to_merge(runs: &[WordRun]) -> Option<&[WordRun]> {
    (1..=runs.len()).rev().find_map(|end| {
        let similar_count = skip_larger_runs(&runs[..end]).len();
        (similar_count >= MERGED_RUNS).then(|| &runs[end - similar_count..])
    })
}

/// Returns the runs after the last one that is much larger than the newest run. If such a large run were merged, an
/// update of a few words would write the words of the whole index again.
fn skip_larger_runs(runs: &[WordRun]) -> &[WordRun] {
    let block_count = |run: &WordRun| run.last_block - run.first_block + 1;
    let limit = runs.last().map_or(0, block_count) * MAX_SIZE_RATIO;
    let last_larger = runs.iter().rposition(|run| block_count(run) > limit);
    &runs[last_larger.map_or(0, |index| index + 1)..]
}

/// Writes the words of `runs` as one new run, without deleted texts, and removes `runs`.
fn merge_into_one_run(store: &IndexStore, runs: &[WordRun]) -> Result<(), IndexError> {
    let deleted_texts = list_deleted_texts(store)?;
    let mut merger = store.run(|connection| RunMerger::open(connection, runs))?;
    let mut writer = store.run(RunWriter::new)?;

    let mut word_count = 0u32;
    while let Some((word, list)) = store.run(|_| merger.next_word(&deleted_texts))? {
        word_count = word_count.wrapping_add(1);
        if word_count.is_multiple_of(1024) && is_interrupted() {
            return Err(IndexError::Interrupted);
        }
        if !list.is_empty() {
            store.run(|_| writer.push(&word, &list.into_bytes()))?;
        }
    }

    store.run(|connection| {
        writer.finish()?;
        runs.iter().try_for_each(|run| remove_run(connection, *run))
    })
}

fn remove_run(connection: &Connection, run: WordRun) -> rusqlite::Result<()> {
    let range = [run.first_block, run.last_block];
    connection.execute("DELETE FROM block WHERE id BETWEEN ?1 AND ?2", range)?;
    connection.execute("DELETE FROM block_word WHERE run=?1", [run.id])?;
    connection.execute("DELETE FROM run WHERE id=?1", [run.id])?;
    Ok(())
}

/// Removes the deleted texts from all runs, so that none of their words remain in the file. `secure_delete` makes
/// SQLite overwrite removed rows. Tables with rows of different lengths are written again, because SQLite moves such
/// rows between pages, and leaves copies in the free parts of the pages.
pub(super) fn erase_deleted_texts(store: &IndexStore) -> Result<(), IndexError> {
    let transaction = store.begin_write()?;
    let deleted_texts = list_deleted_texts(store)?;

    // `erase_in_block` records the first word of each block again, because only deleted texts may have had it.
    store.run(|connection| connection.execute("DELETE FROM block_word", []))?;

    for run in store.run(list_runs)? {
        for block in run.first_block..=run.last_block {
            check_interrupt().map_err(|_| IndexError::Interrupted)?;
            store.run(|connection| erase_in_block(connection, run, block, &deleted_texts))?;
        }
    }

    store.run(|connection| {
        // A search would look for each block of a run that has none.
        let sql = "DELETE FROM run WHERE NOT EXISTS \
            (SELECT 1 FROM block WHERE id BETWEEN first AND last)";
        connection.execute(sql, [])?;
        connection.execute("DELETE FROM dead", [])?;
        connection.execute_batch(&rewrite_conversations_sql())?;
        transaction.commit()
    })
}

/// Removes the `deleted_texts` from a block. Removes the block if no text remains, and otherwise records its first
/// word.
fn erase_in_block(
    connection: &Connection,
    run: WordRun,
    block: i64,
    deleted_texts: &HashSet<i64>,
) -> rusqlite::Result<()> {
    let data = read_block(connection, block)?;
    let mut reader = BlockReader::new(&data);
    let mut kept_words = BlockWriter::default();
    let mut has_deleted = false;

    while let Some(posting_list) = reader.next_list() {
        if !decode_text_numbers(posting_list).any(|number| deleted_texts.contains(&number)) {
            kept_words.append(&reader.word, posting_list);
            continue;
        }

        has_deleted = true;
        let texts = decode_text_numbers(posting_list);
        let kept_texts: PostingList = texts.filter(|n| !deleted_texts.contains(n)).collect();
        if !kept_texts.is_empty() {
            kept_words.append(&reader.word, &kept_texts.into_bytes());
        }
    }

    if kept_words.bytes.is_empty() {
        connection.execute("DELETE FROM block WHERE id=?1", [block])?;
        return Ok(());
    }

    insert_block_word(connection, run, block, &kept_words.first_word)?;
    if has_deleted {
        // A list may become longer when a text is removed, and the block then exceeds its size. This is rare.
        let padded_len = data.len().max(kept_words.bytes.len());
        kept_words.bytes.resize(padded_len, 0);
        let sql = "UPDATE block SET data=?2 WHERE id=?1";
        connection.execute(sql, params![block, kept_words.bytes])?;
    }

    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Lists = BTreeMap<Vec<u8>, Vec<i64>>;

    fn read_lists(store: &IndexStore) -> Lists {
        let mut lists = Lists::new();
        for run in list_runs(&store.connection).unwrap() {
            let mut cursor = RunCursor::open(&store.connection, run).unwrap();
            while let Some(Reverse(next)) = cursor.take_word(0) {
                let list = cursor.take_list().unwrap();
                lists
                    .entry(next.word)
                    .or_default()
                    .extend(decode_text_numbers(&list));
            }
        }
        lists
    }

    #[test]
    fn an_update_merges_no_runs_that_are_much_larger() {
        let with_sizes = |sizes: &[i64]| -> Vec<WordRun> {
            let mut next_block = 1;
            let to_run = |(id, blocks): (i64, &i64)| {
                let first_block = next_block;
                next_block += blocks;
                let last_block = next_block - 1;
                WordRun {
                    id,
                    first_block,
                    last_block,
                }
            };
            (1..).zip(sizes).map(to_run).collect()
        };
        for (sizes, merged_count) in [
            (&[][..], 0),
            (&[1], 0),
            (&[900, 800, 1, 2, 1], 3),
            (&[900, 800, 3, 1, 1], 0),
            (&[900, 800, 1, 1], 0),
            (&[900, 800, 1, 2, 1, 800], 6),
            (&[3 * 900, 900, 800], 0),
            (&[3 * 900, 900, 800, 950], 3),
            // Several runs of one commit, and an interrupted merge.
            (&[900, 900, 900, 1], 4),
        ] {
            let runs = with_sizes(sizes);
            let merged_runs = find_runs_to_merge(&runs).unwrap_or_default();
            assert_eq!(merged_runs.len(), merged_count, "{sizes:?}");
        }
    }

    #[test]
    fn a_run_is_removed_when_all_its_texts_are_erased() {
        let folder = tempfile::tempdir().unwrap();
        let store = IndexStore::open(&folder.path().join("index.sqlite")).unwrap();
        for number in [1, 2] {
            let mut writer = RunWriter::new(&store.connection).unwrap();
            let list: PostingList = std::iter::once(number).collect();
            writer.push(b"word", &list.into_bytes()).unwrap();
            writer.finish().unwrap();
        }
        store.execute("INSERT INTO dead VALUES(?1)", [2]).unwrap();
        erase_deleted_texts(&store).unwrap();
        assert_eq!(list_runs(&store.connection).unwrap().len(), 1);
        assert_eq!(
            read_lists(&store),
            Lists::from([(b"word".to_vec(), vec![1])])
        );
    }

    /// The encoded list may become some bits longer when a text is removed from it.
    #[test]
    fn erasing_deleted_texts_from_full_blocks_keeps_all_other_texts() {
        let folder = tempfile::tempdir().unwrap();
        let store = IndexStore::open(&folder.path().join("index.sqlite")).unwrap();
        let mut all = Lists::new();
        for word in 0..3000i64 {
            let numbers = (0..word % 50).map(|n| n * (1 + word % 9));
            let numbers = std::iter::once(word).chain(numbers.map(|n| n + word + 1));
            all.insert(format!("word{word:04}").into(), numbers.collect());
        }
        let mut writer = RunWriter::new(&store.connection).unwrap();
        for (word, numbers) in &all {
            let list: PostingList = numbers.iter().copied().collect();
            writer.push(word, &list.into_bytes()).unwrap();
        }
        writer.finish().unwrap();
        assert_eq!(read_lists(&store), all);
        let blocks_before = store.query_number("SELECT count(*) FROM block").unwrap();
        // All texts of the words from 1000 on are deleted.
        let is_dead = |number: &i64| number % 3 == 1 || *number >= 1000;
        for number in (0..4000).filter(is_dead) {
            store
                .execute("INSERT INTO dead VALUES(?1)", [number])
                .unwrap();
        }
        erase_deleted_texts(&store).unwrap();
        all.retain(|_, numbers| {
            numbers.retain(|number| !is_dead(number));
            !numbers.is_empty()
        });
        assert_eq!(read_lists(&store), all);
        let words = "SELECT count(DISTINCT block) FROM block_word";
        let blocks = "SELECT count(*) FROM block WHERE length(data)>=4050";
        assert!(store.query_number(blocks).unwrap() < blocks_before);
        assert_eq!(
            store.query_number(words).unwrap(),
            store.query_number(blocks).unwrap()
        );
    }
}
