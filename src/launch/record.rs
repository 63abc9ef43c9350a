//! One launch, as a line of `launches.jsonl` records it.

use crate::codex::identity::Identity;
use crate::codex::process::is_codex;
use crate::codex::window::Window;
use crate::io::clock::Timestamp;
use crate::io::processes::{self, ProcessTable};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The schema of the lines that this version writes.
pub const SCHEMA: u64 = 1;

/// The variable that names the launch in the environment of Codex. It finds a Codex whose launcher, or
/// whose wrapper, was killed before its process id was recorded.
pub const LAUNCH_VARIABLE: &str = "CODEX_MANAGER_LAUNCH";

/// A process that cannot be confused with a later one of the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The id.
    pub pid: u32,
    /// When it started, in the unit of [`processes::started`].
    pub started: Option<u64>,
}

impl ProcessId {
    /// The process that has this id now.
    pub fn now(pid: u32) -> Self {
        Self {
            pid,
            started: processes::started(pid),
        }
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        let started = processes::started(self.pid);
        started.is_some() && started == self.started
    }
}

/// A conversation that a launch ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BoundConversation {
    /// Its id.
    pub session_id: String,
    /// Its rollout in the real Codex home.
    pub rollout_path: String,
    /// Where the bytes of this launch begin in the rollout.
    pub start_offset: u64,
    /// Where they end; `None` while the launch runs. What follows belongs to others.
    #[serde(default)]
    pub end_offset: Option<u64>,
    /// The first token count of this launch.
    #[serde(default)]
    pub first_token_count_at: Option<Timestamp>,
    /// The last token count of this launch.
    #[serde(default)]
    pub last_token_count_at: Option<Timestamp>,
    /// The quota windows of the last token count that had any.
    #[serde(default)]
    pub windows: Vec<Window>,
}

/// One launch. Holds no token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// Begins with the time of the launch in UTC, so that ids sort by time.
    pub launch_id: String,
    /// Whether everything that will ever be known is recorded.
    pub settled: bool,
    /// The schema of the line.
    pub schema: u64,
    /// The profile, by its name at that time.
    pub profile: String,
    /// The account.
    pub identity: Identity,
    /// When it was recorded, before Codex started.
    pub started_at: Timestamp,
    /// When Codex ended; for a launch whose wrapper was killed, when that was noticed.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// The exit code of Codex, as a shell would report it.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The folder that it was started in.
    pub cwd: String,
    /// The folder that Codex works in (`--cd`); `None` for a new worktree.
    #[serde(default)]
    pub working_root: Option<String>,
    /// The arguments of Codex, without anything that may be a token.
    #[serde(default)]
    pub args: Vec<String>,
    /// The real Codex home.
    pub codex_home: String,
    /// The isolated home, where there is one.
    #[serde(default)]
    pub isolated_home: Option<String>,
    /// The process of this program that waits for Codex.
    pub wrapper: ProcessId,
    /// The process that it started. `None` in the line that precedes the start.
    #[serde(default)]
    pub child: Option<ProcessId>,
    /// Digest of the login's refresh token when Codex started.
    pub auth_fingerprint: String,
    /// The conversation that was to go on, where the arguments name it.
    #[serde(default)]
    pub resumed: Option<BoundConversation>,
    /// Whether the arguments left the choice of a conversation to Codex (`resume --last`, its picker).
    #[serde(default)]
    pub codex_chose: bool,
    /// The conversations that it ran, the latest last.
    #[serde(default)]
    pub conversations: Vec<BoundConversation>,
    /// Why no conversation could be bound, for a launch that had several candidates.
    #[serde(default)]
    pub unbound_because: Option<String>,
}

/// What is known of a launch now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LaunchState {
    /// Codex runs.
    Running,
    /// It ended, and its conversation is known.
    Bound,
    /// It ended, and its conversation could not be told from others.
    Unbound,
    /// It ended without a conversation.
    Ended,
}

impl LaunchState {
    /// The name used in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Bound => "bound",
            Self::Unbound => "unbound",
            Self::Ended => "ended",
        }
    }
}

impl LaunchRecord {
    /// Whether Codex or the wrapper still runs.
    pub fn is_running(&self) -> bool {
        !self.settled
            && (self.wrapper.is_alive()
                || self.child.is_some_and(ProcessId::is_alive)
                || self.has_codex())
    }

    /// Whether a Codex of this launch runs or is being started by npm's launcher, whatever became of
    /// the process that was started.
    pub fn has_codex(&self) -> bool {
        ProcessTable::read().iter().any(|process| {
            is_codex(process)
                && process
                    .variable(LAUNCH_VARIABLE)
                    .is_some_and(|id| id == *self.launch_id)
        })
    }

    /// The state, given whether it still runs.
    pub fn state(&self, is_running: bool) -> LaunchState {
        match (is_running, self.conversations.is_empty()) {
            (true, _) => LaunchState::Running,
            (false, false) => LaunchState::Bound,
            (false, true) if self.unbound_because.is_some() => LaunchState::Unbound,
            (false, true) => LaunchState::Ended,
        }
    }

    /// The conversation that ran last.
    pub fn conversation(&self) -> Option<&BoundConversation> {
        self.conversations.last()
    }

    /// Whether it ran the conversation of this id.
    pub fn has_conversation(&self, session_id: &str) -> bool {
        let mut all = self.conversations.iter();
        all.any(|conversation| conversation.session_id == session_id)
    }

    /// The home that Codex ran on.
    pub fn home(&self) -> &Path {
        Path::new(self.isolated_home.as_ref().unwrap_or(&self.codex_home))
    }
}
