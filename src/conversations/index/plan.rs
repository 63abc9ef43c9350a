//! Decides which rollouts have to be read: compares the rollouts on disk with the index.

use super::error::IndexError;
use super::store::{IndexStore, Place};
use crate::codex::rollout::{RolloutName, is_plain};
use crate::codex::threads::ListedThread;
use crate::conversations::reader_state::ReaderState;
use crate::history::rollout::{self, SessionMeta};
use crate::history::thread_rollouts::{RewoundThreads, RolloutSlice};
use crate::io::{FileId, file_id, file_open, position};
use chrono::{DateTime, Utc};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// The number of bytes before the end of the indexed part that are compared before reading on.
const TAIL_BYTES: u64 = 64;

/// The size of a conversation in the index that has to be read from its beginning: it is new, or repeats the beginning
/// of one that was removed.
pub(super) const NOT_INDEXED: i64 = -1;

#[derive(Debug, Clone)]
pub(crate) struct IndexCandidate {
    /// The id in lower case.
    pub session: String,
    /// The rollout, plain or compressed.
    pub path: PathBuf,
    /// True if the rollout is below `archived_sessions/`.
    pub archived: bool,
    /// The fields of the conversation in Codex's list.
    pub thread: Option<ShownFields>,
    /// The name in `session_index.jsonl`, if Codex's list does not have the conversation.
    pub name: Option<String>,
}

impl IndexCandidate {
    /// Returns a larger key for a conversation that changed later.
    pub(super) fn recency(&self) -> (Option<i64>, &OsStr) {
        let updated = self.thread.as_ref().and_then(|thread| thread.updated);
        (updated, self.path.as_os_str())
    }
}

/// The identity, size and mtime of a file. Equal stamps mean an unchanged file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RolloutStamp {
    pub file: String,
    pub size: i64,
    pub mtime: i64,
}

