//! Brings the index up to date.
//!
//! Usually Codex's database shows which conversations have changed, so an update looks at a few files even in a home
//! with 50,000 conversations. From time to time, a walk over all rollouts finds other changes, such as
//! conversations that a sync has made longer.

use super::candidates::{
    IndexSource, MISSING_ARCHIVED_ROLLOUTS, MISSING_ROLLOUTS, NAMES_OFFSET, NEWEST_CHANGE,
    count_listed_conversations, find_all_candidates, find_changed_candidates,
    has_exactly_indexed_files, session_index_len,
};
use super::ingest::{self, RefreshReport};
use super::plan::{self, HomeRollouts, IndexCandidate, IngestTask, NOT_INDEXED};
use super::store::{self, IndexError, IndexStore};
use super::text_spans::{ERASE_NEEDED, TextSpans, delete_conversation_texts};
use super::word_runs::erase_deleted_texts;
use crate::codex::threads;
use crate::conversations::left_out::DAMAGED_ROLLOUT_REASON;
use crate::history::SkippedFile;
use crate::io::progress::{Progress, check_interrupt};
use chrono::{DateTime, TimeDelta};
use rusqlite::params;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The time after which an update walks over all rollouts.
const WALK_INTERVAL: TimeDelta = TimeDelta::minutes(10);

/// The time after which an update compares all conversations with the index. Codex may change titles and folders
/// without changing any time or file.
const COMPARISON_INTERVAL: TimeDelta = TimeDelta::days(1);

/// An update that reads at least this many bytes of rollouts vacuums the index.
const VACUUM_BYTES: u64 = 64 << 20;

/// The number of conversations that are planned at the same time, which limits the memory of a first update.
const PLANNED_CONVERSATIONS: usize = 2000;

/// The key in `meta` of the time of the last walk over all rollouts.
const LAST_WALK: &str = "last_walk_ms";

/// The key in `meta` of the time of the last comparison of all conversations.
const LAST_COMPARISON: &str = "last_comparison_ms";

/// The number of bytes of rollouts that a first search reads before it answers, which takes one or two seconds.
const NEWEST_BYTES: u64 = if cfg!(test) { 4096 } else { 64 << 20 };

/// The rollouts that an update checks for changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thoroughness {
    /// Rollouts that changed according to Codex's database; all rollouts if the last walk is [`WALK_INTERVAL`] old.
    Changes,
    /// All rollouts of the home.
    All,
    /// All rollouts, without a query for changes, because an update with [`Self::Changes`] came right before.
    Files,
    /// The same as [`Self::Changes`]. But if a comparison of all conversations is due, or Codex has no database, reads
    /// at most [`NEWEST_BYTES`] of the newest rollouts.
    Newest,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexStatus {
    pub conversations: i64,
    /// The number of indexed titles, messages, tool calls and outputs.
    pub texts: i64,
    /// The number of bytes that were read of the newest rollouts of the conversations.
    pub rollout_bytes: i64,
    /// The time of the last walk over all rollouts, in milliseconds since 1970.
    pub last_walk_ms: Option<i64>,
}

pub fn read_status(store: &IndexStore) -> Result<IndexStatus, IndexError> {
    Ok(IndexStatus {
        conversations: store.count_conversations()?,
        texts: i64::try_from(TextSpans::read(store)?.texts.len()).unwrap_or(i64::MAX),
        // The lowest 48 bits of `end` are the offset in the rollout.
        rollout_bytes: store
            .query_number("SELECT coalesce(sum(end & 0xffffffffffff), 0) FROM conversation")?,
        last_walk_ms: store.read_meta(LAST_WALK)?,
    })
}

/// Returns true if no update has ever checked all rollouts.
pub fn lacks_complete_update(store: &IndexStore) -> Result<bool, IndexError> {
    Ok(store.read_meta(LAST_WALK)?.is_none())
}

