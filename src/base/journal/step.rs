//! One step of a transaction: an exchange of two paths, or a move if one of them is empty. File ids
//! tell whether a step is done, so the journal is not written after each step.

use super::error::Direction;
use crate::io::exchange::exchange;
use crate::io::file_id::stat;
use crate::io::{FileId, IoContext, IoError, atomic, events, json_path, sharing};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// An exchange of a live path with a staged one. If only one of them exists, it is a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    #[serde(with = "json_path")]
    pub live: PathBuf,
    #[serde(with = "json_path")]
    pub(super) staged: PathBuf,
    /// The old state: the id at the live path before the step.
    live_id: Option<FileId>,
    /// The new state: the id at the staged path before the step.
    staged_id: Option<FileId>,
    /// The id of the other file, if this step is one of two moves that exchange two files. Such moves
    /// link the old file and rename the new one over it, so that the live path is never empty.
    #[serde(rename = "partner_id", default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanged_with: Option<FileId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepStatus {
    /// The step is not done yet.
    Pending,
    /// The new state is in place, or was in place and has been replaced since.
    Done,
    /// The entries at both paths are neither the old state nor the new one, or the new one is lost.
    Unknown,
}

/// The entry at a path, compared with the ids in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryIdentity {
    Absent,
    Old,
    New,
    Foreign,
}

impl Step {
    /// Records the step that exchanges the current entries at `live` and `staged`.
    ///
    /// # Errors
    /// An entry cannot be examined.
    pub fn record(live: PathBuf, staged: PathBuf) -> Result<Self, IoError> {
        Ok(Self {
            live_id: FileId::read(&live)?,
            staged_id: FileId::read(&staged)?,
            exchanged_with: None,
            live,
            staged,
        })
    }

    /// Returns true if both paths are one file, so that there is nothing to exchange.
    pub fn is_same_file(&self) -> bool {
        let both = self.live_id.zip(self.staged_id);
        both.is_some_and(|(live, staged)| live.is_same(staged))
    }

    /// Returns true if both paths had an entry when the step was recorded.
    pub(super) fn is_exchange(&self) -> bool {
        self.live_id.is_some() && self.staged_id.is_some()
    }

    /// Returns true if the live path had an entry when the step was recorded.
    pub(super) fn moves_live_away(&self) -> bool {
        self.live_id.is_some()
    }

    /// Returns two moves instead of an exchange, for a file system without an exchange call. Between the moves, the
    /// outgoing entry is at `aside`. `None` if the step is a move.
    pub(super) fn to_two_moves(&self, aside: PathBuf, direction: Direction) -> Option<[Self; 2]> {
        let (old_id, new_id) = self.live_id.zip(self.staged_id)?;
        let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
        let are_files = is_file(&self.live) && is_file(&self.staged);

        let (old_path, new_path) = match direction {
            Direction::Forward => (aside, self.staged.clone()),
            // An undo runs the moves in reverse order, so the new entry is the outgoing one.
            Direction::Back => (self.staged.clone(), aside),
        };

        let move_old_away = Self {
            staged: old_path,
            live_id: Some(old_id),
            staged_id: None,
            exchanged_with: are_files.then_some(new_id),
            ..self.clone()
        };
        let move_new_in = Self {
            staged: new_path,
            live_id: None,
            staged_id: Some(new_id),
            exchanged_with: are_files.then_some(old_id),
            ..self.clone()
        };
        Some([move_old_away, move_new_in])
    }

    /// Reads the ids of the entries at both paths and returns the status that they prove.
    pub(super) fn read_status(&self) -> Result<StepStatus, IoError> {
        let identity = |path: &Path| {
            Ok(match stat(path)? {
                None => EntryIdentity::Absent,
                Some((id, _)) if self.staged_id.is_some_and(|new| new.is_same(id)) => {
                    EntryIdentity::New
                }
                Some((id, _)) if self.live_id.is_some_and(|old| old.is_same(id)) => {
                    EntryIdentity::Old
                }
                Some(_) => EntryIdentity::Foreign,
            })
        };
        Ok(self.derive_status(identity(&self.live)?, identity(&self.staged)?))
    }

