//! Rewrites Codex's databases without unused space.
//!
//! SQLite writes a compact copy, which is checked. Then the files are exchanged as a whole.

use crate::codex::{
    DatabaseError, SQLITE_FOLDER, database, database_sidecars, database_view, is_database_named,
    is_versioned_database, threads,
};
use crate::io::{
    ClockDoubt, Environment, IoContext, IoError, atomic, disk_clock, modes, serialize_displayed,
    tree,
};
use crate::journal::{FileExchange, IdleHome, JournalError, Recovery, RecoveryPolicy};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The name of the journal of `storage vacuum`.
const JOURNAL: &str = "vacuum";

/// The beginning of the name of the database with Codex's logs.
pub(super) const LOGS_PREFIX: &str = "logs_";

/// The reason why no database was rewritten.
#[derive(Debug, thiserror::Error)]
pub enum VacuumError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The age of log entries is not known.
    #[error(transparent)]
    Clock(#[from] ClockDoubt),
    /// The rows of the compact copy differ from those of the original, which stays.
    #[error("the compacted database failed its check, because its rows differ; the original is unchanged: {}", .0.display())]
    Different(PathBuf),
}

/// A database, and the space that a vacuum frees.
#[derive(Debug, Clone, Serialize)]
pub struct VacuumItem {
    #[serde(serialize_with = "serialize_displayed")]
    pub path: PathBuf,
    /// Size with the write-ahead log.
    pub before_bytes: u64,
    /// Size afterwards; an estimate in a plan.
    pub after_bytes: u64,
    /// The number of log entries that are deleted.
    pub deleted_rows: u64,
    /// Always "vacuum", for the JSON document.
    pub action: &'static str,
}

/// The databases from which space can be freed, largest gain first.
#[derive(Debug, Default)]
pub struct VacuumPlan {
    pub items: Vec<VacuumItem>,
    /// The reasons why databases, or folders of them, cannot be read.
    pub unreadable: Vec<VacuumError>,
    /// Log entries from before this time are deleted.
    logs_since: Option<DateTime<Utc>>,
}

impl VacuumPlan {
    /// Examines the databases of `home`. With `keep_logs`, log entries older than that are deleted.
    pub fn read(
        home: &Path,
        env: &Environment,
        keep_logs: Option<TimeDelta>,
        now: DateTime<Utc>,
    ) -> Self {
        let mut plan = Self {
            logs_since: keep_logs.map(|age| now - age),
            ..Self::default()
        };

        for path in plan.find_databases(home, env) {
            match examine_database(&path, plan.logs_since) {
                Ok(item) if item.after_bytes < item.before_bytes => plan.items.push(item),
                Ok(_) => {}
                Err(e) => plan.unreadable.push(e.into()),
            }
        }

        plan.items
            .sort_by_key(|item| std::cmp::Reverse(item.before_bytes - item.after_bytes));
        plan
    }

    /// Rewrites the databases, all or none; damaged ones become [`unreadable`](Self::unreadable). Durable on return.
    ///
    /// # Errors
    /// A process uses the home, the clock cannot be trusted, or a file cannot be written: nothing was changed. The
    /// exchange was interrupted: the next command finishes or undoes it.
    pub fn apply(
        &mut self,
        home: &Path,
        manager_home: &Path,
        env: &Environment,
        now: DateTime<Utc>,
    ) -> Result<(), VacuumError> {
        if self.logs_since.is_some() {
            atomic::create_private_folder(manager_home)?;
            disk_clock::check_system_clock(manager_home, now)?;
        }

        let policy = IdleHome { env };
        let no_staging_folders = &[];
        let holders = policy.find_holders(home, no_staging_folders);
        if !holders.is_empty() {
            return Err(JournalError::Busy(holders).into());
        }

        let mut exchange = FileExchange::begin(manager_home, JOURNAL, home, &policy)?;
        for mut item in std::mem::take(&mut self.items) {
            let path = item.path.clone();
            let has_logs = is_database_named(&path, LOGS_PREFIX);
            let logs_since = self.logs_since.filter(|_| has_logs);
            let written = exchange.add_replacement(&path, |staged| {
                write_compact_copy(&mut item, staged, logs_since)
            });

            match written {
                // A damaged database does not keep the others from being rewritten.
                Err(VacuumError::Database(e)) if e.is_source_defect(&item.path) => {
                    self.unreadable.push(e.into());
                    continue;
                }
                written => written?,
            }

            // A write-ahead log of the former file would not fit the compact copy.
            for sidecar in database_sidecars(&item.path) {
                exchange.add_removal(&sidecar)?;
            }

            self.items.push(item);
        }
        Ok(exchange.commit(&policy)?)
    }