/// Makes the next update of the index walk over all rollouts. Commands call this after they restore rollouts, because
/// Codex's database does not show these changes. Ignores errors: a walk is at most [`WALK_INTERVAL`] away.
pub fn expect_changed_rollouts(manager_home: &Path, codex_home: &Path) {
    let path = store::index_path(manager_home, codex_home);
    if let Ok(Some(store)) = IndexStore::open_existing(&path) {
        // The time is moved back instead of deleted, because an index without it was never complete.
        let sql = "UPDATE meta SET value=value-?2 WHERE key=?1";
        let _ = store.execute(sql, params![LAST_WALK, WALK_INTERVAL.num_milliseconds()]);
    }
}

/// Brings the index up to date. The report lists all damaged rollouts that are indexed only up to the damage, including
/// those that earlier updates read.
///
/// # Errors
/// The database of Codex or the index cannot be read, the index cannot be written, or the user interrupts.
pub fn refresh(
    store: &mut IndexStore,
    source: IndexSource<'_>,
    thoroughness: Thoroughness,
    progress: &dyn Progress,
) -> Result<RefreshReport, IndexError> {
    let mut report = update_if_needed(store, source, thoroughness, progress)?;
    report.skipped.extend(list_damaged_rollouts(store)?);
    Ok(report)
}

fn list_damaged_rollouts(store: &IndexStore) -> Result<Vec<SkippedFile>, IndexError> {
    // `cut` is the position of the damaged rollout in `rollouts`, which is NULL if there is only one.
    let sql = "SELECT coalesce(json_extract(rollouts, '$[' || cut || ']'), path) FROM conversation \
               WHERE cut IS NOT NULL";
    store.query_rows(sql, [], |row| {
        Ok(SkippedFile {
            path: PathBuf::from(row.get::<_, String>(0)?),
            reason: DAMAGED_ROLLOUT_REASON.to_owned(),
        })
    })
}

fn update_if_needed(
    store: &mut IndexStore,
    source: IndexSource<'_>,
    thoroughness: Thoroughness,
    progress: &dyn Progress,
) -> Result<RefreshReport, IndexError> {
    let is_recent = |key: &str, interval: TimeDelta| -> Result<bool, IndexError> {
        let at = store
            .read_meta(key)?
            .and_then(DateTime::from_timestamp_millis);
        // A time after now comes from a wrong clock, so it is not recent.
        Ok(at.is_some_and(|at| source.now - at < interval && at <= source.now))
    };

    let has_recent_walk = is_recent(LAST_WALK, WALK_INTERVAL)?;
    let has_recent_comparison = is_recent(LAST_COMPARISON, COMPARISON_INTERVAL)?;
    let names_offset = store.read_meta(NAMES_OFFSET)?.unwrap_or(0);
    let can_find_changes = source.database.is_some()
        // Codex only appends to `session_index.jsonl`. If it is shorter now, another program has rewritten it.
        && session_index_len(source.home) >= names_offset;

    if !can_find_changes || !has_recent_comparison {
        let compared = match thoroughness {
            Thoroughness::Newest => Thoroughness::Newest,
            _ => Thoroughness::All,
        };
        return update_index(store, source, compared, progress);
    }

    let mut report = match thoroughness {
        Thoroughness::Files => RefreshReport::default(),
        _ => update_index(store, source, Thoroughness::Changes, progress)?,
    };

    // Codex's database does not show what other programs change in the rollouts, so sometimes all files are compared.
    let is_walk_wanted = matches!(thoroughness, Thoroughness::All | Thoroughness::Files);
    if is_walk_wanted || !has_recent_walk {
        if has_exactly_indexed_files(store, source.home)? {
            store.set_meta(LAST_WALK, source.now.timestamp_millis())?;
            report.is_complete = true;
        } else {
            let read_before = report.conversations_read;
            report = update_index(store, source, Thoroughness::All, progress)?;
            report.conversations_read += read_before;
        }
    }

    Ok(report)
}

