//! Exit codes and hints for errors about launches.

use super::{CommandError, ErrorKind};

impl From<crate::launch::session::LaunchError> for CommandError {
    fn from(error: crate::launch::session::LaunchError) -> Self {
        use crate::launch::session::LaunchError;
        match error {
            LaunchError::Io(e) => e.into(),
            LaunchError::Switch(e) => e.into(),
            LaunchError::Lease(e) => e.into(),
            LaunchError::Profile(e) => e.into(),
            LaunchError::Isolation(e) => e.into(),
            LaunchError::Program(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("pass the path of codex: --codex-bin FILE; nothing was changed"),
            LaunchError::NoConversation(ref subcommand) => {
                let hint = match subcommand.as_str() {
                    "logout" => {
                        "codex logout revokes the login on the server, including every saved copy; \
                        to change the account: codex-manager use ACCOUNT"
                    }
                    "login" => "sign in to a profile: codex-manager profile login NAME",
                    _ => "run it directly, without codex-manager",
                };
                Self::wrap(ErrorKind::Refused, &error).hint(hint)
            }
            LaunchError::Daemon(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("stop it with --stop-daemon; nothing was changed"),
        }
    }
}

impl From<crate::launch::isolated_home::IsolationError> for CommandError {
    fn from(error: crate::launch::isolated_home::IsolationError) -> Self {
        use crate::launch::isolated_home::IsolationError;
        match error {
            IsolationError::Io(e) => e.into(),
            IsolationError::NotALink { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("move its content to the real Codex home, then remove it"),
            IsolationError::OtherHome(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("end that Codex first: codex-manager launches; nothing was changed"),
            IsolationError::Unsupported => Self::wrap(ErrorKind::Refused, &error)
                .hint("run without --isolated; nothing was changed"),
        }
    }
}
