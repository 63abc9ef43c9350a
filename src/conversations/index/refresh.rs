//! Brings the index up to date.
//!
//! Usually Codex's database tells which conversations changed, so that an update of a home with 50,000
//! conversations looks at a few files. A walk over all rollouts now and then finds what the database does not
//! tell, such as conversations that a sync made longer.

use super::error::{IndexContext as _, IndexError};
use super::ingest::{self, IngestReport, delete_texts};
use super::plan::{self, Candidate, IngestTask, ShownFields};
use super::store::{self, IndexStore, Merging};
use crate::codex::rollout::ConversationFile;
use crate::codex::thread_filter::ThreadFilter;
use crate::codex::thread_query::{self, ListedThread, ThreadCounts};
use crate::history::thread_titles::{ThreadTitles, apply_names};
use crate::history::{SkippedFile, files, session_index};
use crate::io::progress::{Progress, is_interrupted};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The time after which an update walks over all rollouts.
const WALK_INTERVAL: TimeDelta = TimeDelta::minutes(10);

/// The age of changes, in milliseconds, that an update looks at again. Codex may write its database before
/// the rollout.
const OVERLAP_MS: i64 = 10 * 60 * 1000;

/// The bytes of new text after which the index is compacted.
const OPTIMIZE_BYTES: u64 = 64 << 20;

/// The largest index that is compacted at once after a deletion. SQLite erases the words of deleted texts from a
/// larger one when it merges its parts.
const MAX_ERASED_BYTES: u64 = 256 << 20;

/// The number of pages that a step of compaction writes.
const MERGED_PAGES: i64 = 4000;

/// The number of conversations that are planned at a time, which bounds the memory of a first update.
const PLANNED_CONVERSATIONS: usize = 2000;

const LAST_WALK: &str = "last_walk_ms";
const NEWEST_CHANGE: &str = "newest_change_ms";
/// The number of bytes of `session_index.jsonl` that were read.
const NAMES_END: &str = "names_end";
/// The numbers of rows of Codex's database without a rollout: all, and the archived ones.
const MISSING: &str = "missing_rollouts";
const MISSING_ARCHIVED: &str = "missing_archived_rollouts";

/// The files from which the index is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexSource<'a> {
    /// The Codex home with the rollouts.
    pub home: &'a Path,
    /// The state database of the home.
    pub database: Option<&'a Path>,
    /// The current time, for the interval of walks.
    pub now: DateTime<Utc>,
}

/// The rollouts that an update looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thoroughness {
    /// Those that changed according to Codex's database, and now and then all.
    Changes,
    /// All rollouts of the home.
    All,
}

/// The result of an update.
#[derive(Debug, Default)]
pub(crate) struct RefreshReport {
    /// The number of conversations of which something was read.
    pub read: usize,
    /// True if all rollouts were looked at.
    pub is_complete: bool,
    /// The rollouts that could not be read.
    pub skipped: Vec<SkippedFile>,
}

/// Figures of an index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct IndexStatus {
    /// The number of conversations.
    pub conversations: i64,
    /// The number of messages, calls and outputs.
    pub texts: i64,
    /// The bytes of rollouts that were read.
    pub rollout_bytes: i64,
    /// The time of the last walk over all rollouts, in milliseconds since 1970.
    #[serde(skip)]
    pub last_walk_ms: Option<i64>,
}

/// Returns the figures of an index.
pub(crate) fn status(store: &IndexStore) -> Result<IndexStatus, IndexError> {
    Ok(IndexStatus {
        conversations: store.number("SELECT count(*) FROM conversation")?,
        texts: store.number("SELECT count(*) FROM message")?,
        rollout_bytes: store.number("SELECT coalesce(sum(end), 0) FROM conversation")?,
        last_walk_ms: store.meta(LAST_WALK)?,
    })
}