impl RolloutStamp {
    /// Returns the stamp of a file; `None` if there is none.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let (id, meta) = file_id::stat(path).ok().flatten()?;
        Self::of(&id, &meta)
    }

    /// Returns the stamp of a listed file; `None` if it is gone.
    pub(super) fn of_entry(entry: &DirEntry, path: &Path) -> Option<Self> {
        let (id, meta) = file_id::stat_entry(entry, path).ok()?;
        Self::of(&id, &meta)
    }

    fn of(id: &FileId, meta: &Metadata) -> Option<Self> {
        let mtime = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        meta.is_file().then(|| Self {
            file: serde_json::to_string(id).unwrap_or_default(),
            size: i64::try_from(meta.len()).unwrap_or(i64::MAX),
            mtime: i64::try_from(mtime.as_nanos()).unwrap_or(i64::MAX),
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
    tail: Vec<u8>,
    pub state: ReaderState,
    /// The state of the count of its tokens.
    pub usage: Vec<u8>,
    pub shown: ShownFields,
}

/// The fields of a conversation that lists display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ShownFields {
    pub title: String,
    pub cwd: String,
    /// The branch that was checked out; empty if there was none.
    pub branch: String,
    pub created: Option<i64>,
    pub updated: Option<i64>,
    pub archived: bool,
    pub listed: bool,
}

impl ShownFields {
    /// Returns the fields of a row of Codex's list.
    pub(super) fn from_thread(thread: ListedThread) -> Self {
        Self {
            title: thread.title,
            cwd: thread.cwd,
            branch: thread.git_branch,
            created: thread.created_ms,
            updated: thread.updated_ms,
            archived: thread.archived,
            listed: true,
        }
    }
}

/// Returns the text by which the place of work is found: the last two folders, because those above are the same for most
/// conversations, and the branch.
pub(crate) fn format_place(cwd: &str, branch: &str) -> String {
    let mut folders = cwd.rsplit(['/', '\\']).filter(|name| !name.is_empty());
    let (folder, parent) = (folders.next(), folders.next());
    let folders: Vec<_> = parent.into_iter().chain(folder).collect();
    format!("{} {branch}", folders.join("/")).trim().to_owned()
}

/// A conversation that has to be read or updated in the index.
#[derive(Debug)]
pub(super) struct IngestTask {
    pub candidate: IndexCandidate,
    pub stamp: RolloutStamp,
    pub shown: ShownFields,
    pub indexed: Option<IndexedConversation>,
    /// The offset from which the rollout is read; `None` if only the fields changed.
    pub from: Option<u64>,
    /// The earlier rollouts of a rewound conversation, which are read first, each with the offset up to which Codex
    /// shows it. Empty if [`Self::from`] is not zero.
    pub earlier: Vec<RolloutSlice>,
    /// The number of the rollout among those of the conversation.
    pub number: usize,
    /// The id and the rollout of the conversation whose beginning this one may repeat.
    pub parent: Option<(String, PathBuf)>,
    /// The time at which Codex copied the beginning of another conversation into this one; `None` if it did not.
    pub copied_at: Option<DateTime<Utc>>,
}

const COLUMNS: &str = "id, session, path, file, size, mtime, end, tail, state, title, cwd, created, \
                       updated, archived, listed, usage, branch";

/// Returns conversations of the index: those with these ids, or all of them.
pub(super) fn read_indexed(
    store: &IndexStore,
    sessions: Option<&[&str]>,
) -> Result<HashMap<String, IndexedConversation>, IndexError> {
    let filter = match sessions {
        Some(_) => "WHERE session IN (SELECT value FROM json_each(?1))",
        None => "WHERE ?1 IS NULL",
    };
    let list = sessions.map(|list| serde_json::to_string(list).unwrap_or_default());
    let sql = format!("SELECT {COLUMNS} FROM conversation {filter}");
    store.query_rows(&sql, [list], |row| {
        let state: Option<Vec<u8>> = row.get(8)?;
        let state = state.map(|state| ReaderState::from_bytes(&state));
        let conversation = IndexedConversation {
            id: row.get(0)?,
            path: row.get(2)?,
            stamp: RolloutStamp {
                file: row.get(3)?,
                size: row.get(4)?,
                mtime: row.get(5)?,
            },
            end: Place::from_number(row.get(6)?),
            tail: row.get::<_, Option<Vec<u8>>>(7)?.unwrap_or_default(),
            state: state.unwrap_or_default(),
            usage: row.get::<_, Option<Vec<u8>>>(15)?.unwrap_or_default(),
            shown: ShownFields {
                title: row.get(9)?,
                cwd: row.get(10)?,
                branch: row.get(16)?,
                created: row.get(11)?,
                updated: row.get(12)?,
                archived: row.get(13)?,
                listed: row.get(14)?,
            },
        };
        Ok((row.get(1)?, conversation))
    })
}

/// The rollouts of the home that is indexed.
pub(super) struct HomeRollouts<'a> {
    pub store: &'a IndexStore,
    pub home: &'a Path,
    /// The rollouts on disk, of an update that checks all of them.
    pub paths: &'a HashMap<&'a str, &'a Path>,
    /// Filled when the first rewound conversation is planned, because few homes have one.
    pub rewound: &'a OnceCell<RewoundThreads>,
}

impl HomeRollouts<'_> {
    fn find(&self, id: &str) -> Option<PathBuf> {
        if let Some(path) = self.paths.get(id) {
            return Some(path.to_path_buf());
        }
        let found = read_indexed(self.store, Some(&[id])).ok()?;
        Some(PathBuf::from(&found.get(id)?.path))
    }

    fn find_earlier_rollouts(&self, candidate: &IndexCandidate) -> Vec<RolloutSlice> {
        let rewound = self.rewound.get_or_init(|| RewoundThreads::read(self.home));
        rewound.find_earlier(&candidate.session, &candidate.path)
    }
}

