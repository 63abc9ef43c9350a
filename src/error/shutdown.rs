//! Exit codes and hints for errors about ending Codex.

use super::{CommandError, ErrorKind};

impl From<crate::shutdown::ShutdownError> for CommandError {
    fn from(error: crate::shutdown::ShutdownError) -> Self {
        use crate::shutdown::ShutdownError;
        let running = |error, hint: &str| {
            Self::wrap(ErrorKind::CodexRunning, &error).hint(format!("{hint}; nothing was changed"))
        };
        match error {
            ShutdownError::Refused(ref refusal) => {
                let hint = refusal.reason.remedy();
                running(error, hint)
            }
            ShutdownError::Declined(_) => {
                running(error, "end Codex, then run the same command again")
            }
            ShutdownError::NoPrompter(_) => running(
                error,
                "end Codex, or allow ending it with --auto-terminate-without-confirmation",
            ),
            ShutdownError::NotGone { .. }
            | ShutdownError::NoProgram { .. }
            | ShutdownError::Daemon(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("end Codex yourself, then run the same command again; no file was changed"),
            ShutdownError::Interrupted => Self::interrupted(),
        }
    }
}
