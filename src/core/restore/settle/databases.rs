//! Adapts databases to the restored files: rewrites the paths in them, and removes projections of rollouts that are
//! replaced by other content.

use super::outside_databases::{self, OutsideDatabases};
use super::reinstated_rows;
use crate::archive::manifest::is_database_path;
use crate::archive::{ArchiveError, EntryName, NameSet, parse_rollout_name};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::codex::rollout::{self, Relation, without_zst};
use crate::codex::threads::staged::{self, RolloutLocations as _, RowGroup, UnmatchedRows};
use crate::codex::{CodexConfig, Projections, RolloutName, database};
use crate::history::unreadable::{delete_unfitting_projections, find_unfitting_projections};
use crate::io::quantity::pluralize;
use crate::io::{IoContext, atomic, tree};
use crate::journal;
use crate::restore::error::RestoreError;
use crate::restore::plan::request::RestoreTarget;
use crate::restore::plan::rollout_index::{RolloutIndex, RolloutIndexes};
use crate::restore::stage::workspace::Workspace;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Applies the `-wal` files of the staged databases of an archive of the Python tool, and checks the databases: that
/// tool copied live files, so a database may be torn. Then removes their sidecars from the stage and the plan.
/// Does nothing for other archives, whose databases were checked when they were captured and have digests.
///
/// # Errors
/// [`ArchiveError::Damaged`] if a database has a rollback journal or fails the integrity check.
pub(crate) fn prepare_python_databases(work: &mut Workspace<'_>) -> Result<(), RestoreError> {
    let (archive, plan, stage) = (work.request.archive, &mut work.plan, &work.stage);
    if !archive.is_python() {
        return Ok(());
    }

    let mut databases = Vec::new();
    for name in plan.writes.iter() {
        let path = stage.staged_path(name.as_path());
        let is_empty = || path.metadata().is_ok_and(|meta| meta.len() == 0);
        // For SQLite, an empty file is an empty database.
        let is_filled_database_of_codex = is_database_path(name.as_path()) && !is_empty();
        let may_be_database = home::may_be_database(name.as_path());
        if is_filled_database_of_codex || (may_be_database && database::is_database(&path)) {
            databases.push((name, path));
        }
    }

    for (name, path) in &databases {
        // Only the `-wal` is used: SQLite deletes files that a rollback journal names.
        let [_, shm, journal] = home::database_sidecars(path);
        // The `-shm` is of the process that had the database open when it was copied. SQLite creates a new one.
        tree::remove(&shm)?;

        if journal.metadata().is_ok_and(|m| m.len() > 0) {
            let damage =
                format!("{name}: copied in the middle of a write (it has a rollback journal)");
            return Err(ArchiveError::damaged(archive.path(), damage).into());
        }
        tree::remove(&journal)?;

        let checked = database::checkpoint_wal(path).and_then(|()| database::check_integrity(path));
        if let Err(e) = checked {
            return Err(ArchiveError::damaged(archive.path(), format!("{name}: {e}")).into());
        }
    }

    let is_beside_database = |name: &EntryName| {
        let database = home::database_of_sidecar(name.as_path());
        kind_of(name.as_path()) == HomeEntryKind::DatabaseSidecar
            || database.is_some_and(|path| databases.iter().any(|(name, _)| name.as_path() == path))
    };
    let sidecars: Vec<_> = plan.writes.iter().filter(is_beside_database).collect();
    for name in sidecars {
        tree::remove(&stage.staged_path(name.as_path()))?;
        plan.drop_write(&name);
        if work.live.names.contains(name.as_path()) {
            plan.removed.insert(&name);
        }
    }

    Ok(())
}

