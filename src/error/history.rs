//! Exit codes and hints for errors about conversations and Codex's lists of them.

use super::{CommandError, ErrorKind};

impl From<crate::storage::trash::TrashError> for CommandError {
    fn from(error: crate::storage::trash::TrashError) -> Self {
        use crate::storage::trash::TrashError;
        match error {
            TrashError::Io(e) => e.into(),
            TrashError::Document(e) => e.into(),
            TrashError::Index(e) => e.into(),
            TrashError::Clock(e) => e.into(),
            TrashError::Busy(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("close the conversation in Codex, then run the same command again"),
            TrashError::Occupied(_) => {
                Self::wrap(ErrorKind::Conflict, &error).hint("nothing was changed")
            }
            TrashError::Changed(_) | TrashError::Database(_) => {
                Self::wrap(ErrorKind::Failed, &error).hint("run the same command again")
            }
        }
    }
}

impl From<crate::storage::vacuum::VacuumError> for CommandError {
    fn from(error: crate::storage::vacuum::VacuumError) -> Self {
        use crate::storage::vacuum::VacuumError;
        match error {
            VacuumError::Io(e) => e.into(),
            VacuumError::Journal(e) => e.into(),
            VacuumError::Document(e) => e.into(),
            VacuumError::Clock(e) => e.into(),
            VacuumError::NothingKept => Self::wrap(ErrorKind::Failed, &error).hint(
                "the originals stay until the next successful run of: codex-manager storage vacuum",
            ),
            VacuumError::Database(_) | VacuumError::Different(_) => {
                Self::wrap(ErrorKind::Failed, &error).hint("nothing was changed")
            }
        }
    }
}

impl From<crate::history::HistoryError> for CommandError {
    fn from(error: crate::history::HistoryError) -> Self {
        use crate::history::HistoryError;
        match error {
            HistoryError::Io(e) => e.into(),
            HistoryError::Document(e) => e.into(),
            HistoryError::Journal(e) => e.into(),
            HistoryError::Interrupted => Self::interrupted(),
            HistoryError::Database(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("check the current state: codex-manager history check"),
            HistoryError::Lock(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("Codex is writing it; run the same command again"),
            HistoryError::Busy(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("end these programs first, the daemon with: codex app-server daemon stop; nothing was changed"),
            HistoryError::Changed(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("run the same command again"),
            HistoryError::NoSnapshot(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("only a repair or a rebuild creates a snapshot; nothing was changed"),
            HistoryError::DamagedSnapshot { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("nothing was changed"),
            HistoryError::NoList(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("this Codex reads the rollouts themselves; list them with: codex-manager sessions; nothing was changed"),
            HistoryError::PromptsTooLarge => Self::wrap(ErrorKind::Refused, &error)
                .hint("rebuild the names alone: codex-manager history rebuild --only session-index; nothing was changed"),
            HistoryError::NotRebuilt(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("start codex once to create its database, then run the same command again; nothing was changed"),
        }
    }
}

impl From<crate::io::disk_clock::ClockDoubt> for CommandError {
    fn from(error: crate::io::disk_clock::ClockDoubt) -> Self {
        Self::wrap(ErrorKind::Refused, &error)
            .hint("nothing was deleted because of its age; set the clock, then run the same command again")
    }
}
