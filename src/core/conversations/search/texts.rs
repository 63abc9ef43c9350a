//! Reads single texts of a conversation from its rollout.

use crate::codex::rollout_lines::{LineItems, LineParts, Role};
use crate::codex::{rollout, rollout_lines};
use crate::conversations::index::searchable_part;
use crate::conversations::raw_lines::RawLines;
use crate::history::lines::{JsonlLine, LineReader};
use crate::io::file_open;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;

/// The number of bytes that are read at a time. Most lines are shorter.
const READ_BYTES: usize = 16 << 10;

/// The texts of one author in a line of a rollout.
#[derive(Default)]
pub(super) struct LineTexts {
    /// The time of the line in milliseconds since 1970.
    pub at_ms: Option<i64>,
    /// The searchable parts of the texts.
    pub texts: Vec<String>,
}

/// An open rollout.
pub(super) enum TextReader {
    Plain(File),
    /// A compressed rollout can only be read forwards, so the offsets of successive reads must ascend.
    Compressed(Box<RawLines>),
}

impl TextReader {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if rollout::is_plain(path) {
            Ok(Self::Plain(file_open::open(path)?))
        } else {
            Ok(Self::Compressed(Box::new(RawLines::open(path, 0)?)))
        }
    }

    /// Reads the texts of `role` in the line at an offset. Returns nothing if there is no such line any more, because
    /// the rollout has changed.
    pub(super) fn read_texts(&mut self, offset: u64, role: Role) -> io::Result<LineTexts> {
        let items = match self {
            Self::Plain(file) => {
                file.seek(SeekFrom::Start(offset))?;
                let mut lines = LineReader::with_chunk_size(file, READ_BYTES);
                match lines.next_line()? {
                    Some(JsonlLine::Whole(line)) => rollout_lines::parse(line, LineParts::TEXTS),
                    _ => None,
                }
            }
            // A decompressor cannot seek, so the lines before the offset are read and skipped.
            Self::Compressed(lines) => loop {
                match lines.next_line()? {
                    Some(line) if line.offset < offset => {}
                    Some(line) if line.offset == offset => {
                        break rollout_lines::parse(line.bytes, LineParts::TEXTS);
                    }
                    _ => break None,
                }
            },
        };

        let Some(LineItems { at, items }) = items else {
            return Ok(LineTexts::default());
        };

        let texts = items.iter().filter_map(|item| {
            let (author, text) = item.kind.author_and_text()?;
            (author == role).then(|| searchable_part(&item.kind, text).to_owned())
        });
        Ok(LineTexts {
            at_ms: at.map(|at| at.timestamp_millis()),
            texts: texts.collect(),
        })
    }
}
