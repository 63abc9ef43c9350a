//! The databases of a restore: chooses their folder, rewrites the paths in them, and removes
//! projections of rollouts that are replaced by other content.

use super::RestoreError;
use super::apply::{RestoreRequest, RestoreRun};
use super::disk_space::{self, SpaceNeed};
use super::leftovers;
use super::plan::RestoreTarget;
use super::rollout_index::{RolloutIndex, RolloutOverlay, conversation_of};
use crate::archive::ArchiveError;
use crate::archive::entry_name::EntryName;
use crate::archive::manifest::EXTERNAL_DATABASES_FOLDER;
use crate::archive::reader::Layout;
use crate::codex::config::{self, CodexConfig};
use crate::codex::database::{self, DatabaseError};
use crate::codex::home::{self, HomeEntryKind, kind_of};
use crate::codex::rollout::{self, Relation};
use crate::codex::thread_rows::{self, RowGroup, UnmatchedRows};
use crate::io::quantity::pluralize;
use crate::io::{IoContext, IoError, atomic, tree};
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

impl RestoreRun<'_> {
    /// Returns the databases from the archive, for the home and outside of it, with their staged
    /// paths.
    fn staged_databases(&self) -> Vec<(EntryName, PathBuf)> {
        let mut staged = self.staged_database_files();
        staged.extend(self.outside_restored.iter().cloned());
        staged.retain(|(_, path)| database::is_sqlite(path));
        staged
    }

    /// Returns the archive's files at paths where Codex keeps databases, whether they are databases
    /// or not.
    fn staged_database_files(&self) -> Vec<(EntryName, PathBuf)> {
        self.plan
            .writes
            .iter()
            .filter(|name| {
                name.as_path().parent() == Some(Path::new(EXTERNAL_DATABASES_FOLDER))
                    || kind_of(name.as_path()) == HomeEntryKind::Database
            })
            .map(|name| {
                let path = self.stage.staged_path(name.as_path());
                (name, path)
            })
            .collect()
    }

    /// Checks the databases of an archive of the Python tool, because they are copies of live files
    /// and may be torn. Databases in other archives were checked at their capture and have digests.
    pub(super) fn check_databases(&mut self) -> Result<(), RestoreError> {
        if !matches!(self.request.archive.layout(), Layout::Python(_)) {
            return Ok(());
        }
        for (name, path) in self.staged_database_files() {
            if path.metadata().is_ok_and(|meta| meta.len() == 0) {
                continue;
            }
            // Only the `-wal` is used: SQLite deletes files that a rollback journal names.
            let [_, shm, journal] = home::database_sidecars(&path);
            tree::remove(&shm)?;
            if journal.metadata().is_ok_and(|m| m.len() > 0) {
                return Err(ArchiveError::Damaged {
                    archive: self.request.archive.path().to_path_buf(),
                    detail: format!(
                        "{name}: copied in the middle of a write (it has a rollback journal)"
                    ),
                }
                .into());
            }
            tree::remove(&journal)?;
            let sound = database::checkpoint_wal(&path).and_then(|()| database::check(&path));
            if let Err(e) = sound {
                return Err(ArchiveError::Damaged {
                    archive: self.request.archive.path().to_path_buf(),
                    detail: format!("{name}: {e}"),
                }
                .into());
            }
        }
        let sidecars: Vec<_> = self
            .plan
            .writes
            .iter()
            .filter(|n| kind_of(n.as_path()) == HomeEntryKind::DatabaseSidecar)
            .collect();
        for name in sidecars {
            tree::remove(&self.stage.staged_path(name.as_path()))?;
            self.plan.writes.remove(name.as_path());
        }
        Ok(())
    }

    /// Adapts the databases to the restored files: their folder, the paths in them, and their
    /// projections.
    pub(super) fn adapt_databases(&mut self) -> Result<(), RestoreError> {
        self.place_outside_databases()?;
        let source = PathBuf::from(&self.request.archive.metadata().source_codex_home);
        let same_home = self.plan.target == RestoreTarget::Home
            && (source == self.request.folder || source == self.folder);
        for (name, path) in self.staged_databases() {
            let is_history = home::is_database_named(name.as_path(), home::HISTORY_DATABASE_PREFIX);
            if self.plan.merge && is_history {
                self.import_live_rows(&name, &path, &self.merged.kept_ids, RowGroup::Projections)?;
            }
            if !home::is_database_named(name.as_path(), home::STATE_DATABASE_PREFIX) {
                continue;
            }
            if self.plan.merge {
                let ids = self.merged.local_only.ids();
                self.import_live_rows(&name, &path, &ids, RowGroup::Threads)?;
            }
            let live = if self.plan.partial {
                RolloutIndex::of_files(&self.live.names)
            } else {
                RolloutIndex::default()
            };
            let rollouts =
                RolloutOverlay(vec![&self.merged.local_only, &self.stage.rollouts, &live]);
            // In the same home a row is wrong only if its conversation moved between the capture of
            // the database and that of the rollout.
            let unmatched = if same_home && !self.plan.merge {
                UnmatchedRows::Keep
            } else {
                UnmatchedRows::Rebase
            };
            let home = self.home_path_in_rows();
            let changed = thread_rows::rewrite_rollout_paths(&path, &home, &rollouts, unmatched)?;
            if changed > 0 {
                let paths = pluralize(changed, "path");
                self.notes
                    .push(format!("updated {paths} in {name} to this home"));
            }
        }
        self.update_live_rows()?;
        self.reinstate_names()?;
        self.delete_projections()
    }

    /// Updates the live state database, if it stays: rows follow conversations that the restore
    /// archives or unarchives, and the rows of restored conversations are copied from the archive.
    fn update_live_rows(&mut self) -> Result<(), RestoreError> {
        if self.plan.target == RestoreTarget::Elsewhere {
            return Ok(());
        }
        let mut moved = RolloutIndex::default();
        for was in self.plan.removed.iter() {
            let conversation = conversation_of(was.as_path());
            let Some(id) = conversation.as_ref().and_then(|c| c.id()) else {
                continue;
            };
            if let Some(now) = self.stage.rollouts.get(id)
                && now.as_path().parent() != was.as_path().parent()
            {
                moved.insert(id, &now);
            }
        }
        let databases = self.live_databases(home::STATE_DATABASE_PREFIX);
        let reinstated = if databases.is_empty() {
            None
        } else {
            self.unpack_reinstated_rows()?
        };
        if moved.is_empty() && reinstated.is_none() {
            return Ok(());
        }
        let home = self.home_path_in_rows();
        if let Some(of) = &reinstated {
            // The rows may come from another home.
            let restored = RolloutOverlay(vec![&self.stage.rollouts]);
            thread_rows::rewrite_rollout_paths(
                &of.database,
                &home,
                &restored,
                UnmatchedRows::Rebase,
            )?;
        }
        for database in databases {
            // A damaged database is left to Codex, which moves it aside and creates a new one.
            if !self.copy_live(&database)? {
                continue;
            }
            let imported = reinstated.as_ref().map(|of| {
                thread_rows::copy_rows(&database.staged, &of.database, &of.ids, RowGroup::Threads)
            });
            if imported.transpose()?.unwrap_or(0) == 0 && moved.is_empty() {
                tree::remove(&database.staged)?;
                continue;
            }
            thread_rows::rewrite_rollout_paths(
                &database.staged,
                &home,
                &RolloutOverlay(vec![&moved, &self.stage.rollouts]),
                UnmatchedRows::Keep,
            )?;
            self.plan_live_replacement(database);
        }
        Ok(())
    }

    /// Returns the live databases with this name prefix that the archive does not replace.
    fn live_databases(&self, prefix: &str) -> Vec<LiveDatabase> {
        let mut found = Vec::new();
        for name in self.live.names.iter() {
            let path = name.as_path();
            let matches_prefix =
                kind_of(path) == HomeEntryKind::Database && home::is_database_named(path, prefix);
            if matches_prefix
                && !self.plan.writes.contains(path)
                && !self.plan.removed.contains(path)
            {
                found.push(LiveDatabase {
                    live: self.folder.join(path),
                    staged: self.stage.staged_path(path),
                    name: Some(name),
                });
            }
        }
        let Some(folder) = &self.sqlite_home else {
            return found;
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        for live in entries.map(|entry| entry.path()) {
            let staged = outside_staging(folder).join(live.file_name().unwrap_or_default());
            let matches_prefix =
                home::is_database_named(&live, prefix) && database::is_sqlite(&live);
            if matches_prefix && !staged.exists() {
                found.push(LiveDatabase {
                    live,
                    staged,
                    name: None,
                });
            }
        }
        found
    }

    /// Copies a live database to its staged path. Returns false if it is damaged.
    fn copy_live(&mut self, database: &LiveDatabase) -> Result<bool, RestoreError> {
        if database.name.is_none() {
            self.stage_outside(atomic::parent_of(&database.live))?;
        }
        atomic::create_private_folder(atomic::parent_of(&database.staged))?;
        copy_unless_damaged(&database.live, &database.staged)
    }

    /// Adds a live database of the home to the plan: as replaced by its staged copy, or as removed
    /// if there is none. Outside of the home, every staged file replaces a live one.
    fn plan_live_replacement(&mut self, database: LiveDatabase) {
        let Some(name) = database.name else {
            if !database.staged.exists() {
                self.outside_removed.push(database.live);
            }
            return;
        };
        let sidecars = home::database_sidecars(name.as_path());
        let live_sidecars = sidecars.iter().filter(|p| self.folder.join(p).exists());
        self.plan
            .removed
            .extend(live_sidecars.filter_map(|p| EntryName::of_path(p).ok()));
        if database.staged.exists() {
            self.plan.writes.insert(&name);
        } else {
            self.plan.removed.insert(&name);
        }
    }

    /// Returns the home as the user names it, which is how Codex writes it into rows.
    fn home_path_in_rows(&self) -> PathBuf {
        if self.request.folder.exists() {
            self.request.folder.clone()
        } else {
            self.folder.clone()
        }
    }

    /// Copies rows of the live database `name` into its staged one, for the conversations `ids`,
    /// whose live files stay.
    fn import_live_rows(
        &self,
        name: &EntryName,
        staged: &Path,
        ids: &HashSet<String>,
        rows: RowGroup,
    ) -> Result<(), RestoreError> {
        let is_outside = self
            .outside_restored
            .iter()
            .any(|(outside, _)| outside == name);
        let live = match &self.outside {
            Some((folder, _)) if is_outside => {
                folder.join(name.as_path().file_name().unwrap_or_default())
            }
            _ => self.folder.join(name.as_path()),
        };
        if ids.is_empty() || !database::is_sqlite(&live) {
            return Ok(());
        }
        let copy = self.swap.folder().join("live.sqlite");
        // A damaged live database offers no rows. Codex creates them again from the rollouts.
        if copy_unless_damaged(&live, &copy)? {
            thread_rows::copy_rows(staged, &copy, ids, rows)?;
        }
        tree::remove(&copy)?;
        Ok(())
    }

    /// Decides where databases go that were outside of the archived home, or that Codex expects
    /// outside of this one.
    fn place_outside_databases(&mut self) -> Result<(), RestoreError> {
        let from_outside = self.plan.has_outside_databases();
        let staged_config = self.stage.home().staged.join(home::CONFIG_TOML);
        let config = if staged_config.exists() {
            CodexConfig::read(&self.stage.home().staged)
        } else {
            CodexConfig::read(&self.folder)
        };
        if self.plan.target == RestoreTarget::Elsewhere {
            if self.request.env.get("CODEX_SQLITE_HOME").is_some() {
                self.notes.push(
                    "CODEX_SQLITE_HOME is set: unset it for this folder, or Codex uses the databases \
                     there and goes on in the conversations of the old home"
                        .into(),
                );
            }
            if config.sqlite_home.is_some() && staged_config.exists() {
                remove_sqlite_home_setting(&staged_config)?;
                self.notes.push(
                    "removed sqlite_home from config.toml: the databases are in the folder itself"
                        .into(),
                );
            }
            return if from_outside {
                self.move_outside_into_home()
            } else {
                Ok(())
            };
        }
        // `own`: the folders that this home already uses, by its config.toml or by the environment.
        // `wanted`: the folder that the restored config.toml or the environment names.
        let absolute = |path: &Path| self.folder.join(self.request.env.absolute(path));
        let by_env = self.request.env.get("CODEX_SQLITE_HOME");
        let folder_by_env = by_env.map(|p| absolute(Path::new(p)));
        let of_home = CodexConfig::read(&self.folder).sqlite_home;
        let own: Vec<PathBuf> = of_home
            .map(|p| absolute(&p))
            .into_iter()
            .chain(folder_by_env)
            .collect();
        let wanted = config.database_folder(&self.folder, self.request.env);
        let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
        let wanted = wanted
            .map(|p| real(&p))
            .filter(|p| *p != real(&self.folder));
        self.sqlite_home.clone_from(&wanted);
        match wanted {
            None if from_outside => self.move_outside_into_home(),
            None => Ok(()),
            Some(folder) => {
                let databases: Vec<_> = self
                    .staged_databases()
                    .into_iter()
                    .filter(|(name, _)| !from_outside || name.is_reserved())
                    .collect();
                if databases.is_empty() {
                    return Ok(());
                }
                // The settings in an archive must not choose a folder to write to.
                let is_own = own.iter().any(|own| real(own) == folder);
                if !is_own && !self.request.may_write_outside {
                    return Err(RestoreError::OutsideDatabases(folder));
                }
                if self.is_shared(&folder)? {
                    return Err(RestoreError::SharedDatabases(folder));
                }
                self.check_space_outside(&folder, &databases)?;
                let staging = self.stage_outside(&folder)?;
                for (name, path) in databases {
                    let file_name = name.as_path().file_name().unwrap_or_default();
                    let staged = staging.join(file_name);
                    move_file(&path, &staged)?;
                    self.outside_restored.push((name.clone(), staged));
                    self.plan.writes.remove(name.as_path());
                    self.plan.added.remove(name.as_path());
                }
                Ok(())
            }
        }
    }

    /// Fails if the disk of `folder` is not the home's and has too little space for these
    /// databases. Checked late, because the archive's settings may name the folder.
    fn check_space_outside(
        &self,
        folder: &Path,
        databases: &[(EntryName, PathBuf)],
    ) -> Result<(), ArchiveError> {
        let disks = &disk_space::SystemDisks;
        if !disk_space::is_on_another_disk(folder, self.swap.folder(), disks) {
            return Ok(());
        }
        let sizes = databases
            .iter()
            .filter_map(|(_, path)| path.metadata().ok());
        let need = SpaceNeed {
            folder: folder.to_path_buf(),
            bytes: sizes.map(|meta| meta.len()).sum(),
        };
        disk_space::check(&[need], disks)
    }

    /// Returns true if another home uses the databases in `folder`: it is a home itself, or a
    /// database has rows (possibly in its `-wal`) of conversations in another home.
    fn is_shared(&self, folder: &Path) -> Result<bool, RestoreError> {
        let home_markers = [home::AUTH_JSON, home::CONFIG_TOML, home::SESSIONS];
        if home_markers.iter().any(|name| folder.join(name).exists()) {
            return Ok(true);
        }
        let entries = match tree::list(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.at("list", folder)?,
        };
        let copy = self.swap.folder().join("shared.sqlite");
        for path in entries.iter().map(|(name, _)| folder.join(name)) {
            let is_state = home::is_database_named(&path, home::STATE_DATABASE_PREFIX);
            if !is_state || !database::is_sqlite(&path) {
                continue;
            }
            let snapshot = database::snapshot(&path, &copy);
            let is_foreign = match snapshot {
                Ok(()) => has_foreign_rows(&thread_rows::rollout_paths(&copy)?, &self.folder),
                // The readable rows of a damaged database decide.
                Err(DatabaseError::Damaged { .. }) => thread_rows::rollout_paths(&path)
                    .is_ok_and(|rows| has_foreign_rows(&rows, &self.folder)),
                Err(e) => return Err(e.into()),
            };
            tree::remove(&copy)?;
            if is_foreign {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the staging folder for databases in `folder`, outside of the home, and adds it to
    /// the swap.
    fn stage_outside(&mut self, folder: &Path) -> Result<PathBuf, RestoreError> {
        if let Some((_, staging)) = &self.outside {
            return Ok(staging.clone());
        }
        atomic::create_private_folder(folder)?;
        let staging = outside_staging(folder);
        leftovers::retry_removal(&staging);
        self.swap.add_folder(&staging)?;
        self.outside = Some((folder.to_path_buf(), staging.clone()));
        Ok(staging)
    }

    fn move_outside_into_home(&mut self) -> Result<(), RestoreError> {
        let names: Vec<_> = self
            .plan
            .writes
            .iter()
            .filter(EntryName::is_reserved)
            .collect();
        for name in names {
            let file_name = name.as_path().file_name().unwrap_or_default();
            let staged = self.stage.staged_path(name.as_path());
            let inside = self.stage.staged_path(Path::new(file_name));
            if inside.symlink_metadata().is_ok() {
                tree::remove(&inside)?;
            }
            move_file(&staged, &inside)?;
            self.plan.writes.remove(name.as_path());
            if let Ok(inside) = EntryName::of_path(Path::new(file_name)) {
                if !self.folder.join(inside.as_path()).exists() {
                    self.plan.added.insert(&inside);
                }
                self.plan.writes.insert(&inside);
            }
        }
        Ok(())
    }

    /// Removes projections of rollouts that are replaced by anything but a continuation, if the
    /// live projection database stays. A database from the archive needs no change: it was captured
    /// before the archive's rollouts.
    fn delete_projections(&mut self) -> Result<(), RestoreError> {
        if self.plan.target == RestoreTarget::Elsewhere {
            return Ok(());
        }
        let projections = self.live_databases(home::HISTORY_DATABASE_PREFIX);
        if projections.is_empty() {
            // Without projections the rollouts need no comparison.
            return Ok(());
        }
        let stale = self.stale_projection_ids()?;
        if stale.is_empty() {
            return Ok(());
        }
        for database in projections {
            // A database that cannot be changed is removed: Codex creates it again.
            if self.copy_live(&database)?
                && thread_rows::delete_projections(&database.staged, &stale).is_err()
            {
                tree::remove(&database.staged)?;
            }
            self.plan_live_replacement(database);
        }
        Ok(())
    }

    fn stale_projection_ids(&self) -> Result<HashSet<String>, RestoreError> {
        let mut stale = HashSet::new();
        for file in self.live.names.iter() {
            let conversation = conversation_of(file.as_path());
            let Some(id) = conversation.as_ref().and_then(|c| c.id()) else {
                continue;
            };
            let live = self.folder.join(file.as_path());
            let replaced_by = self
                .stage
                .rollouts
                .get(id)
                .map(|name| self.stage.staged_path(name.as_path()))
                .filter(|path| path.exists());
            let continues = match replaced_by {
                Some(staged) => matches!(
                    rollout::compare(&live, &staged).at("compare", &live)?,
                    Relation::Equal | Relation::SecondExtends
                ),
                None => !self.plan.removed.contains(file.as_path()),
            };
            if !continues {
                stale.insert(id.to_owned());
            }
        }
        Ok(stale)
    }
}

/// Returns the folder of this home's databases if it is outside of the home, as far as that is
/// known before anything is unpacked.
pub(super) fn outside_database_folder(
    request: &RestoreRequest<'_>,
    folder: &Path,
) -> Option<PathBuf> {
    if request.target == RestoreTarget::Elsewhere {
        return None;
    }
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    let databases = CodexConfig::read(folder).database_folder(folder, request.env)?;
    Some(real(&databases)).filter(|databases| *databases != real(folder))
}

/// A live database that the archive does not replace.
struct LiveDatabase {
    live: PathBuf,
    /// The path that its changed copy is built at.
    staged: PathBuf,
    /// The name in the home; `None` for a database outside of it.
    name: Option<EntryName>,
}

/// Returns the staging folder for databases in `folder`.
fn outside_staging(folder: &Path) -> PathBuf {
    folder.join(".codex-manager-restore")
}

/// Returns true if any of these rows of a state database belongs to a conversation outside of
/// `home`.
fn has_foreign_rows(rows: &[(String, String)], home: &Path) -> bool {
    rows.iter().any(|(_, path)| {
        let path = Path::new(path);
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        path.is_absolute() && !path.starts_with(home) && !real.starts_with(home)
    })
}

/// Removes `sqlite_home` from a staged config.toml and keeps the rest of the text.
fn remove_sqlite_home_setting(path: &Path) -> Result<(), IoError> {
    let text = config::read_text(path).at("read", path)?;
    if let Ok(mut document) = text.parse::<toml_edit::DocumentMut>() {
        document.remove("sqlite_home");
        atomic::write(path, document.to_string().as_bytes())?;
    }
    Ok(())
}

/// Copies the database `live`. Returns false, without a copy, if it is damaged, unreadable or
/// missing.
///
/// # Errors
/// The copy cannot be written, for example because the disk is full. That proves nothing about the
/// database.
fn copy_unless_damaged(live: &Path, copy: &Path) -> Result<bool, RestoreError> {
    match database::snapshot(live, copy) {
        Ok(()) => Ok(true),
        Err(e) if e.is_source_defect(live) || !live.exists() => {
            tree::remove(copy)?;
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// Moves a staged file; copies it if the paths are on different file systems.
#[allow(
    clippy::disallowed_methods,
    reason = "staged files: made durable before they count"
)]
fn move_file(from: &Path, to: &Path) -> Result<(), IoError> {
    match fs::rename(from, to) {
        Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
            fs::copy(from, to).at("copy", from)?;
            fs::remove_file(from).at("remove", from)
        }
        other => other.at("move", from),
    }
}
