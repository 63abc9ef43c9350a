//! The trash of conversations: rollouts, row and names of a conversation as one unit.
//!
//! Each unit is a folder `trash/conversations/<time>-<id>/` of the manager home, with the rollouts and
//! `conversation.json`. A move is a transaction of [`crate::journal`]: the unit comes, the rollouts go. The row and
//! the names are in files that Codex has open, which cannot be exchanged, so [`UnitPolicy`] changes them before the
//! journal ends. Earlier versions built a unit under a name that begins with `.pending-`.

use super::selection::Selected;
use crate::codex::database::DatabaseError;
use crate::codex::home::{ARCHIVED_SESSIONS, SESSIONS};
use crate::codex::rollout::{self, Relation, RolloutName};
use crate::codex::threads::{RowValues, saved_row};
use crate::codex::writer_lock::WriterLock;
use crate::history::HistoryError;
use crate::history::id::ConversationId;
use crate::history::session_index;
use crate::io::disk_clock::{self, ClockDoubt, Dated};
use crate::io::document::{self, Document, DocumentError};
use crate::io::json_path::ListedPath;
use crate::io::lock::FileLock;
use crate::io::{IoContext, IoError, atomic, file_id, tree};
use crate::journal::{CompletionError, FileExchange, JournalError, Recovery, RecoveryPolicy};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// The folder of the units, below the manager home.
const FOLDER: &str = "trash/conversations";

/// The name of the document of a unit.
const DOCUMENT: &str = "conversation.json";

/// The name of the journal of `storage trash`.
const JOURNAL: &str = "trash";

/// The number of conversations that are moved by one transaction. Each has an open lock meanwhile.
pub(crate) const MAX_BATCH: usize = 64;

/// The beginning of the name of a unit that an earlier version has not completed.
const PENDING: &str = ".pending-";

/// The format of the time in the name of a unit.
const NAME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrashedConversation {
    pub(crate) id: String,
    /// Its name or the first line of its title; empty if unknown.
    pub(crate) title: String,
    pub(crate) trashed_at: DateTime<Utc>,
    /// The Codex home that it belongs to.
    pub(crate) home: ListedPath,
    /// The state database with its row; `None` if it had no row.
    database: Option<ListedPath>,
    row: Option<RowValues>,
    /// Its lines in the index of names, as they were.
    names: Vec<String>,
    /// Its rollouts: the path in the home, and the file name in the unit.
    files: Vec<(ListedPath, String)>,
    /// The modes of its rollouts in the home; empty for a unit of an earlier version.
    #[serde(default)]
    modes: Vec<u32>,
}

impl Document for TrashedConversation {
    const SCHEMA: u64 = 1;
}

impl TrashedConversation {
    /// Writes its unit to `folder`. The rollouts are linked, or copied from another file system.
    fn write(&self, folder: &Path) -> Result<(), TrashError> {
        atomic::create_private_folder(folder)?;
        for (path, name) in &self.files {
            tree::publish_copy(&path.0, &folder.join(name))?;
        }
        document::write(&folder.join(DOCUMENT), self)?;
        for (path, name) in &self.files {
            // Codex may have archived or deleted it meanwhile.
            if !is_same_file(&path.0, &folder.join(name))? {
                return Err(TrashError::Changed(self.id.clone()));
            }
        }
        Ok(())
    }

    /// Returns true if its files are below the home and in the unit. Anything else was not written by
    /// this program.
    fn is_within_home(&self) -> bool {
        self.files.iter().all(|(ListedPath(path), name)| {
            let mut below = path
                .strip_prefix(&self.home.0)
                .into_iter()
                .flat_map(Path::components);
            let is_below = path.starts_with(&self.home.0)
                && below.all(|part| matches!(part, Component::Normal(_)));
            let mut name = Path::new(name).components();
            is_below
                && matches!(
                    (name.next(), name.next()),
                    (Some(Component::Normal(_)), None)
                )
        })
    }
}

/// The reason why a conversation was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrashError {
    /// Codex has the conversation open.
    #[error("Codex has the conversation open: {0}")]
    Busy(String),
    /// Codex changed, moved or removed it meanwhile.
    #[error("the conversation changed meanwhile: {0}")]
    Changed(String),
    /// A conversation with this id is in the home again.
    #[error("the home has this conversation again: {}", .0.display())]
    Occupied(PathBuf),
    /// A file cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The age of the units is not known.
    #[error(transparent)]
    Clock(#[from] ClockDoubt),
    /// The unit cannot be read or written.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The row cannot be read or written.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The index of names cannot be read or written.
    #[error(transparent)]
    Index(#[from] HistoryError),
    /// The files were not exchanged.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Returns the rollouts of a conversation, each with its name in the trash.
fn files_of(selected: &Selected) -> Vec<(ListedPath, String)> {
    let files = selected.rollouts.iter().enumerate().map(|(n, path)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = if n == 0 {
            name.into_owned()
        } else {
            format!("{n}-{name}")
        };
        (ListedPath(path.clone()), name)
    });
    files.collect()
}

/// The trash of a manager home, locked.
#[derive(Debug)]
pub(crate) struct ConversationTrash {
    manager_home: PathBuf,
    folder: PathBuf,
    _lock: FileLock,
}

#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) folder: PathBuf,
    pub(crate) conversation: TrashedConversation,
}

