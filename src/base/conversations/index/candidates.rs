//! Finds the conversations that an update compares with the index.

use super::plan::{self, IndexCandidate, RolloutStamp, ShownFields};
use super::store::{IndexError, IndexStore};
use crate::codex::home::SESSIONS;
use crate::codex::rollout::without_zst;
use crate::codex::threads::{self, ListedThread, ThreadCounts, ThreadFilter};
use crate::history::files;
use crate::history::thread_titles::{ThreadTitles, replace_titles};
use crate::history::{SkippedFile, rollout, session_index, thread_rollouts};
use crate::io::parallel;
use chrono::{DateTime, Utc};
use rusqlite::Row;
use std::collections::HashSet;
use std::fs::DirEntry;
use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

/// An update also checks conversations that changed up to this many milliseconds before the newest change that the
/// previous update saw. Codex may write its database before the rollout, so that update may have read a rollout too
/// early.
const OVERLAP_MS: i64 = 10 * 60 * 1000;

/// The key in `meta` of the newest time of a change in Codex's database.
pub(super) const NEWEST_CHANGE: &str = "newest_change_ms";

/// The key in `meta` of the number of bytes of `session_index.jsonl` that were read.
pub(super) const NAMES_OFFSET: &str = "names_end";

/// The key in `meta` of the number of rows in Codex's database that have no rollout.
pub(super) const MISSING_ROLLOUTS: &str = "missing_rollouts";

/// The key in `meta` of the number of archived rows among those of [`MISSING_ROLLOUTS`].
pub(super) const MISSING_ARCHIVED_ROLLOUTS: &str = "missing_archived_rollouts";

/// The files that the index is built from.
#[derive(Debug, Clone, Copy)]
pub struct IndexSource<'a> {
    /// The Codex home with the rollouts.
    pub home: &'a Path,
    /// Codex's database, if it exists.
    pub database: Option<&'a Path>,
    pub now: DateTime<Utc>,
}

/// The conversations to compare with the index.
#[derive(Default)]
pub(super) struct Candidates {
    pub on_disk: Vec<IndexCandidate>,
    /// The ids of conversations in the index that are no longer on disk.
    pub gone_ids: Vec<String>,
    /// The folders that cannot be listed.
    pub unlistable_folders: Vec<SkippedFile>,
    /// The time of the newest change in Codex's database, in milliseconds since 1970.
    pub newest_change_ms: Option<i64>,
    /// The number of bytes of `session_index.jsonl` that were read.
    pub names_offset: i64,
}

/// Returns the size of `session_index.jsonl` in bytes, or 0 if the file does not exist.
pub(super) fn session_index_len(home: &Path) -> i64 {
    let meta = home.join(session_index::FILE_NAME).metadata();
    meta.map_or(0, |meta| i64::try_from(meta.len()).unwrap_or(i64::MAX))
}

/// Returns the ids of the conversations that `session_index.jsonl` names from `offset` on, and the offset for the next
/// call. If the file cannot be read, returns no ids and the same offset, so that the next update tries again.
fn read_named_ids_since(home: &Path, offset: i64) -> (Vec<String>, i64) {
    let from = u64::try_from(offset).unwrap_or(0);
    let Ok((ids, next_offset)) = session_index::read_ids_since(home, from) else {
        return (Vec::new(), offset);
    };
    let ids = ids.iter().map(ToString::to_string).collect();
    (ids, i64::try_from(next_offset).unwrap_or(offset))
}

fn list_titled_threads(
    source: IndexSource<'_>,
    filter: &ThreadFilter,
) -> Result<Vec<ListedThread>, IndexError> {
    let Some(database) = source.database else {
        return Ok(Vec::new());
    };
    let mut threads = threads::list(database, filter)?;
    replace_titles(source.home, &mut threads);
    Ok(threads)
}