    /// Derives the status from the entries at both paths. The staged path is the better evidence, because no other
    /// program works there.
    fn derive_status(&self, live: EntryIdentity, staged: EntryIdentity) -> StepStatus {
        let is_pending = match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) => return derive_exchange_status(live, staged),
            // A move to the live path.
            (None, Some(_)) => staged != EntryIdentity::Absent,
            // A move to the staged path. If both paths are empty, another program may have removed the live file.
            (Some(_), None) => staged == EntryIdentity::Absent && live != EntryIdentity::Absent,
            // Neither path had an entry, so there is nothing to do.
            (None, None) => false,
        };
        if is_pending {
            StepStatus::Pending
        } else {
            StepStatus::Done
        }
    }

    /// Performs the step if it is pending.
    pub(super) fn apply(&self) -> Result<(), IoError> {
        if self.read_status()? != StepStatus::Pending {
            return Ok(());
        }
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if exists(&self.live)? => self.exchange(),
            // A move to the live path, or an exchange whose live file another program has removed.
            (_, Some(_)) => self.move_to_live(),
            (_, None) => self.move_to_staged(),
        }
    }

    /// Reverts the step if it is done.
    pub(super) fn undo(&self) -> Result<(), IoError> {
        if self.read_status()? != StepStatus::Done {
            return Ok(());
        }
        let (has_live, has_staged) = (exists(&self.live)?, exists(&self.staged)?);
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if has_live && has_staged => self.exchange(),
            // A move to the staged path, or an exchange whose new file another program has removed.
            (Some(_), _) if has_staged => self.move_to_live(),
            (None, Some(_)) if has_live => self.move_to_staged(),
            // The old or the new file is gone, so nothing can be moved back.
            _ => Ok(()),
        }
    }

    fn exchange(&self) -> Result<(), IoError> {
        exchange(&self.live, &self.staged).at("exchange", &self.live)?;
        let (live, staged) = (self.live.display(), self.staged.display());
        events::debug!("exchanged {live} and {staged}");
        Ok(())
    }

    /// Moves the live entry to the staged path. If the step is one of two moves that exchange files, the entry stays at
    /// the live path as well.
    fn move_to_staged(&self) -> Result<(), IoError> {
        // A rename would leave the live path empty until the second move, and a Codex that starts in between would
        // create the file anew. Without hard links, the rename is the only way.
        if self.exchanged_with.is_some() && sharing::hard_link(&self.live, &self.staged).is_ok() {
            return Ok(());
        }
        atomic::rename_to_free_unsynced(&self.live, &self.staged)
    }

    /// Moves the staged entry to the live path, which must be free unless the step is one of two moves that exchange
    /// files. Such a move replaces the other file. If the staged file is at the live path already, such a move only
    /// removes the staged name.
    fn move_to_live(&self) -> Result<(), IoError> {
        let current_live_id = stat(&self.live)?.map(|(id, _)| id);
        let is_at_live_path = |id: Option<FileId>| {
            let both = current_live_id.zip(id);
            both.is_some_and(|(current, id)| current.is_same(id))
        };

        if self.exchanged_with.is_some() && is_at_live_path(self.live_id) {
            // An undo: the old file never left the live path, so only its second link goes.
            return sharing::remove_file(&self.staged).at("remove", &self.staged);
        }
        if is_at_live_path(self.exchanged_with) {
            return sharing::rename(&self.staged, &self.live).at("move", &self.staged);
        }
        atomic::rename_to_free_unsynced(&self.staged, &self.live)
    }

    /// Returns true if the step puts an entry at the live path.
    pub(super) fn fills_live_path(&self, direction: Direction) -> bool {
        match direction {
            Direction::Forward => self.staged_id.is_some(),
            Direction::Back => self.live_id.is_some(),
        }
    }

    /// Returns true if the old state still exists, or if there was none.
    pub(super) fn can_be_undone(&self) -> Result<bool, IoError> {
        Ok(self.live_id.is_none() || exists(&self.staged)?)
    }

    /// Returns true if another program has put an entry at `path`, the live or the staged one.
    pub(super) fn is_foreign_entry_at(&self, path: &Path) -> Result<bool, IoError> {
        Ok(stat(path)?.is_some_and(|(id, _)| !self.has_recorded(id)))
    }

    /// Returns true if `id` was the id of an entry of the old or the new state when the step was recorded.
    pub(super) fn has_recorded(&self, id: FileId) -> bool {
        let ids = [self.live_id, self.staged_id, self.exchanged_with];
        ids.iter().flatten().any(|recorded| recorded.is_same(id))
    }

    /// Records the current ids at both paths, for a step that still has to be exchanged in
    /// `direction`: other programs may have replaced files since.
    pub(super) fn record_current_ids(&mut self, direction: Direction) -> Result<(), IoError> {
        let (live, staged) = (FileId::read(&self.live)?, FileId::read(&self.staged)?);
        // Before an exchange back, the old state is at the staged path.
        (self.live_id, self.staged_id) = match direction {
            Direction::Forward => (live, staged),
            Direction::Back => (staged, live),
        };
        Ok(())
    }

    /// Records the entry that another program has put at the live path, for one of two moves that
    /// exchange it.
    pub(super) fn record_live_entry(&mut self, direction: Direction) -> Result<(), IoError> {
        let live_entry = stat(&self.live)?;
        let is_file = live_entry.is_some_and(|(_, meta)| !meta.is_dir());
        let current_id = FileId::read(&self.live)?;

        let outgoing_id = match direction {
            Direction::Forward => &mut self.live_id,
            Direction::Back => &mut self.staged_id,
        };
        if outgoing_id.is_some() {
            *outgoing_id = current_id;
        } else if self.exchanged_with.is_some() {
            // This is the move that fills the live path. It only has to know which file it may replace.
            self.exchanged_with = current_id;
        }

        // Only a file can be linked, so two moves of folders do not record the id of the other entry.
        if !is_file {
            self.exchanged_with = None;
        }
        Ok(())
    }
}

fn derive_exchange_status(live: EntryIdentity, staged: EntryIdentity) -> StepStatus {
    use EntryIdentity::{Absent, Foreign, New, Old};
    match staged {
        // A new file that is still staged was never exchanged, whatever another program did at the live path.
        New => StepStatus::Pending,
        // Codex may have replaced the new file at the live path since.
        Old => StepStatus::Done,
        Absent => match live {
            // The new file is at neither path: it was deleted by hand.
            Old => StepStatus::Unknown,
            // Codex may have replaced or removed the new file at the live path since.
            Absent | New | Foreign => StepStatus::Done,
        },
        Foreign => match live {
            Old => StepStatus::Pending,
            New => StepStatus::Done,
            // The new file was deleted by hand, or the folders are copies with other ids.
            Absent | Foreign => StepStatus::Unknown,
        },
    }
}

fn exists(path: &Path) -> Result<bool, IoError> {
    Ok(stat(path)?.is_some())
}