impl Unit {
    pub(crate) fn bytes(&self) -> u64 {
        let files = self.conversation.files.iter();
        let sizes = files.map(|(_, name)| self.folder.join(name).metadata().map_or(0, |m| m.len()));
        sizes.sum()
    }
}

impl ConversationTrash {
    /// Locks the trash, and creates it if it is missing.
    ///
    /// # Errors
    /// It cannot be created.
    pub(crate) fn lock(manager_home: &Path) -> Result<Self, IoError> {
        let folder = manager_home.join(FOLDER);
        atomic::create_private_folder(&folder)?;
        let lock = FileLock::exclusive_unless_interrupted(&folder.join(".lock"))?;
        Ok(Self {
            manager_home: manager_home.to_path_buf(),
            folder,
            _lock: lock,
        })
    }

    /// Moves conversations of `home` to the trash, at most [`MAX_BATCH`]. Durable on return. `database` is the state
    /// database. Returns the result for each: those that Codex has open, or that changed since they were chosen, stay.
    pub(crate) fn discard(
        &self,
        home: &Path,
        database: Option<&Path>,
        chosen: &[Selected],
        now: DateTime<Utc>,
    ) -> Vec<Result<(), TrashError>> {
        match (self.discard_together(home, database, chosen, now), chosen) {
            (Ok(results), _) => results,
            (Err(JournalError::Written { .. }), [one]) => {
                vec![Err(TrashError::Changed(one.id.clone()))]
            }
            (Err(e), [_]) => vec![Err(e.into())],
            // One of them stopped the transaction.
            (Err(_), _) => chosen
                .chunks(1)
                .flat_map(|one| self.discard(home, database, one, now))
                .collect(),
        }
    }

    /// Moves conversations by one transaction.
    ///
    /// # Errors
    /// Nothing was changed, or [`recover`] undoes it.
    fn discard_together(
        &self,
        home: &Path,
        database: Option<&Path>,
        chosen: &[Selected],
        now: DateTime<Utc>,
    ) -> Result<Vec<Result<(), TrashError>>, JournalError> {
        let mut exchange = FileExchange::begin(&self.manager_home, JOURNAL, home, &UnitPolicy)?;
        let folders = [SESSIONS, ARCHIVED_SESSIONS].map(|name| home.join(name));
        let mut locks = Vec::new();
        let mut results = Vec::new();
        for selected in chosen {
            let staged = self.stage(&mut exchange, home, database, selected, now);
            if staged.is_ok() {
                for path in &selected.rollouts {
                    let top = folders.iter().find(|folder| path.starts_with(folder));
                    let top = top.map_or_else(|| atomic::parent_of(path), PathBuf::as_path);
                    exchange.remove_below(path, top)?;
                }
            }
            results.push(staged.map(|lock| locks.push(lock)));
        }
        if !locks.is_empty() {
            exchange.commit(&UnitPolicy)?;
        }
        Ok(results)
    }

    /// Stages the unit of a conversation. Returns the lock that keeps Codex from writing it.
    fn stage(
        &self,
        exchange: &mut FileExchange,
        home: &Path,
        database: Option<&Path>,
        selected: &Selected,
        now: DateTime<Utc>,
    ) -> Result<WriterLock, TrashError> {
        let id = &selected.id;
        let lock = WriterLock::take(home, id)?.ok_or_else(|| TrashError::Busy(id.clone()))?;
        let sizes = selected.rollouts.iter().map(|path| path.metadata());
        let bytes: u64 = sizes.flatten().map(|meta| meta.len()).sum();
        if bytes != selected.bytes {
            return Err(TrashError::Changed(id.clone()));
        }
        let row = match database {
            Some(database) => saved_row::read(database, id)?,
            None => None,
        };
        let names = session_index::lines_of(home, &ConversationId::of(id))?;
        let conversation = TrashedConversation {
            id: id.clone(),
            title: selected.title.clone(),
            trashed_at: now,
            home: ListedPath(home.to_path_buf()),
            database: database
                .filter(|_| row.is_some())
                .map(|path| ListedPath(path.to_path_buf())),
            row,
            names,
            files: files_of(selected),
            modes: selected.rollouts.iter().map(|path| mode(path)).collect(),
        };
        let name = format!("{}-{id}", now.format(NAME_FORMAT));
        let target = self.folder.join(name);
        if target.symlink_metadata().is_ok() {
            return Err(TrashError::Occupied(target));
        }
        exchange.replace(&target, |staged| conversation.write(staged))?;
        Ok(lock)
    }