/// Returns the conversations of all rollouts, and the folders that cannot be listed. A conversation with several
/// rollouts is returned once, with the rollout that Codex continues.
///
/// # Errors
/// Codex's database cannot be read.
pub(crate) fn list_candidates(
    home: &Path,
    database: Option<&Path>,
) -> Result<(Vec<IndexCandidate>, Vec<SkippedFile>), IndexError> {
    let titles = ThreadTitles::read(home);
    let (files, unlistable) = files::find_with_documents(home);

    let newest_files = thread_rollouts::select_newest_of_each_thread(files).into_iter();
    let candidates = newest_files.map(|(session, file)| IndexCandidate {
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
        // Each row is moved into its candidate while the rows are read, and nothing is collected. A list of 200,000
        // rows would take 40 MB.
        let () = threads::list_as(database, &ThreadFilter::default(), |mut thread| {
            let id = thread.id.to_lowercase();
            let position = by_session.binary_search_by(|i| candidates[*i].session.cmp(&id));
            if let Ok(position) = position {
                titles.replace_title(&mut thread);
                candidates[by_session[position]].thread = Some(ShownFields::from_thread(thread));
            }
        })?;
    }

    // A conversation without a row may still have a name in `session_index.jsonl`.
    for unlisted in candidates.iter_mut().filter(|c| c.thread.is_none()) {
        unlisted.name = titles.find_name(&unlisted.session);
    }

    Ok((candidates, unlistable))
}

/// Returns the conversations of all rollouts, and the indexed conversations that are no longer on disk.
pub(super) fn find_all_candidates(
    store: &IndexStore,
    source: IndexSource<'_>,
) -> Result<Candidates, IndexError> {
    // The end is read before the names, so that the next update reads the names that Codex appends meanwhile.
    let (_all_ids, names_offset) = read_named_ids_since(source.home, 0);
    let (mut on_disk, unlistable_folders) = list_candidates(source.home, source.database)?;

    // The newest conversations come first, so that an interrupted first update has indexed these.
    on_disk.sort_by(|a, b| b.recency_key().cmp(&a.recency_key()));

    let ids_on_disk: HashSet<&String> = on_disk.iter().map(|c| &c.session).collect();
    // A conversation in an unreadable folder may still exist.
    let is_unlistable = |path: &str| {
        let mut folders = unlistable_folders.iter();
        folders.any(|folder| Path::new(path).starts_with(&folder.path))
    };

    let sql = "SELECT session, path FROM conversation";
    let indexed_paths: Vec<(String, String)> =
        store.query_rows(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let gone_conversations = indexed_paths
        .into_iter()
        .filter(|(id, path)| !ids_on_disk.contains(id) && !is_unlistable(path));

    Ok(Candidates {
        gone_ids: gone_conversations.map(|(id, _)| id).collect(),
        newest_change_ms: on_disk.first().and_then(IndexCandidate::updated_ms),
        on_disk,
        unlistable_folders,
        names_offset,
    })
}

/// Returns true if the rollouts on disk are exactly those in the index, and have not changed. Compares only paths and
/// metadata.
pub(super) fn has_exactly_indexed_files(
    store: &IndexStore,
    home: &Path,
) -> Result<bool, IndexError> {
    let hasher = FileHasher {
        home,
        // `join` adds the separator.
        home_prefix: home.join(""),
        key: RandomState::new(),
    };
    let sql = "SELECT path, file, size, mtime, rollouts FROM conversation";
    let (sum_on_disk, row_hashes) = parallel::run_both(
        || hasher.sum_files_on_disk(),
        || store.query_rows(sql, [], |row| hasher.hash_row(row)),
    );
    let row_hashes: Vec<u64> = row_hashes?;
    let sum_of_rows = row_hashes.into_iter().fold(0, u64::wrapping_add);

    // There is no sum if a folder cannot be listed. Then the files are unknown.
    Ok(sum_on_disk == Some(sum_of_rows))
}

/// Hashes files by their paths and stamps. Equal files give equal sums of hashes, in any order. The hashes have a
/// random key, so different files cannot be made to have equal sums.
struct FileHasher<'a> {
    home: &'a Path,
    /// The home with a separator at its end.
    home_prefix: PathBuf,
    key: RandomState,
}

impl FileHasher<'_> {
    /// Returns the hash of a file; 0 without a stamp. The path is absolute, or relative to the home.
    fn hash_file(&self, path: &[u8], stamp: Option<RolloutStamp>) -> u64 {
        let home_prefix = self.home_prefix.as_os_str().as_encoded_bytes();
        let path = path.strip_prefix(home_prefix).unwrap_or(path);
        stamp.map_or(0, |stamp| self.key.hash_one((path, stamp)))
    }

    /// Returns the sum of the rollouts in the home; `None` if a folder cannot be listed.
    fn sum_files_on_disk(&self) -> Option<u64> {
        let home = self.home;
        let mut sum = 0_u64;
        let mut add_file = |entry: &DirEntry, path: &Path| {
            let plain_path = without_zst(path);
            let is_compressed = plain_path.as_os_str() != path.as_os_str();
            // A compressed rollout beside its plain form is not indexed.
            if !is_compressed || !home.join(plain_path).exists() {
                let path = path.as_os_str().as_encoded_bytes();
                sum = sum.wrapping_add(self.hash_file(path, RolloutStamp::read_entry(entry)));
            }
        };

        let errors = files::visit_rollouts(home, &mut |entry, path, _| add_file(entry, &path));
        files::list_documents(home)
            .for_each(|entry| add_file(&entry, &Path::new(SESSIONS).join(entry.file_name())));
        errors.is_empty().then_some(sum)
    }

    /// Returns the sum of the rollouts of an indexed conversation. The row has the columns `path`, `file`, `size`,
    /// `mtime` and `rollouts`.
    fn hash_row(&self, row: &Row<'_>) -> rusqlite::Result<u64> {
        let path = row.get_ref(0)?.as_bytes()?;
        let newest_hash = self.hash_file(path, Some(RolloutStamp::parse_row(row, 1)?));

        let rollout_paths = row.get_ref(4)?.as_str_or_null()?;
        let rollout_paths: Option<Vec<String>> =
            rollout_paths.and_then(|list| serde_json::from_str(list).ok());

        // The index has no stamps of the older rollouts of a rewound conversation, because these never change. With the
        // stamps on disk, only their paths are compared.
        let older_paths = rollout_paths
            .into_iter()
            .flatten()
            .filter(|rollout| rollout.as_bytes() != path);
        let older_hashes = older_paths
            .map(|path| self.hash_file(path.as_bytes(), RolloutStamp::read(Path::new(&path))));
        Ok(older_hashes.fold(newest_hash, u64::wrapping_add))
    }
}

