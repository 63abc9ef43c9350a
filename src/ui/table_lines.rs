//! The lines of a table until they are printed: in memory, or in a temporary file if they are long.

use super::Style;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use tempfile::SpooledTempFile;

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
pub(super) struct LineStorage {
    file: BufWriter<SpooledTempFile>,
    count: usize,
    /// The first error of a write.
    written: io::Result<()>,
}

impl LineStorage {
    pub(super) fn new() -> Self {
        Self {
            file: BufWriter::new(SpooledTempFile::new(MAX_BYTES_IN_MEMORY)),
            count: 0,
            written: Ok(()),
        }
    }

    /// Adds a line. An error is reported by [`LineStorage::into_reader`].
    pub(super) fn push(&mut self, line: &TableLine) {
        self.count += 1;
        if self.written.is_ok() {
            self.written = self.write(line);
        }
    }

    fn write(&mut self, line: &TableLine) -> io::Result<()> {
        let cell_count = u8::try_from(line.cells.len()).map_err(io::Error::other)?;
        self.file
            .write_all(&[u8::from(line.is_heading), cell_count])?;
        for (style, end) in &line.cells {
            self.file.write_all(&[*style as u8])?;
            self.file.write_all(&end.to_le_bytes())?;
        }
        self.file.write_all(line.texts.as_bytes())
    }

    /// Returns a reader of the lines, from the first one.
    ///
    /// # Errors
    /// A line was not stored.
    pub(super) fn into_reader(self) -> io::Result<StoredLines> {
        self.written?;
        let mut file = self.file.into_inner()?;
        file.rewind()?;
        Ok(StoredLines {
            file: BufReader::new(file),
            left: self.count,
            line: TableLine::default(),
        })
    }
}

/// Reads the lines of a [`LineStorage`] in the order in which they were stored.
pub(super) struct StoredLines {
    file: BufReader<SpooledTempFile>,
    /// The number of lines that follow.
    pub(super) left: usize,
    line: TableLine,
}

impl StoredLines {
    /// Returns the next line; `None` after the last one.
    pub(super) fn next_line(&mut self) -> io::Result<Option<&TableLine>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        self.line.clear();

        // A stored line has two bytes, then five bytes for each cell (its style and the end of its text), then the
        // texts.
        let mut head = [0; 2];
        self.file.read_exact(&mut head)?;
        let [is_heading, cell_count] = head;
        self.line.is_heading = is_heading == 1;

        for _ in 0..cell_count {
            let mut cell = [0; 5];
            self.file.read_exact(&mut cell)?;
            let [style, end @ ..] = cell;
            let style = Style::ALL.get(usize::from(style)).copied();
            let style = style.unwrap_or(Style::Plain);
            self.line.cells.push((style, u32::from_le_bytes(end)));
        }

        let text_length = self.line.cells.last().map_or(0, |(_, end)| *end);
        let mut text = self.file.by_ref().take(text_length.into());
        text.read_to_string(&mut self.line.texts)?;
        Ok(Some(&self.line))
    }
}
