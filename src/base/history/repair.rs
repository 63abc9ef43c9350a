//! Applies the plan of a repair to Codex's databases, and undoes it. Rollouts are read and never written.

use super::files::{self, RolloutFile};
use super::id::ConversationId;
use super::repair_plan::{
    RepairAction, RepairChange, RepairContext, RepairPlan, new_projections_path, plan,
};
use super::rollout;
use super::row::{self, RowFacts};
use super::scratch_database;
use super::scratch_projection::{self, ScratchProjections};
use super::snapshot::{
    self, RepairSnapshot, RepairSnapshotFile, RepairSnapshots, RepairedValues, SnapshotReason,
};
use super::thread_rollouts::{self, ThreadChain, select_newest_of_each_thread};
use super::unreadable::{
    ContinuedRollout, delete_projections_of_later_changes, find_unprojected_bases,
};
use super::{HistoryError, JOURNAL, SkippedFile, for_each_file};
use crate::codex::rollout::uuid_time_ms;
use crate::codex::threads::live;
use crate::codex::threads::staged::{self, RowGroup};
use crate::codex::{
    CodexConfig, Holder, Program, Projections, RowValues, ThreadRow, database_sidecars, home,
    parse_rollout_id, threads,
};
use crate::io::{Environment, IoContext, atomic, tree};
use crate::journal::{self, FileExchange, IdleHome, Recovery};
use chrono::{DateTime, Utc};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Returns the processes that have files of the home, or of its databases, open.
pub fn find_holders(context: &RepairContext<'_>) -> Vec<Holder> {
    journal::find_holders(context.home, &[], context.env)
}

fn require_unused_home(context: &RepairContext<'_>) -> Result<(), HistoryError> {
    match find_holders(context) {
        holders if holders.is_empty() => Ok(()),
        holders => Err(HistoryError::Busy(holders)),
    }
}

/// Takes a snapshot, then applies all changes or none. A change whose rollout cannot be read any
/// more is removed from the plan and its rollout added to `skipped`.
///
/// # Errors
/// A process uses the home, Codex fails to create the database or turns, or SQLite fails. The state database
/// is then unchanged, and no snapshot remains. But if the commit failed, the rows may be changed, and in
/// [`HistoryError::Unprojected`] they are. The snapshot then remains.
pub fn apply(
    context: &RepairContext<'_>,
    plan: &mut RepairPlan,
    program: Option<&Program>,
    now: DateTime<Utc>,
) -> Result<RepairSnapshot, HistoryError> {
    require_unused_home(context)?;
    // Remove temp files of killed commands.
    atomic::remove_stale_temps(&threads::find_state_folder(context.home, context.env));

    if plan.recreates_database {
        return recreate_database(context, plan, program, now);
    }

    let database = plan
        .database
        .clone()
        .ok_or_else(|| HistoryError::NotRebuilt("the home has no database".into()))?;

    // Codex may take minutes for a large home. If it fails before the snapshot, there is nothing to undo.
    let projected = project_rollouts(context, plan, program)?;

    let mut files = database_and_sidecar_paths(&database);
    if projected.is_some() || !plan.shortened.is_empty() {
        files.extend(projection_paths(context, plan));
    }

    let snapshots = RepairSnapshots::lock(context.manager_home)?;
    let (reason, repaired) = (SnapshotReason::Repair, Some(plan.repaired_values()));
    let document = RepairSnapshotFile::new(context.home, reason, repaired, now);
    let snapshot = snapshots.create(document, files)?;

    // Codex may have been started since the first check.
    let result = require_unused_home(context).and_then(|()| change_rows(&database, plan));
    result.inspect_err(|error| {
        // The transaction may be complete, so the snapshot stays for `history undo`.
        if matches!(error, HistoryError::Database(e) if e.is_failed_commit()) {
            return;
        }
        // SQLite rolled the transaction back, so nothing was changed.
        if snapshot::remove_new_logs(&snapshot).is_ok() {
            snapshot.discard();
        }
    })?;

    change_projections_after_rows(context, plan, projected.as_ref(), &snapshot)?;
    Ok(snapshot)
}

