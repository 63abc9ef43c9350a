//! Reads the lines of a file in bounded memory, whatever their length.

use memchr::memchr;
use std::io::{self, Read};
use std::ops::Range;

/// The length, in bytes, up to which every line is returned whole. Rollouts have lines of 20–100 kB, and a prompt with
/// several pasted images is a line of many megabytes. One limit for all readers, because they count the same turns.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// The number of bytes per read, unless the caller gives another one.
const READ_BYTES: usize = 256 << 10;

/// The number of bytes that are returned of a line longer than [`MAX_LINE_BYTES`].
const PREFIX_BYTES: usize = 4 << 10;

/// One line, without its newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonlLine<'a> {
    Whole(&'a [u8]),
    /// A line longer than [`MAX_LINE_BYTES`], of which only the first 4 KiB are known.
    TooLong {
        prefix: &'a [u8],
    },
}

/// A line with its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedLine<'a> {
    pub line: JsonlLine<'a>,
    /// The offset of its first byte.
    pub offset: u64,
    /// The offset after the line and its newline.
    pub end: u64,
    /// False for a last line without a newline.
    pub is_terminated: bool,
}

enum BufferedLine {
    Whole(Range<usize>),
    TooLong,
}

/// Reads one line after another into a buffer that grows up to [`MAX_LINE_BYTES`].
#[derive(Debug)]
pub struct LineReader<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes `start..end` of the buffer are read but not yet returned.
    start: usize,
    end: usize,
    reader_is_at_end: bool,
    bytes_read: u64,
    /// True if the last returned line ended in a newline.
    is_terminated: bool,
}

impl<R: Read> LineReader<R> {
    pub fn new(reader: R) -> Self {
        Self::with_chunk_size(reader, READ_BYTES)
    }

    /// Like [`new`](Self::new), but begins with reads of `chunk_size` bytes. For callers that want only the first lines
    /// and know the typical length of these lines.
    pub fn with_chunk_size(reader: R, chunk_size: usize) -> Self {
        Self {
            reader,
            buffer: vec![0; chunk_size],
            start: 0,
            end: 0,
            reader_is_at_end: false,
            bytes_read: 0,
            is_terminated: true,
        }
    }

    /// Returns the number of bytes read so far, including those not yet returned.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Returns the offset of the next line.
    pub(crate) fn position(&self) -> u64 {
        self.bytes_read - (self.end - self.start) as u64
    }

    /// Returns the next line, or `None` at the end of the file.
    pub fn next_line(&mut self) -> io::Result<Option<JsonlLine<'_>>> {
        Ok(self.next_placed()?.map(|placed| placed.line))
    }

    /// Returns the next line with its place, or `None` at the end of the file.
    pub(crate) fn next_placed(&mut self) -> io::Result<Option<PlacedLine<'_>>> {
        let offset = self.position();
        let Some(buffered) = self.take_line()? else {
            return Ok(None);
        };
        let (end, is_terminated) = (self.position(), self.is_terminated);

        let line = match buffered {
            BufferedLine::Whole(range) => JsonlLine::Whole(&self.buffer[range]),
            BufferedLine::TooLong => JsonlLine::TooLong {
                prefix: &self.buffer[..PREFIX_BYTES],
            },
        };

        Ok(Some(PlacedLine {
            line,
            offset,
            end,
            is_terminated,
        }))
    }

    fn take_line(&mut self) -> io::Result<Option<BufferedLine>> {
        self.is_terminated = true;
        let mut searched_to = self.start;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[searched_to..self.end]) {
                let line = self.start..searched_to + at;
                self.start = line.end + 1;
                return Ok(Some(BufferedLine::Whole(line)));
            }

            // The part that was searched has no newline, so the next search begins after it.
            searched_to = self.end;
            if self.reader_is_at_end {
                let line = self.start..self.end;
                self.start = self.end;
                self.is_terminated = false;
                return Ok((!line.is_empty()).then_some(BufferedLine::Whole(line)));
            }

            if self.end - self.start > MAX_LINE_BYTES {
                return self.skip_rest_of_long_line().map(Some);
            }

            if self.start > 0 {
                // Makes room at the end of the buffer.
                self.buffer.copy_within(self.start..self.end, 0);
                searched_to -= self.start;
                self.end -= self.start;
                self.start = 0;
            }

            if self.end == self.buffer.len() {
                let new_len = (self.buffer.len() * 2).min(MAX_LINE_BYTES + READ_BYTES);
                self.buffer.resize(new_len, 0);
            }
            self.read_more()?;
        }
    }

    /// Reads once into the free part of the buffer, which must not be empty.
    fn read_more(&mut self) -> io::Result<()> {
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    self.bytes_read += n as u64;
                    self.reader_is_at_end = n == 0;
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Skips the rest of a line that is too long and keeps its prefix at the start of the buffer.
    fn skip_rest_of_long_line(&mut self) -> io::Result<BufferedLine> {
        self.buffer
            .copy_within(self.start..self.start + PREFIX_BYTES, 0);
        loop {
            // Each read replaces the previous one behind the prefix.
            self.start = PREFIX_BYTES;
            self.end = PREFIX_BYTES;
            self.read_more()?;

            if let Some(at) = memchr(b'\n', &self.buffer[PREFIX_BYTES..self.end]) {
                self.start = PREFIX_BYTES + at + 1;
            } else if self.reader_is_at_end {
                self.start = self.end;
                self.is_terminated = false;
            } else {
                continue;
            }

            return Ok(BufferedLine::TooLong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut lines = LineReader::new(bytes);
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(match line {
                JsonlLine::Whole(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                JsonlLine::TooLong { prefix } => format!("{}…", prefix.len()),
            });
        }
        found
    }

    #[test]
    fn the_last_line_needs_no_newline() {
        assert_eq!(all(b"one\n\ntwo"), ["one", "", "two"]);
        assert_eq!(all(b"one\n"), ["one"]);
        assert!(all(b"").is_empty());
    }

    #[test]
    fn a_line_longer_than_the_limit_is_cut_and_the_next_one_read() {
        let mut bytes = b"first\n".to_vec();
        bytes.extend(vec![b'x'; MAX_LINE_BYTES + 3 * READ_BYTES]);
        bytes.extend(b"} \r\nlast");
        assert_eq!(all(&bytes), ["first", "4096…", "last"]);
    }

    #[test]
    fn lines_have_offsets_and_a_flag_for_their_newline() {
        let mut lines = LineReader::new(&b"one\n\ntw"[..]);
        let mut places = Vec::new();
        while let Some(placed) = lines.next_placed().unwrap() {
            places.push((placed.offset, placed.end, placed.is_terminated));
        }
        assert_eq!(places, [(0, 4, true), (4, 5, true), (5, 7, false)]);
    }

    #[test]
    fn a_line_across_chunks_is_whole() {
        let long = "y".repeat(3 * READ_BYTES + 7);
        let text = format!("a\n{long}\nb\n");
        assert_eq!(all(text.as_bytes()), ["a", &long, "b"]);
    }
}
