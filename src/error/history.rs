//! Exit codes and hints for errors about conversations, the search index and Codex's lists.

use super::ErrorKind::{CodexRunning, Conflict, Failed, Refused};
use super::{Advised, CommandError};

impl Advised for codex_manager_core::storage::trash_entry::TrashError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Document(e) => e.to_command_error(),
            Self::Index(e) => e.to_command_error(),
            Self::Clock(e) => e.to_command_error(),
            Self::Busy(_) => {
                let hint = "close the conversation in Codex, then run the same command again";
                self.hinted_error(CodexRunning, hint)
            }
            Self::Occupied(_) => {
                self.unchanged_error(Conflict, "keep the file in the home, or move it away first")
            }
            Self::Changed(_) | Self::Database(_) => {
                self.hinted_error(Failed, "run the same command again")
            }
        }
    }
}

impl Advised for codex_manager_core::storage::vacuum::VacuumError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Journal(e) => e.to_command_error(),
            Self::Clock(e) => e.to_command_error(),
            Self::Database(_) | Self::Different(_) => {
                self.hinted_error(Failed, "nothing was changed")
            }
        }
    }
}

impl Advised for codex_manager_core::history::HistoryError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Document(e) => e.to_command_error(),
            Self::Journal(e) => e.to_command_error(),
            Self::Interrupted => CommandError::interrupted(),
            Self::Database(_) => self.hinted_error(
                Failed,
                "check the current state: codex-manager history check",
            ),
            Self::Locked(_) => {
                self.hinted_error(Failed, "Codex is writing it; run the same command again")
            }
            Self::Unprojected { .. } => self
                .hinted_error(Failed, "run the same command again to repair the rest")
                .hint("restore the previous state with: codex-manager history undo"),
            Self::Busy(_) => self.unchanged_error(
                CodexRunning,
                "end these programs first, the daemon with: codex app-server daemon stop",
            ),
            Self::Changed(_) => self.hinted_error(Failed, "run the same command again"),
            Self::NoSnapshot(_) => self.unchanged_error(Failed, "only a repair creates a snapshot"),
            Self::DamagedSnapshot { .. } => self.hinted_error(Refused, "nothing was changed"),
            Self::NoList(_) => self.unchanged_error(
                Refused,
                "this Codex reads the rollouts themselves; list them with: codex-manager sessions",
            ),
            Self::PromptsTooLarge => self.unchanged_error(
                Refused,
                "rebuild the names alone: codex-manager history rebuild --only session-index",
            ),
            Self::NotRebuilt(_) => {
                self.unchanged_error(Failed, "start codex once, then run the same command again")
            }
        }
    }
}

impl Advised for codex_manager_core::conversations::index::IndexError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Interrupted => CommandError::interrupted(),
            Self::Io(e) => e.to_command_error(),
            Self::Database(e) => {
                CommandError::failed("cannot read Codex's list of conversations").because(e)
            }
            Self::Sqlite { .. } if self.is_cured_by_rebuild() => self.hinted_error(
                Failed,
                "create it again: codex-manager sessions index --rebuild",
            ),
            Self::Sqlite { .. } => self.hinted_error(
                Failed,
                "search without the index: codex-manager find --exact TEXT",
            ),
        }
    }
}

impl Advised for codex_manager_core::io::disk_clock::ClockDoubt {
    fn to_command_error(&self) -> CommandError {
        if let Self::Io(e) = self {
            return e.to_command_error();
        }
        self.hinted_error(Refused, "nothing was deleted because of its age; set the clock, then run the same command again")
    }
}
