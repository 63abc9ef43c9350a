//! The lines of a table or the items of a JSON list until they are printed: in memory, or in a temporary file if they
//! are long.

use super::documents::format_item;
use super::{Style, Ui};
use crate::error::{CommandError, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek as _, Write as _};

/// Above this size the lines are in a file, so that a list of 200,000 conversations takes no more memory than a short
/// one.
const MAX_BYTES_IN_MEMORY: usize = 2 * 1024 * 1024;

/// A row, or a heading above the rows that follow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TableLine {
    pub(super) is_heading: bool,
    /// The style of each cell, and the end of its text in `texts`.
    cells: Vec<(Style, u32)>,
    texts: String,
}

impl TableLine {
    /// Returns a heading without cells.
    pub(super) fn heading() -> Self {
        Self {
            is_heading: true,
            ..Self::default()
        }
    }

    pub(super) fn add_cell(&mut self, style: Style, text: &str) {
        self.texts.push_str(text);
        let end = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.cells.push((style, end));
    }

    pub(super) fn clear(&mut self) {
        self.cells.clear();
        self.texts.clear();
    }

    /// Returns the style and the text of a cell.
    pub(super) fn cell(&self, index: usize) -> Option<(Style, &str)> {
        let (style, end) = *self.cells.get(index)?;
        let previous = index.checked_sub(1).and_then(|index| self.cells.get(index));
        let start = previous.map_or(0, |(_, end)| *end);
        let text = self.texts.get(start as usize..end as usize)?;
        Some((style, text))
    }
}

/// Stores lines.
#[derive(Default)]
pub(super) struct LineStorage {
    /// The lines that are not in the file.
    buffer: Vec<u8>,
    file: Option<File>,
    /// The number of complete bytes in the file.
    file_size: u64,
    has_file_failed: bool,
    pub(super) count: usize,
}

impl LineStorage {
    pub(super) fn push(&mut self, line: &TableLine) {
        self.count += 1;
        self.buffer.push(u8::from(line.is_heading));
        self.buffer
            .push(u8::try_from(line.cells.len()).unwrap_or(u8::MAX));
        for (style, end) in line.cells.iter().take(u8::MAX.into()) {
            self.buffer.push(*style as u8);
            self.buffer.extend(end.to_le_bytes());
        }
        self.buffer.extend(line.texts.as_bytes());

        if self.buffer.len() >= MAX_BYTES_IN_MEMORY && !self.has_file_failed {
            // If the disk is full or read-only, the further lines stay in memory.
            self.has_file_failed = self.move_to_file().is_err();
        }
    }

    fn move_to_file(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(tempfile::tempfile()?),
        };
        file.write_all(&self.buffer)?;
        self.file_size += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Returns a reader of the lines, from the first one.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub(super) fn into_reader(self) -> io::Result<StoredLines> {
        let mut stored: Box<dyn Read> = Box::new(io::empty());
        if let Some(mut file) = self.file {
            file.rewind()?;
            stored = Box::new(file.take(self.file_size));
        }
        Ok(StoredLines {
            bytes: BufReader::new(Box::new(stored.chain(Cursor::new(self.buffer)))),
            remaining_lines: self.count,
            line: TableLine::default(),
        })
    }
}

/// Reads the lines of a [`LineStorage`] in the order in which they were stored.
pub(super) struct StoredLines {
    bytes: BufReader<Box<dyn Read>>,
    pub(super) remaining_lines: usize,
    line: TableLine,
}

impl StoredLines {
    /// Returns the next line; `None` after the last one.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&TableLine>> {
        if self.remaining_lines == 0 {
            return Ok(None);
        }
        self.remaining_lines -= 1;
        self.line.clear();

        // A stored line has two bytes, then five bytes for each cell (its style and the end of its text), then the
        // texts.
        let mut head = [0; 2];
        self.bytes.read_exact(&mut head)?;
        let [is_heading, cell_count] = head;
        self.line.is_heading = is_heading == 1;