/// Adapts the databases to the restored files: moves them to the folder that Codex will use, updates the paths, rows
/// and projections in them. Adds the changed databases, and a session index with archived names, to the plan. Returns
/// the databases outside of the home.
pub(crate) fn adapt_databases(
    work: &mut Workspace<'_>,
    kept_rollouts: &RolloutIndex,
) -> Result<OutsideDatabases, RestoreError> {
    let outside = outside_databases::move_databases(work)?;
    let mut adapter = DatabaseAdapter {
        work,
        kept_rollouts,
        outside,
    };

    for (name, path) in adapter.list_staged_databases() {
        adapter.adapt_staged_database(&name, &path)?;
    }

    adapter.update_live_rows()?;
    reinstated_rows::stage_archived_names(adapter.work)?;
    adapter.delete_stale_projections()?;

    Ok(adapter.outside)
}

struct DatabaseAdapter<'a, 'w> {
    work: &'a mut Workspace<'w>,
    /// The rollouts whose live file stays in a merge.
    kept_rollouts: &'a RolloutIndex,
    outside: OutsideDatabases,
}

impl DatabaseAdapter<'_, '_> {
    /// Returns the databases of the archive with their staged paths, in the home and outside of it.
    fn list_staged_databases(&self) -> Vec<(EntryName, PathBuf)> {
        let mut staged = self.work.stage.database_files(&self.work.plan);
        staged.extend(self.outside.restored_files.iter().cloned());
        staged.retain(|(_, path)| database::may_be_sqlite(path));
        staged
    }

    /// Adapts a staged database of any kind. For a merge, copies the live rows of conversations whose newest rollout
    /// stays, also into the databases of goals, queued messages and memories.
    fn adapt_staged_database(&mut self, name: &EntryName, path: &Path) -> Result<(), RestoreError> {
        let is_named = |prefix: &str| home::is_database_named(name.as_path(), prefix);
        if is_named(home::HISTORY_DATABASE_PREFIX) {
            return self.adapt_staged_projections(name, path);
        }
        if is_named(home::STATE_DATABASE_PREFIX) {
            return self.adapt_state_database(name, path);
        }
        if self.work.plan.merge && home::THREAD_DATA_PREFIXES.into_iter().any(is_named) {
            let remaining_rollouts = self.index_remaining_rollouts();
            let rollouts = self.rollouts_after_restore(&remaining_rollouts);
            let ids = self.list_conversations_that_stay(&rollouts);
            self.import_live_rows(name, path, &ids, RowGroup::ThreadData)?;
        }
        Ok(())
    }

    /// Adapts a staged state database, in which Codex keeps its threads: updates the paths of rollouts. For a merge,
    /// first copies the live rows of conversations whose newest rollout stays, and the live names, pins, projects and
    /// sections that the rows of restored conversations lack.
    fn adapt_state_database(&mut self, name: &EntryName, path: &Path) -> Result<(), RestoreError> {
        // After a partial restore or the restore of a safety backup, rows may belong to live rollouts that stay.
        let remaining_rollouts = self.index_remaining_rollouts();
        let rollouts = self.rollouts_after_restore(&remaining_rollouts);
        if self.work.plan.merge {
            let ids = self.list_conversations_that_stay(&rollouts);
            let restored_ids = self.work.stage.rollouts.ids();
            self.import_live_rows(name, path, &ids, RowGroup::Threads)?;
            self.import_live_rows(name, path, &restored_ids, RowGroup::UserValues)?;
        }

        // In the home of the archive, a path in a row is wrong only if Codex moved the rollout between the capture of
        // the database and the capture of the rollout.
        let unmatched_rows = if self.is_same_home() && !self.work.plan.merge {
            UnmatchedRows::Keep
        } else {
            UnmatchedRows::Rebase
        };

        // The home as the user wrote it, possibly through a link: Codex writes this path into rows.
        let home = &self.work.request.folder;
        let changed_count = staged::rewrite_rollout_paths(path, home, &rollouts, unmatched_rows)?;
        if changed_count > 0 {
            let paths = pluralize(changed_count, "path");
            let note = format!("updated {paths} in {name} to this home");
            self.work.notes.push(note);
        }

        Ok(())
    }

