//! Reads the complete lines of a plain or compressed rollout.

use crate::codex::rollout;
use crate::codex::rollout_lines::LineContent;
use crate::history::lines::{JsonlLine, LineReader};
use crate::io::file_open;
use crate::io::progress::check_interrupt;
use memchr::memmem;
use serde::de::IgnoredAny;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

#[derive(Debug, Clone, Copy)]
pub struct RawLine<'a> {
    /// The offset in the uncompressed text of the rollout.
    pub offset: u64,
    /// The line without its newline; empty if the line is too long.
    pub bytes: &'a [u8],
    pub is_too_long: bool,
}

impl RawLine<'_> {
    /// Returns true if the line is no JSON. `content` is the result of parsing it.
    pub(crate) fn is_damaged(&self, content: &LineContent<'_>) -> bool {
        match content {
            // An empty line has lost nothing. A line that is too long also has no bytes, and counts as such.
            LineContent::Damaged => !self.bytes.trim_ascii().is_empty(),
            LineContent::Skipped { .. } => self.has_second_line(),
            LineContent::Read { .. } => false,
        }
    }

    /// Returns true if Codex was interrupted while it wrote the line, so that its next line follows without a newline.
    fn has_second_line(&self) -> bool {
        let line_start = b"{\"timestamp\":\"";
        let after_first_byte = self.bytes.get(1..).unwrap_or_default();
        // The search is much cheaper than parsing, and nearly no line has such a part.
        memmem::find(after_first_byte, line_start).is_some()
            && serde_json::from_slice::<IgnoredAny>(self.bytes).is_err()
    }
}

pub struct RawLines {
    lines: LineReader<Box<dyn Read + Send>>,
    /// The offset at which reading began.
    start: u64,
    is_compressed: bool,
    end_offset: u64,
    /// True if a compressed rollout is damaged after the last line that was returned.
    pub ends_at_damage: bool,
    /// The number of lines so far, to check for an interrupt now and then.
    line_count: u32,
}

impl RawLines {
    /// Opens a plain or compressed rollout at an offset of its uncompressed text.
    pub fn open(path: &Path, start: u64) -> io::Result<Self> {
        let is_compressed = !rollout::is_plain(path);
        let reader: Box<dyn Read + Send> = if is_compressed {
            let mut reader = rollout::open_plain(path)?;
            // A decompressor cannot seek.
            io::copy(&mut reader.by_ref().take(start), &mut io::sink())?;
            reader
        } else {
            let mut file = file_open::open(path)?;
            file.seek(SeekFrom::Start(start))?;
            Box::new(file)
        };

        Ok(Self {
            lines: LineReader::new(reader),
            start,
            is_compressed,
            end_offset: start,
            ends_at_damage: false,
            line_count: 0,
        })
    }

    /// Returns the offset after the last line that was returned.
    pub(crate) fn end_offset(&self) -> u64 {
        self.end_offset
    }

    /// Returns the next complete line, or `None` at the end. A last line without a newline is complete if it is valid
    /// JSON. A damaged compressed rollout ends at the damage ([`Self::ends_at_damage`]), if at least one complete line
    /// comes before it.
    ///
    /// # Errors
    /// The file cannot be read, a compressed rollout is damaged before its first complete line, or the user interrupts
    /// ([`io::ErrorKind::Interrupted`]).
    pub fn next_line(&mut self) -> io::Result<Option<RawLine<'_>>> {
        self.line_count = self.line_count.wrapping_add(1);
        if self.line_count.is_multiple_of(256) {
            check_interrupt()?;
        }

        // The lines before the end of a truncated compressed rollout are good.
        let may_end_at_damage = self.is_compressed && self.end_offset > self.start;
        let placed_line = match self.lines.next_placed() {
            Ok(Some(placed_line)) => placed_line,
            Ok(None) => return Ok(None),
            Err(e) if may_end_at_damage && e.kind() != io::ErrorKind::Interrupted => {
                self.ends_at_damage = true;
                return Ok(None);
            }
            Err(e) => return Err(e),
        };

        let (bytes, is_too_long): (&[u8], _) = match placed_line.line {
            JsonlLine::Whole(bytes) => (bytes, false),
            JsonlLine::TooLong { .. } => (&[], true),
        };

        if !placed_line.is_terminated && serde_json::from_slice::<IgnoredAny>(bytes).is_err() {
            return Ok(None);
        }

        self.end_offset = self.start + placed_line.end;
        Ok(Some(RawLine {
            offset: self.start + placed_line.offset,
            bytes,
            is_too_long,
        }))
    }
}