/// Has Codex project the rollouts of the plan in a scratch home. Returns `None` if the plan has none to project.
fn project_rollouts(
    context: &RepairContext<'_>,
    plan: &RepairPlan,
    program: Option<&Program>,
) -> Result<Option<ScratchProjections>, HistoryError> {
    if plan.unprojected.is_empty() {
        return Ok(None);
    }

    let program = program.ok_or_else(|| HistoryError::NotRebuilt("Codex was not found".into()))?;
    scratch_projection::create_scratch_projections(context, program, &plan.unprojected).map(Some)
}

fn change_projections_after_rows(
    context: &RepairContext<'_>,
    plan: &RepairPlan,
    projected: Option<&ScratchProjections>,
    snapshot: &RepairSnapshot,
) -> Result<(), HistoryError> {
    // Two databases have no common transaction. A failure or a kill here leaves old projections, and the next
    // repair finds them.
    change_projections(context, plan, projected).map_err(|error| HistoryError::Unprojected {
        snapshot: snapshot.name(),
        source: error.into(),
    })
}

/// Deletes the projections of rollouts that became shorter, then adds the projections that Codex has created.
fn change_projections(
    context: &RepairContext<'_>,
    plan: &RepairPlan,
    projected: Option<&ScratchProjections>,
) -> Result<(), HistoryError> {
    if let Some(database) = &plan.projections {
        let shortened: Vec<_> = plan.shortened.iter().map(String::as_str).collect();
        if !shortened.is_empty() {
            live::delete_projections(database, &shortened)?;
        }
    }
    match projected {
        Some(projected) => add_projections(plan.projections.as_deref(), context, projected),
        None => Ok(()),
    }
}

/// Adds projections to the database of the home, or creates it if there is none.
fn add_projections(
    database: Option<&Path>,
    context: &RepairContext<'_>,
    projected: &ScratchProjections,
) -> Result<(), HistoryError> {
    let source = &projected.scratch.database;
    let Some(database) = database else {
        let target = new_projections_path(context);
        return snapshot::copy_file(source, &target);
    };

    let cuts = projected.complete_rollouts.iter();
    let ids = cuts.map(|cut| cut.rollout_id.clone()).collect();
    Ok(staged::replace_projections(database, source, &ids)?)
}

/// Returns the rollouts that the newest rollouts of these threads, and of the threads that continue them, continue.
/// Leaves out a thread if Codex has projected all these rollouts of it, or if one is missing or unreadable.
/// `thread_ids` are in lower case.
pub fn find_unprojected_rollouts(
    context: &RepairContext<'_>,
    thread_ids: &BTreeSet<String>,
) -> Vec<ContinuedRollout> {
    if thread_ids.is_empty() {
        return Vec::new();
    }

    let folder = threads::find_state_folder(context.home, context.env);
    let projections = Projections::read_folder(&folder);
    let (files, _unlistable) = files::find_readable(context.home);

    // `None` if an id has no time. Every rollout may then continue that thread.
    let oldest_ms = thread_ids.iter().map(|id| uuid_time_ms(id)).min().flatten();
    let continues_thread = |id: &str, path: &Path| {
        let chain = ThreadChain::read(context.home, id, path);
        let mut ids = chain.parts.iter().map(|part| part.id.to_lowercase());
        ids.any(|id| thread_ids.contains(&id))
    };

    let newest_rollouts = select_newest_of_each_thread(files).into_iter();
    newest_rollouts
        .map(|(id, file)| (id, file.path(context.home)))
        .filter(|(_, path)| thread_rollouts::may_continue(path, oldest_ms))
        .filter(|(id, path)| thread_ids.contains(id) || continues_thread(id, path))
        .flat_map(|(_, path)| find_unprojected_bases(context.home, &path, &projections))
        .collect()
}