    /// Puts a conversation back as it was. Durable on return. Repeated safely.
    ///
    /// # Errors
    /// The unit stays in the trash.
    pub(crate) fn put_back(&self, unit: &Unit) -> Result<(), TrashError> {
        let conversation = &unit.conversation;
        let home = &conversation.home.0;
        let busy = || TrashError::Busy(conversation.id.clone());
        let _writer = WriterLock::take(home, &conversation.id)?.ok_or_else(busy)?;
        for (path, _) in &conversation.files {
            unit.check_free(&path.0)?;
        }
        unit.put_in()?;
        tree::remove(&unit.folder)?;
        Ok(atomic::sync_folder(&self.folder)?)
    }

    /// Returns the units that are older than `age`.
    ///
    /// # Errors
    /// The clock cannot be trusted, or the trash cannot be listed.
    pub(crate) fn expired(
        &self,
        age: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<Unit>, TrashError> {
        let mut units = list(&self.folder)?;
        units.reverse();
        let dated = units.iter().map(|unit| Dated {
            path: unit.folder.join(DOCUMENT),
            at: unit.conversation.trashed_at,
        });
        let dated: Vec<_> = dated.collect();
        let ages = disk_clock::confirmed_ages(&self.folder, now, age, &dated)?;
        let units = units.into_iter().zip(ages);
        let expired = units.filter(|(_, known)| *known > age);
        Ok(expired.map(|(unit, _)| unit).collect())
    }

    /// Deletes units permanently.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub(crate) fn remove(&self, units: &[Unit]) -> Result<(), IoError> {
        for unit in units {
            tree::remove(&unit.folder)?;
        }
        atomic::sync_folder(&self.folder)
    }
}

/// Returns the units, oldest first. Units that cannot be read, or name files outside of their home, are
/// left out.
///
/// # Errors
/// The trash cannot be listed.
pub(crate) fn units(manager_home: &Path) -> Result<Vec<Unit>, TrashError> {
    list(&manager_home.join(FOLDER))
}

/// Returns the rollouts of `home` in the trash, the newest first.
///
/// # Errors
/// The trash cannot be listed.
pub(crate) fn rollouts(manager_home: &Path, home: &Path) -> Result<Vec<PathBuf>, TrashError> {
    let units = units(manager_home)?.into_iter().rev();
    let units = units.filter(|unit| file_id::is_same_folder(&unit.conversation.home.0, home));
    let rollouts = units.flat_map(|unit| {
        let names = unit.conversation.files.into_iter().map(|(_, name)| name);
        names.map(move |name| unit.folder.join(name))
    });
    Ok(rollouts.collect())
}

fn list(folder: &Path) -> Result<Vec<Unit>, TrashError> {
    let mut units = Vec::new();
    for (name, kind) in tree::list_if_exists(folder)? {
        if kind.is_dir() && !name.as_encoded_bytes().starts_with(b".") {
            units.extend(Unit::read(&folder.join(name))?);
        }
    }
    units.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(units)
}

/// Finishes or undoes what a killed `storage trash` left incomplete. Costs two `lstat` if there is no trash.
///
/// # Errors
/// The files cannot be written. The next call tries again.
pub(crate) fn recover(manager_home: &Path) -> Result<Recovery, TrashError> {
    if undo_old_moves(manager_home)? {
        return Ok(Recovery::Undone(Vec::new()));
    }
    Ok(FileExchange::recover(manager_home, JOURNAL, &UnitPolicy)?)
}

/// Undoes moves that an earlier version began. Returns false if there are none.
fn undo_old_moves(manager_home: &Path) -> Result<bool, TrashError> {
    let trash = manager_home.join(FOLDER);
    let mut entries = tree::list(&trash).unwrap_or_default();
    entries.retain(|(name, _)| name.as_encoded_bytes().starts_with(PENDING.as_bytes()));
    if entries.is_empty() {
        return Ok(false);
    }
    let _lock = ConversationTrash::lock(manager_home)?;
    for (name, _) in entries {
        let folder = trash.join(name);
        if let Some(unit) = Unit::read(&folder)? {
            unit.put_in()?;
        } else if folder.join(DOCUMENT).symlink_metadata().is_ok() {
            // Not written by this program.
            continue;
        }
        // Without its document, nothing was taken out of the home.
        tree::remove(&folder)?;
    }
    atomic::sync_folder(&trash)?;
    Ok(true)
}

