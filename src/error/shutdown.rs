//! Exit codes and hints for errors about ending Codex.

use super::ErrorKind::{CodexRunning, Refused};
use super::{Advised, CommandError};

impl Advised for crate::shutdown::ShutdownError {
    fn advice(&self) -> CommandError {
        match self {
            Self::Refused(refusal) => self.unchanged(CodexRunning, refusal.reason.remedy()),
            Self::Declined(_) => {
                self.unchanged(CodexRunning, "end Codex, then run the same command again")
            }
            Self::NoPrompter(_) => self.unchanged(
                CodexRunning,
                "end Codex, or allow ending it with --auto-terminate-without-confirmation",
            ),
            Self::NotGone { .. } | Self::NoProgram { .. } | Self::Daemon(_) => self.hint(
                Refused,
                "end Codex yourself, then run the same command again; no file was changed",
            ),
            Self::Interrupted => CommandError::interrupted(),
        }
    }
}
