//! Exit codes and hints for errors about starting and ending Codex.

use super::ErrorKind::{CodexRunning, Failed, Refused};
use super::{Advised, CommandError};
use codex_manager_core::accounts::LeaseError;
use codex_manager_core::io::shell;

impl Advised for codex_manager_core::launch::session::LaunchError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::Switch(e) => e.to_command_error(),
            Self::Lease(LeaseError::Live { profile, home }) => self.unchanged_error(
                Refused,
                format!(
                    "launch it there: codex-manager --codex-home {} launch {}",
                    shell::quote_if_needed(&home.to_string_lossy()),
                    shell::quote_if_needed(profile)
                ),
            ),
            Self::Lease(e) => e.to_command_error(),
            Self::Profile(e) => e.to_command_error(),
            Self::Isolation(e) => e.to_command_error(),
            Self::Program(_) => {
                self.unchanged_error(Failed, "pass the path of codex: --codex-bin FILE")
            }
            Self::NoConversation(subcommand) => {
                let hint = match subcommand.as_str() {
                    "logout" => {
                        "codex logout revokes the login on the server, including every saved copy; \
                        to change the account: codex-manager use ACCOUNT"
                    }
                    "login" => "sign in to a profile: codex-manager profile login NAME",
                    _ => "run it directly, without codex-manager",
                };
                self.hinted_error(Refused, hint)
            }
            Self::Daemon(_) => self.unchanged_error(CodexRunning, "stop it with --stop-daemon"),
        }
    }
}

impl Advised for codex_manager_core::shutdown::ShutdownError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Refused(refusal) => self.unchanged_error(CodexRunning, refusal.reason.remedy()),
            Self::Declined(_) => {
                self.unchanged_error(CodexRunning, "end Codex, then run the same command again")
            }
            Self::NoPrompter(_) => self.unchanged_error(
                CodexRunning,
                "end Codex, or allow ending it with --auto-terminate-without-confirmation",
            ),
            Self::NotGone { .. } | Self::NoProgram { .. } | Self::Daemon(_) => self.hinted_error(
                Refused,
                "end Codex yourself, then run the same command again; no file was changed",
            ),
            Self::Interrupted => CommandError::interrupted(),
        }
    }
}

impl Advised for codex_manager_core::launch::isolated_home::IsolationError {
    fn to_command_error(&self) -> CommandError {
        match self {
            Self::Io(e) => e.to_command_error(),
            Self::NotALink { .. } => self.hinted_error(
                Refused,
                "move its content to the real Codex home, then remove it",
            ),
            Self::OtherHome(_) => self.unchanged_error(
                CodexRunning,
                "end that Codex first; find it with: codex-manager launches",
            ),
            Self::RelativeDatabases(_) => self.unchanged_error(
                Refused,
                "write the absolute path of that folder in config.toml",
            ),
            Self::Unsupported => self.unchanged_error(Refused, "run without --isolated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind::{self, Interrupted};
    use codex_manager_core::codex::{DaemonError, ProgramError};
    use codex_manager_core::shutdown::{Refusal, RefusalReason, ShutdownError};
    use std::time::Duration;

    fn kind(error: ShutdownError) -> ErrorKind {
        CommandError::from(error).kind
    }

    #[test]
    fn a_codex_that_was_not_asked_to_end_is_running_and_one_that_did_not_end_is_a_refusal() {
        for reason in [
            RefusalReason::Background,
            RefusalReason::InsideCodex,
            RefusalReason::AnotherUser,
            RefusalReason::OtherProgram,
            RefusalReason::Unexplained,
            RefusalReason::Forbidden,
        ] {
            let holders = vec!["codex".to_owned()];
            let refusal = Refusal { reason, holders };
            assert_eq!(kind(ShutdownError::Refused(refusal)), CodexRunning);
        }
        assert_eq!(kind(ShutdownError::Declined(Vec::new())), CodexRunning);
        assert_eq!(kind(ShutdownError::NoPrompter(Vec::new())), CodexRunning);

        let left = vec!["codex".to_owned()];
        let limit = Duration::from_secs(1);
        assert_eq!(kind(ShutdownError::NotGone { left, limit }), Refused);
        let source = ProgramError::NotOnPath("codex".to_owned());
        assert_eq!(kind(ShutdownError::NoProgram { pid: 1, source }), Refused);
        let answer = String::new();
        let running = DaemonError::StillRunning { pid: 1, answer };
        assert_eq!(kind(ShutdownError::Daemon(running)), Refused);
        assert_eq!(kind(ShutdownError::Interrupted), Interrupted);
    }
}