    /// Returns the databases in the folders that Codex uses. Leaves out links, which an exchange would replace by files.
    /// Folders that cannot be listed become [`unreadable`](Self::unreadable).
    fn find_databases(&mut self, home: &Path, env: &Environment) -> Vec<PathBuf> {
        let folders = [
            threads::find_state_folder(home, env),
            home.to_path_buf(),
            home.join(SQLITE_FOLDER),
        ];
        let mut databases = BTreeSet::new();
        for folder in BTreeSet::from(folders) {
            match tree::list_if_exists(&folder) {
                Ok(entries) => {
                    let files = entries.into_iter().filter(|(_, kind)| kind.is_file());
                    let paths = files.map(|(name, _)| folder.join(name));
                    databases.extend(paths.filter(|path| {
                        is_versioned_database(path) && database::may_be_sqlite(path)
                    }));
                }
                Err(_) if !folder.is_dir() => {}
                Err(e) => self.unreadable.push(e.into()),
            }
        }
        databases.into_iter().collect()
    }
}

/// Finishes or undoes a vacuum that was killed.
///
/// # Errors
/// A process uses the home, or the files cannot be written. The next call tries again.
pub fn recover(manager_home: &Path, env: &Environment) -> Result<Recovery, JournalError> {
    FileExchange::recover(manager_home, JOURNAL, &IdleHome { env })
}

/// Returns the sizes of the database before and after a vacuum, and the number of log entries from before `logs_since`.
fn examine_database(
    path: &Path,
    logs_since: Option<DateTime<Utc>>,
) -> Result<VacuumItem, DatabaseError> {
    let logs_since = logs_since.filter(|_| is_database_named(path, LOGS_PREFIX));
    let (after_bytes, old_rows) = database_view::run_query(path, |connection| {
        let query_number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let (mut rows, mut old_rows) = (0, 0);
        if let Some(logs_since) = logs_since {
            let first_kept_time = logs_since.timestamp();
            let old_rows_sql = format!("SELECT count(*) FROM logs WHERE ts < {first_kept_time}");
            rows = query_number("SELECT count(*) FROM logs")?;
            old_rows = query_number(&old_rows_sql)?;
        }

        let pages = query_number("PRAGMA page_count")?;
        let used_pages = (pages - query_number("PRAGMA freelist_count")?).max(1);
        // An estimate, as if all rows had the same size: half of the rows take half of the pages.
        let kept_pages = (used_pages - used_pages * old_rows / rows.max(1)).max(1);
        let page_size = query_number("PRAGMA page_size")?;
        Ok((kept_pages.saturating_mul(page_size), old_rows))
    })?;

    let before_bytes = size_with_sidecars(path);
    Ok(VacuumItem {
        path: path.to_path_buf(),
        before_bytes,
        after_bytes: u64::try_from(after_bytes).unwrap_or(0).min(before_bytes),
        deleted_rows: u64::try_from(old_rows).unwrap_or(0),
        action: "vacuum",
    })
}

/// Returns the number of bytes that a vacuum of a database frees if it deletes log entries from before `logs_since`;
/// 0 if the database cannot be read.
pub(super) fn estimate_gain(path: &Path, logs_since: DateTime<Utc>) -> u64 {
    let item = examine_database(path, Some(logs_since));
    item.map_or(0, |item| item.before_bytes - item.after_bytes)
}

/// Writes a compact copy of the database of `item`, without the log entries before `logs_since`, and records its size
/// and the number of these entries in `item`.
fn write_compact_copy(
    item: &mut VacuumItem,
    staged: &Path,
    logs_since: Option<DateTime<Utc>>,
) -> Result<(), VacuumError> {
    let source = &item.path;
    database::write_snapshot(source, staged)?;
    let rows_before = database::count_rows(staged)?;
    let deleted_rows = database::compact(staged, logs_since.map(|since| since.timestamp()))?;

    // The copy is checked although SQLite wrote it, because the disk may be full or faulty.
    database::check_integrity(staged)?;
    let rows_after = database::count_rows(staged)?;
    let keeps_other_rows = rows_before.len() == rows_after.len()
        && rows_before
            .iter()
            .zip(&rows_after)
            .all(|((table, before), (_, after))| {
                let deleted = if table == "logs" { deleted_rows } else { 0 };
                *before == *after + deleted
            });
    if !keeps_other_rows {
        return Err(VacuumError::Different(source.clone()));
    }

    copy_permissions(source, staged)?;
    item.after_bytes = staged.metadata().at("read", staged)?.len();
    item.deleted_rows = deleted_rows;
    Ok(())
}

fn copy_permissions(from: &Path, to: &Path) -> Result<(), VacuumError> {
    // A disk without modes shows the same open mode for all files. With this mode, other users could read the copy.
    if modes::exposes_files(atomic::parent_of(from)) {
        return Ok(());
    }
    let meta = from.metadata().at("read", from)?;
    let result = modes::ignore_refusal(fs::set_permissions(to, meta.permissions()));
    Ok(result.at("set the permissions of", to)?)
}

fn size_with_sidecars(database: &Path) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
    let sidecars = database_sidecars(database);
    size(database) + sidecars.iter().map(|path| size(path)).sum::<u64>()
}