/// Returns the conversations that changed according to Codex's database or `session_index.jsonl`, and those that were
/// deleted.
pub(super) fn find_changed_candidates(
    store: &IndexStore,
    source: IndexSource<'_>,
) -> Result<Candidates, IndexError> {
    let newest_before = store.read_meta(NEWEST_CHANGE)?;
    let filter = ThreadFilter {
        since_ms: newest_before.map(|newest| newest - OVERLAP_MS),
        ..ThreadFilter::default()
    };
    let mut threads = list_titled_threads(source, &filter)?;

    // A new name in `session_index.jsonl` does not change the time in Codex's database.
    let (named_ids, names_offset) =
        read_named_ids_since(source.home, store.read_meta(NAMES_OFFSET)?.unwrap_or(0));
    if !named_ids.is_empty() {
        let filter_by_ids = ThreadFilter {
            ids: Some(named_ids),
            ..ThreadFilter::default()
        };
        add_new_threads(&mut threads, list_titled_threads(source, &filter_by_ids)?);
    }

    // The whole list is read only if necessary, because in a large home this takes most of the time of an update.
    let gone_ids = if has_other_changes(store, source, &threads)? {
        add_changes_without_time(store, source, &mut threads)?
    } else {
        Vec::new()
    };

    let newest_now = threads.iter().filter_map(|thread| thread.updated_ms).max();
    let candidates = threads.into_iter().filter_map(|thread| {
        Some(IndexCandidate {
            session: thread.id.to_lowercase(),
            path: rollout::find_recorded_path(source.home, &thread.rollout_path)?,
            archived: thread.archived,
            name: None,
            thread: Some(ShownFields::from_thread(thread)),
        })
    });

    Ok(Candidates {
        on_disk: candidates.collect(),
        gone_ids,
        unlistable_folders: Vec::new(),
        newest_change_ms: newest_now.max(newest_before),
        names_offset,
    })
}

