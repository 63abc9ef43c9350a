//! Exit codes and hints for errors about profiles, logins and switches.

use super::{CommandError, ErrorKind};
use crate::codex::process::{Holder, ProcessRole};
use crate::io::{shell, similar};
use std::path::Path;

impl From<crate::accounts::profile::ProfileError> for CommandError {
    fn from(error: crate::accounts::profile::ProfileError) -> Self {
        use crate::accounts::profile::ProfileError;
        match error {
            ProfileError::Io(e) => e.into(),
            ProfileError::Document(e) => e.into(),
            ProfileError::BadName { .. } => Self::wrap(ErrorKind::Usage, &error)
                .hint("choose another name, such as work; nothing was changed"),
            ProfileError::Taken { .. }
            | ProfileError::EmailOfAnother { .. }
            | ProfileError::NotAProfile(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("choose another name; nothing was changed"),
            ProfileError::HasProfile { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("remove that profile first; nothing was changed"),
            ProfileError::IsLive { .. } => Self::wrap(ErrorKind::Refused, &error).hint(
                "switch to another account first: codex-manager use ACCOUNT; nothing was changed",
            ),
            ProfileError::Moved(ref name) => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "sign in again: codex-manager profile login {name}; if this machine \
                    still has the login, save it again: codex-manager profile save {name} --from FILE, with the \
                    auth.json in the folder of that profile; nothing was changed"
                )),
            ProfileError::Ambiguous { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("sign in again: codex-manager profile login NAME; nothing was changed"),
            ProfileError::NoSuchLogin { ref choices, .. } => {
                let hint = if choices.is_empty() {
                    "the history has no login that differs from the current one; nothing was changed".into()
                } else {
                    format!("available: {}; nothing was changed", choices.join(", "))
                };
                Self::wrap(ErrorKind::Failed, &error).hint(hint)
            }
            ProfileError::Unknown {
                ref name,
                ref choices,
            } => {
                let suggestion = similar::suggestion(name, choices.iter().map(String::as_str));
                let mut wrapped = Self::wrap(ErrorKind::Failed, &error);
                wrapped.hints.extend(suggestion);
                wrapped.hint("list all profiles: codex-manager profile list; nothing was changed")
            }
        }
    }
}

impl From<crate::accounts::switch::SwitchError> for CommandError {
    fn from(error: crate::accounts::switch::SwitchError) -> Self {
        use crate::accounts::switch::SwitchError;
        match error {
            SwitchError::Io(e) => e.into(),
            SwitchError::Profile(e) => e.into(),
            SwitchError::Interrupted => Self::interrupted(),
            SwitchError::NoProfile(_) => Self::wrap(ErrorKind::Refused, &error).hint(
                "save one from a file or an archive: codex-manager profile save NAME --from FILE; nothing was changed",
            ),
            SwitchError::NoLogin { .. } | SwitchError::OtherAccount { .. } => {
                Self::wrap(ErrorKind::Refused, &error).hint(
                    "save a login of the account: codex-manager profile save NAME --from FILE; nothing was changed",
                )
            }
            SwitchError::Moved(ref profile) => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "sign in again to get one on this machine: codex-manager profile login {profile}; nothing was changed"
                )),
            SwitchError::LiveElsewhere { .. } => Self::wrap(ErrorKind::Refused, &error).hint(
                "a login that is used in two homes stops working in both: switch the other home first; nothing was changed",
            ),
            SwitchError::Stale { ref profile } => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "sign in again: codex-manager profile login {profile}; --force-stale uses this login anyway; nothing was changed"
                )),
            SwitchError::Locked(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("list the Codex processes: codex-manager current; nothing was changed"),
            SwitchError::Renewing { .. } => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("end these processes or wait; nothing was changed"),
            SwitchError::Daemon(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("stop it with --stop-daemon; nothing was changed"),
            SwitchError::DaemonAtWork { .. } => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("wait for it to finish, or stop it with --force, which aborts its turn; nothing was changed"),
            SwitchError::NoProgram(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("pass the path of codex: --codex-bin FILE; nothing was changed"),
            SwitchError::NotStopped(_) => Self::wrap(ErrorKind::CodexRunning, &error).hint(
                "it may still be ending: run the same command again; no login was changed",
            ),
            SwitchError::Lease(e) => e.into(),
        }
    }
}

