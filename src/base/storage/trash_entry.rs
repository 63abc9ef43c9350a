//! One conversation in the trash: its document, and its way out of the Codex home and back.

use crate::codex::threads::saved_row;
use crate::codex::{DatabaseError, Relation, RolloutName, RowValues, parse_rollout_id, rollout};
use crate::conversations::messages::{self, RewrittenVersion};
use crate::history::{ConversationId, HistoryError, files, session_index};
use crate::io::{
    ClockDoubt, Document, DocumentError, IoContext, IoError, ListedPath, atomic, beneath, document,
    file_id, links, modes, tree,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// The name of the document of an entry.
pub(super) const DOCUMENT: &str = "conversation.json";

/// The beginning of the name of an entry that is not complete.
pub(super) const PENDING: &str = ".pending-";

/// The paths of the rollouts of a home, by the name that both forms of a rollout have.
pub(super) type RolloutsByName = HashMap<String, Vec<PathBuf>>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrashedConversation {
    pub id: String,
    /// The first line of the name that the user gave, else of the title; empty if unknown.
    pub title: String,
    pub trashed_at: DateTime<Utc>,
    /// The Codex home that the conversation belongs to.
    pub home: ListedPath,
    /// The state database that had the row; `None` if the conversation had no row.
    pub(super) database: Option<ListedPath>,
    pub(super) row: Option<RowValues>,
    /// The former lines in the index of names.
    pub(super) names: Vec<String>,
    /// The rollouts: the path in the home, and the file name in the entry.
    pub(super) files: Vec<(ListedPath, String)>,
    /// The modes of the rollouts in the home; empty for an entry of an earlier version.
    #[serde(default)]
    pub(super) modes: Vec<u32>,
}

impl Document for TrashedConversation {
    const SCHEMA: u64 = 1;
}

impl TrashedConversation {
    /// Returns true if each rollout belongs below the home, and its copy directly in the folder of the entry. This
    /// program writes no other entries.
    pub(super) fn is_within_home(&self) -> bool {
        let is_normal = |part: Component<'_>| matches!(part, Component::Normal(_));
        self.files.iter().all(|(ListedPath(path), name)| {
            let relative = path.strip_prefix(&self.home.0);
            let is_below_home = relative.is_ok_and(|path| path.components().all(is_normal));
            let mut name_parts = Path::new(name).components();
            let is_file_name =
                name_parts.next().is_some_and(is_normal) && name_parts.next().is_none();
            is_below_home && is_file_name
        })
    }
}

/// The reason why a conversation was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TrashError {
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
pub(super) fn assign_entry_names(rollouts: &[PathBuf]) -> Vec<(ListedPath, String)> {
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

#[derive(Debug, Clone, PartialEq)]
pub struct TrashEntry {
    pub folder: PathBuf,
    pub conversation: TrashedConversation,
}

impl TrashEntry {
    /// Returns the size of the rollouts in bytes. A missing file counts as empty.
    pub fn rollout_bytes(&self) -> u64 {
        let sizes = self
            .rollouts()
            .map(|path| path.metadata().map_or(0, |meta| meta.len()));
        sizes.sum()
    }

    pub fn rollouts(&self) -> impl Iterator<Item = PathBuf> {
        let files = self.conversation.files.iter();
        files.map(|(_home_path, name)| self.folder.join(name))
    }

    pub fn is_of_home(&self, home: &Path) -> bool {
        file_id::is_same_folder(&self.conversation.home.0, home)
    }

    pub(super) fn has_rollout(&self, id: &ConversationId) -> bool {
        let files = self.conversation.files.iter();
        let mut ids = files.filter_map(|(path, _entry_name)| parse_rollout_id(&path.0));
        ids.any(|own_id| ConversationId::of(&own_id) == *id)
    }

    /// Writes the entry, with the copies of the rollouts in the folder `copies`, which have the names of the entry.
    pub(super) fn write_entry(&self, copies: &Path) -> Result<(), TrashError> {
        atomic::create_private_folder(&self.folder)?;
        for (_, name) in &self.conversation.files {
            let (copy, target) = (copies.join(name), self.folder.join(name));
            // A disk without links would copy them again.
            if atomic::rename_to_free_unsynced(&copy, &target).is_err() {
                links::publish_copy(&copy, &target)?;
            }
        }
        // The document is last: as long as it is missing, nothing was taken out of the home.
        document::write(&self.folder.join(DOCUMENT), &self.conversation)?;
        atomic::sync_folder(&self.folder)?;
        Ok(atomic::sync_folder(atomic::parent_of(&self.folder))?)
    }

    /// Removes the row, the names and the rollouts from the home, unless a rollout has changed since it was copied.
    pub(super) fn remove_from_home(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        for (path, name) in &conversation.files {
            if !is_same_or_copy(&path.0, &self.folder.join(name))? {
                return Err(TrashError::Changed(conversation.id.clone()));
            }
        }
        self.remove_from_home_unchecked()
    }

    /// Removes the row, the names, and then the rollouts from the home. As long as all rollouts are in the home,
    /// [`recover`](super::trash::recover) puts the row and the names back.
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
            // Not before the removal: the copy may be a hard link to the rollout in the home.
            set_mode(&self.folder.join(name), 0o600)?;
        }

        for (path, _entry_name) in &conversation.files {
            atomic::sync_folder(atomic::parent_of(&path.0))?;
        }
        Ok(())
    }

    /// Restores the rollouts, the row and the names that the home does not have.
    pub(super) fn restore_into_home(&self) -> Result<(), TrashError> {
        let conversation = &self.conversation;
        let mut modes = conversation.modes.iter();
        for (path, name) in &conversation.files {
            let path = &path.0;
            atomic::create_private_folder(atomic::parent_of(path))?;
            links::publish_copy(&self.folder.join(name), path)?;
            if let Some(mode) = modes.next() {
                set_mode(path, *mode)?;
            }
            atomic::sync_folder(atomic::parent_of(path))?;
        }

        if let (Some(database), Some(row)) = (&conversation.database, &conversation.row) {
            saved_row::insert(&database.0, row)?;
        }

        let home = &conversation.home.0;
        let id = ConversationId::of(&conversation.id);
        session_index::put_lines_if_absent(home, &id, &conversation.names)?;
        Ok(())
    }

    /// Returns true if the home has a file at the path of each rollout.
    pub(super) fn is_complete_in_home(&self) -> bool {
        let mut files = self.conversation.files.iter();
        files.all(|(path, _entry_name)| path.0.symlink_metadata().is_ok())
    }

    /// Undoes an interrupted move if all rollouts are in the home, else finishes it. Returns true if it was finished.
    pub(super) fn finish_or_undo(&self, trash: &Path) -> Result<bool, TrashError> {
        // The move may have failed before the entry had a folder.
        if self.folder.symlink_metadata().is_err() {
            return Ok(false);
        }

        let has_document = self.folder.join(DOCUMENT).symlink_metadata().is_ok();
        // The rollouts decide because they are removed last. Row and names can be written again in any state.
        let is_complete_in_home = self.is_complete_in_home();

        if has_document && !is_complete_in_home {
            self.remove_from_home_unchecked()?;
            let name = self.folder.file_name().unwrap_or_default();
            let name = name.to_string_lossy();
            let target = trash.join(name.trim_start_matches(PENDING));
            atomic::rename_to_free(&self.folder, &target)?;
            return Ok(true);
        }

        if has_document {
            self.restore_into_home()?;
        }
        tree::remove(&self.folder)?;
        atomic::sync_folder(trash)?;
        Ok(false)
    }

    /// Fails if the home has another file of this conversation, in plain or compressed form, archived or not. If there
    /// are two files, the next move by Codex 0.169 replaces one by the other.
    ///
    /// # Errors
    /// Another file is found, or it cannot be compared.
    pub fn refuse_other_copies(&self) -> Result<(), TrashError> {
        let files = &self.conversation.files;
        let own_names: Vec<_> = files
            .iter()
            .filter_map(|(path, _entry_name)| rollout_name(&path.0))
            .collect();

        let mut found_paths = Vec::new();
        files::visit_rollouts(&self.conversation.home.0, &mut |entry, path, _| {
            if rollout_name(&path).is_some_and(|name| own_names.contains(&name)) {
                found_paths.push(entry.path());
            }
        });

        // Anything else at the path of a rollout occupies the path as well.
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

    pub(super) fn add_rollouts_to(&self, rollouts: &mut RolloutsByName) {
        for (path, name) in &self.conversation.files {
            if let Some(rollout_name) = rollout_name(&path.0) {
                let paths = rollouts.entry(rollout_name).or_default();
                paths.push(self.folder.join(name));
            }
        }
    }

    /// Returns the path of a rollout that lacks text of its version in this entry, or is missing. `other_rollouts` has
    /// the rollouts of the home and of other entries. `None` if these are no copies, or if no text is missing.
    ///
    /// # Errors
    /// A rollout cannot be compared.
    pub(super) fn find_less_complete_rollout(
        &self,
        other_rollouts: &RolloutsByName,
    ) -> Result<Option<PathBuf>, IoError> {
        let copies_of = |path: &Path| {
            let copies = rollout_name(path).and_then(|name| other_rollouts.get(&name));
            copies.map_or(&[][..], Vec::as_slice)
        };
        let files = &self.conversation.files;
        let has_no_copy = files.iter().all(|(p, _)| copies_of(&p.0).is_empty());
        if has_no_copy {
            return Ok(None);
        }

        for (path, name) in files {
            let trashed = self.folder.join(name);
            let copies = copies_of(&path.0);
            let mut has_complete_copy = false;
            for copy in copies {
                has_complete_copy |= has_text_of(copy, &trashed)?;
            }
            if !has_complete_copy {
                return Ok(Some(copies.first().unwrap_or(&path.0).clone()));
            }
        }
        Ok(None)
    }
}

/// Returns the rollouts of `home`, in plain and compressed form, archived and not.
pub(super) fn list_rollouts_by_name(home: &Path) -> RolloutsByName {
    let mut rollouts = RolloutsByName::new();
    files::visit_rollouts(home, &mut |entry, path, _is_archived| {
        if let Some(name) = rollout_name(&path) {
            rollouts.entry(name).or_default().push(entry.path());
        }
    });
    rollouts
}

/// Returns true if another copy of a rollout has all text of the trashed one, even if the rollout was rewritten.
fn has_text_of(copy: &Path, trashed: &Path) -> Result<bool, IoError> {
    Ok(match compare(copy, trashed)? {
        Relation::Equal | Relation::FirstExtends => true,
        Relation::SecondExtends => false,
        Relation::Diverged => matches!(
            messages::find_rewritten_version(copy, trashed).at("compare", copy)?,
            Some(RewrittenVersion::First | RewrittenVersion::Both)
        ),
    })
}

fn rollout_name(path: &Path) -> Option<String> {
    Some(RolloutName::parse(path)?.name)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), IoError> {
    let result = modes::apply_mode(mode, |mode| {
        std::fs::set_permissions(beneath::resolve(path)?, mode)
    });
    result.at("set the mode of", path)
}

fn compare(first: &Path, second: &Path) -> Result<Relation, IoError> {
    rollout::compare(first, second).at("compare", first)
}

/// Returns true if both files exist, and are links to one file, or copies: of equal size, and with equal mtime or text.
fn is_same_or_copy(first: &Path, second: &Path) -> Result<bool, IoError> {
    let (Some((first_id, first_meta)), Some((second_id, second_meta))) =
        (file_id::stat(first)?, file_id::stat(second)?)
    else {
        return Ok(false);
    };

    if first_id.is_same(second_id) {
        return Ok(true);
    }
    // Disks keep times with different precision, so a copy may have another mtime.
    let has_same_mtime = first_meta.modified().ok() == second_meta.modified().ok();
    Ok(first_meta.len() == second_meta.len()
        && (has_same_mtime || compare(first, second)? == Relation::Equal))
}
