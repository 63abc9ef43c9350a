//! The schedulers of operating systems, and the commands that change their state.

use serde::Serialize;

/// The scheduler of an operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// systemd user timers (Linux).
    Systemd,
    /// Agents of launchd, for macOS.
    Launchd,
    /// The Task Scheduler (Windows).
    Windows,
}

impl Scheduler {
    /// Returns the scheduler of the operating system for which codex-manager was built.
    pub fn of_this_build() -> Self {
        if cfg!(windows) {
            Self::Windows
        } else if cfg!(target_os = "macos") {
            Self::Launchd
        } else {
            Self::Systemd
        }
    }
}

/// A command that changes the state of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerCommand {
    /// The program, followed by its arguments.
    pub words: Vec<String>,
    /// True if a failure is ignored, because the job may not be enabled.
    pub may_fail: bool,
    /// The exit codes that mean that the scheduler is still ending the job, and that the command should be repeated.
    pub busy_codes: &'static [i32],
}

impl SchedulerCommand {
    pub(super) fn new(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            may_fail: false,
            busy_codes: &[],
        }
    }

    pub(super) fn ignoring_errors(words: &[&str]) -> Self {
        Self {
            may_fail: true,
            ..Self::new(words)
        }
    }
}
