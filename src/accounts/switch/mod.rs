//! Another account's login goes live.
//!
//! The order is the safety: with every lock taken and the plan checked the daemon is stopped, the
//! live login is read again and saved to its profile, and only then replaced, by one rename. Killed
//! in between, the old or the new login is live, whole, and the other is in its profile.

mod apply;
mod note;
mod plan;

pub use apply::{apply, check_daemon};
pub use note::{SwitchFile, last, previous};
pub use plan::{plan, plan_switch};

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

/// What may be done about Codex's background daemon, under which a switch is none.
#[derive(Debug, Clone, Copy)]
pub enum DaemonPolicy<'a> {
    /// Nothing: there is no switch then.
    Refuse,
    /// Nothing, and the switch goes on: the daemon keeps the old account, and the Codex that is about
    /// to start does not use it.
    Leave,
    /// It is stopped by Codex's own command.
    Stop {
        /// The Codex program; sought on `PATH` where there is none.
        codex_bin: Option<&'a Path>,
        /// The environment that it is given.
        env: &'a Environment,
        /// Also while it runs a turn, which is cut off.
        force: bool,
    },
}

/// What is to be switched.
#[derive(Debug, Clone)]
pub struct SwitchRequest<'a> {
    /// The Codex home.
    pub codex_home: &'a Path,
    /// The manager home.
    pub manager_home: &'a Path,
    /// The account that is to be live.
    pub to: &'a Identity,
    /// Put a login live that is older than the newest that was seen.
    pub force_stale: bool,
    /// What may be done about the daemon.
    pub daemon: DaemonPolicy<'a>,
    /// Now.
    pub now: Timestamp,
    /// How long Codex, and others of ours, may keep us waiting.
    pub patience: Duration,
}

/// What a switch will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchPlan {
    /// Who is signed in.
    pub from: Option<Identity>,
    /// The profile whose login goes live.
    pub profile: String,
    /// It is live already: nothing is to be done.
    pub is_current: bool,
    /// What becomes of the live login: its profile, if it has one, and what happens to that.
    pub save_back: Option<(Option<String>, SaveOutcome)>,
    /// What stands in the place of a login and is kept beside: the reason why it is none.
    pub unreadable: Option<String>,
    /// There is no auth.json.
    pub is_missing: bool,
    /// The login that goes live is older than the newest that was seen.
    pub is_stale: bool,
}

/// What a switch did.
#[derive(Debug)]
pub struct SwitchReport {
    /// What was planned, under the locks.
    pub plan: SwitchPlan,
    /// Where the login that was live is now.
    pub saved_back: Option<SaveReport>,
    /// Where bytes were kept that were no login.
    pub kept: Option<PathBuf>,
    /// Whether a daemon was stopped.
    pub daemon_stopped: bool,
    /// Codex programs that were started before, with the old account.
    pub still_running: Vec<Holder>,
}

/// Why there was no switch. Nothing was changed, unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// A profile cannot be read or written.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The login is in use, or a killed probe has it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The account has no profile.
    #[error("no login of {0} is at hand")]
    NoProfile(Identity),
    /// The profile has no login.
    #[error("the profile {profile} has no login: its auth.json is {reason}")]
    NoLogin {
        /// The profile.
        profile: String,
        /// What is there instead.
        reason: String,
    },
    /// The profile has somebody else's.
    #[error("the auth.json of the profile {profile} is the login of {of}")]
    OtherAccount {
        /// The profile.
        profile: String,
        /// Whose it is.
        of: Identity,
    },
    /// The login went to another machine.
    #[error("the login of the profile {0} was moved to another machine")]
    Moved(String),
    /// Another Codex home has it.
    #[error("the account of the profile {profile} is signed in in another Codex home: {}", home.display())]
    LiveElsewhere {
        /// The profile.
        profile: String,
        /// The home.
        home: PathBuf,
    },
    /// A newer login of the account was seen.
    #[error(
        "the login of the profile {profile} is older than one that was seen: its refresh token is probably spent"
    )]
    Stale {
        /// The profile.
        profile: String,
    },
    /// Codex holds its locks for too long.
    #[error("Codex holds the login for too long: {}", .0.display())]
    Locked(PathBuf),
    /// A Codex that runs may be spending the refresh token.
    #[error("the live login is due to be renewed, and Codex may be doing that now: {}", holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Renewing {
        /// Who.
        holders: Vec<Holder>,
    },
    /// The daemon keeps the old account.
    #[error("Codex's background daemon (PID {0}) keeps the account that it was started with")]
    Daemon(u32),
    /// The daemon works for its user.
    #[error("Codex's background daemon (PID {pid}) is at work on {}", turns.join(", "))]
    DaemonAtWork {
        /// The daemon.
        pid: u32,
        /// The conversations.
        turns: Vec<String>,
    },
    /// There is no Codex to stop the daemon with.
    #[error("cannot stop Codex's background daemon")]
    NoProgram(#[from] ProgramError),
    /// The daemon is still there.
    #[error(transparent)]
    NotStopped(#[from] DaemonError),
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}
