//! What is said of errors about ending Codex.

use super::{CommandError, ErrorKind};

impl From<crate::shutdown::ClosingError> for CommandError {
    fn from(error: crate::shutdown::ClosingError) -> Self {
        use crate::shutdown::ClosingError;
        let running = |error, hint: &str| {
            Self::wrap(ErrorKind::CodexRunning, error).hint(format!("{hint}; nothing was changed"))
        };
        match error {
            ClosingError::Refused(ref refusal) => {
                let hint = refusal.reason.remedy();
                running(error, hint)
            }
            ClosingError::Declined(_) => {
                running(error, "end Codex, then run the same command again")
            }
            ClosingError::NobodyToAsk(_) => running(
                error,
                "end Codex, or allow to end it with --auto-terminate-without-confirmation",
            ),
            ClosingError::NotGone { .. }
            | ClosingError::NoProgram { .. }
            | ClosingError::Daemon(_) => Self::wrap(ErrorKind::Refused, error)
                .hint("end Codex yourself, then run the same command again; no file was changed"),
            ClosingError::Interrupted => Self::interrupted(),
        }
    }
}
