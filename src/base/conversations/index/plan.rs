//! Compares the rollouts on disk with the index, and decides which of them have to be read.

use super::store::{IndexError, IndexStore, Place};
use crate::codex::rollout::{RolloutName, is_plain};
use crate::codex::threads::ListedThread;
use crate::conversations::copied_texts::ParentRollout;
use crate::conversations::reader_state::ReaderState;
use crate::history::rollout::{self, SessionMeta};
use crate::history::thread_rollouts::{RewoundThreads, RolloutSlice};
use crate::io::{FileId, file_id, file_open, position};
use chrono::{DateTime, Utc};
use rusqlite::{Params, Row};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The index stores this many bytes before the end of the indexed part of a rollout, to check that the rollout was only
/// appended to.
const TAIL_BYTES: u64 = 64;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// The size in the index of a conversation that has to be read from its beginning, because it is new, could not be
/// read, or repeats texts of a conversation that was removed.
pub(super) const NOT_INDEXED: i64 = -1;

#[derive(Debug, Clone)]
pub(crate) struct IndexCandidate {
    /// The id in lower case.
    pub session: String,
    /// The path of the newest rollout, which may be compressed.
    pub path: PathBuf,
    pub archived: bool,
    /// The fields of the conversation's row in Codex's database; `None` if it has no row.
    pub thread: Option<ShownFields>,
    /// The name in `session_index.jsonl`, which is read only if [`Self::thread`] is `None`.
    pub name: Option<String>,
}

impl IndexCandidate {
    /// Returns the time of the last change according to Codex's database.
    pub(super) fn updated_ms(&self) -> Option<i64> {
        self.thread.as_ref()?.updated_ms
    }

    /// Returns a sort key that is larger for a conversation that changed later.
    pub(super) fn recency_key(&self) -> (Option<i64>, &OsStr) {
        (self.updated_ms(), self.path.as_os_str())
    }
}

/// The identity, size and mtime of a file. A file with an equal stamp has not changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RolloutStamp {
    /// `None` if the index has no valid identity.
    pub file_id: Option<FileId>,
    pub size: i64,
    /// The time of the last modification in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl RolloutStamp {
    /// Returns the stamp of a file. `None` if there is no such file, or its metadata cannot be read.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let (id, meta) = file_id::stat(path).ok().flatten()?;
        Self::from_metadata(id, &meta)
    }

    /// Returns the stamp of a file in a listed folder. `None` if the file is gone, or its metadata cannot be read.
    pub(super) fn read_entry(entry: &DirEntry) -> Option<Self> {
        let (id, meta) = file_id::stat_entry(entry).ok()?;
        Self::from_metadata(id, &meta)
    }

    /// Parses the columns `file`, `size` and `mtime`, which begin at the index `first`.
    pub(super) fn parse_row(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            // The column is empty until the first reading has ended. `None` equals no file, so the rollout is read
            // again.
            file_id: serde_json::from_slice(row.get_ref(first)?.as_bytes()?).ok(),
            size: row.get(first + 1)?,
            mtime_ns: row.get(first + 2)?,
        })
    }

    /// Returns `None` for an entry that is no file, and for an mtime that is unknown or before 1970.
    fn from_metadata(id: FileId, meta: &Metadata) -> Option<Self> {
        let mtime = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        meta.is_file().then(|| Self {
            file_id: Some(id),
            size: i64::try_from(meta.len()).unwrap_or(i64::MAX),
            mtime_ns: i64::try_from(mtime.as_nanos()).unwrap_or(i64::MAX),
        })
    }
}

#[derive(Debug, Clone)]
pub(super) struct IndexedConversation {
    pub id: i64,
    pub path: String,
    pub stamp: RolloutStamp,
    /// The place after the last line that was read.
    pub end: Place,
    /// The last bytes before `end`; see [`TAIL_BYTES`].
    tail: Vec<u8>,
    pub state: ReaderState,
    /// The state of [`ConversationUsage`](super::usage_ingest::ConversationUsage) at `end`.
    pub usage_state: Vec<u8>,
    pub shown: ShownFields,
}

