//! Exit codes and hints for errors about scheduled jobs.

use super::ErrorKind::{Refused, Usage};
use super::{Advised, CommandError};

impl Advised for crate::schedule::ScheduleError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Io(e) => e.advice(),
            Self::Foreign(_) => self.unchanged(
                Refused,
                "inspect it, and move it away if you do not need it",
            ),
            Self::Unwritable { .. } => {
                self.unchanged(Refused, "choose a path without special characters")
            }
            Self::NoHome => self.hint(Usage, "set HOME"),
        }
    }
}
