//! The trash of conversations: rollouts, row and names of a conversation as one entry.
//!
//! Each entry is a folder `trash/conversations/<time>-<id>/` of the manager home, with the rollouts and
//! `conversation.json`. Until all is taken out of the Codex home, its name begins with `.pending-`.
//! [`recover`] finishes or undoes the move of such an entry. The rollouts are removed last, so the move is finished if
//! a rollout is gone, else undone.

use super::selection::SelectedConversation;
use super::trash_entry::{
    DOCUMENT, PENDING, TrashEntry, TrashError, TrashedConversation, assign_entry_names,
    list_rollouts_by_name,
};
use crate::codex::WriterLock;
use crate::codex::threads::saved_row;
use crate::history::rollout::read_head;
use crate::history::{ConversationId, files, session_index};
use crate::io::{
    Dated, DocumentState, FileLock, IoContext, IoError, ListedPath, LockHolder, Staging, atomic,
    disk_clock, document, links, modes, tree,
};
use crate::journal::Recovery;
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};

/// The folder of the entries, below the manager home.
const FOLDER: &str = "trash/conversations";

/// The name of the lock in the folder of the entries.
const LOCK: &str = ".lock";

/// The format of the time in the name of an entry.
const NAME_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// The trash of a manager home, locked.
#[derive(Debug)]
pub struct ConversationTrash {
    folder: PathBuf,
    _lock: FileLock,
}

impl ConversationTrash {
    /// Locks the trash, and creates it if it is missing. Finishes or undoes incomplete moves of killed commands.
    ///
    /// # Errors
    /// The folder of the trash cannot be created, a move cannot be finished, or another process holds the lock; see
    /// [`FileLock::acquire_unless_interrupted`].
    pub fn lock(manager_home: &Path) -> Result<Self, TrashError> {
        let folder = manager_home.join(FOLDER);
        atomic::create_private_folder(&folder)?;
        let lock = FileLock::acquire_unless_interrupted(&folder.join(LOCK))?;
        let trash = Self {
            folder,
            _lock: lock,
        };
        trash.recover_moves()?;
        Ok(trash)
    }