/// Compares all conversations with the index, or with [`Thoroughness::Changes`] those that changed according to Codex's
/// database, and reads those that differ. With [`Thoroughness::Newest`], stops reading after [`NEWEST_BYTES`].
fn update_index(
    store: &mut IndexStore,
    source: IndexSource<'_>,
    compared: Thoroughness,
    progress: &dyn Progress,
) -> Result<RefreshReport, IndexError> {
    // `secure_delete` overwrites the words of deleted texts. The first update is faster without it, and deletes
    // nothing.
    let has_texts = !lacks_complete_update(store)?;
    store.run(|connection| connection.pragma_update(None, "secure_delete", has_texts))?;

    let compares_all = compared != Thoroughness::Changes;
    let candidates = if compares_all {
        find_all_candidates(store, source)?
    } else {
        find_changed_candidates(store, source)?
    };

    let must_read_copies = remove_and_mark_copies(store, &candidates.gone_ids)?;
    if must_read_copies && !compares_all {
        // The marked conversations have not changed in Codex's database, so only a comparison of all finds them.
        return update_index(store, source, Thoroughness::All, progress);
    }

    let max_bytes = match compared {
        Thoroughness::Newest => NEWEST_BYTES,
        _ => u64::MAX,
    };
    let on_disk = &candidates.on_disk;
    let (new_bytes, mut report) =
        ingest_candidates(store, source.home, on_disk, max_bytes, progress)?;
    report.skipped.extend(candidates.unlistable_folders);
    if new_bytes > max_bytes {
        // LAST_COMPARISON is not set, so the next update compares all conversations again and reads the missing ones.
        return Ok(report);
    }

    if let Some(newest) = candidates.newest_change_ms {
        store.set_meta(NEWEST_CHANGE, newest)?;
    }

    // The offset is stored after the ingestion, so that the next update repeats an interrupted one.
    store.set_meta(NAMES_OFFSET, candidates.names_offset)?;

    // Codex's rows without a rollout are not in the index. The next update adds their number when it compares counts.
    if let Some(database) = source.database {
        let rows = threads::count(database)?;
        let listed = count_listed_conversations(store)?;
        store.set_meta(MISSING_ROLLOUTS, rows.all - listed.all)?;
        let missing_archived = rows.archived - listed.archived;
        store.set_meta(MISSING_ARCHIVED_ROLLOUTS, missing_archived)?;
    }

    if compares_all {
        for key in [LAST_WALK, LAST_COMPARISON] {
            store.set_meta(key, source.now.timestamp_millis())?;
        }
    }

    erase_and_vacuum(store, new_bytes)?;
    report.is_complete = compares_all;
    Ok(report)
}

/// Overwrites the words of deleted texts, and removes free pages after an update that deleted texts or read at least
/// [`VACUUM_BYTES`].
fn erase_and_vacuum(store: &mut IndexStore, new_bytes: u64) -> Result<(), IndexError> {
    store.run(|connection| connection.pragma_update(None, "secure_delete", true))?;
    let must_erase = store.read_meta(ERASE_NEEDED)?.unwrap_or(0) != 0;
    if must_erase {
        erase_deleted_texts(store)?;
        store.set_meta(ERASE_NEEDED, 0)?;
    }

    if must_erase || new_bytes >= VACUUM_BYTES {
        remove_free_pages(store)?;
    }
    Ok(())
}