impl From<crate::accounts::lease::LeaseError> for CommandError {
    fn from(error: crate::accounts::lease::LeaseError) -> Self {
        use crate::accounts::lease::LeaseError;
        match error {
            LeaseError::Io(e) => e.into(),
            LeaseError::Profile(e) => e.into(),
            LeaseError::Interrupted => Self::interrupted(),
            LeaseError::InUse(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("wait for it to end, then run the same command again; nothing was changed"),
            LeaseError::ProbeRunning { .. } => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("wait for it to end, then run the same command again; nothing was changed"),
            LeaseError::OtherAccountSignedIn(_) => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint("end that Codex first: codex-manager launches; nothing was changed"),
            LeaseError::DiskFull(_) => Self::wrap(ErrorKind::Failed, &error)
                .hint("free some disk space, then run the same command again; nothing was changed"),
            LeaseError::AlreadyLeased(_) => Self::wrap(ErrorKind::Refused, &error)
                .hint("return it to the profile: codex-manager status --all; nothing was changed"),
            LeaseError::Isolated {
                ref profile,
                ref home,
                ref holders,
            } => Self::wrap(ErrorKind::CodexRunning, &error)
                .hint(isolation_hint(profile, home, holders)),
            LeaseError::Damaged { ref profile, .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "if its auth.json is valid, rewrite profile.json: codex-manager profile save {profile} --from FILE, with the auth.json of the profile; nothing was changed"
                )),
            LeaseError::HomeUnreadable { ref profile, .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "mount its disk; if the home is gone for good: codex-manager use --force-stale {profile}; nothing was changed"
                )),
            LeaseError::NoLogin(ref profile)
            | LeaseError::Moved(ref profile)
            | LeaseError::Stale(ref profile) => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "sign in again: codex-manager profile login {profile}; nothing was changed"
                )),
            LeaseError::Live { ref home, .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "query it there: codex-manager status --codex-home {}; nothing was changed",
                    home.display()
                )),
            LeaseError::InKeyring { ref home, .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint(format!(
                    "set cli_auth_credentials_store = \"file\" in {} and sign in again; nothing was changed",
                    home.join("config.toml").display()
                )),
        }
    }
}

/// Returns the way to get back a login that is in the isolated home of a running Codex.
fn isolation_hint(profile: &str, home: &Path, holders: &[Holder]) -> String {
    let daemon = ProcessRole::Daemon.to_string();
    if holders.iter().any(|holder| holder.why == daemon) {
        return format!(
            "the login returns to the profile when the daemon is stopped: CODEX_HOME={} codex \
             app-server daemon stop; nothing was changed",
            shell::word(&home.to_string_lossy())
        );
    }
    format!(
        "the login returns to the profile when the last Codex there ends; join it with: codex-manager launch \
         {profile} --isolated; nothing was changed"
    )
}

impl From<crate::accounts::source::SourceError> for CommandError {
    fn from(error: crate::accounts::source::SourceError) -> Self {
        use crate::accounts::source::SourceError;
        match error {
            SourceError::Io(e) => e.into(),
            SourceError::Archive(e) => e.into(),
            SourceError::Missing(_) => Self::wrap(ErrorKind::Failed, &error).hint(
                "name a file with --from FILE, or sign in: codex-manager profile login NAME; nothing was changed",
            ),
            SourceError::Unreadable { .. } => Self::wrap(ErrorKind::Refused, &error)
                .hint("sign in again: codex-manager profile login NAME; nothing was changed"),
        }
    }
}