        for _ in 0..cell_count {
            let mut cell = [0; 5];
            self.bytes.read_exact(&mut cell)?;
            let [style, end @ ..] = cell;
            let style = Style::ALL.get(usize::from(style)).copied();
            let style = style.unwrap_or(Style::Plain);
            self.line.cells.push((style, u32::from_le_bytes(end)));
        }

        let text_length = self.line.cells.last().map_or(0, |(_, end)| *end);
        let mut text = self.bytes.by_ref().take(text_length.into());
        text.read_to_string(&mut self.line.texts)?;
        Ok(Some(&self.line))
    }
}

/// The items of a long list, until it is printed. The database is closed before the output: otherwise a program that
/// reads slowly would keep it locked.
#[derive(Default)]
pub(crate) struct StoredItems(LineStorage);

impl StoredItems {
    /// Adds an item for [`Self::for_each`], without secrets, unless it cannot be serialized.
    pub(crate) fn add(&mut self, item: &impl Serialize, ui: &Ui) {
        if let Ok(json) = format_item(item, ui) {
            self.push(&json);
        }
    }

    /// Adds the JSON of an item, indented like the items of a document.
    fn push(&mut self, json: &str) {
        let mut line = TableLine::default();
        line.add_cell(Style::Plain, &json.replace('\n', "\n    "));
        self.0.push(&line);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.count
    }

    /// Returns the items in the order in which they were added.
    ///
    /// # Errors
    /// A temporary file cannot be read. The iterator returns the same error.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<impl Iterator<Item = Result<T>>> {
        let mut lines = self.0.into_reader().map_err(to_command_error)?;
        Ok(std::iter::from_fn(move || match lines.next_line() {
            Ok(None) => None,
            Ok(Some(line)) => {
                let json = line.cell(0).map_or("", |(_, json)| json);
                Some(serde_json::from_str(json).map_err(to_command_error))
            }
            Err(e) => Some(Err(to_command_error(e))),
        }))
    }

    /// Calls `visit` with the JSON of each item, until `visit` returns false.
    ///
    /// # Errors
    /// A temporary file cannot be read.
    pub(crate) fn for_each(self, visit: &mut dyn FnMut(&Box<RawValue>) -> bool) -> Result<()> {
        for json in self.read()? {
            if !visit(&json?) {
                break;
            }
        }
        Ok(())
    }
}

impl<T: Serialize> FromIterator<T> for StoredItems {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut stored = Self::default();
        let items = items.into_iter().map(|item| serde_json::to_string(&item));
        items.flatten().for_each(|json| stored.push(&json));
        stored
    }
}

fn to_command_error(error: impl std::fmt::Display) -> CommandError {
    CommandError::failed(format!("cannot read a temporary file: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stores 1,000 lines of 10 kB, and returns true if they are read unchanged.
    fn are_lines_kept(mut storage: LineStorage) -> bool {
        let mut line = TableLine::default();
        let text_of = |number: usize| format!("{number} {}", "é".repeat(5_000));
        for number in 0..1_000 {
            line.clear();
            line.add_cell(Style::Plain, &text_of(number));
            storage.push(&line);
        }
        assert!(storage.file.is_some());
        let mut lines = storage.into_reader().unwrap();
        (0..1_000).all(|number| {
            let line = lines.next_line().unwrap().unwrap();
            line.cell(0) == Some((Style::Plain, &*text_of(number)))
        }) && lines.next_line().unwrap().is_none()
    }

    #[test]
    fn long_lists_are_kept_in_a_file_or_in_memory_if_it_cannot_be_written() {
        assert!(are_lines_kept(LineStorage::default()));
        let read_only = tempfile::NamedTempFile::new().unwrap();
        assert!(are_lines_kept(LineStorage {
            file: Some(File::open(read_only.path()).unwrap()),
            ..LineStorage::default()
        }));
    }
}