/// Reads the candidates that differ from the index, in batches. Also returns the number of bytes that were to be read.
/// If it exceeds `max_bytes`, later candidates were not read; the first one is always read.
fn ingest_candidates(
    store: &mut IndexStore,
    home: &Path,
    candidates: &[IndexCandidate],
    max_bytes: u64,
    progress: &dyn Progress,
) -> Result<(u64, RefreshReport), IndexError> {
    // A fork may be read before its parent, whose path is then not in the index yet.
    let paths: HashMap<&str, &Path> = candidates.iter().map(|c| (&*c.session, &*c.path)).collect();
    let rewound = OnceCell::new();
    let mut total_bytes = 0;
    let mut report = RefreshReport::default();
    for batch in candidates.chunks(PLANNED_CONVERSATIONS) {
        if total_bytes > max_bytes {
            break;
        }

        let rollouts = HomeRollouts {
            store,
            home,
            paths: &paths,
            rewound: &rewound,
        };
        let mut tasks = plan_tasks(store, batch.to_vec(), &rollouts)?;
        if tasks.is_empty() {
            continue;
        }

        // The task that exceeds the limit is not done, unless it is the first one.
        let mut fitting_count = 0;
        for task in &tasks {
            let is_first = total_bytes == 0;
            total_bytes += count_unread_bytes(task);
            if !is_first && total_bytes > max_bytes {
                break;
            }
            fitting_count += 1;
        }
        tasks.truncate(fitting_count);

        progress.expect_bytes(tasks.iter().map(count_unread_bytes).sum());
        let batch_report = ingest::ingest(store, tasks, progress)?;
        report.conversations_read += batch_report.conversations_read;
        report.skipped.extend(batch_report.skipped);
    }

    Ok((total_bytes, report))
}

/// Removes free pages from the file of the index, which makes the file shorter.
fn remove_free_pages(store: &IndexStore) -> Result<(), IndexError> {
    store.run(|connection| {
        // SQLite removes one page for each row that is read.
        let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    })
}

fn count_unread_bytes(task: &IngestTask) -> u64 {
    let size = u64::try_from(task.stamp.size).unwrap_or(0);
    let start_offset = task.unread_part.start_offset();
    start_offset.map_or(0, |start| size.saturating_sub(start))
}

/// Removes conversations from the index. Marks the conversations that have copies of their texts to be read again, and
/// returns true if it marked any.
fn remove_and_mark_copies(store: &IndexStore, session_ids: &[String]) -> Result<bool, IndexError> {
    if session_ids.is_empty() {
        return Ok(false);
    }

    let mut has_marked_any = false;
    // `store.execute` uses the same connection, so its statements are in the transaction, too.
    store.run(|connection| {
        let transaction = connection.unchecked_transaction()?;
        for session_id in session_ids {
            let find_sql = "SELECT id FROM conversation WHERE session=?1";
            let conversation_id: i64 = connection
                .prepare_cached(find_sql)?
                .query_row([session_id], |row| row.get(0))?;

            delete_conversation_texts(store, conversation_id)?;
            store.execute("DELETE FROM conversation WHERE id=?1", [conversation_id])?;

            let mark_copies_sql = "UPDATE conversation SET size=?2 WHERE parent=?1";
            let marked = connection.execute(mark_copies_sql, params![session_id, NOT_INDEXED])?;
            has_marked_any |= marked > 0;
        }
        transaction.commit()
    })?;

    Ok(has_marked_any)
}

fn plan_tasks(
    store: &IndexStore,
    candidates: Vec<IndexCandidate>,
    rollouts: &HomeRollouts<'_>,
) -> Result<Vec<IngestTask>, IndexError> {
    let ids: Vec<_> = candidates.iter().map(|c| &*c.session).collect();
    let mut old_rows = plan::read_indexed(store, &ids)?;
    let mut tasks = Vec::new();
    for candidate in candidates {
        check_interrupt().map_err(|_| IndexError::Interrupted)?;
        let old_row = old_rows.remove(&candidate.session);
        if let Some(task) = plan::plan_task(candidate, old_row, rollouts) {
            tasks.push(task);
        }
    }
    Ok(tasks)
}

/// Deletes the index, and creates it again from all rollouts.
///
/// # Errors
/// See [`refresh`].
pub fn rebuild(
    path: &Path,
    source: IndexSource<'_>,
    progress: &dyn Progress,
) -> Result<(IndexStore, RefreshReport), IndexError> {
    store::remove_index(path)?;
    let mut store = IndexStore::open(path)?;
    let report = refresh(&mut store, source, Thoroughness::All, progress)?;
    Ok((store, report))
}
