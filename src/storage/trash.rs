//! The trash of conversations: rollouts, row and names of a conversation as one entry.
//!
//! Each entry is a folder `trash/conversations/<time>-<id>/` of the manager home, with the rollouts and
//! `conversation.json`. Until all is taken out of the Codex home, its name begins with `.pending-`.
//! [`recover`] finishes or undoes such an entry: the rollouts are removed last, so if one is gone, the
//! rest may go too.

use super::selection::SelectedConversation;
use crate::codex::threads::saved_row;
use crate::codex::{
    DatabaseError, Relation, RolloutName, RowValues, WriterLock, parse_rollout_id, rollout,
};
use crate::history::rollout::read_head;
use crate::history::{ConversationId, HistoryError, files, session_index};
use crate::io::{
    ClockDoubt, Dated, Document, DocumentError, DocumentState, FileLock, IoContext, IoError,
    ListedPath, atomic, beneath, disk_clock, document, file_id, links, modes, tree,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

/// The folder of the entries, below the manager home.
const FOLDER: &str = "trash/conversations";

/// The name of the document of an entry.
const DOCUMENT: &str = "conversation.json";

/// The beginning of the name of an entry that is not complete.
const PENDING: &str = ".pending-";

/// The format of the time in the name of an entry.
const NAME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrashedConversation {
    pub(crate) id: String,
    /// The first line of the name that the user gave, else of the title; empty if unknown.
    pub(crate) title: String,
    pub(crate) trashed_at: DateTime<Utc>,
    /// The Codex home that the conversation belongs to.
    pub(crate) home: ListedPath,
    /// The state database that had the row; `None` if the conversation had no row.
    database: Option<ListedPath>,
    row: Option<RowValues>,
    /// The former lines in the index of names.
    names: Vec<String>,
    /// The rollouts: the path in the home, and the file name in the entry.
    files: Vec<(ListedPath, String)>,
    /// The modes of the rollouts in the home; empty for an entry of an earlier version.
    #[serde(default)]
    modes: Vec<u32>,
}

impl Document for TrashedConversation {
    const SCHEMA: u64 = 1;
}

impl TrashedConversation {
    /// Returns true if each rollout belongs below the home, and its copy directly in the folder of the entry. This
    /// program writes no other entries.
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
    #[error("Codex has the conversation open: {0}")]
    Busy(String),
    /// Codex changed, moved or removed the conversation after it was selected.
    #[error("the conversation changed in the meantime: {0}")]
    Changed(String),
    /// A conversation with this id is in the home again.
    #[error("the home has this conversation already: {}", .0.display())]
    Occupied(PathBuf),
    #[error(transparent)]
    Io(#[from] IoError),
    /// The age of the entries is not known.
    #[error(transparent)]
    Clock(#[from] ClockDoubt),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Index(#[from] HistoryError),
}

/// Returns the rollouts, each with its file name in the entry. The names are unique.
fn assign_entry_names(rollouts: &[PathBuf]) -> Vec<(ListedPath, String)> {
    let files = rollouts.iter().enumerate().map(|(i, path)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = match i {
            0 => name.into_owned(),
            _ => format!("{i}-{name}"),
        };
        (ListedPath(path.clone()), name)
    });
    files.collect()
}

/// The trash of a manager home, locked.
#[derive(Debug)]
pub(crate) struct ConversationTrash {
    folder: PathBuf,
    _lock: FileLock,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrashEntry {
    pub(crate) folder: PathBuf,
    pub(crate) conversation: TrashedConversation,
}

impl TrashEntry {
    /// Returns the size of the rollouts in bytes. A missing file counts as empty.
    pub(crate) fn rollout_bytes(&self) -> u64 {
        let sizes = self
            .rollouts()
            .map(|path| path.metadata().map_or(0, |meta| meta.len()));
        sizes.sum()
    }

    /// Returns the paths of the rollouts in the entry.
    pub(crate) fn rollouts(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.conversation.files.iter();
        files.map(|(_, name)| self.folder.join(name))
    }

    /// Returns true if the conversation belongs to `home`.
    pub(crate) fn is_of_home(&self, home: &Path) -> bool {
        file_id::is_same_folder(&self.conversation.home.0, home)
    }

    fn has_rollout(&self, id: &ConversationId) -> bool {
        let files = self.conversation.files.iter();
        let mut ids = files.filter_map(|(path, _)| parse_rollout_id(&path.0));
        ids.any(|own_id| ConversationId::of(&own_id) == *id)
    }
}

impl ConversationTrash {
    /// Locks the trash, and creates it if it is missing.
    ///
    /// # Errors
    /// The folder of the trash cannot be created, or the user interrupts the wait for the lock.
    pub(crate) fn lock(manager_home: &Path) -> Result<Self, IoError> {
        let folder = manager_home.join(FOLDER);
        atomic::create_private_folder(&folder)?;
        let lock = FileLock::acquire_unless_interrupted(&folder.join(".lock"))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    /// Moves a conversation of `home` to the trash. Durable on return. `database` is the state
    /// database.
    ///
    /// # Errors
    /// The conversation was not moved, or [`recover`] undoes the incomplete move.
    pub(crate) fn discard(
        &self,
        home: &Path,
        database: Option<&Path>,
        selected: &SelectedConversation,
        now: DateTime<Utc>,
    ) -> Result<TrashEntry, TrashError> {
        let id = &*selected.id;
        let busy = || TrashError::Busy(id.to_owned());
        let _writer = WriterLock::acquire_if_free(home, id)?.ok_or_else(busy)?;

        let rollouts = selected.rollouts.iter();
        let metas: Vec<_> = rollouts.flat_map(|path| path.metadata()).collect();
        let bytes: u64 = metas.iter().map(Metadata::len).sum();
        // The user confirmed the list with these sizes. A larger rollout has turns that the user did not see.
        if bytes != selected.bytes {
            return Err(TrashError::Changed(id.to_owned()));
        }

        let row = match database {
            Some(database) => saved_row::read(database, id)?,
            None => None,
        };
        let names = session_index::read_lines_of(home, &ConversationId::of(id))?;

        let conversation = TrashedConversation {
            id: id.to_owned(),
            title: selected.title.clone(),
            trashed_at: now,
            home: ListedPath(home.to_path_buf()),
            database: database
                .filter(|_| row.is_some())
                .map(|path| ListedPath(path.to_path_buf())),
            row,
            names,
            files: assign_entry_names(&selected.rollouts),
            modes: metas.iter().map(modes::mode_of).collect(),
        };

        // Two homes may have the conversation, and trash it in one second.
        let name = format!("{}-{id}", now.format(NAME_FORMAT));
        let target = atomic::find_free_path(&self.folder.join(name));
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let pending = self.folder.join(format!("{PENDING}{name}"));
        let entry = TrashEntry {
            folder: pending,
            conversation,
        };

        let result = entry.write_entry().and_then(|()| entry.remove_from_home());
        if let Err(e) = result {
            // The writer lock is still held, so Codex has not touched the home since.
            entry.finish_or_undo(&self.folder)?;
            return Err(e);
        }

        atomic::rename_to_free(&entry.folder, &target)?;
        Ok(TrashEntry {
            folder: target,
            ..entry
        })
    }

    /// Restores the rollouts, the row and the names of a conversation. Durable on return; safe to repeat after a kill.
    ///
    /// # Errors
    /// Another process writes the conversation, one of its paths is occupied, or a file cannot be written. The entry
    /// stays in the trash.
    pub(crate) fn put_back(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        let conversation = &entry.conversation;
        let home = &conversation.home.0;
        let busy = || TrashError::Busy(conversation.id.clone());
        let _writer = WriterLock::acquire_if_free(home, &conversation.id)?.ok_or_else(busy)?;
        entry.refuse_other_copies()?;
        // The rollouts before the row, for the same reason as in `remove_from_home_unchecked`.
        entry.restore_into_home()?;
        tree::remove(&entry.folder)?;
        Ok(atomic::sync_folder(&self.folder)?)
    }

    /// Returns the entries that are older than `age`, the newest first.
    ///
    /// # Errors
    /// The clock cannot be trusted; see also [`list_entries`].
    pub(crate) fn list_expired(
        &self,
        age: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Vec<TrashEntry>, TrashError> {
        let mut entries = list_entries_in(&self.folder, is_complete_entry)?;
        entries.reverse();

        let dated_entries = entries.iter().map(|entry| Dated {
            path: entry.folder.join(DOCUMENT),
            at: entry.conversation.trashed_at,
        });
        let dated_entries: Vec<_> = dated_entries.collect();
        // A wrong clock would let fresh entries expire, and their removal cannot be undone.
        let ages = disk_clock::confirm_ages(&self.folder, now, age, &dated_entries)?;

        let entries = entries.into_iter().zip(ages);
        let expired = entries.filter(|(_, confirmed_age)| *confirmed_age > age);
        Ok(expired.map(|(entry, _)| entry).collect())
    }

    /// Deletes entries permanently.
    ///
    /// # Errors
    /// A file cannot be deleted.
    pub(crate) fn remove(&self, entries: &[TrashEntry]) -> Result<(), IoError> {
        for entry in entries {
            tree::remove(&entry.folder)?;
        }
        atomic::sync_folder(&self.folder)
    }
}

/// Returns the entries, oldest first. Damaged entries, and those that name files outside of their home, are
/// left out.
///
/// # Errors
/// The trash cannot be listed, or an entry cannot be read or was written by a newer version.
pub(crate) fn list_entries(manager_home: &Path) -> Result<Vec<TrashEntry>, TrashError> {
    list_entries_in(&manager_home.join(FOLDER), is_complete_entry)
}

/// Returns the rollouts of `home` in the trash, the newest first.
///
/// # Errors
/// See [`list_entries`].
pub(crate) fn list_rollouts(manager_home: &Path, home: &Path) -> Result<Vec<PathBuf>, TrashError> {
    let entries = list_entries(manager_home)?;
    let entries = entries.iter().rev().filter(|entry| entry.is_of_home(home));
    Ok(entries.flat_map(TrashEntry::rollouts).collect())
}

/// Returns the entries of `home` that `rollouts` continue and the home lacks, and those that these continue.
pub(crate) fn find_bases<'a>(
    entries: &'a [TrashEntry],
    home: &Path,
    mut rollouts: Vec<PathBuf>,
) -> Vec<&'a TrashEntry> {
    let mut bases = Vec::new();
    let mut seen_ids = HashSet::new();
    while let Some(path) = rollouts.pop() {
        let base_id = read_head(&path).ok().flatten();
        let base_id = base_id.and_then(|head| Some(ConversationId::of(&head.base_id()?)));
        let Some(base_id) = base_id.filter(|id| seen_ids.insert(id.clone())) else {
            continue;
        };

        let mut newest_first = entries.iter().rev();
        let base = newest_first.find(|entry| entry.is_of_home(home) && entry.has_rollout(&base_id));
        if let Some(base) = base
            && !base.is_complete_in_home()
            && !matches!(base.refuse_other_copies(), Err(TrashError::Occupied(_)))
        {
            rollouts.extend(base.rollouts());
            bases.push(base);
        }
    }
    bases
}

/// Takes the entries that a conversation of their home, or one that stays in the trash, continues out of `entries`, and
/// returns them. Without them, Codex cannot show the earlier turns of that conversation.
///
/// # Errors
/// The trash or the home cannot be listed.
pub(crate) fn take_needed(
    manager_home: &Path,
    entries: &mut Vec<TrashEntry>,
) -> Result<Vec<TrashEntry>, TrashError> {
    let homes = entries.iter().map(|entry| &entry.conversation.home.0);
    let homes: BTreeSet<_> = homes.cloned().collect();
    let all_entries = list_entries(manager_home)?;
    let deleted_folders: HashSet<_> = entries.iter().map(|entry| entry.folder.clone()).collect();

    let mut needed = Vec::new();
    for home in homes {
        // Fails if a folder cannot be listed, because it may have a fork.
        let rollouts = files::find_rollouts(&home)?;
        let mut rollouts: Vec<_> = rollouts.iter().map(|file| file.path(&home)).collect();
        // A fork that stays in the trash comes back only with its base.
        let kept_entries = all_entries
            .iter()
            .filter(|entry| !deleted_folders.contains(&entry.folder) && entry.is_of_home(&home));
        rollouts.extend(kept_entries.flat_map(TrashEntry::rollouts));
        needed.extend(find_bases(&all_entries, &home, rollouts));
    }
    let is_needed = |entry: &mut TrashEntry| needed.contains(&&*entry);
    Ok(entries.extract_if(.., is_needed).collect())
}

/// Returns true for the name of an entry, but not of the lock or of an incomplete entry.
fn is_complete_entry(name: &[u8]) -> bool {
    !name.starts_with(b".")
}

fn list_entries_in(
    folder: &Path,
    is_wanted: impl Fn(&[u8]) -> bool,
) -> Result<Vec<TrashEntry>, TrashError> {
    let mut entries = Vec::new();
    for (name, kind) in tree::list_if_exists(folder)? {
        let entry_folder = folder.join(&name);
        if kind.is_dir()
            && is_wanted(name.as_encoded_bytes())
            && let DocumentState::Good(conversation) = document::read(&entry_folder.join(DOCUMENT))?
            && TrashedConversation::is_within_home(&conversation)
        {
            entries.push(TrashEntry {
                folder: entry_folder,
                conversation,
            });
        }
    }

    entries.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(entries)
}

/// Finishes or undoes incomplete moves of a killed `storage trash`. Returns the number of affected
/// conversations. Costs one `lstat` if there is no trash.
///
/// # Errors
/// The files cannot be written. The next call tries again.
pub(crate) fn recover(manager_home: &Path) -> Result<usize, TrashError> {
    let folder = manager_home.join(FOLDER);
    let is_pending = |name: &[u8]| name.starts_with(PENDING.as_bytes());
    let entries = tree::list(&folder).unwrap_or_default();
    if !entries
        .iter()
        .any(|(name, _)| is_pending(name.as_encoded_bytes()))
    {
        return Ok(0);
    }

    // The first look takes no lock, so the entries are read again under it.
    let trash = ConversationTrash::lock(manager_home)?;
    let pending = list_entries_in(&folder, is_pending)?;
    for entry in &pending {
        entry.finish_or_undo(&trash.folder)?;
    }

    // As long as an entry has no document, nothing was taken out of the home.
    for (name, _) in tree::list(&folder).at("list", &folder)? {
        let entry = folder.join(&name);
        let has_document = entry.join(DOCUMENT).symlink_metadata().is_ok();
        if is_pending(name.as_encoded_bytes()) && !has_document {
            tree::remove(&entry)?;
        }
    }

    Ok(pending.len())
}

impl TrashEntry {
    /// Writes the entry. The rollouts are linked, or copied from another file system.
    fn write_entry(&self) -> Result<(), TrashError> {
        atomic::create_private_folder(&self.folder)?;
        for (path, name) in &self.conversation.files {
            links::publish_copy(&path.0, &self.folder.join(name))?;
        }
        // The document is last: as long as it is missing, nothing was taken out of the home.
        document::write(&self.folder.join(DOCUMENT), &self.conversation)?;
        atomic::sync_folder(&self.folder)?;
        Ok(atomic::sync_folder(atomic::parent_of(&self.folder))?)
    }

    /// Removes the row, the names and the rollouts from the home, unless a rollout has changed since it was copied.
    fn remove_from_home(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        for (path, name) in &conversation.files {
            if !is_same_or_copy(&path.0, &self.folder.join(name))? {
                return Err(TrashError::Changed(conversation.id.clone()));
            }
        }
        self.remove_from_home_unchecked()
    }

    /// Removes the row, the names, and then the rollouts from the home. As long as all rollouts are in the home,
    /// [`recover`] puts the row and the names back.
    fn remove_from_home_unchecked(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        if let Some(database) = &conversation.database {
            // The row before the rollout: Codex 0.169 indexes a rollout without a row again, but keeps a row without a
            // rollout.
            saved_row::delete(&database.0, &conversation.id)?;
        }
        session_index::remove_lines(&conversation.home.0, &ConversationId::of(&conversation.id))?;

        for (path, name) in &conversation.files {
            tree::remove(&path.0)?;
            // Only now, because the rollout in the home may have been the same file, by a hard link.
            set_mode(&self.folder.join(name), 0o600)?;
        }

        for (path, _) in &conversation.files {
            atomic::sync_folder(atomic::parent_of(&path.0))?;
        }
        Ok(())
    }

    /// Restores the rollouts, the row and the names that the home does not have.
    fn restore_into_home(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        let mut modes = conversation.modes.iter();
        for (path, name) in &conversation.files {
            let path = &path.0;
            let mode = modes.next();
            atomic::create_private_folder(atomic::parent_of(path))?;
            links::publish_copy(&self.folder.join(name), path)?;
            mode.map_or(Ok(()), |mode| set_mode(path, *mode))?;
            atomic::sync_folder(atomic::parent_of(path))?;
        }

        if let (Some(database), Some(row)) = (&conversation.database, &conversation.row) {
            saved_row::insert(&database.0, row)?;
        }

        let id = ConversationId::of(&conversation.id);
        Ok(session_index::put_lines_if_absent(
            &conversation.home.0,
            &id,
            &conversation.names,
        )?)
    }

    /// Returns true if the home has a file at the path of each rollout.
    fn is_complete_in_home(&self) -> bool {
        let mut files = self.conversation.files.iter();
        files.all(|(path, _)| path.0.symlink_metadata().is_ok())
    }

    /// Undoes an interrupted move if all rollouts are in the home, else finishes it.
    fn finish_or_undo(&self, trash: &Path) -> Result<(), TrashError> {
        // The move may have failed before the entry had a folder.
        if self.folder.symlink_metadata().is_err() {
            return Ok(());
        }

        let has_document = self.folder.join(DOCUMENT).symlink_metadata().is_ok();
        // The rollouts decide because they are removed last. Row and names can be written again in any state.
        let all_in_home = self.is_complete_in_home();

        if has_document && !all_in_home {
            self.remove_from_home_unchecked()?;
            let name = self
                .folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            let target = trash.join(name.trim_start_matches(PENDING));
            return Ok(atomic::rename_to_free(&self.folder, &target)?);
        }

        if has_document {
            self.restore_into_home()?;
        }
        tree::remove(&self.folder)?;
        Ok(atomic::sync_folder(trash)?)
    }

    /// Fails if the home has another file of this conversation, in plain or compressed form, archived or not. If there
    /// are two files, the next move by Codex 0.169 replaces one by the other.
    ///
    /// # Errors
    /// Another file is found, or it cannot be compared.
    pub(crate) fn refuse_other_copies(&self) -> Result<(), TrashError> {
        let files = &self.conversation.files;
        let rollout_name = |path: &Path| Some(RolloutName::parse(path)?.name);
        let own_names: Vec<_> = files
            .iter()
            .filter_map(|(path, _)| rollout_name(&path.0))
            .collect();

        let mut found_paths = Vec::new();
        files::visit_rollouts(&self.conversation.home.0, &mut |entry, path, _| {
            if rollout_name(&path).is_some_and(|name| own_names.contains(&name)) {
                found_paths.push(entry.path());
            }
        });

        // Anything else in the place of a rollout occupies it too.
        found_paths.extend(files.iter().map(|(path, _)| path.0.clone()));

        for path in found_paths {
            let listed_file = files.iter().find(|(listed, _)| listed.0 == path);
            let is_trashed_copy = match listed_file {
                Some((_, entry_name)) => is_same_or_copy(&path, &self.folder.join(entry_name))?,
                None => false,
            };
            if path.symlink_metadata().is_ok() && !is_trashed_copy {
                return Err(TrashError::Occupied(path));
            }
        }
        Ok(())
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), IoError> {
    let result = modes::apply_mode(mode, |mode| {
        std::fs::set_permissions(beneath::resolve(path)?, mode)
    });
    result.at("set the mode of", path)
}

/// Returns true if both files exist, and are links to one file, or copies: of equal size, and with equal mtime or text.
fn is_same_or_copy(first: &Path, second: &Path) -> Result<bool, IoError> {
    let (Some((first_id, first_meta)), Some((second_id, second_meta))) =
        (file_id::stat(first)?, file_id::stat(second)?)
    else {
        return Ok(false);
    };

    if first_id.is_same(second_id) || first_meta.len() != second_meta.len() {
        return Ok(first_id.is_same(second_id));
    }

    // Disks keep times with different precision.
    let is_copy = first_meta.modified().ok() == second_meta.modified().ok()
        || rollout::compare(first, second).at("compare", first)? == Relation::Equal;
    Ok(is_copy)
}