/// The fields of a conversation that lists display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShownFields {
    pub title: String,
    pub cwd: String,
    /// The git branch that was checked out; empty if there was none.
    pub branch: String,
    /// The time of the last change in milliseconds since 1970.
    pub updated_ms: Option<i64>,
    pub archived: bool,
    /// True if the conversation has a row in Codex's database.
    pub listed: bool,
    /// True for a conversation of a subagent, for a side conversation, and for one that no user began.
    pub is_child: bool,
}

impl ShownFields {
    pub(super) fn from_thread(thread: ListedThread) -> Self {
        Self {
            is_child: thread.is_child(),
            title: thread.title,
            cwd: thread.cwd,
            branch: thread.git_branch,
            updated_ms: thread.updated_ms,
            archived: thread.archived,
            listed: true,
        }
    }
}

/// Returns the text by which a search finds the project of a conversation: the last two folders of its path, and the
/// branch. The folders above are left out, because they are the same for most conversations.
pub fn format_project(cwd: &str, branch: &str) -> String {
    let mut folders = cwd.rsplit(['/', '\\']).filter(|name| !name.is_empty());
    let (folder, parent) = (folders.next(), folders.next());
    let folders: Vec<_> = parent.into_iter().chain(folder).collect();
    format!("{} {branch}", folders.join("/")).trim().to_owned()
}

/// A conversation whose texts or fields have to be updated in the index.
#[derive(Debug)]
pub(super) struct IngestTask {
    pub candidate: IndexCandidate,
    pub stamp: RolloutStamp,
    /// The fields to store.
    pub shown: ShownFields,
    /// True if the title comes from the first message, because Codex has none.
    pub derives_title: bool,
    /// The row of the conversation in the index; `None` if it is new.
    pub old_row: Option<IndexedConversation>,
    pub unread_part: UnreadPart,
    /// All rollouts of a rewound conversation except the newest one; they are read first. Empty unless
    /// [`Self::unread_part`] is [`UnreadPart::Everything`].
    pub older_slices: Vec<RolloutSlice>,
    /// The number of the newest rollout among the rollouts of the conversation.
    pub newest_rollout_number: usize,
    /// The conversation whose texts this one may repeat at its beginning.
    pub parent: Option<ParentRollout>,
    /// The time at which Codex copied the texts of the parent; `None` if it copied nothing.
    pub copied_at: Option<DateTime<Utc>>,
}

impl IngestTask {
    /// Returns true if only the lines after the indexed part of the rollout are read.
    pub(super) fn is_continued(&self) -> bool {
        matches!(self.unread_part, UnreadPart::From(_))
    }
}

/// The part of a conversation's rollouts that the index does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadPart {
    /// The rollouts have not changed, but the fields of the conversation may have.
    Nothing,
    /// All rollouts from their beginnings.
    Everything,
    /// The newest rollout from this offset on, which is not zero.
    From(u64),
}

impl UnreadPart {
    /// Returns the offset from which the rollouts are read; `None` if they are not read.
    pub(super) fn start_offset(self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Everything => Some(0),
            Self::From(offset) => Some(offset),
        }
    }
}

const COLUMNS: &str = "id, session, path, file, size, mtime, end, tail, state, usage, title, cwd, branch, updated, \
                       archived, listed, child";

/// Conversations of the index by their ids.
pub(super) type IndexedById = HashMap<String, IndexedConversation>;

/// Returns the conversations with these ids from the index.
pub(super) fn read_indexed(store: &IndexStore, ids: &[&str]) -> Result<IndexedById, IndexError> {
    let filter = "WHERE session IN (SELECT value FROM json_each(?1))";
    let id_list = serde_json::to_string(ids).unwrap_or_default();
    query_indexed(store, filter, [id_list])
}

pub(super) fn read_all_indexed(store: &IndexStore) -> Result<IndexedById, IndexError> {
    query_indexed(store, "", [])
}