    /// Moves a conversation of `home`, whose rollouts `copies` has, to the trash. Durable on return. `database` is the
    /// state database.
    ///
    /// # Errors
    /// The conversation was not moved. But if a rollout was removed already, the move is finished, at once or by
    /// [`recover`].
    pub fn discard(
        &self,
        home: &Path,
        database: Option<&Path>,
        selected: &SelectedConversation,
        copies: &RolloutCopies,
        now: DateTime<Utc>,
    ) -> Result<TrashEntry, TrashError> {
        let id = &*selected.id;
        let busy = || TrashError::Busy(id.to_owned());
        let _writer = WriterLock::acquire_if_free(home, id)?.ok_or_else(busy)?;

        let rollouts = selected.rollouts.iter();
        // A missing rollout makes the sum differ.
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
        let row_database = database.filter(|_| row.is_some());
        let names = session_index::read_lines_of(home, &ConversationId::of(id))?;

        let conversation = TrashedConversation {
            id: id.to_owned(),
            title: selected.title.clone(),
            trashed_at: now,
            home: ListedPath(home.to_path_buf()),
            database: row_database.map(|path| ListedPath(path.to_path_buf())),
            row,
            names,
            files: assign_entry_names(&selected.rollouts),
            modes: metas.iter().map(modes::mode_of).collect(),
        };

        // The same conversation of two homes may be trashed in the same second.
        let name = format!("{}-{id}", now.format(NAME_FORMAT));
        let target = atomic::find_free_path(&self.folder.join(name));
        let free_name = target.file_name().unwrap_or_default().to_string_lossy();
        let entry = TrashEntry {
            folder: self.folder.join(format!("{PENDING}{free_name}")),
            conversation,
        };

        let result = entry
            .write_entry(&copies.folder_of(id))
            .and_then(|()| entry.remove_from_home());
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
    pub fn put_back(&self, entry: &TrashEntry) -> Result<(), TrashError> {
        let conversation = &entry.conversation;
        let home = &conversation.home.0;
        let busy = || TrashError::Busy(conversation.id.clone());
        let _writer = WriterLock::acquire_if_free(home, &conversation.id)?.ok_or_else(busy)?;
        entry.refuse_other_copies()?;
        // Restores the rollouts before the row, because Codex 0.169 keeps a row without a rollout.
        entry.restore_into_home()?;
        tree::remove(&entry.folder)?;
        Ok(atomic::sync_folder(&self.folder)?)
    }

    /// Finishes or undoes incomplete moves. Lists the entries under the lock, so all moves are of killed commands.
    fn recover_moves(&self) -> Result<Recovery, TrashError> {
        let mut recovery = Recovery::None;
        for entry in list_entries_in(&self.folder, is_pending)? {
            let is_finished = entry.finish_or_undo(&self.folder)?;
            // A move exchanges no files, so no folder keeps what other processes wrote meanwhile.
            if is_finished {
                recovery = Recovery::Finished(Vec::new());
            } else if recovery == Recovery::None {
                recovery = Recovery::Undone(Vec::new());
            }
        }

        // As long as an entry has no document, nothing was taken out of the home.
        for (name, _) in tree::list(&self.folder).at("list", &self.folder)? {
            let entry = self.folder.join(&name);
            let has_document = entry.join(DOCUMENT).symlink_metadata().is_ok();
            if is_pending(name.as_encoded_bytes()) && !has_document {
                tree::remove(&entry)?;
            }
        }
        Ok(recovery)
    }

    /// Returns the entries that are older than `age`, the newest first.
    ///
    /// # Errors
    /// The clock cannot be trusted; see also [`list_entries`].
    pub fn list_expired(
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
    pub fn remove(&self, entries: &[TrashEntry]) -> Result<(), IoError> {
        for entry in entries {
            tree::remove(&entry.folder)?;
        }
        atomic::sync_folder(&self.folder)
    }
}

/// Copies or links of the rollouts that will be trashed, removed when dropped. They are made before the trash is
/// locked, because a copy from another disk takes long.
#[derive(Debug)]
pub struct RolloutCopies(Staging);

impl RolloutCopies {
    /// # Errors
    /// The folder of the copies cannot be created.
    pub fn create(manager_home: &Path) -> Result<Self, IoError> {
        Staging::create_in(&manager_home.join("tmp")).map(Self)
    }

    /// Links the rollouts of a conversation, or copies them from another disk.
    ///
    /// # Errors
    /// Codex has moved or removed a rollout, or it cannot be copied.
    pub fn add(&self, selected: &SelectedConversation) -> Result<(), TrashError> {
        let folder = self.folder_of(&selected.id);
        atomic::create_unsynced_folder(&folder)?;
        for (ListedPath(path), name) in assign_entry_names(&selected.rollouts) {
            let copied = links::publish_copy(&path, &folder.join(name));
            copied.map_err(|e| {
                if e.is_not_found() {
                    TrashError::Changed(selected.id.clone())
                } else {
                    e.into()
                }
            })?;
        }
        Ok(())
    }

    fn folder_of(&self, id: &str) -> PathBuf {
        self.0.path(id)
    }
}

/// Returns the entries, oldest first. Damaged entries, and those that name files outside of their home, are
/// left out.
///
/// # Errors
/// The trash cannot be listed, or an entry cannot be read or was written by a newer version.
pub fn list_entries(manager_home: &Path) -> Result<Vec<TrashEntry>, TrashError> {
    list_entries_in(&manager_home.join(FOLDER), is_complete_entry)
}

/// Returns the rollouts of `home` in the trash, the newest first.
///
/// # Errors
/// See [`list_entries`].
pub fn list_rollouts(manager_home: &Path, home: &Path) -> Result<Vec<PathBuf>, TrashError> {
    let entries = list_entries(manager_home)?;
    let entries = entries.iter().rev().filter(|entry| entry.is_of_home(home));
    Ok(entries.flat_map(TrashEntry::rollouts).collect())
}

/// A base is a rollout that another rollout continues. Returns the entries of `home` that have bases of `rollouts`,
/// directly or through other bases. Leaves out bases that the home has. A rollout that cannot be read has no base.
pub fn find_bases<'a>(
    entries: &'a [TrashEntry],
    home: &Path,
    mut rollouts: Vec<PathBuf>,
) -> Vec<&'a TrashEntry> {
    let is_in_home = |entry: &TrashEntry| {
        entry.is_complete_in_home()
            || matches!(entry.refuse_other_copies(), Err(TrashError::Occupied(_)))
    };

    let mut bases = Vec::new();
    let mut visited_ids = HashSet::new();
    while let Some(path) = rollouts.pop() {
        let head = read_head(&path).ok().flatten();
        let base_id = head.and_then(|head| Some(ConversationId::of(&head.base_id()?)));
        let Some(base_id) = base_id else { continue };
        if !visited_ids.insert(base_id.clone()) {
            continue;
        }

        let mut newest_first = entries.iter().rev();
        let base = newest_first.find(|entry| entry.is_of_home(home) && entry.has_rollout(&base_id));
        if let Some(base) = base
            && !is_in_home(base)
        {
            rollouts.extend(base.rollouts());
            bases.push(base);
        }
    }
    bases
}