/// Lets `program` project these rollouts, and adds the projections to the database of the home. No other row is
/// changed, so no snapshot is made.
///
/// # Errors
/// A process uses the home, Codex fails to project them, or SQLite fails. Then nothing was changed.
pub fn project_continued_rollouts(
    context: &RepairContext<'_>,
    program: &Program,
    rollouts: &[ContinuedRollout],
) -> Result<(), HistoryError> {
    let projected = scratch_projection::create_scratch_projections(context, program, rollouts)?;
    require_unused_home(context)?;
    let folder = threads::find_state_folder(context.home, context.env);
    let database = Projections::read_folder(&folder).database;
    add_projections(database.as_deref(), context, &projected)
}

/// The number of changes whose rollouts are read before their rows are inserted. Bounds memory.
const ROWS_PER_BATCH: usize = 256;

/// Changes and adds the rows of the plan in one transaction. If the rollout of a new row cannot be read, removes all
/// changes of that conversation from the plan, and adds the rollout to `skipped`.
fn change_rows(database: &Path, plan: &mut RepairPlan) -> Result<(), HistoryError> {
    let mut failed_ids = HashSet::new();
    let mut skipped = Vec::new();

    threads::edit_rows(database, |rows| {
        for changes in plan.changes.chunks(ROWS_PER_BATCH) {
            let mut new_rows = build_rows(&plan.home, changes, &plan.provider, &mut skipped)?;
            for change in changes {
                if change.action != RepairAction::AddRow {
                    change.change_row(rows)?;
                } else if let Some(row) = new_rows.remove(&change.id) {
                    rows.insert(&row)?;
                } else {
                    failed_ids.insert(change.id.clone());
                }
            }
        }
        Ok::<_, HistoryError>(())
    })?;

    plan.changes
        .retain(|change| !failed_ids.contains(&change.id));
    skipped.retain(|skipped| !plan.skipped.contains(skipped));
    plan.skipped.append(&mut skipped);

    Ok(())
}

/// Builds the rows that [`RepairAction::AddRow`] inserts, by conversation. Leaves out rows of unreadable rollouts.
fn build_rows<'a>(
    home: &Path,
    changes: &'a [RepairChange],
    provider: &str,
    skipped: &mut Vec<SkippedFile>,
) -> Result<HashMap<&'a ConversationId, RowValues>, HistoryError> {
    let added = changes
        .iter()
        .filter(|change| change.action == RepairAction::AddRow);
    let rollouts = added.map(|change| {
        let existing_path = rollout::find_recorded_path(home, &change.to);
        (change, existing_path.unwrap_or_else(|| (&change.to).into()))
    });

    let read = |path: &Path| {
        // Not as `NotFound`, which `for_each_file` ignores: a rollout that vanished after the plan is reported.
        let modified = path.metadata().map_err(io::Error::other)?.modified()?;
        let since_epoch = modified.duration_since(SystemTime::UNIX_EPOCH);
        let millis = since_epoch.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(0));

        Ok((row::scan_for_row(home, path)?, millis))
    };

    let mut rows = HashMap::new();
    for_each_file(rollouts, skipped, read, |change, (scan, modified_ms)| {
        let facts = RowFacts {
            // Codex 0.169 records the path of the plain form, also of a compressed rollout.
            path: Path::new(&change.to),
            is_archived: change.archived,
            modified_ms,
            provider,
        };

        if let Some(meta) = &scan.meta {
            rows.insert(&change.id, row::build_row(meta, &scan, &facts));
        }
        Ok(())
    })?;
    Ok(rows)
}

/// Adds rows, paths and names of these rollouts to the database, all or none, and returns the
/// changes. No process may use the home. Does nothing without a database, because Codex creates one
/// from the rollouts. Leaves out rollouts that cannot be read. Takes no snapshot, because no row is lost.
///
/// # Errors
/// The name index or the database cannot be read, the database cannot be written, or the user interrupts.
pub fn register_rollouts(
    home: &Path,
    env: &Environment,
    rollouts: Vec<RolloutFile>,
) -> Result<Vec<RepairChange>, HistoryError> {
    let Some(database) = threads::find_state_database(home, env) else {
        return Ok(Vec::new());
    };

    let findings = super::check::compare_rollouts(home, Some(&database), rollouts)?;
    if !findings.has_table {
        return Ok(Vec::new());
    }

    let provider = CodexConfig::read(home).model_provider;
    // `openai` is the provider of a Codex without settings.
    let mut plan = plan(findings, provider.as_deref().unwrap_or("openai"))?;
    if !plan.changes.is_empty() {
        change_rows(&database, &mut plan)?;
    }
    Ok(plan.changes)
}

