//! Switches the live login to another account.
//!
//! The order makes it safe: lock the accounts, take Codex's lock, read the live login and plan,
//! stop the daemon, save the live login to its profile, and only then replace it by one rename. A
//! kill in
//! between leaves either the old or the new login live, complete, and the other one in its profile.

mod apply;
mod idle_login;
mod plan;
mod switch_record;

pub use apply::{apply, check_daemon};
pub use plan::{plan, plan_switch};
pub use switch_record::{SwitchFile, last, previous};

use super::lease::LeaseError;
use super::profile::ProfileError;
use super::save::{SaveOutcome, SaveReport};
use crate::codex::daemon::DaemonError;
use crate::codex::identity::Identity;
use crate::codex::process::Holder;
use crate::codex::program::ProgramError;
use crate::io::IoError;
use crate::io::clock::Timestamp;
use crate::io::environment::Environment;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The action for a running background daemon of Codex, which keeps the old account after a switch.
#[derive(Debug, Clone, Copy)]
pub enum DaemonPolicy<'a> {
    /// Refuse to switch while the daemon runs.
    Refuse,
    /// Switch and leave the daemon alone: the Codex that is about to start does not use it.
    Leave,
    /// Stop it with Codex's own command.
    Stop {
        /// The Codex program; `None` searches `PATH`.
        codex_bin: Option<&'a Path>,
        /// The environment for that command.
        env: &'a Environment,
        /// True stops the daemon even while it runs a turn, which is cut off.
        force: bool,
    },
}

/// The parameters of a switch.
#[derive(Debug, Clone)]
pub struct SwitchRequest<'a> {
    /// The Codex home whose login is replaced.
    pub codex_home: &'a Path,
    /// The manager home with the profiles.
    pub manager_home: &'a Path,
    /// The account that goes live.
    pub to: &'a Identity,
    /// Go live even with a login older than the newest one seen.
    pub force_stale: bool,
    /// The action for a running daemon.
    pub daemon: DaemonPolicy<'a>,
    /// The time of the switch.
    pub now: Timestamp,
    /// The longest wait for the locks of Codex and of other codex-manager processes.
    pub lock_timeout: Duration,
}

/// The planned effect of a switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchPlan {
    /// The account that is signed in now.
    pub from: Option<Identity>,
    /// The profile whose login goes live.
    pub profile: String,
    /// True if the account is live, with a login no older than that of its profile: there is
    /// nothing to do.
    pub is_current: bool,
    /// The effect of saving the live login: the profile, if the account has one, and the outcome.
    pub save_back: Option<(Option<String>, SaveOutcome)>,
    /// The reason why the live auth.json is no login. It is quarantined.
    pub unreadable: Option<String>,
    /// True if there is no auth.json.
    pub is_missing: bool,
    /// True if the login that goes live is older than the newest one seen.
    pub is_stale: bool,
}

/// The result of a switch.
#[derive(Debug)]
pub struct SwitchReport {
    /// The plan as computed under the locks.
    pub plan: SwitchPlan,
    /// The save of the login that was live.
    pub saved_back: Option<SaveReport>,
    /// The quarantine path of a live auth.json that was no login.
    pub quarantined: Option<PathBuf>,
    /// True if a background daemon was stopped.
    pub daemon_stopped: bool,
    /// Codex programs that keep the old account until they end.
    pub still_running: Vec<Holder>,
}

/// The reason why a switch failed. The live login may have been saved to its profile and the daemon
/// stopped. Only an error of a write after the rename (`Profile`, `Io`) leaves the new login live.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// A profile cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The login is in use by another process or leased to a probe.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// An operation on a file failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// No profile holds a login of this account.
    #[error("no profile has a login of {0}")]
    NoProfile(Identity),
    /// The profile has no usable login.
    #[error("the profile {profile} has no login: its auth.json is {reason}")]
    NoLogin {
        /// The name of the profile.
        profile: String,
        /// The state of its auth.json.
        reason: String,
    },
    /// The auth.json of the profile is the login of another account.
    #[error("the auth.json of the profile {profile} is the login of {of}")]
    OtherAccount {
        /// The name of the profile.
        profile: String,
        /// The account of the login.
        of: Identity,
    },
    /// An export moved the login of this profile to another machine.
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    /// The owner copy is in another Codex home.
    #[error("the login of the profile {profile} is live in another Codex home: {}", home.display())]
    LiveElsewhere {
        /// The name of the profile.
        profile: String,
        /// The path of the Codex home.
        home: PathBuf,
    },
    /// A newer login of the account was seen.
    #[error(
        "the login of the profile {profile} is older than the newest one seen: its refresh token was probably used already"
    )]
    Stale {
        /// The name of the profile.
        profile: String,
    },
    /// Codex held its lock on the login, at this path, longer than the time limit.
    #[error("Codex did not release its lock on the login in time: {}", .0.display())]
    Locked(PathBuf),
    /// A running Codex may be spending the refresh token of the live login.
    #[error("the live login is due for renewal, and Codex may be renewing it now: {}", holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
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
        /// The process id of the daemon.
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
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}
