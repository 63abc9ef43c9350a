//! Exit codes and hints for errors about scheduled jobs.

use super::ErrorKind::{Refused, Usage};
use super::{Advised, CommandError};

impl Advised for codex_manager_core::schedule::ScheduleError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Foreign(_) => self.unchanged_error(
                Refused,
                "inspect it, and move it away if you do not need it",
            ),
            Self::Unwritable { .. } => self.unchanged_error(
                Refused,
                "change this path or variable so that it has no such characters",
            ),
            Self::NoHome => self.hinted_error(Usage, "set HOME"),
        }
    }
}
