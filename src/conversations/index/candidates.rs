//! Finds the conversations that an update of the index compares with it.

use super::error::IndexError;
use super::plan::{self, IndexCandidate, RolloutStamp, ShownFields};
use super::store::IndexStore;
use crate::codex::threads::{self, ListedThread, ThreadCounts, ThreadFilter};
use crate::history::files::{self, without_zst};
use crate::history::thread_titles::{ThreadTitles, apply_names};
use crate::history::{SkippedFile, rollout, session_index, thread_rollouts};
use crate::io::parallel;
use chrono::{DateTime, Utc};
use rusqlite::Row;
use std::collections::HashSet;
use std::fs::DirEntry;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

/// An update also checks conversations that changed up to this many milliseconds before the newest change that the last
/// update saw: Codex may write its database before the rollout.
const OVERLAP_MS: i64 = 10 * 60 * 1000;

pub(super) const NEWEST_CHANGE: &str = "newest_change_ms";
/// The number of bytes of `session_index.jsonl` that were read.
pub(super) const NAMES_END: &str = "names_end";
/// The numbers of rows of Codex's database without a rollout: all, and the archived ones.
pub(super) const MISSING: &str = "missing_rollouts";
pub(super) const MISSING_ARCHIVED: &str = "missing_archived_rollouts";

/// The files that the index is built from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexSource<'a> {
    /// The Codex home with the rollouts.
    pub home: &'a Path,
    pub database: Option<&'a Path>,
    /// The current time, for the interval of walks.
    pub now: DateTime<Utc>,
}

/// The conversations to compare with the index.
#[derive(Default)]
pub(super) struct Candidates {
    pub on_disk: Vec<IndexCandidate>,
    /// The ids of conversations in the index that are no longer on disk.
    pub gone: Vec<String>,
    /// The folders that cannot be listed.
    pub unlistable: Vec<SkippedFile>,
    /// The time of the newest change in Codex's database.
    pub newest: Option<i64>,
    /// The number of bytes of `session_index.jsonl` that were read.
    pub names_end: i64,
}

/// Returns the size of `session_index.jsonl` in bytes; 0 if there is none.
pub(super) fn session_index_len(home: &Path) -> i64 {
    let meta = home.join(session_index::FILE_NAME).metadata();
    meta.map_or(0, |meta| i64::try_from(meta.len()).unwrap_or(i64::MAX))
}

/// Returns the conversations with names in `session_index.jsonl` from `offset` on, and the offset for the next call. An
/// unreadable file has no names.
fn read_names_since(home: &Path, offset: i64) -> (Vec<String>, i64) {
    let from = u64::try_from(offset).unwrap_or(0);
    let Ok((ids, end)) = session_index::read_ids_since(home, from) else {
        return (Vec::new(), offset);
    };
    let ids = ids.iter().map(ToString::to_string).collect();
    (ids, i64::try_from(end).unwrap_or(offset))
}

fn list_threads(
    source: IndexSource<'_>,
    filter: &ThreadFilter,
) -> Result<Vec<ListedThread>, IndexError> {
    let Some(database) = source.database else {
        return Ok(Vec::new());
    };
    let mut threads = threads::list(database, filter)?;
    apply_names(source.home, &mut threads);
    Ok(threads)
}

/// Returns the conversations of all rollouts, and the folders that cannot be listed. A conversation with two rollouts is
/// returned once, with the one that Codex continues.
///
/// # Errors
/// Codex's database cannot be read.
pub(crate) fn list_candidates(
    home: &Path,
    database: Option<&Path>,
) -> Result<(Vec<IndexCandidate>, Vec<SkippedFile>), IndexError> {
    let titles = ThreadTitles::read(home);
    let (files, unlistable) = files::find_with_documents(home);
    let newest = thread_rollouts::select_newest_of_each_thread(files).into_iter();
    let candidates = newest.map(|(session, file)| IndexCandidate {
        path: file.path(home),
        archived: file.is_archived,
        session,
        thread: None,
        name: None,
    });
    let mut candidates: Vec<_> = candidates.collect();
    if let Some(database) = database {
        let mut by_session: Vec<_> = (0..candidates.len()).collect();
        by_session.sort_unstable_by(|a, b| candidates[*a].session.cmp(&candidates[*b].session));
        // Each row is stored while it is read: 200,000 rows would take 40 MB beside the candidates.
        threads::list_as(database, &ThreadFilter::default(), |mut thread| {
            let id = thread.id.to_lowercase();
            let place = by_session.binary_search_by(|at| candidates[*at].session.cmp(&id));
            if let Ok(place) = place {
                titles.apply(&mut thread);
                candidates[by_session[place]].thread = Some(ShownFields::from_thread(thread));
            }
        })?;
    }
    for unlisted in candidates.iter_mut().filter(|c| c.thread.is_none()) {
        unlisted.name = titles.name(&unlisted.session);
    }
    Ok((candidates, unlistable))
}