fn query_indexed(
    store: &IndexStore,
    filter: &str,
    values: impl Params,
) -> Result<IndexedById, IndexError> {
    let sql = format!("SELECT {COLUMNS} FROM conversation {filter}");
    store.query_rows(&sql, values, |row| {
        // The columns are numbered as in `COLUMNS`.
        let state: Option<Vec<u8>> = row.get(8)?;
        let state = state.map(|state| ReaderState::from_bytes(&state));

        let conversation = IndexedConversation {
            id: row.get(0)?,
            path: row.get(2)?,
            stamp: RolloutStamp::parse_row(row, 3)?,
            end: Place::from_number(row.get(6)?),
            tail: row.get::<_, Option<Vec<u8>>>(7)?.unwrap_or_default(),
            state: state.unwrap_or_default(),
            usage_state: row.get::<_, Option<Vec<u8>>>(9)?.unwrap_or_default(),
            shown: ShownFields {
                title: row.get(10)?,
                cwd: row.get(11)?,
                branch: row.get(12)?,
                updated_ms: row.get(13)?,
                archived: row.get(14)?,
                listed: row.get(15)?,
                is_child: row.get(16)?,
            },
        };

        Ok((row.get(1)?, conversation))
    })
}

/// Finds rollouts of other conversations in the home that is indexed.
pub(super) struct HomeRollouts<'a> {
    pub store: &'a IndexStore,
    pub home: &'a Path,
    /// The rollouts of the compared conversations, by conversation id.
    pub paths: &'a HashMap<&'a str, &'a Path>,
    /// Read when the first rewound conversation is planned, because few homes have one.
    pub rewound: &'a OnceCell<RewoundThreads>,
}

impl HomeRollouts<'_> {
    /// Returns the rollout of a conversation from [`Self::paths`], or else from the index. `None` if neither has it, or
    /// the index cannot be read.
    fn find_rollout(&self, id: &str) -> Option<PathBuf> {
        if let Some(path) = self.paths.get(id) {
            return Some(path.to_path_buf());
        }
        let rows = read_indexed(self.store, &[id]).ok()?;
        Some(PathBuf::from(&rows.get(id)?.path))
    }

    /// Returns the slices of all rollouts of a rewound conversation except the newest one, which the candidate names.
    fn find_older_slices(&self, candidate: &IndexCandidate) -> Vec<RolloutSlice> {
        let rewound = self.rewound.get_or_init(|| RewoundThreads::read(self.home));
        rewound.find_older_slices(&candidate.session, &candidate.path)
    }
}

/// Returns the task for a candidate, or `None` if the index is up to date or the rollout does not exist.
pub(super) fn plan_task(
    mut candidate: IndexCandidate,
    old_row: Option<IndexedConversation>,
    rollouts: &HomeRollouts<'_>,
) -> Option<IngestTask> {
    let stamp = RolloutStamp::read(&candidate.path)?;
    let is_rewind = RolloutName::parse(&candidate.path).is_some_and(|file| file.is_rewind());
    let unread_part = find_unread_part(&candidate, &stamp, old_row.as_ref(), is_rewind);
    let is_read_anew = unread_part == UnreadPart::Everything;

    let older_slices = if is_read_anew && is_rewind {
        rollouts.find_older_slices(&candidate)
    } else {
        Vec::new()
    };

    // The newest rollout keeps its number if only its new lines are read.
    let newest_rollout_number = match &old_row {
        Some(row) if matches!(unread_part, UnreadPart::From(_)) => row.end.rollout,
        _ => older_slices.len(),
    };

    // The first lines of a rollout never change, so they are read only if the whole rollout is read.
    let oldest_slice = older_slices.first();
    let oldest_path = oldest_slice.map_or(&candidate.path, |slice| &slice.path);
    let (oldest_head, origin) = if is_read_anew {
        // An error is reported when the rollout itself is read.
        rollout::read_head_and_origin(oldest_path).unwrap_or_default()
    } else {
        (None, None)
    };
    let head = oldest_head.as_ref();

    let shown = build_shown_fields(&candidate, &stamp, head, old_row.as_ref());
    let has_same_fields =
        |row: &IndexedConversation| row.shown == shown && Path::new(&row.path) == candidate.path;
    if unread_part == UnreadPart::Nothing && old_row.as_ref().is_some_and(has_same_fields) {
        return None;
    }

    let copied_at = origin.as_ref().and_then(|origin| origin.begun_at);
    let parent = origin.and_then(|origin| {
        Some(ParentRollout {
            path: rollouts.find_rollout(&origin.id)?,
            origin,
        })
    });

    let given_title = match &candidate.thread {
        Some(thread) => Some(&thread.title),
        None => candidate.name.as_ref(),
    };
    let derives_title = given_title.is_none_or(String::is_empty);

    // `shown` has the same fields. The first update of a large home has a task for each conversation, so memory
    // matters.
    candidate.thread = None;
    Some(IngestTask {
        candidate,
        stamp,
        shown,
        derives_title,
        old_row,
        unread_part,
        older_slices,
        newest_rollout_number,
        parent,
        copied_at,
    })
}

