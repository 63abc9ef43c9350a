//! External merge sort of byte records.
//!
//! Records beyond the memory limit are sorted in runs, which go to an unnamed temp file and are
//! merged when the records are read.

use super::position;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;

/// The bytes of records in memory that are written as one run.
const MAX_BYTES_IN_MEMORY: usize = 4 << 20;

/// The bytes that are read of each run at a time.
const READ_AHEAD_BYTES: usize = 16 << 10;

/// Collects records in any order.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    bytes: Vec<u8>,
    /// Start and end of each record in `bytes`.
    records: Vec<(u32, u32)>,
    runs: Option<SpilledRuns>,
    held: Option<usize>,
}

#[derive(Debug)]
struct SpilledRuns {
    file: File,
    /// Start and end of each run in `file`.
    spans: Vec<(u64, u64)>,
    len: u64,
}

impl Sorter {
    /// Adds a record to be sorted.
    ///
    /// # Errors
    /// The temp file cannot be written.
    pub(crate) fn push(&mut self, record: &[u8]) -> io::Result<()> {
        let limit = self.held.unwrap_or(MAX_BYTES_IN_MEMORY);
        let size = self.bytes.len() + self.records.len() * size_of::<(u32, u32)>();
        if !self.records.is_empty() && size + record.len() > limit {
            self.write_run()?;
        }
        let place = |at: usize| u32::try_from(at).map_err(io::Error::other);
        let start = place(self.bytes.len())?;
        let end = place(self.bytes.len() + record.len())?;
        self.bytes.extend_from_slice(record);
        self.records.push((start, end));
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        let record = |(start, end): (u32, u32)| &bytes[start as usize..end as usize];
        self.records
            .sort_unstable_by(|a, b| record(*a).cmp(record(*b)));
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.sort();
        let runs = match &mut self.runs {
            Some(runs) => runs,
            None => self.runs.insert(SpilledRuns {
                file: tempfile::tempfile()?,
                spans: Vec::new(),
                len: 0,
            }),
        };
        let from = runs.len;
        let mut buffer = Vec::with_capacity(4 * READ_AHEAD_BYTES);
        for (start, end) in self.records.drain(..) {
            buffer.extend_from_slice(&(end - start).to_le_bytes());
            buffer.extend_from_slice(&self.bytes[start as usize..end as usize]);
            if buffer.len() >= 4 * READ_AHEAD_BYTES {
                position::write_all_at(&runs.file, &buffer, runs.len)?;
                runs.len += buffer.len() as u64;
                buffer.clear();
            }
        }
        position::write_all_at(&runs.file, &buffer, runs.len)?;
        runs.len += buffer.len() as u64;
        runs.spans.push((from, runs.len));
        self.bytes.clear();
        Ok(())
    }

    /// Ends the input and returns the records in order.
    ///
    /// # Errors
    /// The temp file cannot be written or read.
    pub(crate) fn finish(mut self) -> io::Result<SortedRecords> {
        self.sort();
        if self.runs.is_some() && !self.records.is_empty() {
            self.write_run()?;
        }
        let Some(runs) = self.runs else {
            return Ok(SortedRecords {
                held: self,
                next: 0,
                file: None,
                heads: BinaryHeap::new(),
            });
        };
        let mut heads = BinaryHeap::new();
        for (at, end) in runs.spans {
            let mut run = SortedRun {
                at,
                end,
                buffer: Vec::new(),
                start: 0,
            };
            if let Some(record) = run.next(&runs.file)? {
                heads.push(Reverse((record, HeapRun(run))));
            }
        }
        Ok(SortedRecords {
            held: Self::default(),
            next: 0,
            file: Some(runs.file),
            heads,
        })
    }
}

/// An iterator over the sorted records.
#[derive(Debug)]
pub(crate) struct SortedRecords {
    held: Sorter,
    next: usize,
    file: Option<File>,
    heads: BinaryHeap<Reverse<(Vec<u8>, HeapRun)>>,
}

impl SortedRecords {
    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// The temp file cannot be read.
    pub(crate) fn next_record(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &self.file else {
            let place = self.held.records.get(self.next);
            self.next += 1;
            return Ok(place.map(|(a, b)| self.held.bytes[*a as usize..*b as usize].to_vec()));
        };
        let Some(Reverse((record, HeapRun(mut run)))) = self.heads.pop() else {
            return Ok(None);
        };
        if let Some(next) = run.next(file)? {
            self.heads.push(Reverse((next, HeapRun(run))));
        }
        Ok(Some(record))
    }
}

/// The unread part of a run.
#[derive(Debug)]
struct SortedRun {
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    start: usize,
}

impl SortedRun {
    fn next(&mut self, file: &File) -> io::Result<Option<Vec<u8>>> {
        if self.start == self.buffer.len() && self.at == self.end {
            return Ok(None);
        }
        self.have(file, 4)?;
        let (mut len, from) = ([0; 4], self.start);
        len.copy_from_slice(&self.buffer[from..from + 4]);
        let len = u32::from_le_bytes(len) as usize;
        self.have(file, 4 + len)?;
        let record = self.buffer[self.start + 4..self.start + 4 + len].to_vec();
        self.start += 4 + len;
        Ok(Some(record))
    }

    /// Reads until `buffer` has at least `wanted` unread bytes.
    fn have(&mut self, file: &File, wanted: usize) -> io::Result<()> {
        let there = self.buffer.len() - self.start;
        if there >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let more = (wanted - there).max(READ_AHEAD_BYTES) as u64;
        let more = more.min(self.end - self.at);
        self.buffer
            .resize(there + usize::try_from(more).map_err(io::Error::other)?, 0);
        position::read_exact_at(file, &mut self.buffer[there..], self.at)?;
        self.at += more;
        if self.buffer.len() < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// A run in the merge heap. All compare equal, so that only the record decides.
#[derive(Debug)]
struct HeapRun(SortedRun);

impl PartialEq for HeapRun {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for HeapRun {}

impl PartialOrd for HeapRun {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HeapRun {
    fn cmp(&self, _other: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_come_in_order_whether_they_fit_or_not(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..200),
            held in 1_usize..2000,
        ) {
            let mut sorter = Sorter { held: Some(held), ..Sorter::default() };
            for record in &records {
                sorter.push(record).unwrap();
            }
            let mut records_in_order = sorter.finish().unwrap();
            let mut found = Vec::new();
            while let Some(record) = records_in_order.next_record().unwrap() {
                found.push(record);
            }
            let mut expected = records;
            expected.sort();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_record_may_be_longer_than_what_is_held_or_read_at_a_time() {
        let mut sorter = Sorter {
            held: Some(10),
            ..Sorter::default()
        };
        let long = vec![b'b'; 3 * READ_AHEAD_BYTES + 1];
        for record in [&long[..], b"a", b"c"] {
            sorter.push(record).unwrap();
        }
        let mut records_in_order = sorter.finish().unwrap();
        assert_eq!(records_in_order.next_record().unwrap().unwrap(), b"a");
        assert_eq!(records_in_order.next_record().unwrap().unwrap(), long);
        assert_eq!(records_in_order.next_record().unwrap().unwrap(), b"c");
        assert_eq!(records_in_order.next_record().unwrap(), None);
    }
}
