//! The reasons why a switch fails.

use super::request::SwitchRequest;
use crate::accounts::lease::LeaseError;
use crate::accounts::profile::{ProfileError, Profiles};
use crate::codex::{DaemonError, Holder, Identity, ProgramError};
use crate::io::{IoError, LockHolder};
use crate::journal::format_holders;
use std::path::PathBuf;

/// The reason why a switch failed. The live login may have been saved to its profile, and the daemon
/// may have been stopped. Only after `Io` can the new login be live: if the rename could not be synced, or if the old
/// login could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The login is in use by another process or leased to a probe.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("no profile has a login of {account}")]
    NoProfile {
        account: Identity,
        /// The name of the account's profile in the trash.
        removed: Option<String>,
    },
    #[error("the profile {profile} has no login: its auth.json is {reason}")]
    NoLogin {
        profile: String,
        /// The state of its auth.json.
        reason: String,
    },
    #[error("the auth.json of the profile {profile} is the login of {account}")]
    OtherAccount {
        profile: String,
        /// The account of its auth.json.
        account: String,
        auth_json: PathBuf,
    },
    #[error("the login of the profile {profile} is live in another Codex home: {}", home.display())]
    LiveElsewhere { profile: String, home: PathBuf },
    #[error(
        "the login of the profile {profile} is older than the newest one seen: its refresh token was probably used already"
    )]
    Stale { profile: String },
    /// Codex or another command held Codex's lock on the login, at this path, longer than the time limit.
    #[error("{} did not release its lock on the login in time: {}", LockHolder::find(.0), .0.display())]
    Locked(PathBuf),
    /// A running Codex may be spending the refresh token of the live login.
    #[error(
        "the live login is due for renewal, and Codex may be renewing it now: {}",
        format_holders(holders)
    )]
    Renewing {
        /// The Codex processes that may renew it.
        holders: Vec<Holder>,
    },
    /// The background daemon with this process id would keep the old account.
    #[error("Codex's background daemon (PID {0}) keeps the account that it was started with")]
    Daemon(u32),
    /// The background daemon runs turns that a stop would cut off.
    #[error("Codex's background daemon (PID {pid}) is at work on {}", turns.join(", "))]
    DaemonAtWork {
        pid: u32,
        /// The conversations with a running turn.
        turns: Vec<String>,
    },
    /// No Codex program was found to stop the daemon with.
    #[error("cannot stop Codex's background daemon")]
    NoProgram(#[from] ProgramError),
    /// The daemon did not stop. No login was changed.
    #[error(transparent)]
    NotStopped(#[from] DaemonError),
    #[error("interrupted")]
    Interrupted,
}

impl SwitchError {
    pub(super) fn no_profile(request: &SwitchRequest<'_>) -> Self {
        let removed = Profiles::of(request.manager_home).find_removed(request.to);
        Self::NoProfile {
            account: request.to.clone(),
            removed: removed.map(|removal| removal.name),
        }
    }
}