    /// Adapts a staged projection database. For a merge, copies the live projections of rollouts that stay into it. For
    /// a partial restore, deletes the projections that do not fit the remaining rollouts.
    fn adapt_staged_projections(&self, name: &EntryName, path: &Path) -> Result<(), RestoreError> {
        if self.work.plan.merge {
            let kept_ids = self.kept_rollouts.rollout_ids();
            self.import_live_rows(name, path, &kept_ids, RowGroup::ThreadData)?;
        }

        // A rollout that stays may be shorter than the archived one, for which the projection was made.
        if self.work.plan.partial {
            let remaining = self.work.live.names.without(&self.work.plan.removed);
            delete_unfitting_projections(path, self.new_paths(&remaining))?;
        }

        Ok(())
    }

    /// Returns the rollouts of the home after the restore, as one index. `remaining` are the live ones that stay.
    fn rollouts_after_restore<'r>(&'r self, remaining: &'r RolloutIndex) -> RolloutIndexes<'r> {
        let restored = &self.work.stage.rollouts;
        RolloutIndexes(vec![self.kept_rollouts, restored, remaining])
    }

    /// Returns the ids of the conversations whose newest rollout stays. For other conversations, the archive's database
    /// has the row of the newest rollout.
    fn list_conversations_that_stay(&self, rollouts: &RolloutIndexes<'_>) -> HashSet<String> {
        let mut ids = self.kept_rollouts.ids();
        ids.retain(|id| {
            let newest = rollouts.path_of(id);
            newest.is_some_and(|path| self.kept_rollouts.has(&path))
        });
        ids
    }

    /// Returns true if the archive is restored into the home of which it was made.
    fn is_same_home(&self) -> bool {
        let request = self.work.request;
        request.target == RestoreTarget::Home
            && request.archive.metadata().records_home(&request.folder)
    }

    /// Updates the state databases that the restore does not replace: changes the paths of rollouts that the restore
    /// moves, for example to `archived_sessions/`, and copies the rows of restored conversations from the archive.
    fn update_live_rows(&mut self) -> Result<(), RestoreError> {
        if self.work.plan.target == RestoreTarget::Elsewhere {
            return Ok(());
        }

        let databases = self.list_live_databases(home::STATE_DATABASE_PREFIX);
        if databases.is_empty() {
            return Ok(());
        }

        let moves_rollouts = self.moves_rollouts();
        let archived_rows = reinstated_rows::unpack_state_database(self.work)?;
        if !moves_rollouts && archived_rows.is_none() {
            return Ok(());
        }

        // A rewind after the backup may have begun a newer rollout of a restored conversation, which stays.
        let remaining_rollouts = self.index_remaining_rollouts();
        for database in databases {
            // A damaged database is left to Codex, which moves it aside and creates a new one.
            if !self.copy_live_database(&database)? {
                continue;
            }

            let imported_count = match &archived_rows {
                None => 0,
                Some(rows) => {
                    let (from, ids) = (&rows.database, &rows.ids);
                    staged::copy_rows(&database.staged, from, ids, RowGroup::MissingThreads)?
                }
            };

            // Without a change, the live database is not replaced.
            if imported_count == 0 && !moves_rollouts {
                tree::remove(&database.staged)?;
                continue;
            }

            let home = &self.work.request.folder;
            let rollouts = RolloutIndexes(vec![&self.work.stage.rollouts, &remaining_rollouts]);
            let unmatched_rows = UnmatchedRows::Keep;
            staged::rewrite_rollout_paths(&database.staged, home, &rollouts, unmatched_rows)?;
            self.plan_replacement_or_removal(database);
        }

        Ok(())
    }

    /// Returns true if the plan removes a rollout, and restores a rollout of the same conversation at another path.
    fn moves_rollouts(&self) -> bool {
        self.work.plan.removed.iter().any(|removed| {
            let rollout = parse_rollout_name(removed.as_path());
            let id = rollout.as_ref().and_then(RolloutName::id);
            let restored = id.and_then(|id| self.work.stage.rollouts.find_newest(id));
            restored.is_some_and(|restored| {
                without_zst(restored.as_path()) != without_zst(removed.as_path())
            })
        })
    }

