//! Selects the conversations of a rebuild and determines when each was changed last.

use super::RebuildSource;
use super::prompts::Prompts;
use crate::codex::database::DatabaseError;
use crate::codex::threads::{self, ThreadRow};
use crate::history::files::{self, Folders, RolloutFile};
use crate::history::id::ConversationId;
use crate::history::rfc3339::Rfc3339Time;
use crate::history::rollout::{self, Depth, first_line};
use crate::history::session_index::ThreadNameIndex;
use crate::history::{HistoryError, SkippedFile, for_each_file};
use crate::io::{IoContext, Progress};
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::SpooledTempFile;

/// The rows of the table `threads` without their texts, which are read again when needed.
#[derive(Debug)]
pub struct ThreadTable {
    /// The path of the database.
    pub(super) path: PathBuf,
    rows: Vec<TableRow>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RowTimes {
    created_ms: i64,
    updated_ms: i64,
    /// True if the row has a title, so that the rollout need not be read for one.
    has_title: bool,
}

#[derive(Debug)]
struct TableRow {
    id: ConversationId,
    times: RowTimes,
    archived: bool,
}

/// Reads the table of the database at `path`. Returns `None` if it has no such table.
///
/// # Errors
/// The database is damaged or locked by another process.
pub fn read_table(path: &Path) -> Result<Option<ThreadTable>, DatabaseError> {
    let rows = threads::fold_rows(path, Vec::new, |rows, row: ThreadRow| {
        rows.push(TableRow {
            times: RowTimes {
                created_ms: row.created_ms.unwrap_or(0),
                updated_ms: row.updated_ms.unwrap_or(0),
                has_title: !row.title.trim().is_empty()
                    || first_line(&row.first_user_message).is_some(),
            },
            archived: row.archived,
            id: ConversationId::of(&row.id),
        });
    })?;
    Ok(rows.map(|rows| ThreadTable {
        path: path.to_path_buf(),
        rows,
    }))
}

/// A conversation with the facts gathered so far.
pub(super) struct RebuildConversation {
    pub(super) id: ConversationId,
    pub(super) row: Option<RowTimes>,
    /// Its range in [`ConversationSet::owned`].
    files: Range<u32>,
    created: Option<Rfc3339Time>,
    pub(super) updated: Option<Rfc3339Time>,
    /// False if the limit leaves it out.
    pub(super) is_restored: bool,
    /// The title from the rollout, if the row has none.
    pub(super) title: Option<Span>,
    /// True if its name in the index equals the title derived from the rollout, so the user did not
    /// give it.
    pub(super) is_index_derived: bool,
}

impl RebuildConversation {
    fn new(id: ConversationId, row: Option<RowTimes>) -> Self {
        Self {
            id,
            row,
            files: 0..0,
            created: None,
            updated: None,
            is_restored: true,
            title: None,
            is_index_derived: false,
        }
    }

    fn files(&self) -> Range<usize> {
        self.files.start as usize..self.files.end as usize
    }

    /// Sets the time of the last change: the later of rollout and row, else the time of creation.
    fn set_updated(&mut self, last: Option<Rfc3339Time>) {
        let of_row = |millis: fn(&RowTimes) -> i64| {
            let millis = self.row.as_ref().map(millis).filter(|millis| *millis != 0);
            millis.and_then(Rfc3339Time::of_millis)
        };
        let updated = Rfc3339Time::later(last, of_row(|row| row.updated_ms));
        self.updated = updated
            .or_else(|| of_row(|row| row.created_ms))
            .or_else(|| self.created.clone());
    }

    fn has_title(&self) -> bool {
        self.row.is_some_and(|row| row.has_title)
    }
}

/// All conversations of a rebuild with their rollouts.
pub(super) struct ConversationSet {
    pub(super) source: RebuildSource,
    /// Sorted by id, without duplicates.
    pub(super) conversations: Vec<RebuildConversation>,
    files: Vec<RolloutFile>,
    /// Indices into `files`, grouped by conversation.
    owned: Vec<u32>,
    pub(super) orphans: usize,
    pub(super) without_id: usize,
}

impl ConversationSet {
    pub(super) fn find(&self, id: &ConversationId) -> Option<&RebuildConversation> {
        let place = self.place(id)?;
        self.conversations.get(place)
    }

    pub(super) fn place(&self, id: &ConversationId) -> Option<usize> {
        self.conversations.binary_search_by(|c| c.id.cmp(id)).ok()
    }

