//! The record of one launch: a line of `launches.jsonl`.

use crate::accounts::Profile;
use crate::accounts::profile::find_own_profile;
use crate::codex::process::is_codex;
use crate::codex::{Identity, Window};
use crate::io::{Process, ProcessTable, Timestamp, processes};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The schema of the lines that this version writes.
pub(crate) const SCHEMA: u64 = 1;

/// The environment variable that carries the launch id in every Codex of a launch. It identifies a Codex
/// whose npm launcher, or whose codex-manager, was killed before its process id was recorded.
pub(crate) const LAUNCH_VARIABLE: &str = "CODEX_MANAGER_LAUNCH";

/// A process id with a start time, so that a later process with the same id is not the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: u32,
    /// The start time, in the unit of [`processes::start_time`].
    pub started: Option<u64>,
}

impl ProcessId {
    /// Returns the process that has this id now.
    pub(crate) fn read(pid: u32) -> Self {
        Self {
            pid,
            started: processes::start_time(pid),
        }
    }

    /// Returns true if this very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        let started = processes::start_time(self.pid);
        started.is_some() && started == self.started
    }
}

/// A conversation that a launch started or resumed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BoundConversation {
    pub session_id: String,
    /// The path of the rollout in the real Codex home.
    pub rollout_path: String,
    /// The offset in the rollout of the first byte that this launch wrote.
    pub start_offset: u64,
    /// The offset after the last byte of this launch; `None` while it runs. Later bytes belong to other
    /// launches.
    pub end_offset: Option<u64>,
    /// The time of the first token count of this launch.
    pub first_token_count_at: Option<Timestamp>,
    /// The time of the last token count of this launch.
    pub last_token_count_at: Option<Timestamp>,
    /// The quota windows of the last token count with windows.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// True if the last turn of this launch ended because of a usage limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hit_limit: bool,
}

/// The state of one launch. Contains no token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchRecord {
    /// The id. It begins with the time of the launch in UTC, so that ids sort by time.
    pub launch_id: String,
    /// True if the record is complete and will not change any more.
    pub settled: bool,
    /// The schema of the line; see [`SCHEMA`].
    pub schema: u64,
    /// The name that the profile had at the launch; see [`LaunchRecord::current_profile`].
    pub profile: String,
    pub identity: Identity,
    #[serde(flatten)]
    pub run: CodexRun,
    /// A digest of the login's refresh token at the start of Codex.
    pub auth_fingerprint: String,
    #[serde(flatten)]
    pub binding: ConversationBinding,
}

/// The run of Codex in a launch: its times, arguments, homes and processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CodexRun {
    /// The time of the first record, before Codex started.
    pub started_at: Timestamp,
    /// The end of Codex. If this program was killed meanwhile, the time at which a later command noticed
    /// the end.
    pub ended_at: Option<Timestamp>,
    /// The exit code of Codex, as a shell would report it.
    pub exit_code: Option<i32>,
    /// The current folder of the launch.
    pub cwd: String,
    /// The folder that Codex works in (`--cd`); `None` for a new worktree.
    pub working_root: Option<String>,
    /// The arguments of Codex, with possible tokens redacted.
    #[serde(default)]
    pub args: Vec<String>,
    /// The path of the real Codex home.
    pub codex_home: String,
    /// The path of the isolated home, if Codex ran in one.
    pub isolated_home: Option<String>,
    /// The codex-manager process that waits for Codex.
    pub wrapper: ProcessId,
    /// The process that the wrapper started. `None` in the line before the start.
    pub child: Option<ProcessId>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConversationBinding {
    /// The conversation to resume, if the arguments name one.
    pub resumed: Option<BoundConversation>,
    /// True if the arguments left the choice of a conversation to Codex (`resume --last`, its picker).
    pub codex_chose: bool,
    /// The conversations of the launch, the latest last.
    pub conversations: Vec<BoundConversation>,
    /// The reason why no conversation could be bound, if there were candidates.
    pub unbound_because: Option<String>,
}

/// The state of a launch, derived from its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[serde(rename_all = "lowercase")]
pub enum LaunchState {
    /// Codex, or the codex-manager that started it, still runs.
    Running,
    /// Codex has ended, and its conversation is known.
    Bound,
    /// Codex has ended, and its conversation could not be identified.
    Unbound,
    /// Codex has ended without a conversation.
    Ended,
}

impl LaunchState {
    /// Returns the name for output and JSON.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl LaunchRecord {
    /// Returns the present name of the account's profile. Without a profile, returns the recorded name, unless the
    /// profile of another account has it now.
    pub fn current_profile<'a>(&'a self, profiles: &'a [Profile]) -> Option<&'a str> {
        if let Ok(Some(profile)) = find_own_profile(profiles, &self.identity) {
            return Some(&profile.name);
        }
        let has_recorded_name = |p: &Profile| p.name.to_lowercase() == self.profile.to_lowercase();
        let is_taken = profiles.iter().any(has_recorded_name);
        (!is_taken).then_some(&*self.profile)
    }

    /// Returns true if Codex or the wrapper still runs.
    pub fn is_running(&self) -> bool {
        !self.settled
            && (self.run.wrapper.is_alive()
                || self.run.child.is_some_and(ProcessId::is_alive)
                || self.is_codex_running())
    }

    /// Returns true if a Codex of this launch runs, or npm's launcher is starting it. The process that the
    /// wrapper started may have ended.
    pub(crate) fn is_codex_running(&self) -> bool {
        // npm's launcher starts Codex as a child and may be killed alone. Children inherit the variable.
        let launch_id_of = |process: &Process| process.variable(LAUNCH_VARIABLE);
        ProcessTable::read().iter().any(|process| {
            is_codex(process) && launch_id_of(process).is_some_and(|id| id == *self.launch_id)
        })
    }

    /// Returns the state; `is_running` is the result of [`LaunchRecord::is_running`].
    pub fn state(&self, is_running: bool) -> LaunchState {
        match (is_running, self.binding.conversations.is_empty()) {
            (true, _) => LaunchState::Running,
            (false, false) => LaunchState::Bound,
            (false, true) if self.binding.unbound_because.is_some() => LaunchState::Unbound,
            (false, true) => LaunchState::Ended,
        }
    }

    pub fn last_conversation(&self) -> Option<&BoundConversation> {
        self.binding.conversations.last()
    }

    pub(crate) fn has_conversation(&self, session_id: &str) -> bool {
        let mut conversations = self.binding.conversations.iter();
        conversations.any(|conversation| conversation.session_id == session_id)
    }

    /// Returns the home that Codex ran on: the isolated one, else the real one.
    pub fn home(&self) -> &Path {
        let isolated = self.run.isolated_home.as_ref();
        Path::new(isolated.unwrap_or(&self.run.codex_home))
    }
}