/// Returns the paths of a database and of the files that SQLite keeps beside it.
fn database_and_sidecar_paths(database: &Path) -> Vec<PathBuf> {
    let [wal, shm, journal] = database_sidecars(database);
    vec![database.to_path_buf(), wal, shm, journal]
}

/// Like [`database_and_sidecar_paths`], for the projections, which may not exist yet.
fn projection_paths(context: &RepairContext<'_>, plan: &RepairPlan) -> Vec<PathBuf> {
    let database = plan.projections.clone();
    database_and_sidecar_paths(&database.unwrap_or_else(|| new_projections_path(context)))
}

/// Like [`apply`], for a database that is missing or unusable: Codex creates it anew from the rollouts.
fn recreate_database(
    context: &RepairContext<'_>,
    plan: &mut RepairPlan,
    program: Option<&Program>,
    now: DateTime<Utc>,
) -> Result<RepairSnapshot, HistoryError> {
    let program = program.ok_or_else(|| HistoryError::NotRebuilt("Codex was not found".into()))?;

    // Codex itself creates the tables: their schema changes with its version.
    let scratch = scratch_database::create_scratch_database(
        context,
        &plan.home,
        program,
        &plan.conversations,
    )?;

    threads::edit_rows(&scratch.database, |rows| {
        let mut changes = plan.changes.iter();
        changes.try_for_each(|change| change.change_row(rows))
    })?;

    let folder = threads::find_state_folder(context.home, context.env);
    // The plan lacks these rollouts, because the check finds them only for conversations that have a row.
    let rollouts = plan.conversations.iter();
    let ids = rollouts.map(|rollout| rollout.id.to_string()).collect();
    plan.unprojected = find_unprojected_rollouts(context, &ids);
    plan.projections = Projections::read_folder(&folder).database;
    let projected = match project_rollouts(context, plan, Some(program)) {
        Err(e @ HistoryError::Interrupted) => return Err(e),
        // On a full disk, for example, the rows are restored without the turns. The check after the repair reports the
        // missing turns.
        result => result.ok().flatten(),
    };

    let target = folder.join(scratch.database.file_name().unwrap_or_default());

    // The newest rows of the old database may be only in its log, so the snapshot includes the sidecars.
    let mut copied_files = database_and_sidecar_paths(&target);
    if let Some(old_database) = &plan.database
        && *old_database != target
    {
        copied_files.extend(database_and_sidecar_paths(old_database));
    }
    if projected.is_some() {
        copied_files.extend(projection_paths(context, plan));
    }

    let (reason, repaired) = (SnapshotReason::Repair, None);
    let document = RepairSnapshotFile::new(context.home, reason, repaired, now);
    let install = |exchange: FileExchange, _: &RepairSnapshot| {
        install_database(exchange, &scratch.database, &target, context)
    };
    let snapshot = exchange_after_snapshot(context, document, copied_files, install)?;
    change_projections_after_rows(context, plan, projected.as_ref(), &snapshot)?;
    Ok(snapshot)
}

/// Takes a snapshot of `files`, calls `perform`, and returns the snapshot. If `perform` fails, removes the snapshot,
/// unless the next command may finish the exchange.
fn exchange_after_snapshot(
    context: &RepairContext<'_>,
    document: RepairSnapshotFile,
    files: Vec<PathBuf>,
    perform: impl FnOnce(FileExchange, &RepairSnapshot) -> Result<(), HistoryError>,
) -> Result<RepairSnapshot, HistoryError> {
    let snapshots = RepairSnapshots::lock(context.manager_home)?;
    let policy = &IdleHome { env: context.env };
    let exchange = FileExchange::begin(context.manager_home, JOURNAL, context.home, policy)?;
    let snapshot = snapshots.create(document, files)?;
    perform(exchange, &snapshot).inspect_err(|_| {
        // After a pending exchange is finished, `history undo` needs the snapshot.
        if !FileExchange::is_pending(context.manager_home, JOURNAL) {
            snapshot.discard();
        }
    })?;
    Ok(snapshot)
}

