//! One step of a transaction: an exchange of two paths, or a move if one of them is empty. File ids
//! tell whether it is done, so no step needs a write of its own.

use super::error::Direction;
use crate::io::exchange::exchange;
use crate::io::file_id::{FileId, look};
use crate::io::{IoContext, IoError, json_path};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// An exchange of a live path with a staged one. If either is empty, it is a move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    #[serde(with = "json_path")]
    pub(super) live: PathBuf,
    #[serde(with = "json_path")]
    pub(super) staged: PathBuf,
    /// The old state: the id at the live path before the step.
    live_id: Option<FileId>,
    /// The new state: the id at the staged path before the step.
    staged_id: Option<FileId>,
}

/// The progress of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StepStatus {
    /// The exchange is still to be done.
    Pending,
    /// The new state is in place, or was and has been replaced since.
    Done,
    /// The entries at both paths are neither the old state nor the new one, or the new one is lost.
    Unknown,
}

/// The direction of a step that is a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// From the live path to the staged one.
    Away,
    /// From the staged path to the live one.
    Here,
}

/// The entry found at a path, compared with those in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EntryIdentity {
    Absent,
    Old,
    New,
    Foreign,
}

impl Step {
    /// Records the step that exchanges the current entries at `live` and `staged`.
    pub(crate) fn new(live: PathBuf, staged: PathBuf) -> Self {
        let id_of = |path: &Path| FileId::note(path).ok().flatten();
        let (live_id, staged_id) = (id_of(&live), id_of(&staged));
        Self {
            live,
            staged,
            live_id,
            staged_id,
        }
    }

    /// Records the move of the staged entry to the live path, which an earlier step empties.
    pub(crate) fn into_emptied(live: PathBuf, staged: PathBuf) -> Self {
        let moved = Self::new(live, staged);
        Self {
            live_id: None,
            ..moved
        }
    }

    /// Returns the live path.
    pub(crate) fn live(&self) -> &Path {
        &self.live
    }

    /// Returns true if both paths are one file, so that there is nothing to exchange.
    pub(crate) fn is_same_file(&self) -> bool {
        let both = self.live_id.zip(self.staged_id);
        both.is_some_and(|(live, staged)| live.is(staged))
    }

    /// Returns the direction, if the step is a move.
    pub(super) fn as_move(&self) -> Option<Move> {
        match (self.live_id, self.staged_id) {
            (Some(_), None) => Some(Move::Away),
            (None, Some(_)) => Some(Move::Here),
            _ => None,
        }
    }

    /// Returns two moves instead of an exchange, for a file system without a call for it: the old
    /// state to `aside`, then the new state to the live path. `None` if the step is a move.
    pub(super) fn as_two_moves(&self, aside: PathBuf) -> Option<[Self; 2]> {
        let (old, new) = self.live_id.zip(self.staged_id)?;
        let make = |staged, live_id, staged_id| Self {
            live: self.live.clone(),
            staged,
            live_id,
            staged_id,
        };
        Some([
            make(aside, Some(old), None),
            make(self.staged.clone(), None, Some(new)),
        ])
    }

    /// Returns the status, judged by the ids at the paths.
    pub(super) fn status(&self) -> Result<StepStatus, IoError> {
        let identity = |path: &Path| {
            Ok(match look(path)? {
                None => EntryIdentity::Absent,
                Some((id, _)) if self.staged_id.is_some_and(|new| new.is(id)) => EntryIdentity::New,
                Some((id, _)) if self.live_id.is_some_and(|old| old.is(id)) => EntryIdentity::Old,
                Some(_) => EntryIdentity::Foreign,
            })
        };
        Ok(self.status_of(identity(&self.live)?, identity(&self.staged)?))
    }

    /// The staged path is the better evidence, because no other program works there.
    fn status_of(&self, live: EntryIdentity, staged: EntryIdentity) -> StepStatus {
        use EntryIdentity::{Absent, Foreign, New, Old};
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) => match (staged, live) {
                (New, _) | (Foreign, Old) => StepStatus::Pending,
                // Codex may have replaced the live file since.
                (Old, _) | (Absent, Absent | New | Foreign) | (Foreign, New) => StepStatus::Done,
                (Absent, Old) | (Foreign, Absent | Foreign) => StepStatus::Unknown,
            },
            (None, Some(_)) if staged == Absent => StepStatus::Done,
            (None, Some(_)) => StepStatus::Pending,
            (Some(_), None) if staged == Absent && live != Absent => StepStatus::Pending,
            // Another program may have removed the live file.
            (Some(_) | None, None) => StepStatus::Done,
        }
    }

    /// Performs the step if it is pending.
    pub(super) fn apply(&self) -> Result<(), IoError> {
        if self.status()? != StepStatus::Pending {
            return Ok(());
        }
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if exists(&self.live)? => self.exchange(),
            // Another program has removed the live file.
            (_, Some(_)) => move_to_free_path(&self.staged, &self.live),
            (_, None) => move_to_free_path(&self.live, &self.staged),
        }
    }

    /// Reverts the step if it is done.
    pub(super) fn undo(&self) -> Result<(), IoError> {
        if self.status()? != StepStatus::Done {
            return Ok(());
        }
        let (live, staged) = (exists(&self.live)?, exists(&self.staged)?);
        match (self.live_id, self.staged_id) {
            (Some(_), Some(_)) if live && staged => self.exchange(),
            (Some(_), _) if staged => move_to_free_path(&self.staged, &self.live),
            (None, Some(_)) if live => move_to_free_path(&self.live, &self.staged),
            // The old or the new file is gone, so nothing can be moved back.
            _ => Ok(()),
        }
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

    /// Records the current ids at both paths, for a step that still has to be exchanged in
    /// `direction`: other programs may have replaced files since.
    pub(super) fn record_again(&mut self, direction: Direction) -> Result<(), IoError> {
        let (live, staged) = (FileId::note(&self.live)?, FileId::note(&self.staged)?);
        (self.live_id, self.staged_id) = match direction {
            Direction::Forward => (live, staged),
            Direction::Back => (staged, live),
        };
        Ok(())
    }

    /// Completes or reverts an exchange of three renames, as earlier versions made them, that was
    /// killed in between: `aside` was the path of one side meanwhile.
    pub(super) fn adopt_aside(&self, aside: &Path) -> Result<(), IoError> {
        let Some((id, _)) = look(aside)? else {
            return Ok(());
        };
        let known_ids = [self.live_id, self.staged_id];
        // The user may have a file with this name.
        if !known_ids.iter().flatten().any(|known| known.is(id)) {
            return Ok(());
        }
        let live = look(&self.live)?;
        if live.as_ref().is_some_and(|(live, _)| live.is(id)) {
            // A second link to the live file.
            return fs::remove_file(aside).at("remove", aside);
        }
        if !exists(&self.staged)? {
            move_to_free_path(aside, &self.staged)
        } else if live.is_none() {
            move_to_free_path(aside, &self.live)
        } else {
            // Another program has created the live file. Its status is unknown.
            Ok(())
        }
    }

    fn exchange(&self) -> Result<(), IoError> {
        exchange(&self.live, &self.staged).at("exchange", &self.live)
    }
}

fn exists(path: &Path) -> Result<bool, IoError> {
    Ok(look(path)?.is_some())
}

/// Renames to a path that must be free.
#[allow(
    clippy::disallowed_methods,
    reason = "the move itself; the caller makes it durable"
)]
fn move_to_free_path(from: &Path, to: &Path) -> Result<(), IoError> {
    if exists(to)? {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists)).at("move to", to);
    }
    fs::rename(from, to).at("move", from)
}
