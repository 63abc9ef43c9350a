//! The parameters of a switch.

use crate::codex::Identity;
use crate::io::{Environment, Timestamp};
use std::path::Path;
use std::time::Duration;

/// The action for a running background daemon of Codex, which keeps the old account after a switch.
#[derive(Debug, Clone, Copy)]
pub enum DaemonPolicy<'a> {
    /// Refuse to switch while the daemon runs.
    Refuse,
    /// Switch and leave the daemon running, because the Codex that is about to start does not use the daemon.
    Leave,
    /// Stop the daemon with Codex's own command.
    Stop {
        /// The Codex program; `None` searches `PATH`.
        codex_bin: Option<&'a Path>,
        env: &'a Environment,
        /// If true, the daemon is stopped even while it runs a turn, which is cut off.
        force: bool,
    },
}

#[derive(Debug, Clone)]
pub struct SwitchRequest<'a> {
    /// The Codex home whose login is replaced.
    pub codex_home: &'a Path,
    pub manager_home: &'a Path,
    pub to: &'a Identity,
    /// True to activate even a doubtful login: a login that is older than the newest observed one, or that was last
    /// live in a Codex home that cannot be read.
    pub force_stale: bool,
    pub daemon: DaemonPolicy<'a>,
    pub now: Timestamp,
    /// The longest wait for the locks of Codex and of other codex-manager processes.
    pub lock_timeout: Duration,
}