/// Puts the database `created` in the place of `target`.
fn install_database(
    mut exchange: FileExchange,
    created: &Path,
    target: &Path,
    context: &RepairContext<'_>,
) -> Result<(), HistoryError> {
    // SQLite would apply the log of the old database to the new one.
    for sidecar in database_sidecars(target) {
        exchange.add_removal(&sidecar)?;
    }
    exchange.add_replacement(target, |staged| snapshot::copy_file(created, staged))?;
    Ok(exchange.commit(&IdleHome { env: context.env })?)
}

/// The conversations that began, continued or changed after a snapshot. An undo keeps their rows.
#[derive(Debug, Default)]
pub struct LaterRows {
    pub ids: Vec<String>,
    /// The ids of their rollouts, which differ from `ids` after a rewind.
    rollout_ids: Vec<String>,
    database: PathBuf,
}

impl LaterRows {
    /// Compares the database of the home with its copy in the snapshot. Empty if one of the two cannot be read.
    ///
    /// # Errors
    /// The database of the snapshot cannot be copied to the folder for temporary files.
    pub fn read(
        context: &RepairContext<'_>,
        snapshot: &RepairSnapshot,
    ) -> Result<Self, HistoryError> {
        let scratch = tempfile::tempdir().at("create a folder in", std::env::temp_dir())?;
        let Some(database) = threads::find_state_database(context.home, context.env) else {
            return Ok(Self::default());
        };
        let Some(copy) = snapshot.extract_database(&database, scratch.path())? else {
            return Ok(Self::default());
        };

        // An undo could not add rows to a damaged database.
        let later_rows = Self::compare(&database, &copy, snapshot).unwrap_or_default();
        Ok(Self {
            database,
            ..later_rows
        })
    }

    /// Compares `database` with `copy`, its copy in the snapshot. `None` if one of the two cannot be read.
    fn compare(database: &Path, copy: &Path, snapshot: &RepairSnapshot) -> Option<Self> {
        let snapshot_ms = snapshot.document.created_at.timestamp_millis();
        let repaired = snapshot.document.repaired.as_ref();
        let old_rows = threads::fold_rows(copy, HashMap::new, |rows, row| {
            rows.insert(row.id, [row.rollout_path, row.mode, row.name]);
        });
        // The copy may be unreadable, or have no table of conversations.
        let old_rows = old_rows.ok()??;
        let later_rows = threads::fold_rows(database, Self::default, |later, row| {
            let old_row = old_rows.get(&row.id);
            // Only of an old row, because the repair sets the time of a row that it adds to the mtime of the rollout.
            let updated_ms = old_row.and(row.updated_ms);
            let has_later_time = row.created_ms.max(updated_ms) >= Some(snapshot_ms);
            if has_later_time || repaired.is_some_and(|values| is_changed(&row, old_row, values)) {
                let rollout_id = parse_rollout_id(Path::new(&row.rollout_path));
                later.rollout_ids.extend(rollout_id);
                later.ids.push(row.id);
            }
        });
        later_rows.ok()?
    }

    /// Adds the rows to `staged`, which replaces `target`, if `target` is a database of conversations. `current` is the
    /// snapshot of the state before the undo.
    fn add_to(
        &self,
        current: &RepairSnapshot,
        target: &Path,
        staged: &Path,
    ) -> Result<(), HistoryError> {
        let group = if home::is_database_named(target, home::HISTORY_DATABASE_PREFIX) {
            RowGroup::ThreadData
        } else if target == self.database {
            RowGroup::Threads
        } else {
            return Ok(());
        };
        if self.ids.is_empty() {
            return Ok(());
        }

        let Some(live) = current.extract_database(target, atomic::parent_of(staged))? else {
            return Ok(());
        };
        let ids = self.ids.iter().chain(&self.rollout_ids).cloned().collect();
        staged::copy_rows(staged, &live, &ids, group)?;
        Ok(tree::remove(&live)?)
    }
}

