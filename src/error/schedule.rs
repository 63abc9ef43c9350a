//! Exit codes and hints for errors about scheduled jobs.

use super::{CommandError, ErrorKind};

impl From<crate::schedule::ScheduleError> for CommandError {
    fn from(error: crate::schedule::ScheduleError) -> Self {
        use crate::schedule::ScheduleError;
        match error {
            ScheduleError::Io(e) => e.into(),
            ScheduleError::Foreign(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("inspect it, and move it away if you do not need it; nothing was changed"),
            ScheduleError::Unwritable { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("choose a path without special characters; nothing was changed"),
            ScheduleError::NoHome => Self::wrap(ErrorKind::Usage, &error).hint("set HOME"),
        }
    }
}
