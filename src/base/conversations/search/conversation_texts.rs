//! Reads texts of one conversation from its rollouts, at the places that the index has recorded.

use super::conversation_filter::FoundConversation;
use super::postings::build_exact_query;
use super::query::{CheckedText, Term};
use crate::codex::rollout;
use crate::codex::rollout_lines::{self, EventKind, LineItems, LineParts, Role};
use crate::conversations::index::{
    IndexError, TextId, TextPosition, WordQuery, WordSearcher, format_project, list_span_ranges,
    read_position, searchable_part,
};
use crate::conversations::raw_lines::RawLines;
use crate::history::lines::{JsonlLine, LineReader};
use crate::io::file_open;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TextPlace {
    pub turn: Option<u32>,
    /// The time of the text's line in milliseconds since 1970.
    pub at_ms: Option<i64>,
}

pub(super) struct ConversationTexts<'a> {
    words: &'a WordSearcher<'a>,
    /// The number of the conversation in the index.
    number: i64,
    conversation: &'a FoundConversation,
    /// The reader of the open rollout, with the number of this rollout.
    reader: Option<(usize, TextReader)>,
}

impl<'a> ConversationTexts<'a> {
    pub(super) fn new(
        words: &'a WordSearcher<'a>,
        number: i64,
        conversation: &'a FoundConversation,
    ) -> Self {
        Self {
            words,
            number,
            conversation,
            reader: None,
        }
    }

    /// Returns the first text that `query` finds and that satisfies the checks of all `terms`.
    pub(super) fn find_first_match(
        &mut self,
        terms: &[&Term],
        query: &WordQuery,
    ) -> Result<Option<TextId>, IndexError> {
        let ids = self.find_ids(query)?;
        // A reader of a compressed rollout cannot go back, so `read_texts` has to open a new reader.
        self.reader = None;

        for id in ids {
            let (_place, texts) = self.read_texts(id)?;
            let satisfies = |text: &String| {
                let mut checked = CheckedText::new(text);
                let mut checks = terms.iter().filter_map(|term| term.check.as_ref());
                checks.all(|check| checked.satisfies(check))
            };

            if texts.iter().any(satisfies) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Returns the first text that has a term exactly as it is written.
    pub(super) fn find_exact_match(&mut self, term: &Term) -> Result<Option<TextId>, IndexError> {
        self.find_first_match(&[term], &build_exact_query(term))
    }

    /// Returns the ids of the texts that a query of the index finds. The title comes first, then the other texts in the
    /// order of the rollout.
    pub(super) fn find_ids(&self, query: &WordQuery) -> Result<Vec<TextId>, IndexError> {
        let texts = self.words.find_texts(query)?;
        let store = self.words.store;
        let mut ids = Vec::new();
        for range in list_span_ranges(store, self.number)? {
            ids.extend(texts.texts_between(range.first, range.last));
        }
        ids.sort_by_key(|id| id.role() != Role::Title);
        Ok(ids)
    }

    /// Returns the place of a text, and all texts of the same author in its line. Returns no texts if the rollout
    /// cannot be read any more.
    pub(super) fn read_texts(
        &mut self,
        id: TextId,
    ) -> Result<(TextPlace, Vec<String>), IndexError> {
        if id.role() == Role::Title {
            let project = format_project(&self.conversation.cwd, &self.conversation.branch);
            let texts = vec![self.conversation.title.clone(), project];
            return Ok((TextPlace::default(), texts));
        }

        let Some(TextPosition { turn, place: line }) = read_position(self.words.store, id)? else {
            return Ok((TextPlace::default(), Vec::new()));
        };

        let reader = match self.reader.take() {
            Some((rollout, reader)) if rollout == line.rollout => Some(reader),
            _ => TextReader::open(&self.read_rollout_path(line.rollout)?).ok(),
        };

        let mut line_items = None;
        if let Some(mut reader) = reader {
            line_items = reader.read_items(line.offset).ok().flatten();
            self.reader = Some((line.rollout, reader));
        }

        let LineItems { at, items } = line_items.unwrap_or_default();
        let texts = items.iter().filter_map(|item| {
            let (author, text) = match &item.kind {
                // The index has such an item only if it is a message of the user.
                EventKind::UserInput(text) => (Role::User, &**text),
                kind => kind.author_and_text()?,
            };
            (author == id.role()).then(|| searchable_part(&item.kind, text).into_owned())
        });
        let place = TextPlace {
            turn: Some(turn),
            at_ms: at.map(|at| at.timestamp_millis()),
        };
        Ok((place, texts.collect()))
    }

    fn read_rollout_path(&self, rollout_number: usize) -> Result<PathBuf, IndexError> {
        let sql = "SELECT rollouts FROM conversation WHERE id=?1";
        let store = self.words.store;
        let stored_list: Option<Option<String>> =
            store.query_optional(sql, [self.number], |row| row.get(0))?;

        // A conversation with one rollout has no list, and an empty text is no JSON.
        let list = stored_list.flatten().unwrap_or_default();
        let paths: Vec<PathBuf> = serde_json::from_str(&list).unwrap_or_default();
        let path = paths.into_iter().nth(rollout_number);
        Ok(path.unwrap_or_else(|| self.conversation.path.clone()))
    }
}

/// The number of bytes that are read at a time. Most lines are shorter.
const READ_BYTES: usize = 16 << 10;

enum TextReader {
    Plain(File),
    /// A compressed rollout can only be read forwards, so the offsets of successive reads must ascend.
    Compressed(Box<RawLines>),
}

impl TextReader {
    fn open(path: &Path) -> io::Result<Self> {
        if rollout::is_plain(path) {
            Ok(Self::Plain(file_open::open(path)?))
        } else {
            Ok(Self::Compressed(Box::new(RawLines::open(path, 0)?)))
        }
    }

    /// Reads the items of the line at an offset. Returns `None` if there is no such line any more, because the rollout
    /// has changed.
    fn read_items(&mut self, offset: u64) -> io::Result<Option<LineItems>> {
        Ok(match self {
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
        })
    }
}