/// Returns true if the row has a path, mode or name that is neither in `old_row`, its state in the snapshot, nor in
/// `repaired`. The times show no such change: they stay when Codex archives, migrates or renames a conversation.
fn is_changed(row: &ThreadRow, old_row: Option<&[String; 3]>, repaired: &RepairedValues) -> bool {
    let repaired_values = repaired.get(&row.id).into_iter().flatten();
    let old_values = old_row.into_iter().flatten();
    let known_values: Vec<_> = old_values.chain(repaired_values).collect();
    let mut values = [&row.rollout_path, &row.mode, &row.name].into_iter();
    values.any(|value| !value.is_empty() && !known_values.contains(&value))
}

/// Restores the state before a repair, and keeps the rows of conversations that began, continued or changed later.
/// Takes a snapshot of the current state first and returns it with these conversations.
///
/// # Errors
/// A process uses the home, a copy in `snapshot` is damaged, or a file cannot be written. Then no file is changed, or
/// the next command finishes or undoes the exchange.
pub fn undo(
    context: &RepairContext<'_>,
    snapshot: &mut RepairSnapshot,
    now: DateTime<Utc>,
) -> Result<(RepairSnapshot, LaterRows), HistoryError> {
    require_unused_home(context)?;

    let files = snapshot.document.files.iter();
    let paths = files.map(|f| f.path.clone()).collect();
    let policy = &IdleHome { env: context.env };
    let mut later_rows = LaterRows::default();

    let reason = SnapshotReason::Undo;
    // If this undo is undone, the values before and after the repair must not count as later changes.
    let repaired = snapshot.document.repaired.clone();
    let document = RepairSnapshotFile::new(context.home, reason, repaired, now);
    let restore = |exchange: FileExchange, current: &RepairSnapshot| {
        later_rows = LaterRows::read(context, snapshot)?;
        let copied_ns = snapshot.copied_ns();
        let adapt_database = |target: &Path, staged: &Path| {
            later_rows.add_to(current, target, staged)?;
            if home::is_database_named(target, home::HISTORY_DATABASE_PREFIX) {
                delete_projections_of_later_changes(context.home, copied_ns, staged)?;
            }
            Ok(())
        };
        snapshot::restore(snapshot, &adapt_database, exchange, policy, now)
    };
    let current = exchange_after_snapshot(context, document, paths, restore)?;
    Ok((current, later_rows))
}

/// Finishes or undoes an exchange of files that was killed, by an undo or by a repair that recreates
/// the database.
///
/// # Errors
/// A process uses the home, or the files cannot be written. The next call tries again.
pub fn recover(manager_home: &Path, env: &Environment) -> Result<Recovery, HistoryError> {
    let policy = &IdleHome { env };
    Ok(FileExchange::recover(manager_home, JOURNAL, policy)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::fs;

    #[test]
    fn a_rollout_that_vanished_after_the_plan_is_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let (home, sessions) = (folder.path(), folder.path().join("sessions"));
        let database = home.join("state_5.sqlite");
        Connection::open(&database)
            .unwrap()
            .execute_batch("CREATE TABLE threads(id TEXT, rollout_path TEXT, title TEXT)")
            .unwrap();
        fs::create_dir(&sessions).unwrap();
        let id = "01a20471-173b-7473-bfed-d3ac4957f9e9";
        let rollout = sessions.join(format!("rollout-2026-11-22T18-07-30-{id}.jsonl"));
        let line = format!(r#"{{"type":"session_meta","payload":{{"id":"{id}"}}}}"#);
        fs::write(&rollout, line + "\n").unwrap();
        let files = files::find_rollouts(home).unwrap();
        let findings =
            crate::history::check::compare_rollouts(home, Some(&database), files).unwrap();
        let mut plan = plan(findings, "openai").unwrap();
        assert_eq!(plan.changes.len(), 1);
        fs::remove_file(&rollout).unwrap();
        change_rows(&database, &mut plan).unwrap();
        assert!(plan.changes.is_empty());
        assert_eq!(plan.skipped[0].path, rollout);
    }
}