    fn path(&self, home: &Path, owned: usize) -> PathBuf {
        self.files[self.owned[owned] as usize].path(home)
    }
}

/// Collects the conversations to rebuild, each with its rollouts.
pub(super) fn gather(
    home: &Path,
    table: Option<ThreadTable>,
    include_orphans: bool,
    skipped: &mut Vec<SkippedFile>,
) -> Result<ConversationSet, HistoryError> {
    let mut archived = HashSet::new();
    let mut conversations = Vec::new();
    for row in table.map_or(Vec::new(), |table| table.rows) {
        if row.archived {
            archived.insert(row.id);
        } else {
            conversations.push(RebuildConversation::new(row.id, Some(row.times)));
        }
    }
    // Two rows may name one conversation in different case; the stable sort keeps Codex's spelling,
    // which is read first.
    conversations.sort_by(|a, b| a.id.cmp(&b.id));
    conversations.dedup_by(|a, b| a.id == b.id);
    let mut set = ConversationSet {
        source: if conversations.is_empty() {
            RebuildSource::Rollouts
        } else {
            RebuildSource::Database
        },
        conversations,
        files: files::find(home, Folders::Sessions)?,
        owned: Vec::new(),
        orphans: 0,
        without_id: 0,
    };
    let takes_orphans = include_orphans || set.source == RebuildSource::Rollouts;
    let mut owners = Vec::new();
    let paths = set.files.iter().map(|file| file.path(home));
    let (mut orphans, mut without_id) = (0, 0);
    for_each_file(paths, skipped, rollout::head, |i, meta| {
        let Some(meta) = meta else {
            without_id += 1;
            return Ok(());
        };
        if archived.contains(&meta.id) {
            return Ok(());
        }
        let known = set.place(&meta.id);
        if known.is_none() && !takes_orphans {
            orphans += 1;
            return Ok(());
        }
        // Needed only if no row has the time of creation.
        let row = known.and_then(|place| set.conversations[place].row);
        let created = meta
            .created()
            .filter(|_| row.is_none_or(|row| row.created_ms == 0));
        owners.push((meta.id, u32::try_from(i).unwrap_or(u32::MAX), created));
        Ok(())
    })?;
    (set.orphans, set.without_id) = (orphans, without_id);
    owners.sort_unstable_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let new: Vec<_> = owners
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|owners| set.place(&owners[0].0).is_none())
        .map(|owners| RebuildConversation::new(owners[0].0.clone(), None))
        .collect();
    set.conversations.extend(new);
    set.conversations.sort_by(|a, b| a.id.cmp(&b.id));
    set.conversations.shrink_to_fit();
    set.owned = Vec::with_capacity(owners.len());
    for (id, file, created) in owners {
        let end = u32::try_from(set.owned.len() + 1).unwrap_or(u32::MAX);
        set.owned.push(file);
        if let Some(place) = set.place(&id) {
            let conversation = &mut set.conversations[place];
            if conversation.files.is_empty() {
                conversation.files.start = end - 1;
            }
            conversation.files.end = end;
            conversation.created = conversation.created.take().or(created);
        }
    }
    Ok(set)
}

/// Marks all but the `max` most recent conversations as left out and returns their number. Reads
/// only the ends of rollouts, and nothing if all conversations fit.
pub(super) fn apply_limit(
    home: &Path,
    set: &mut ConversationSet,
    max: Option<usize>,
    skipped: &mut Vec<SkippedFile>,
) -> Result<usize, HistoryError> {
    let Some(max) = max.filter(|max| set.conversations.len() > *max) else {
        return Ok(0);
    };
    let all: Vec<usize> = (0..set.conversations.len()).collect();
    read_ends(home, set, &all, skipped)?;
    let conversations = &mut set.conversations;
    let at = |c: &RebuildConversation| c.updated.as_ref().map(|time| time.at);
    let mut newest_first = all;
    newest_first.sort_unstable_by(|a, b| {
        let (a, b) = (&conversations[*a], &conversations[*b]);
        (at(b), &b.id).cmp(&(at(a), &a.id))
    });
    for beyond in &newest_first[max..] {
        conversations[*beyond].is_restored = false;
    }
    Ok(conversations.len() - max)
}

/// Sets the times of some conversations from the ends of their rollouts.
fn read_ends(
    home: &Path,
    set: &mut ConversationSet,
    places: &[usize],
    skipped: &mut Vec<SkippedFile>,
) -> Result<(), HistoryError> {
    let owned = owned(set, places);
    let mut last: Vec<Option<(DateTime<Utc>, Box<str>)>> = vec![None; set.conversations.len()];
    let paths = owned.iter().map(|(_, owned)| set.path(home, *owned));
    for_each_file(paths, skipped, rollout::last_time, |n, time| {
        let known = &mut last[owned[n].0];
        if let Some(time) = time
            && known.as_ref().is_none_or(|(at, _)| *at < time.at)
        {
            *known = Some((time.at, time.text.into()));
        }
        Ok(())
    })?;
    for place in places {
        let last = last[*place].take().map(|(at, text)| Rfc3339Time {
            text: text.into_string(),
            at,
        });
        set.conversations[*place].set_updated(last);
    }
    Ok(())
}