/// Returns the conversations of all rollouts, and those that are gone.
pub(super) fn find_all_candidates(
    store: &IndexStore,
    source: IndexSource<'_>,
) -> Result<Candidates, IndexError> {
    // The next update also reads the names that Codex appends during this one.
    let (_, names_end) = read_names_since(source.home, 0);
    let (mut on_disk, unlistable) = list_candidates(source.home, source.database)?;
    // The newest first, so that a first index that is interrupted has those.
    on_disk.sort_by(|a, b| b.recency().cmp(&a.recency()));
    let known: HashSet<&String> = on_disk.iter().map(|c| &c.session).collect();
    // A conversation in an unreadable folder may still exist.
    let is_unlistable = |path: &str| {
        unlistable
            .iter()
            .any(|folder| Path::new(path).starts_with(&folder.path))
    };
    let sql = "SELECT session, path FROM conversation";
    let indexed: Vec<(String, String)> =
        store.query_rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let gone = indexed
        .into_iter()
        .filter(|(id, path)| !known.contains(id) && !is_unlistable(path));
    Ok(Candidates {
        gone: gone.map(|(id, _)| id).collect(),
        newest: on_disk.first().and_then(|first| first.recency().0),
        on_disk,
        unlistable,
        names_end,
    })
}

/// Returns true if the rollouts on disk are exactly the indexed ones, unchanged. Compares only names and metadata.
pub(super) fn has_exactly_indexed_files(
    store: &IndexStore,
    home: &Path,
) -> Result<bool, IndexError> {
    // Of equal files the sums of hashes are equal in any order. Their key is new each time.
    let hasher = RandomState::new();
    let hash = |path: &Path, stamp: Option<RolloutStamp>| {
        let path = path.as_os_str().as_encoded_bytes();
        stamp.map_or(0, |stamp| hasher.hash_one((path, stamp)))
    };
    let sum_files = || {
        let mut sum = 0_u64;
        let mut add = |entry: &DirEntry| {
            let path = entry.path();
            let plain = without_zst(&path);
            if plain.as_os_str() == path.as_os_str() || !plain.exists() {
                sum = sum.wrapping_add(hash(&path, RolloutStamp::of_entry(entry, &path)));
            }
        };
        let errors = files::visit_rollouts(home, &mut |entry, _, _| add(entry));
        files::list_documents(home).for_each(|entry| add(&entry));
        errors.is_empty().then_some(sum)
    };
    let hash_row = |row: &Row<'_>| {
        let path = Path::new(row.get_ref(0)?.as_str()?);
        let stamp = RolloutStamp {
            file: row.get(1)?,
            size: row.get(2)?,
            mtime: row.get(3)?,
        };
        let rollouts = row.get_ref(4)?.as_str_or_null()?;
        let rollouts: Option<Vec<PathBuf>> =
            rollouts.and_then(|list| serde_json::from_str(list).ok());
        // The rollouts before a rewind never change.
        let earlier = rollouts.into_iter().flatten().filter(|one| one != path);
        let earlier = earlier.map(|path| hash(&path, RolloutStamp::read(&path)));
        Ok(earlier.fold(hash(path, Some(stamp)), u64::wrapping_add))
    };
    let sql = "SELECT path, file, size, mtime, rollouts FROM conversation";
    let (on_disk, known) = parallel::run_both(sum_files, || {
        store.query_rows::<_, Vec<u64>>(sql, [], hash_row)
    });
    let known = known?.into_iter().fold(0, u64::wrapping_add);
    Ok(on_disk == Some(known))
}

/// Returns the conversations that changed according to Codex's database, or that got a name in `session_index.jsonl`.
pub(super) fn find_changed_candidates(
    store: &IndexStore,
    source: IndexSource<'_>,
) -> Result<Candidates, IndexError> {
    let newest = store.read_meta(NEWEST_CHANGE)?;
    let filter = ThreadFilter {
        since_ms: newest.map(|newest| newest - OVERLAP_MS),
        ..ThreadFilter::default()
    };
    let mut changed = list_threads(source, &filter)?;
    // A new name of an older conversation changes nothing else.
    let (named, names_end) =
        read_names_since(source.home, store.read_meta(NAMES_END)?.unwrap_or(0));
    if !named.is_empty() {
        let known: HashSet<_> = changed.iter().map(|thread| thread.id.clone()).collect();
        let named = ThreadFilter {
            ids: Some(named),
            ..ThreadFilter::default()
        };
        let named = list_threads(source, &named)?.into_iter();
        changed.extend(named.filter(|thread| !known.contains(&thread.id)));
    }
    let mut gone = Vec::new();
    // Only now the whole list is read, which takes most of the time of an update of a large home.
    if has_other_changes(store, source, &changed)? {
        let all = list_threads(source, &ThreadFilter::default())?;
        let ids: HashSet<_> = all.iter().map(|thread| thread.id.to_lowercase()).collect();
        let indexed = plan::read_indexed(store, None)?;
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
        Some(IndexCandidate {
            session: thread.id.to_lowercase(),
            path: rollout::find_existing_below(source.home, &thread.rollout_path)?,
            archived: thread.archived,
            name: None,
            thread: Some(ShownFields::from_thread(thread)),
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
    let known = plan::read_indexed(store, Some(&ids))?;
    let mut expected = count_listed(store)?;
    expected.all += store.read_meta(MISSING)?.unwrap_or(0);
    expected.archived += store.read_meta(MISSING_ARCHIVED)?.unwrap_or(0);
    for thread in changed {
        let old = known.get(&thread.id.to_lowercase());
        let old = old.filter(|old| old.shown.listed);
        expected.all += i64::from(old.is_none());
        let was_archived = old.is_some_and(|old| old.shown.archived);
        expected.archived += i64::from(thread.archived) - i64::from(was_archived);
    }
    Ok(expected != threads::count(database)?)
}

/// Counts the conversations of the index with a row in Codex's database.
pub(super) fn count_listed(store: &IndexStore) -> Result<ThreadCounts, IndexError> {
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