/// Brings the index up to date.
///
/// # Errors
/// The database of Codex or the index cannot be read, the index cannot be written, or the user interrupts.
pub(crate) fn refresh(
    store: &mut IndexStore,
    source: IndexSource<'_>,
    thoroughness: Thoroughness,
    progress: &dyn Progress,
) -> Result<RefreshReport, IndexError> {
    let last_walk = store.meta(LAST_WALK)?;
    let is_recent = last_walk
        .and_then(DateTime::from_timestamp_millis)
        .is_some_and(|at| source.now - at < WALK_INTERVAL && at <= source.now);
    let names_end = store.meta(NAMES_END)?.unwrap_or(0);
    let is_complete = thoroughness == Thoroughness::All
        || !is_recent
        || source.database.is_none()
        // Codex only appends names. If the file is shorter, another program wrote it again.
        || names_bytes(source.home) < names_end;
    let mut found = if is_complete {
        all_candidates(store, source)?
    } else {
        changed_candidates(store, source)?
    };
    remove(store, &found.gone)?;
    found
        .on_disk
        .extend(orphaned_copies(store, source, &found)?);
    let (total, mut report) = ingest_all(store, found.on_disk, is_complete, progress)?;
    report.skipped.extend(found.unlistable);
    if let Some(newest) = found.newest {
        store.set_meta(NEWEST_CHANGE, newest)?;
    }
    store.set_meta(NAMES_END, found.names_end)?;
    if let Some(database) = source.database {
        let (rows, listed) = (thread_query::count(database)?, listed(store)?);
        store.set_meta(MISSING, rows.all - listed.all)?;
        store.set_meta(MISSING_ARCHIVED, rows.archived - listed.archived)?;
    }
    if is_complete {
        store.set_meta(LAST_WALK, source.now.timestamp_millis())?;
    }
    let is_erased = !found.gone.is_empty() && store::size(&store.path) <= MAX_ERASED_BYTES;
    if total >= OPTIMIZE_BYTES || is_erased {
        // A first index has no deleted texts.
        compact(store, is_erased || last_walk.is_some())?;
    }
    Ok(RefreshReport {
        read: report.read,
        is_complete,
        skipped: report.skipped,
    })
}

/// Compares the candidates with the index and reads those that changed, a part of them at a time. Returns the
/// number of bytes that were read too.
fn ingest_all(
    store: &mut IndexStore,
    candidates: Vec<Candidate>,
    is_complete: bool,
    progress: &dyn Progress,
) -> Result<(u64, IngestReport), IndexError> {
    let mut paths: HashMap<String, PathBuf> = HashMap::new();
    if is_complete {
        let path = |c: &Candidate| (c.session.clone(), c.path.clone());
        paths = candidates.iter().map(path).collect();
    }
    let mut total = 0;
    let mut report = IngestReport::default();
    let mut candidates = candidates.into_iter();
    loop {
        let part: Vec<_> = candidates.by_ref().take(PLANNED_CONVERSATIONS).collect();
        if part.is_empty() {
            return Ok((total, report));
        }
        let tasks = plan_tasks(store, part, &paths)?;
        if !tasks.is_empty() {
            total += tasks.iter().map(unread_bytes).sum::<u64>();
            progress.expect_bytes(total);
            let is_large = total >= OPTIMIZE_BYTES;
            store.set_merging(if is_large {
                Merging::AtEnd
            } else {
                Merging::Steady
            })?;
            let part = ingest::ingest(store, tasks, progress)?;
            report.read += part.read;
            report.skipped.extend(part.skipped);
        }
    }
}

/// Merges the index into one part, without words of deleted texts. Each step frees the pages that it merged, and
/// the next steps write into them. Those that are left are cut off at the end. With `erases`, freed pages are
/// overwritten too.
fn compact(store: &IndexStore, erases: bool) -> Result<(), IndexError> {
    let connection = &store.connection;
    connection
        .pragma_update(None, "secure_delete", erases)
        .of_index(&store.path)?;
    // A negative number starts the merge of all parts, a positive one continues it.
    let mut pages = -MERGED_PAGES;
    loop {
        if is_interrupted() {
            return Err(IndexError::Interrupted);
        }
        let before = connection.total_changes();
        connection
            .prepare_cached("INSERT INTO words(words, rank) VALUES('merge', ?1)")
            .and_then(|mut merge| merge.execute([pages]))
            .of_index(&store.path)?;
        // The statement itself is one change.
        if connection.total_changes() - before < 2 {
            break;
        }
        pages = MERGED_PAGES;
    }
    store.run(|connection| {
        connection.pragma_update(None, "secure_delete", false)?;
        // One row for each page that is cut off.
        let mut vacuum = connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    })
}