/// Returns the task for a candidate; `None` if the index is up to date or the file does not exist.
pub(super) fn plan_task(
    mut candidate: IndexCandidate,
    indexed: Option<IndexedConversation>,
    disk: &HomeRollouts<'_>,
) -> Option<IngestTask> {
    let stamp = RolloutStamp::read(&candidate.path)?;
    let is_rewind = RolloutName::parse(&candidate.path).is_some_and(|file| file.is_rewind());
    // Codex moves all rollouts of a rewound conversation, and the index has the paths of all.
    let is_moved = |old: &IndexedConversation| Path::new(&old.path) != candidate.path;
    let is_unchanged = indexed
        .as_ref()
        .is_some_and(|old| old.stamp == stamp && !(is_rewind && is_moved(old)));
    let from = match &indexed {
        Some(_) if is_unchanged => None,
        // The usual case: Codex has appended turns, and only those are read.
        Some(old)
            if !(is_rewind && is_moved(old)) && has_only_grown(old, &stamp, &candidate.path) =>
        {
            Some(old.end.offset)
        }
        _ => Some(0),
    };
    let earlier = if from == Some(0) && is_rewind {
        disk.find_earlier_rollouts(&candidate)
    } else {
        Vec::new()
    };
    let number = match &indexed {
        Some(old) if from.is_some_and(|from| from > 0) => old.end.rollout,
        _ => earlier.len(),
    };
    // The head of a rollout never changes, so it is read only with the rest.
    let first = earlier.first().map_or(&candidate.path, |first| &first.path);
    let head = (from == Some(0))
        .then(|| rollout::read_head(first).ok().flatten())
        .flatten();
    let shown = build_shown_fields(&candidate, &stamp, head.as_ref(), indexed.as_ref());
    let is_same = indexed.as_ref().is_some_and(|old| {
        is_unchanged && old.shown == shown && Path::new(&old.path) == candidate.path
    });
    if is_same {
        return None;
    }
    let original = head.as_ref().and_then(parse_original_id);
    let created = head.as_ref().and_then(SessionMeta::created);
    // A conversation that continues another one by reference copies nothing.
    let is_copy = original.is_some() && head.as_ref().is_some_and(|head| head.base_id().is_none());
    let copied_at = created
        .filter(|_| is_copy)
        .and_then(|at| DateTime::from_timestamp_millis(at.millis()));
    let parent = original.and_then(|id| {
        let path = disk.find(&id)?;
        Some((id, path))
    });
    // The fields of the thread are in `shown`. The first index of a large home has a task for each conversation.
    candidate.thread = None;
    Some(IngestTask {
        candidate,
        stamp,
        shown,
        indexed,
        from,
        earlier,
        number,
        parent,
        copied_at,
    })
}

/// Returns true if a plain rollout has at most been appended to: same file, not shorter, and the same last bytes before
/// the indexed end.
fn has_only_grown(old: &IndexedConversation, now: &RolloutStamp, path: &Path) -> bool {
    if old.stamp.size == NOT_INDEXED
        || now.size < old.stamp.size
        || now.file != old.stamp.file
        || !is_plain(path)
    {
        return false;
    }
    read_tail(path, old.end.offset).is_ok_and(|tail| tail == old.tail)
}

/// Returns the last bytes before an offset of a rollout; nothing for a compressed one.
pub(super) fn read_tail(path: &Path, end: u64) -> io::Result<Vec<u8>> {
    if !is_plain(path) {
        return Ok(Vec::new());
    }
    let len = end.min(TAIL_BYTES);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let file = file_open::open(path)?;
    position::read_exact_at(&file, &mut bytes, end - len)?;
    Ok(bytes)
}

fn build_shown_fields(
    candidate: &IndexCandidate,
    stamp: &RolloutStamp,
    head: Option<&SessionMeta>,
    indexed: Option<&IndexedConversation>,
) -> ShownFields {
    let old = indexed.map(|old| old.shown.clone()).unwrap_or_default();
    if let Some(thread) = &candidate.thread {
        let mut shown = thread.clone();
        if shown.title.is_empty() {
            shown.title = old.title;
        }
        return shown;
    }
    let cwd = head.and_then(|head| head.text("cwd"));
    let branch = head.and_then(|head| head.payload.pointer("/git/branch")?.as_str());
    let created = head.and_then(SessionMeta::created).map(|at| at.millis());
    ShownFields {
        cwd: cwd.map_or(old.cwd, str::to_owned),
        branch: branch.map_or(old.branch, str::to_owned),
        created: created.or(old.created),
        updated: Some(stamp.mtime / 1_000_000),
        archived: candidate.archived,
        listed: false,
        // Without a name, the ingestion sets the title from the first message.
        title: candidate.name.clone().unwrap_or(old.title),
    }
}

/// Returns the id of the conversation whose beginning older versions of Codex copied into this one: the original of
/// a fork, or the conversation that started a subagent.
fn parse_original_id(head: &SessionMeta) -> Option<String> {
    let fork = head.text("forked_from_id").map(str::to_lowercase);
    fork.or_else(|| {
        let spawn = head.payload.pointer("/source/subagent/thread_spawn")?;
        let parent = spawn.get("parent_thread_id")?.as_str()?;
        Some(parent.to_lowercase())
    })
}