/// Removes from `entries`, and returns, the entries that another conversation continues: one of their home, or one that
/// stays in the trash. Without such an entry, Codex cannot show the earlier turns of the other conversation.
///
/// # Errors
/// The trash or the home cannot be listed.
pub fn extract_needed(
    manager_home: &Path,
    entries: &mut Vec<TrashEntry>,
) -> Result<Vec<TrashEntry>, TrashError> {
    let homes = entries.iter().map(|entry| &entry.conversation.home.0);
    let homes: BTreeSet<_> = homes.cloned().collect();
    let all_entries = list_entries(manager_home)?;
    let deleted_folders: HashSet<_> = entries.iter().map(|entry| entry.folder.clone()).collect();

    let mut needed_folders = HashSet::new();
    for home in homes {
        // Fails if a folder cannot be listed, because the folder may contain a fork of an entry.
        let rollouts = files::find_rollouts(&home)?;
        let mut rollouts: Vec<_> = rollouts.iter().map(|file| file.path(&home)).collect();
        // A fork that stays in the trash comes back only with its base.
        let other_entries = all_entries
            .iter()
            .filter(|entry| !deleted_folders.contains(&entry.folder) && entry.is_of_home(&home));
        rollouts.extend(other_entries.flat_map(TrashEntry::rollouts));
        let bases = find_bases(&all_entries, &home, rollouts).into_iter();
        needed_folders.extend(bases.map(|entry| &entry.folder));
    }
    let is_needed = |entry: &mut TrashEntry| needed_folders.contains(&entry.folder);
    Ok(entries.extract_if(.., is_needed).collect())
}

/// A trashed version, and the rollout that lacks text of it or is missing, or the reason why the two cannot be
/// compared.
pub type MoreCompleteEntry = (TrashEntry, Result<PathBuf, IoError>);

/// Removes from `entries`, and returns, the entries with a rollout of which every other copy lacks text. The other
/// copies are in the home of the entry, and in entries that stay. An entry of which there is no other copy is not
/// returned.
///
/// # Errors
/// The trash cannot be listed.
pub fn extract_more_complete(
    manager_home: &Path,
    entries: &mut Vec<TrashEntry>,
) -> Result<Vec<MoreCompleteEntry>, TrashError> {
    let deleted_folders: HashSet<_> = entries.iter().map(|entry| entry.folder.clone()).collect();
    let mut other_entries = list_entries(manager_home)?;
    other_entries.retain(|entry| !deleted_folders.contains(&entry.folder));
    let mut rollouts_by_home = HashMap::new();
    let (mut more_complete, mut deletable) = (Vec::new(), Vec::new());
    for entry in entries.drain(..) {
        let home = &entry.conversation.home.0;
        let other_copies = rollouts_by_home.entry(home.clone()).or_insert_with(|| {
            let mut rollouts = list_rollouts_by_name(home);
            let of_home = other_entries.iter().filter(|entry| entry.is_of_home(home));
            of_home.for_each(|entry| entry.add_rollouts_to(&mut rollouts));
            rollouts
        });
        match entry.find_less_complete_rollout(other_copies).transpose() {
            Some(less_complete) => more_complete.push((entry, less_complete)),
            None => deletable.push(entry),
        }
    }
    *entries = deletable;
    Ok(more_complete)
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

/// Finishes or undoes incomplete moves of a killed `storage trash`. Without one, only lists the trash. Does not wait for
/// a command that holds the lock.
///
/// # Errors
/// The files cannot be written. The next call tries again.
pub fn recover(manager_home: &Path) -> Result<Recovery, TrashError> {
    let folder = manager_home.join(FOLDER);
    // A trash that cannot be listed counts as empty here; commands that show its entries report the error.
    let entries = tree::list(&folder).unwrap_or_default();
    let mut names = entries.iter().map(|(name, _)| name.as_encoded_bytes());
    if !names.any(is_pending) {
        return Ok(Recovery::None);
    }

    let lock_path = folder.join(LOCK);
    match FileLock::try_acquire(&lock_path)? {
        None => Ok(Recovery::InProgress(LockHolder::find(&lock_path))),
        Some(lock) => ConversationTrash {
            folder,
            _lock: lock,
        }
        .recover_moves(),
    }
}

fn is_pending(name: &[u8]) -> bool {
    name.starts_with(PENDING.as_bytes())
}