fn unread_bytes(task: &IngestTask) -> u64 {
    let size = u64::try_from(task.stamp.size).unwrap_or(0);
    task.from.map_or(0, |from| size.saturating_sub(from))
}

/// The conversations to compare with the index.
#[derive(Default)]
struct Candidates {
    on_disk: Vec<Candidate>,
    /// The ids of conversations in the index that are no longer on disk.
    gone: Vec<String>,
    /// The folders that cannot be listed.
    unlistable: Vec<SkippedFile>,
    /// The time of the newest change in Codex's database.
    newest: Option<i64>,
    /// The number of bytes of `session_index.jsonl` that were read.
    names_end: i64,
}

/// Returns the size of `session_index.jsonl`.
fn names_bytes(home: &Path) -> i64 {
    let meta = home.join(session_index::FILE_NAME).metadata();
    meta.map_or(0, |meta| i64::try_from(meta.len()).unwrap_or(i64::MAX))
}

/// Returns the conversations with names in `session_index.jsonl` from `offset` on, and the offset to read on from.
/// An unreadable file has no names.
fn named_since(home: &Path, offset: i64) -> (Vec<String>, i64) {
    let from = u64::try_from(offset).unwrap_or(0);
    let Ok((ids, end)) = session_index::ids_since(home, from) else {
        return (Vec::new(), offset);
    };
    let ids = ids.iter().map(ToString::to_string).collect();
    (ids, i64::try_from(end).unwrap_or(offset))
}

fn threads(
    source: IndexSource<'_>,
    filter: &ThreadFilter,
) -> Result<Vec<ListedThread>, IndexError> {
    let Some(database) = source.database else {
        return Ok(Vec::new());
    };
    let mut threads = thread_query::list(database, filter)?;
    apply_names(source.home, &mut threads);
    Ok(threads)
}

/// Returns the conversations of all rollouts.
fn all_candidates(store: &IndexStore, source: IndexSource<'_>) -> Result<Candidates, IndexError> {
    // The names that are appended meanwhile are read by the next update too.
    let (_, names_end) = named_since(source.home, 0);
    let titles = ThreadTitles::read(source.home);
    let threads = match source.database {
        Some(database) => {
            thread_query::list_as(database, &ThreadFilter::default(), |mut thread| {
                titles.apply(&mut thread);
                let id = std::mem::take(&mut thread.id).to_lowercase();
                (id, ShownFields::of(thread))
            })?
        }
        None => Vec::new(),
    };
    let newest = threads.iter().filter_map(|(_, shown)| shown.updated).max();
    let mut threads: HashMap<String, ShownFields> = threads.into_iter().collect();
    let mut known = HashSet::new();
    let mut candidates = Vec::new();
    let (files, unlistable) = files::find_readable(source.home);
    for file in files {
        let path = file.path(source.home);
        let id = ConversationFile::of(&path).and_then(|file| file.id().map(str::to_lowercase));
        // A conversation that is there twice is searched once.
        let Some(session) = id.filter(|id| known.insert(id.clone())) else {
            continue;
        };
        let thread = threads.remove(&session);
        candidates.push(Candidate {
            name: thread.is_none().then(|| titles.name(&session)).flatten(),
            thread,
            archived: file.is_archived,
            session,
            path,
        });
    }
    // A conversation in a folder that cannot be listed may still be there.
    let is_unlistable = |path: &str| {
        unlistable
            .iter()
            .any(|folder| Path::new(path).starts_with(&folder.path))
    };
    let gone = sessions(store)?.into_iter();
    let gone = gone.filter(|(id, path)| !known.contains(id) && !is_unlistable(path));
    Ok(Candidates {
        on_disk: candidates,
        gone: gone.map(|(id, _)| id).collect(),
        unlistable,
        newest,
        names_end,
    })
}