    /// Returns the live rollouts that the plan does not remove. This includes rollouts that it replaces.
    fn index_remaining_rollouts(&self) -> RolloutIndex {
        RolloutIndex::from_files(&self.work.live.names.without(&self.work.plan.removed))
    }

    /// Returns the live databases with this name prefix that the restore neither replaces nor removes.
    fn list_live_databases(&self, prefix: &str) -> Vec<LiveDatabase> {
        let mut databases = Vec::new();
        for name in self.work.live.names.iter() {
            let path = name.as_path();
            if kind_of(path) == HomeEntryKind::Database
                && home::is_database_named(path, prefix)
                && !self.work.plan.writes.contains(path)
                && !self.work.plan.removed.contains(path)
            {
                databases.push(LiveDatabase {
                    live: self.work.stage.home().live.join(path),
                    staged: self.work.stage.staged_path(path),
                    name: Some(name),
                });
            }
        }

        let Some(folder) = &self.outside.sqlite_home else {
            return databases;
        };

        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for live in entries.map(|entry| entry.path()) {
            let staged =
                journal::staging_folder_within(folder).join(live.file_name().unwrap_or_default());
            // If a file is staged for a database, the restore replaces the database.
            if home::is_database_named(&live, prefix)
                && database::may_be_sqlite(&live)
                && !staged.exists()
            {
                databases.push(LiveDatabase {
                    live,
                    staged,
                    name: None,
                });
            }
        }

        databases
    }

    /// Copies a live database to its staged path. Returns false, without a copy, if it is damaged, unreadable or
    /// missing.
    fn copy_live_database(&mut self, database: &LiveDatabase) -> Result<bool, RestoreError> {
        if database.name.is_none() {
            let folder = atomic::parent_of(&database.live);
            self.outside
                .prepare_staging_in(folder, &mut self.work.transaction)?;
        }
        atomic::create_unsynced_folder(atomic::parent_of(&database.staged))?;
        copy_unless_damaged(&database.live, &database.staged)
    }

    /// Plans the replacement of a live database by its staged copy, or its removal if there is no staged copy. A staged
    /// copy outside of the home needs no plan, because every staged file there is exchanged.
    fn plan_replacement_or_removal(&mut self, database: LiveDatabase) {
        let Some(name) = database.name else {
            if !database.staged.exists() {
                self.outside.removed_paths.push(database.live);
            }
            return;
        };

        let plan = &mut self.work.plan;
        plan.remove_sidecars_of(&name);
        if database.staged.exists() {
            plan.writes.insert(&name);
        } else {
            plan.removed.insert(&name);
        }
    }

    /// Copies rows from the live database `name` into the staged one. `ids` are ids of conversations, or of rollouts
    /// for a projection database. Does nothing if the live database is missing or damaged.
    fn import_live_rows(
        &self,
        name: &EntryName,
        staged: &Path,
        ids: &HashSet<String>,
        rows: RowGroup,
    ) -> Result<(), RestoreError> {
        let home = &self.work.stage.home().live;
        let file_name = name.as_path().file_name().unwrap_or_default();
        // Read from the live settings, because the restored settings may name another folder.
        let live = match CodexConfig::read(home).database_folder(home, self.work.request.env) {
            Some(folder) => folder.join(file_name),
            None if name.is_manager_name() => home.join(file_name),
            None => home.join(name.as_path()),
        };

        if ids.is_empty() || !database::may_be_sqlite(&live) {
            return Ok(());
        }

        // Codex may be writing to the live database. A snapshot by SQLite is consistent and includes the `-wal`.
        let copy = self.work.transaction.folder().join("live.sqlite");
        // The rows of a damaged live database are lost. Codex creates those of threads again from the rollouts.
        if copy_unless_damaged(&live, &copy)? {
            staged::copy_rows(staged, &copy, ids, rows)?;
        }

        tree::remove(&copy)?;
        Ok(())
    }