fn find_unread_part(
    candidate: &IndexCandidate,
    stamp: &RolloutStamp,
    old_row: Option<&IndexedConversation>,
    is_rewind: bool,
) -> UnreadPart {
    let Some(old_row) = old_row else {
        return UnreadPart::Everything;
    };

    // Codex moves all rollouts of a rewound conversation together, so the index needs all their paths again.
    if is_rewind && Path::new(&old_row.path) != candidate.path {
        return UnreadPart::Everything;
    }

    if old_row.stamp == *stamp {
        return UnreadPart::Nothing;
    }

    // In the usual case Codex has appended turns, and only these are read. Before the first turn, the metadata of the
    // conversation, of its original and its folder may still follow.
    if has_only_grown(old_row, stamp, &candidate.path) && old_row.state.turns.turns > 0 {
        UnreadPart::From(old_row.end.offset)
    } else {
        UnreadPart::Everything
    }
}

/// Returns true if a plain rollout was at most appended to: it is the same file, is not shorter, and has the same bytes
/// before the end of the indexed part.
fn has_only_grown(old_row: &IndexedConversation, new_stamp: &RolloutStamp, path: &Path) -> bool {
    if old_row.stamp.size == NOT_INDEXED
        || new_stamp.size < old_row.stamp.size
        || new_stamp.file_id != old_row.stamp.file_id
        || !is_plain(path)
    {
        return false;
    }
    read_tail(path, old_row.end.offset).is_ok_and(|tail| tail == old_row.tail)
}

/// Returns the last [`TAIL_BYTES`] before an offset of a plain rollout. Returns nothing for a compressed rollout.
pub(super) fn read_tail(path: &Path, end_offset: u64) -> io::Result<Vec<u8>> {
    if !is_plain(path) {
        return Ok(Vec::new());
    }
    let len = end_offset.min(TAIL_BYTES);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let file = file_open::open(path)?;
    position::read_exact_at(&file, &mut bytes, end_offset - len)?;
    Ok(bytes)
}

fn build_shown_fields(
    candidate: &IndexCandidate,
    stamp: &RolloutStamp,
    head: Option<&SessionMeta>,
    old_row: Option<&IndexedConversation>,
) -> ShownFields {
    let old_fields = old_row.map(|row| row.shown.clone()).unwrap_or_default();

    if let Some(thread) = &candidate.thread {
        let mut shown = thread.clone();
        if shown.title.is_empty() {
            // It may come from the first message, which is read again only with the whole conversation.
            shown.title = old_fields.title;
        }
        return shown;
    }

    // Codex's database has no row of the conversation, so the fields come from the rollout.
    let cwd = head.and_then(|head| head.text("cwd"));
    let branch = head.and_then(|head| head.payload.pointer("/git/branch")?.as_str());
    ShownFields {
        cwd: cwd.map_or(old_fields.cwd, str::to_owned),
        branch: branch.map_or(old_fields.branch, str::to_owned),
        updated_ms: Some(stamp.mtime_ns / NANOS_PER_MILLI),
        archived: candidate.archived,
        listed: false,
        is_child: head.map_or(old_fields.is_child, SessionMeta::is_child),
        // Without a name, the ingestion sets the title from the first message.
        title: candidate.name.clone().unwrap_or(old_fields.title),
    }
}