/// Takes the row and the names of a conversation out of the home, or puts them back, with its rollouts.
struct UnitPolicy;

impl RecoveryPolicy for UnitPolicy {
    fn after_exchange(&self, new: &Path, is_live: bool) -> Result<(), CompletionError> {
        let Some(unit) = Unit::read(new)? else {
            return Ok(());
        };
        if is_live {
            Ok(unit.take_out()?)
        } else {
            Ok(unit.put_in()?)
        }
    }

    /// The unit has only copies, and links of which the time changes with the rollouts.
    fn is_disposable(&self, home: &Path, path: &Path) -> bool {
        !path.starts_with(home)
    }
}

impl Unit {
    /// Reads the unit in `folder`; `None` if there is none, or it names files outside of its home.
    fn read(folder: &Path) -> Result<Option<Self>, DocumentError> {
        let document = document::read::<TrashedConversation>(&folder.join(DOCUMENT))?;
        let conversation = document.good().filter(TrashedConversation::is_within_home);
        Ok(conversation.map(|conversation| Self {
            folder: folder.to_path_buf(),
            conversation,
        }))
    }

    /// Takes the row and the names out of the home, whose rollouts are gone.
    fn take_out(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        if let Some(database) = &conversation.database {
            saved_row::delete(&database.0, &conversation.id)?;
        }
        let id = ConversationId::of(&conversation.id);
        session_index::take_lines(&conversation.home.0, &id)?;
        for (_, name) in &conversation.files {
            // Until here it was the same file by a hard link.
            set_mode(&self.folder.join(name), 0o600)?;
        }
        Ok(())
    }

    /// Puts the rollouts, the row and the names into the home, if they are not there.
    fn put_in(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        let mut modes = conversation.modes.iter();
        for (path, name) in &conversation.files {
            let path = &path.0;
            let mode = modes.next();
            atomic::create_private_folder(atomic::parent_of(path))?;
            if path.symlink_metadata().is_err() {
                tree::publish_copy(&self.folder.join(name), path)?;
            }
            mode.map_or(Ok(()), |mode| set_mode(path, *mode))?;
            atomic::sync_folder(atomic::parent_of(path))?;
        }
        if let (Some(database), Some(row)) = (&conversation.database, &conversation.row) {
            saved_row::insert(&database.0, row)?;
        }
        let id = ConversationId::of(&conversation.id);
        Ok(session_index::put_lines(
            &conversation.home.0,
            &id,
            &conversation.names,
        )?)
    }

    /// Fails if the home has another rollout of this conversation, in any form, at `path`.
    fn check_free(&self, path: &Path) -> Result<(), TrashError> {
        let Some(file) = RolloutName::of(path) else {
            return Ok(());
        };
        let plain = path.with_file_name(&file.name);
        let packed = atomic::with_suffix(&plain, rollout::ZST);
        let files = &self.conversation.files;
        for form in [plain, packed] {
            let own = files.iter().find(|(path, _)| path.0 == form);
            let is_own = match own {
                Some((path, name)) => is_same_file(&path.0, &self.folder.join(name))?,
                None => false,
            };
            if form.symlink_metadata().is_ok() && !is_own {
                return Err(TrashError::Occupied(form));
            }
        }
        Ok(())
    }
}

fn mode(path: &Path) -> u32 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        path.metadata()
            .map_or(0o600, |meta| meta.permissions().mode() & 0o777)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        0o600
    }
}

/// Sets the mode of a file. On Windows the access comes from the folder.
fn set_mode(path: &Path, mode: u32) -> Result<(), IoError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        crate::io::modes::ignore_refusal(set).at("set the mode of", path)
    }
    #[cfg(not(unix))]
    {
        let _ = (path, mode);
        Ok(())
    }
}

/// Returns true if both exist, and are links to one file or copies.
fn is_same_file(first: &Path, second: &Path) -> Result<bool, IoError> {
    let (Some((a, one)), Some((b, other))) = (file_id::look(first)?, file_id::look(second)?) else {
        return Ok(false);
    };
    if a.is(b) || one.len() != other.len() {
        return Ok(a.is(b));
    }
    // Disks keep times with different precision.
    let is_copy = one.modified().ok() == other.modified().ok()
        || rollout::compare(first, second).at("compare", first)? == Relation::Equal;
    Ok(is_copy)
}