/// Returns the ids of the conversations in the index, with the paths of their rollouts.
fn sessions(store: &IndexStore) -> Result<Vec<(String, String)>, IndexError> {
    let read = || -> rusqlite::Result<Vec<_>> {
        let mut statement = store
            .connection
            .prepare("SELECT session, path FROM conversation")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect()
    };
    read().of_index(&store.path)
}

/// Returns the conversations that changed according to Codex's database.
fn changed_candidates(
    store: &IndexStore,
    source: IndexSource<'_>,
) -> Result<Candidates, IndexError> {
    let newest = store.meta(NEWEST_CHANGE)?;
    let filter = ThreadFilter {
        since_ms: newest.map(|newest| newest - OVERLAP_MS),
        ..ThreadFilter::default()
    };
    let mut changed = threads(source, &filter)?;
    // A new name of an older conversation changes nothing else.
    let (named, names_end) = named_since(source.home, store.meta(NAMES_END)?.unwrap_or(0));
    if !named.is_empty() {
        let known: HashSet<_> = changed.iter().map(|thread| thread.id.clone()).collect();
        let named = ThreadFilter {
            ids: Some(named),
            ..ThreadFilter::default()
        };
        let named = threads(source, &named)?.into_iter();
        changed.extend(named.filter(|thread| !known.contains(&thread.id)));
    }
    let mut gone = Vec::new();
    if has_other_changes(store, source, &changed)? {
        let all = threads(source, &ThreadFilter::default())?;
        let ids: HashSet<_> = all.iter().map(|thread| thread.id.to_lowercase()).collect();
        let indexed = plan::indexed(store, None)?;
        let is_gone = |(id, old): &(&String, &plan::IndexedConversation)| {
            !ids.contains(*id) && matches!(Path::new(&old.path).try_exists(), Ok(false))
        };
        gone.extend(indexed.iter().filter(is_gone).map(|(id, _)| id.clone()));
        let known: HashSet<_> = changed.iter().map(|thread| thread.id.clone()).collect();
        let differs = |thread: &ListedThread| {
            let indexed = indexed.get(&thread.id.to_lowercase());
            !known.contains(&thread.id)
                && indexed.is_none_or(|old| old.shown.archived != thread.archived)
        };
        changed.extend(all.into_iter().filter(differs));
    }
    let newest_now = changed.iter().filter_map(|thread| thread.updated_ms).max();
    let candidates = changed.into_iter().filter_map(|thread| {
        Some(Candidate {
            session: thread.id.to_lowercase(),
            path: plan::existing_path(&thread.rollout_path)?,
            archived: thread.archived,
            name: None,
            thread: Some(ShownFields::of(thread)),
        })
    });
    Ok(Candidates {
        on_disk: candidates.collect(),
        gone,
        unlistable: Vec::new(),
        newest: newest_now.max(newest),
        names_end,
    })
}

/// Returns true if Codex's database has changes besides `changed`: conversations that were deleted, archived,
/// or added with an old time. Compares only numbers of conversations.
fn has_other_changes(
    store: &IndexStore,
    source: IndexSource<'_>,
    changed: &[ListedThread],
) -> Result<bool, IndexError> {
    let Some(database) = source.database else {
        return Ok(false);
    };
    let ids: Vec<_> = changed
        .iter()
        .map(|thread| thread.id.to_lowercase())
        .collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let known = plan::indexed(store, Some(&ids))?;
    let mut expected = listed(store)?;
    expected.all += store.meta(MISSING)?.unwrap_or(0);
    expected.archived += store.meta(MISSING_ARCHIVED)?.unwrap_or(0);
    for thread in changed {
        let old = known.get(&thread.id.to_lowercase());
        let old = old.filter(|old| old.shown.listed);
        expected.all += i64::from(old.is_none());
        let was_archived = old.is_some_and(|old| old.shown.archived);
        expected.archived += i64::from(thread.archived) - i64::from(was_archived);
    }
    Ok(expected != thread_query::count(database)?)
}