/// Returns (conversation, index into `owned`) for every rollout of these conversations.
fn owned(set: &ConversationSet, places: &[usize]) -> Vec<(usize, usize)> {
    let files = |place: &usize| {
        let place = *place;
        set.conversations[place]
            .files()
            .map(move |owned| (place, owned))
    };
    places.iter().flat_map(files).collect()
}

/// Reads the rollouts of the selected conversations: all if prompts are wanted, else only those
/// without a title in their row. Returns the number of bad lines.
pub(super) fn scan(
    home: &Path,
    set: &mut ConversationSet,
    index: &ThreadNameIndex,
    titles: &mut Titles,
    mut prompts: Option<&mut Prompts>,
    skipped: &mut Vec<SkippedFile>,
    progress: &dyn Progress,
) -> Result<u64, HistoryError> {
    let (mut whole, mut ends) = (Vec::new(), Vec::new());
    for (place, conversation) in set.conversations.iter().enumerate() {
        if !conversation.is_restored {
        } else if prompts.is_some() || !conversation.has_title() {
            whole.push(place);
        } else {
            ends.push(place);
        }
    }
    let owned = owned(set, &whole);
    let length = |path: PathBuf| path.metadata().map_or(0, |m| m.len());
    let lengths = owned
        .iter()
        .map(|(_, owned)| length(set.path(home, *owned)));
    progress.expect_bytes(lengths.sum());
    let mut bad_lines = 0;
    let mut found: Vec<ScanResult> = Vec::new();
    found.resize_with(whole.len(), ScanResult::default);
    let paths = owned.iter().map(|(_, owned)| set.path(home, *owned));
    let read =
        |path: &Path| rollout::scan(path, Depth::Messages, |bytes| progress.add_bytes(bytes));
    for_each_file(paths, skipped, read, |n, scan| {
        let place = owned[n].0;
        let conversation = &set.conversations[place];
        let found = whole.binary_search(&place).map(|i| &mut found[i]);
        bad_lines += scan.bad_lines;
        if let Some(prompts) = prompts.as_deref_mut() {
            for message in &scan.messages {
                prompts.add(&conversation.id, message)?;
            }
        }
        let Ok(found) = found else { return Ok(()) };
        found.last = Rfc3339Time::later(found.last.take(), scan.last);
        if let Some(title) = scan.title.filter(|_| !found.has_title) {
            found.has_title = true;
            let line = index.get(&conversation.id)?;
            found.is_index_derived = line.is_some_and(|line| line.thread_name == title);
            if !conversation.has_title() {
                found.title = Some(titles.add(&title)?);
            }
        }
        Ok(())
    })?;
    for (place, found) in whole.iter().zip(found) {
        let conversation = &mut set.conversations[*place];
        conversation.set_updated(found.last);
        conversation.title = found.title;
        conversation.is_index_derived = found.is_index_derived;
    }
    read_ends(home, set, &ends, skipped)?;
    Ok(bad_lines)
}

#[derive(Default)]
struct ScanResult {
    last: Option<Rfc3339Time>,
    has_title: bool,
    title: Option<Span>,
    is_index_derived: bool,
}

/// The position of a title in [`Titles`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    at: u64,
    len: u32,
}

/// Titles in a spooled temp file, so that they need no memory.
pub(super) struct Titles {
    text: SpooledTempFile,
    len: u64,
}

impl Default for Titles {
    fn default() -> Self {
        Self {
            text: SpooledTempFile::new(super::SPOOL_BYTES),
            len: 0,
        }
    }
}

impl Titles {
    fn add(&mut self, title: &str) -> Result<Span, HistoryError> {
        let at = self.len;
        let len = u32::try_from(title.len()).unwrap_or(0);
        let text = &title.as_bytes()[..len as usize];
        self.text
            .write_all(text)
            .at("write a temp file in", std::env::temp_dir())?;
        self.len += u64::from(len);
        Ok(Span { at, len })
    }

    pub(super) fn get(&mut self, span: Span) -> Result<String, HistoryError> {
        let mut bytes = vec![0; span.len as usize];
        let read = self.text.seek(SeekFrom::Start(span.at));
        read.and_then(|_| self.text.read_exact(&mut bytes))
            .at("read a temp file in", std::env::temp_dir())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