    /// Removes projections from the live projection databases if the restore removes the rollout, or replaces it by
    /// content that does not continue it. A projection database of the archive needs no change, because it was captured
    /// before the archive's rollouts.
    fn delete_stale_projections(&mut self) -> Result<(), RestoreError> {
        if self.work.plan.target == RestoreTarget::Elsewhere {
            return Ok(());
        }

        let databases = self.list_live_databases(home::HISTORY_DATABASE_PREFIX);
        if databases.is_empty() {
            // Without projections the rollouts need no comparison.
            return Ok(());
        }

        let mut stale_ids = self.find_stale_projection_ids()?;
        let live_paths = databases.iter().map(|database| &database.live);
        for folder in live_paths.filter_map(|path| path.parent()) {
            let projections = Projections::read_folder(folder);
            // `find_stale_projection_ids` compares live rollouts. It misses a projection that covers more text than its
            // rollout has, and a projection without a live rollout.
            let written = self.new_paths(&self.work.plan.writes);
            stale_ids.extend(find_unfitting_projections(&projections, written));
        }
        if stale_ids.is_empty() {
            return Ok(());
        }

        for database in databases {
            // A database that cannot be changed is removed, because Codex creates it again.
            if self.copy_live_database(&database)?
                && staged::delete_projections(&database.staged, &stale_ids).is_err()
            {
                tree::remove(&database.staged)?;
            }
            self.plan_replacement_or_removal(database);
        }

        Ok(())
    }

    /// Returns the path of the new version of each file: staged if the plan writes the file, else live.
    fn new_paths(&self, names: &NameSet) -> impl Iterator<Item = PathBuf> {
        names.iter().map(|name| {
            let path = name.as_path();
            if self.work.plan.writes.contains(path) {
                self.work.stage.staged_path(path)
            } else {
                self.work.stage.home().live.join(path)
            }
        })
    }

    /// Returns the ids of the live rollouts that are removed, or replaced by other content than a continuation. These
    /// are ids of rollouts, not of conversations: each rewind begins another rollout with a projection of its own.
    fn find_stale_projection_ids(&self) -> Result<HashSet<String>, RestoreError> {
        let mut stale_ids = HashSet::new();
        for file in self.work.live.names.iter() {
            let Some(rollout) = parse_rollout_name(file.as_path()) else {
                continue;
            };
            let Some(id) = rollout.rollout_id() else {
                continue;
            };

            let stage = &self.work.stage;
            let live = stage.home().live.join(file.as_path());
            let restored_name = stage.rollouts.find_same_rollout(&rollout);
            let staged = restored_name.map(|name| stage.staged_path(name.as_path()));

            let keeps_projection = match staged.filter(|path| path.exists()) {
                Some(staged) => matches!(
                    rollout::compare(&live, &staged).at("compare", &live)?,
                    // Codex continues a projection from the byte at which it stopped, so a longer rollout with
                    // the same beginning keeps it (Codex 0.169).
                    Relation::Equal | Relation::SecondExtends
                ),
                // Without a staged file, the live one stays unless the plan removes it.
                None => !self.work.plan.removed.contains(file.as_path()),
            };

            if !keeps_projection {
                stale_ids.insert(id.to_owned());
            }
        }

        Ok(stale_ids)
    }
}

/// A live database that the archive does not replace, and the path of the copy that can be changed.
struct LiveDatabase {
    live: PathBuf,
    staged: PathBuf,
    /// The name in the home; `None` for a database outside of the home.
    name: Option<EntryName>,
}

/// Copies the database `live` to `copy`. Returns false, and leaves no copy, if the database is damaged, unreadable or
/// missing.
///
/// # Errors
/// The copy cannot be written, for example because the disk is full. This does not mean that the database is damaged.
fn copy_unless_damaged(live: &Path, copy: &Path) -> Result<bool, RestoreError> {
    match database::write_snapshot(live, copy) {
        Ok(()) => Ok(true),
        Err(e) if e.is_source_defect(live) || !live.exists() => {
            tree::remove(copy)?;
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}
