//! The databases of a restore: where they go, the paths in them, and what they remember of rollouts
//! that are no longer the same.

use super::RestoreError;
use super::apply::{RestoreRequest, Work};
use super::plan::Target;
use super::remains;
use super::rollouts::{FirstOf, Rollouts, conversation_of};
use super::room::{self, Need};
use crate::archive::ArchiveError;
use crate::archive::entry_name::EntryName;
use crate::archive::manifest::OUTSIDE_DATABASES;
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

impl Work<'_> {
    /// The databases that the archive brings, into the home and outside of it.
    fn staged_databases(&self) -> Vec<(EntryName, PathBuf)> {
        let mut staged = self.staged_as_databases();
        staged.extend(self.outside_restored.iter().cloned());
        staged.retain(|(_, path)| database::is_sqlite(path));
        staged
    }

    /// What comes where Codex has databases, whatever it is.
    fn staged_as_databases(&self) -> Vec<(EntryName, PathBuf)> {
        self.plan
            .writes
            .iter()
            .filter(|name| {
                name.as_path().parent() == Some(Path::new(OUTSIDE_DATABASES))
                    || kind_of(name.as_path()) == HomeEntryKind::Database
            })
            .map(|name| {
                let path = self.stage.place(name.as_path());
                (name, path)
            })
            .collect()
    }

    /// Ours were checked when they were taken and have digests; the Python tool's are copies of
    /// live files and may be torn.
    pub(super) fn check_databases(&mut self) -> Result<(), RestoreError> {
        if !matches!(self.request.archive.layout(), Layout::Python(_)) {
            return Ok(());
        }
        for (name, path) in self.staged_as_databases() {
            if path.metadata().is_ok_and(|meta| meta.len() == 0) {
                continue;
            }
            // Nothing but the log: SQLite removes files that a rollback journal names.
            let [_, shm, journal] = home::database_sidecars(&path);
            tree::remove(&shm)?;
            if journal.metadata().is_ok_and(|m| m.len() > 0) {
                return Err(ArchiveError::Damaged {
                    archive: self.request.archive.path().to_path_buf(),
                    detail: format!("{name}: copied in the middle of a write (it has a journal)"),
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
        let beside: Vec<_> = self
            .plan
            .writes
            .iter()
            .filter(|n| kind_of(n.as_path()) == HomeEntryKind::DatabaseSidecar)
            .collect();
        for name in beside {
            tree::remove(&self.stage.place(name.as_path()))?;
            self.plan.writes.remove(name.as_path());
        }
        Ok(())
    }

    /// Brings the databases into line: where they go, the paths in them, and what they remember of
    /// rollouts that are no longer the same.
    pub(super) fn settle_databases(&mut self) -> Result<(), RestoreError> {
        self.place_outside_databases()?;
        let source = PathBuf::from(&self.request.archive.metadata().source_codex_home);
        let same_home = self.plan.target == Target::Home
            && (source == self.request.folder || source == self.folder);
        for (name, path) in self.staged_databases() {
            let is_history = home::is_database_named(name.as_path(), home::HISTORY_DATABASE_PREFIX);
            if self.plan.merge && is_history {
                self.adopt(&name, &path, &self.merged.kept, RowGroup::Projections)?;
            }
            if !home::is_database_named(name.as_path(), home::STATE_DATABASE_PREFIX) {
                continue;
            }
            if self.plan.merge {
                let ids = self.merged.only_here.ids();
                self.adopt(&name, &path, &ids, RowGroup::Threads)?;
            }
            let live = if self.plan.partial {
                Rollouts::among(&self.live.names)
            } else {
                Rollouts::default()
            };
            let rollouts = FirstOf(vec![&self.merged.only_here, &self.stage.rollouts, &live]);
            // In the same home a row is wrong only when its conversation moved between the capture
            // of the database and its own.
            let strays = if same_home && !self.plan.merge {
                UnmatchedRows::Keep
            } else {
                UnmatchedRows::Rebase
            };
            let home = self.folder_for_rows();
            let changed = thread_rows::rewrite_rollout_paths(&path, &home, &rollouts, strays)?;
            if changed > 0 {
                let paths = pluralize(changed, "path");
                self.notes
                    .push(format!("made to point into this home: {paths} in {name}"));
            }
        }
        self.settle_live_rows()?;
        self.bring_names()?;
        self.delete_projections()
    }

    /// Where the live state database stays: rows follow conversations that are put back under
    /// another name than they have here (archived since, or no longer), and conversations that
    /// come back bring their rows.
    fn settle_live_rows(&mut self) -> Result<(), RestoreError> {
        if self.plan.target == Target::Elsewhere {
            return Ok(());
        }
        let mut moved = Rollouts::default();
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
        let found = self.live_databases(home::STATE_DATABASE_PREFIX);
        let returning = if found.is_empty() {
            None
        } else {
            self.returning_rows()?
        };
        if moved.is_empty() && returning.is_none() {
            return Ok(());
        }
        let home = self.folder_for_rows();
        if let Some(of) = &returning {
            // They may come from another home.
            let here = FirstOf(vec![&self.stage.rollouts]);
            thread_rows::rewrite_rollout_paths(&of.database, &home, &here, UnmatchedRows::Rebase)?;
        }
        for found in found {
            // A damaged one is Codex's to set aside and make again.
            if !self.copy_live(&found)? {
                continue;
            }
            let came = returning.as_ref().map(|of| {
                thread_rows::copy_rows(&found.staged, &of.database, &of.ids, RowGroup::Threads)
            });
            if came.transpose()?.unwrap_or(0) == 0 && moved.is_empty() {
                tree::remove(&found.staged)?;
                continue;
            }
            thread_rows::rewrite_rollout_paths(
                &found.staged,
                &home,
                &FirstOf(vec![&moved, &self.stage.rollouts]),
                UnmatchedRows::Keep,
            )?;
            self.replace_live(found);
        }
        Ok(())
    }

    /// The live databases of this name that the archive does not replace.
    fn live_databases(&self, prefix: &str) -> Vec<LiveDatabase> {
        let mut found = Vec::new();
        for name in self.live.names.iter() {
            let path = name.as_path();
            let is_it =
                kind_of(path) == HomeEntryKind::Database && home::is_database_named(path, prefix);
            if is_it && !self.plan.writes.contains(path) && !self.plan.removed.contains(path) {
                found.push(LiveDatabase {
                    live: self.folder.join(path),
                    staged: self.stage.place(path),
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
            let is_it = home::is_database_named(&live, prefix) && database::is_sqlite(&live);
            if is_it && !staged.exists() {
                found.push(LiveDatabase {
                    live,
                    staged,
                    name: None,
                });
            }
        }
        found
    }

    /// Copies a live database to where its changed copy is built; `false` when it is damaged.
    fn copy_live(&mut self, database: &LiveDatabase) -> Result<bool, RestoreError> {
        if database.name.is_none() {
            self.stage_outside(atomic::parent_of(&database.live))?;
        }
        atomic::create_private_folder(atomic::parent_of(&database.staged))?;
        copy_if_sound(&database.live, &database.staged)
    }

    /// Notes that a live database of the home is replaced by its staged copy, or goes where there
    /// is none. Outside the home whatever is staged replaces what is live.
    fn replace_live(&mut self, database: LiveDatabase) {
        let Some(name) = database.name else {
            if !database.staged.exists() {
                self.outside_removed.push(database.live);
            }
            return;
        };
        let beside = home::database_sidecars(name.as_path());
        let standing = beside.iter().filter(|p| self.folder.join(p).exists());
        self.plan
            .removed
            .extend(standing.filter_map(|p| EntryName::of_path(p).ok()));
        if database.staged.exists() {
            self.plan.writes.insert(&name);
        } else {
            self.plan.removed.insert(&name);
        }
    }

    /// The home as its owner names it: what Codex would write into its rows.
    fn folder_for_rows(&self) -> PathBuf {
        if self.request.folder.exists() {
            self.request.folder.clone()
        } else {
            self.folder.clone()
        }
    }

    /// Takes rows of the live database `name` over into its staged one, for conversations whose
    /// files here stay.
    fn adopt(
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
        // A damaged live database has no rows to offer: Codex makes them again from the rollouts.
        if copy_if_sound(&live, &copy)? {
            thread_rows::copy_rows(staged, &copy, ids, rows)?;
        }
        tree::remove(&copy)?;
        Ok(())
    }

    /// Decides where databases go that lay outside the archived home, or that Codex will look for
    /// outside this one.
    fn place_outside_databases(&mut self) -> Result<(), RestoreError> {
        let from_outside = self.plan.has_outside_databases();
        let staged_config = self.stage.home().staged.join(home::CONFIG_TOML);
        let config = if staged_config.exists() {
            CodexConfig::read(&self.stage.home().staged)
        } else {
            CodexConfig::read(&self.folder)
        };
        if self.plan.target == Target::Elsewhere {
            if self.request.env.get("CODEX_SQLITE_HOME").is_some() {
                self.notes.push(
                    "CODEX_SQLITE_HOME is set: unset it for this folder, or Codex uses the databases \
                     there and goes on in the conversations of the old home"
                        .into(),
                );
            }
            if config.sqlite_home.is_some() && staged_config.exists() {
                drop_sqlite_home(&staged_config)?;
                self.notes.push(
                    "sqlite_home was taken out of config.toml: the databases are in the folder itself"
                        .into(),
                );
            }
            return if from_outside {
                self.outside_into_home()
            } else {
                Ok(())
            };
        }
        let absolute = |path: &Path| self.folder.join(self.request.env.absolute(path));
        let by_env = self.request.env.get("CODEX_SQLITE_HOME");
        let by_env = by_env.map(|p| absolute(Path::new(p)));
        let of_home = CodexConfig::read(&self.folder).sqlite_home;
        let own: Vec<PathBuf> = of_home
            .map(|p| absolute(&p))
            .into_iter()
            .chain(by_env)
            .collect();
        let wanted = config.database_folder(&self.folder, self.request.env);
        let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
        let wanted = wanted
            .map(|p| real(&p))
            .filter(|p| *p != real(&self.folder));
        self.sqlite_home.clone_from(&wanted);
        match wanted {
            None if from_outside => self.outside_into_home(),
            None => Ok(()),
            Some(folder) => {
                let databases: Vec<_> = self
                    .staged_databases()
                    .into_iter()
                    .filter(|(name, _)| !from_outside || name.is_own())
                    .collect();
                if databases.is_empty() {
                    return Ok(());
                }
                // Settings in an archive must not choose where we write.
                let is_own = own.iter().any(|own| real(own) == folder);
                if !is_own && !self.request.may_write_outside {
                    return Err(RestoreError::OutsideDatabases(folder));
                }
                if self.is_shared(&folder)? {
                    return Err(RestoreError::SharedDatabases(folder));
                }
                self.check_room_outside(&folder, &databases)?;
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

    /// Whether the disk of `folder`, where that is not the home's, has room for these databases: which
    /// folder it is may have come from the archive's own settings.
    fn check_room_outside(
        &self,
        folder: &Path,
        databases: &[(EntryName, PathBuf)],
    ) -> Result<(), ArchiveError> {
        let disks = &room::System;
        if !room::is_on_another_disk(folder, self.swap.folder(), disks) {
            return Ok(());
        }
        let sizes = databases
            .iter()
            .filter_map(|(_, path)| path.metadata().ok());
        let need = Need {
            folder: folder.to_path_buf(),
            bytes: sizes.map(|meta| meta.len()).sum(),
        };
        room::check(&[need], disks)
    }

    /// Whether the databases in `folder` serve another home too: it is a home itself, or has rows of
    /// conversations that lie elsewhere, in the log of a database maybe.
    fn is_shared(&self, folder: &Path) -> Result<bool, RestoreError> {
        let of_homes = [home::AUTH_JSON, home::CONFIG_TOML, home::SESSIONS];
        if of_homes.iter().any(|name| folder.join(name).exists()) {
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
            let taken = database::snapshot(&path, &copy);
            let is_foreign = match taken {
                Ok(()) => has_foreign(&thread_rows::rollout_paths(&copy)?, &self.folder),
                // What can still be read of it tells.
                Err(DatabaseError::Damaged { .. }) => thread_rows::rollout_paths(&path)
                    .is_ok_and(|rows| has_foreign(&rows, &self.folder)),
                Err(e) => return Err(e.into()),
            };
            tree::remove(&copy)?;
            if is_foreign {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Where databases are staged that replace those in `folder`, outside the home.
    fn stage_outside(&mut self, folder: &Path) -> Result<PathBuf, RestoreError> {
        if let Some((_, staging)) = &self.outside {
            return Ok(staging.clone());
        }
        atomic::create_private_folder(folder)?;
        let staging = outside_staging(folder);
        remains::retry(&staging);
        self.swap.add_folder(&staging)?;
        self.outside = Some((folder.to_path_buf(), staging.clone()));
        Ok(staging)
    }

    fn outside_into_home(&mut self) -> Result<(), RestoreError> {
        let names: Vec<_> = self.plan.writes.iter().filter(EntryName::is_own).collect();
        for name in names {
            let file_name = name.as_path().file_name().unwrap_or_default();
            let staged = self.stage.place(name.as_path());
            let inside = self.stage.place(Path::new(file_name));
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

    /// Where the live projection database stays, what it remembers of rollouts that are replaced
    /// by something that is not an extension has to go. One that comes from the archive was taken
    /// before the archive's rollouts and fits them.
    fn delete_projections(&mut self) -> Result<(), RestoreError> {
        if self.plan.target == Target::Elsewhere {
            return Ok(());
        }
        let projections = self.live_databases(home::HISTORY_DATABASE_PREFIX);
        if projections.is_empty() {
            // Nothing remembers anything: the rollouts need not be compared.
            return Ok(());
        }
        let stale = self.rollouts_that_do_not_continue()?;
        if stale.is_empty() {
            return Ok(());
        }
        for found in projections {
            // One that cannot be mended goes: Codex makes it again.
            if self.copy_live(&found)?
                && thread_rows::delete_projections(&found.staged, &stale).is_err()
            {
                tree::remove(&found.staged)?;
            }
            self.replace_live(found);
        }
        Ok(())
    }

    fn rollouts_that_do_not_continue(&self) -> Result<HashSet<String>, RestoreError> {
        let mut stale = HashSet::new();
        for file in self.live.names.iter() {
            let conversation = conversation_of(file.as_path());
            let Some(id) = conversation.as_ref().and_then(|c| c.id()) else {
                continue;
            };
            let here = self.folder.join(file.as_path());
            let replaced_by = self
                .stage
                .rollouts
                .get(id)
                .map(|name| self.stage.place(name.as_path()))
                .filter(|path| path.exists());
            let continues = match replaced_by {
                Some(staged) => matches!(
                    rollout::compare(&here, &staged).at("compare", &here)?,
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

/// Where this home has its databases, if outside of it, as far as is known before anything is unpacked.
pub(super) fn outside_folder(request: &RestoreRequest<'_>, folder: &Path) -> Option<PathBuf> {
    if request.target == Target::Elsewhere {
        return None;
    }
    let real = |p: &Path| p.canonicalize().unwrap_or_else(|_| p.to_path_buf());
    let databases = CodexConfig::read(folder).database_folder(folder, request.env)?;
    Some(real(&databases)).filter(|databases| *databases != real(folder))
}

/// A live database that the archive does not replace.
struct LiveDatabase {
    live: PathBuf,
    /// Where a changed copy of it is built.
    staged: PathBuf,
    /// Its name in the home; `None` for one outside.
    name: Option<EntryName>,
}

/// Where databases are staged that replace those in `folder`.
fn outside_staging(folder: &Path) -> PathBuf {
    folder.join(".codex-manager-restore")
}

/// Whether these rows of a state database are of conversations that lie outside `home`.
fn has_foreign(rows: &[(String, String)], home: &Path) -> bool {
    rows.iter().any(|(_, path)| {
        let path = Path::new(path);
        let real = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        path.is_absolute() && !path.starts_with(home) && !real.starts_with(home)
    })
}

/// Takes `sqlite_home` out of a staged config.toml; everything else stays as it is written.
fn drop_sqlite_home(path: &Path) -> Result<(), IoError> {
    let text = config::read_text(path).at("read", path)?;
    if let Ok(mut document) = text.parse::<toml_edit::DocumentMut>() {
        document.remove("sqlite_home");
        atomic::write(path, document.to_string().as_bytes())?;
    }
    Ok(())
}

/// Copies the database `live`; `false`, and no copy, where it is damaged, cannot be read or has gone.
///
/// # Errors
/// The copy could not be made, which says nothing about the database: a disk without room for it.
fn copy_if_sound(live: &Path, copy: &Path) -> Result<bool, RestoreError> {
    match database::snapshot(live, copy) {
        Ok(()) => Ok(true),
        Err(e) if e.is_source_defect(live) || !live.exists() => {
            tree::remove(copy)?;
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// Moves a staged file; copies it where the places are on different file systems.
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