/// Counts the conversations of the index with a row in Codex's database.
fn listed(store: &IndexStore) -> Result<ThreadCounts, IndexError> {
    let sql = "SELECT count(*), coalesce(sum(archived), 0) FROM conversation WHERE listed=1";
    store.run(|connection| {
        connection.query_row(sql, [], |row| {
            Ok(ThreadCounts {
                all: row.get(0)?,
                archived: row.get(1)?,
            })
        })
    })
}

/// Removes conversations from the index. Those that repeat a removed one are marked to be read again.
fn remove(store: &IndexStore, sessions: &[String]) -> Result<(), IndexError> {
    let remove = || -> rusqlite::Result<()> {
        let connection = &store.connection;
        let transaction = connection.unchecked_transaction()?;
        for session in sessions {
            let find = "SELECT id FROM conversation WHERE session=?1";
            let id: i64 = connection
                .prepare_cached(find)?
                .query_row([session], |row| row.get(0))?;
            delete_texts(store, id)?;
            connection
                .prepare_cached("DELETE FROM conversation WHERE id=?1")?
                .execute([id])?;
            connection
                .prepare_cached("UPDATE conversation SET size=-1 WHERE parent=?1")?
                .execute([session])?;
        }
        transaction.commit()
    };
    if sessions.is_empty() {
        return Ok(());
    }
    remove().of_index(&store.path)
}

/// Returns the conversations that repeat a removed one, unless they are among the candidates.
fn orphaned_copies(
    store: &IndexStore,
    source: IndexSource<'_>,
    found: &Candidates,
) -> Result<Vec<Candidate>, IndexError> {
    if found.gone.is_empty() {
        return Ok(Vec::new());
    }
    let known: HashSet<_> = found.on_disk.iter().map(|c| &c.session).collect();
    let read = || -> rusqlite::Result<Vec<(String, String, bool)>> {
        let mut statement = store
            .connection
            .prepare("SELECT session, path, archived FROM conversation WHERE size=-1")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        rows.collect()
    };
    let mut orphaned = read().of_index(&store.path)?;
    orphaned.retain(|(session, ..)| !known.contains(session));
    let ids = orphaned.iter().map(|(session, ..)| session.clone());
    let filter = ThreadFilter {
        ids: Some(ids.collect()),
        ..ThreadFilter::default()
    };
    let mut rows = threads(source, &filter)?;
    let candidate = |(session, path, archived): (String, String, bool)| {
        let row = rows
            .iter()
            .position(|row| row.id.eq_ignore_ascii_case(&session));
        Candidate {
            name: None,
            thread: row.map(|row| ShownFields::of(rows.swap_remove(row))),
            session,
            path: path.into(),
            archived,
        }
    };
    Ok(orphaned.into_iter().map(candidate).collect())
}

fn plan_tasks(
    store: &IndexStore,
    candidates: Vec<Candidate>,
    paths: &HashMap<String, PathBuf>,
) -> Result<Vec<IngestTask>, IndexError> {
    let ids: Vec<_> = candidates.iter().map(|c| &*c.session).collect();
    let mut indexed = plan::indexed(store, Some(&ids))?;
    let find_rollout = |id: &str| {
        if let Some(path) = paths.get(id) {
            return Some(path.clone());
        }
        let found = plan::indexed(store, Some(&[id])).ok()?;
        Some(PathBuf::from(&found.get(id)?.path))
    };
    let mut tasks = Vec::new();
    for candidate in candidates {
        if is_interrupted() {
            return Err(IndexError::Interrupted);
        }
        let old = indexed.remove(&candidate.session);
        tasks.extend(plan::task(candidate, old, &find_rollout));
    }
    Ok(tasks)
}

/// Creates the index again from all rollouts.
///
/// # Errors
/// See [`refresh`].
pub(crate) fn rebuild(
    path: &Path,
    source: IndexSource<'_>,
    progress: &dyn Progress,
) -> Result<(IndexStore, RefreshReport), IndexError> {
    store::remove(path)?;
    let mut store = IndexStore::open(path)?;
    let report = refresh(&mut store, source, Thoroughness::All, progress)?;
    Ok((store, report))
}