/// Adds the conversations that Codex archived, or added with an old time, because the query by time misses these.
/// Returns the ids of the indexed conversations that were deleted.
fn add_changes_without_time(
    store: &IndexStore,
    source: IndexSource<'_>,
    threads: &mut Vec<ListedThread>,
) -> Result<Vec<String>, IndexError> {
    let mut all_threads = list_titled_threads(source, &ThreadFilter::default())?;
    let listed_ids = all_threads.iter().map(|thread| thread.id.to_lowercase());
    let listed_ids: HashSet<_> = listed_ids.collect();

    let rows_by_id = plan::read_all_indexed(store)?;
    let gone_rows = rows_by_id.iter().filter(|(id, row)| {
        !listed_ids.contains(*id) && matches!(Path::new(&row.path).try_exists(), Ok(false))
    });
    let gone_ids = gone_rows.map(|(id, _)| id.clone()).collect();

    all_threads.retain(|thread| {
        let indexed_row = rows_by_id.get(&thread.id.to_lowercase());
        indexed_row.is_none_or(|row| row.shown.archived != thread.archived)
    });
    add_new_threads(threads, all_threads);
    Ok(gone_ids)
}

/// Adds the threads that are not in `list` yet.
fn add_new_threads(list: &mut Vec<ListedThread>, threads: Vec<ListedThread>) {
    let listed_ids: HashSet<_> = list.iter().map(|thread| thread.id.clone()).collect();
    let is_new = |thread: &ListedThread| !listed_ids.contains(&thread.id);
    list.extend(threads.into_iter().filter(is_new));
}

/// Returns true if Codex's database has other changes than `changed`: conversations that were deleted, archived, or
/// added with an old time. Compares only the numbers of all and of archived conversations.
fn has_other_changes(
    store: &IndexStore,
    source: IndexSource<'_>,
    changed: &[ListedThread],
) -> Result<bool, IndexError> {
    let Some(database) = source.database else {
        return Ok(false);
    };

    let lower_ids: Vec<_> = changed.iter().map(|t| t.id.to_lowercase()).collect();
    let ids: Vec<_> = lower_ids.iter().map(String::as_str).collect();
    let rows_by_id = plan::read_indexed(store, &ids)?;

    // Rows without a rollout are not in the index, so the last update stored their number.
    let mut expected = count_listed_conversations(store)?;
    expected.all += store.read_meta(MISSING_ROLLOUTS)?.unwrap_or(0);
    expected.archived += store.read_meta(MISSING_ARCHIVED_ROLLOUTS)?.unwrap_or(0);

    // If nothing else has changed, Codex's database has these numbers.
    for thread in changed {
        let indexed_row = rows_by_id.get(&thread.id.to_lowercase());
        let indexed_row = indexed_row.filter(|row| row.shown.listed);
        expected.all += i64::from(indexed_row.is_none());
        let was_archived = indexed_row.is_some_and(|row| row.shown.archived);
        expected.archived += i64::from(thread.archived) - i64::from(was_archived);
    }

    Ok(expected != threads::count(database)?)
}

/// Counts the conversations in the index that have a row in Codex's database.
pub(super) fn count_listed_conversations(store: &IndexStore) -> Result<ThreadCounts, IndexError> {
    // SQLite counts all rows fast. The unlisted rows are subtracted, because they are fewer than the listed ones.
    let sql = "SELECT (SELECT count(*) FROM conversation) - (SELECT count(*) FROM conversation WHERE listed=0), \
               (SELECT count(*) FROM conversation WHERE listed=1 AND archived=1)";
    store.run(|connection| {
        connection.query_row(sql, [], |row| {
            Ok(ThreadCounts {
                all: row.get(0)?,
                archived: row.get(1)?,
            })
        })
    })
}
