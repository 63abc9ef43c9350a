//! Ends the Codex processes on a home before a command that a running Codex would disturb.
//!
//! [`plan_shutdown`] decides whether to do nothing, to ask the user, to end the processes, or to refuse.
//! `end_processes` ends the processes and checks that they are gone. [`shut_down`] does both. The manager
//! asks only programs of Codex to end. It kills no process, because a process that does not end may be writing. Only on
//! Windows, where a process without a window cannot be asked to end, it is terminated.

mod apply;

pub use apply::{ShutdownRequest, shut_down, wait_grace_period};

use crate::codex::{DaemonError, HomeProcess, HomeUsage, ProcessRole, ProgramError, ProgramNames};
use serde::Serialize;
use std::time::Duration;

/// The channel on which the manager asks the user to confirm that it may end Codex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum PromptChannel {
    /// A dialog window if a program for that is installed; else the terminal.
    #[default]
    Gui,
    /// The terminal, never a window.
    Console,
}

/// The settings of `[process_detection]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownSettings {
    /// The program names that count as Codex.
    pub names: ProgramNames,
    /// The wait for processes to end by themselves before anything else happens.
    pub grace_period: Duration,
    /// True if Codex may be ended, with consent.
    pub may_terminate: bool,
    /// True if the user has to consent. False has an effect only on Windows; other systems require a flag.
    pub needs_consent: bool,
    pub channel: PromptChannel,
    /// The time limit for Codex to end after it was asked to end.
    pub terminate_timeout: Duration,
}

impl Default for ShutdownSettings {
    /// Returns the defaults that codexSync has for `[process_detection]`.
    fn default() -> Self {
        let windows_helper = cfg!(windows).then(|| "codex-windows-sandbox".into());
        Self {
            names: ProgramNames {
                background: Vec::from_iter(windows_helper),
                ..ProgramNames::default()
            },
            grace_period: Duration::from_secs(2),
            may_terminate: true,
            needs_consent: true,
            channel: PromptChannel::Gui,
            terminate_timeout: Duration::from_secs(20),
        }
    }
}

impl ShutdownSettings {
    /// Returns true if the user has to consent before Codex is ended, unless a flag says otherwise.
    pub fn must_ask(&self, is_windows: bool) -> bool {
        // On other systems the configuration file alone must not end Codex.
        !is_windows || self.needs_consent
    }
}

/// The planned action for the processes on a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "lowercase")]
pub enum ShutdownPlan {
    /// No process uses the home.
    Nothing,
    /// These processes are ended if the user consents.
    Ask(ShutdownTargets),
    /// These processes are ended without asking.
    Terminate(ShutdownTargets),
    /// At least one process cannot or must not be ended.
    Refuse(Refusal),
}

/// The processes to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShutdownTargets {
    /// The processes, ordered by id.
    pub processes: Vec<HomeProcess>,
    /// The conversations that these processes have open. Ending a process cuts off its running turn.
    pub conversations: Vec<String>,
}

/// A refusal to end the processes on a home.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The first reason that applies.
    pub reason: RefusalReason,
    /// The processes that use the home, one text each.
    pub holders: Vec<String>,
}

/// The reason why Codex is not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// A background program of Codex runs, which is never ended.
    Background,
    /// Codex itself started this command.
    InsideCodex,
    /// Codex runs for another user.
    AnotherUser,
    /// A program other than Codex has a file of the home open.
    OtherProgram,
    /// A conversation is being written by an unknown process.
    Unexplained,
    /// The configuration forbids ending Codex.
    Forbidden,
}

impl RefusalReason {
    /// Returns the hint for the user. It names no flag, because no flag overrides a refusal.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Background => "wait for it to end, or end Codex yourself",
            Self::InsideCodex => "run the command in a separate terminal",
            Self::AnotherUser | Self::OtherProgram | Self::Unexplained => {
                "end these processes first"
            }
            Self::Forbidden => {
                "end Codex yourself, or set process_detection.allow_terminate_if_running = true"
            }
        }
    }
}

/// Plans the action for the processes that use the home.
pub fn plan_shutdown(
    usage: &HomeUsage,
    settings: &ShutdownSettings,
    asks_user: bool,
) -> ShutdownPlan {
    if usage.is_unused() {
        return ShutdownPlan::Nothing;
    }
    if let Some(reason) = find_refusal_reason(usage, settings) {
        let holders = usage.holders().iter().map(ToString::to_string).collect();
        return ShutdownPlan::Refuse(Refusal { reason, holders });
    }

    let targets = ShutdownTargets {
        processes: usage.processes.clone(),
        conversations: usage.conversations.clone(),
    };
    if asks_user {
        ShutdownPlan::Ask(targets)
    } else {
        ShutdownPlan::Terminate(targets)
    }
}

fn find_refusal_reason(usage: &HomeUsage, settings: &ShutdownSettings) -> Option<RefusalReason> {
    let any_process = |test: fn(&HomeProcess) -> bool| usage.processes.iter().any(test);
    let is_of_another_user = |p: &HomeProcess| {
        let is_codex = p.role.is_codex() || p.role == ProcessRole::Launcher;
        is_codex && !p.is_own
    };

    if any_process(|p| p.role == ProcessRole::Background) {
        Some(RefusalReason::Background)
    } else if usage.codex_ancestor.is_some() {
        Some(RefusalReason::InsideCodex)
    } else if any_process(is_of_another_user) {
        Some(RefusalReason::AnotherUser)
    } else if any_process(|p| matches!(p.role, ProcessRole::OtherProgram { .. })) {
        Some(RefusalReason::OtherProgram)
    } else if !usage.unexplained_ids.is_empty() {
        Some(RefusalReason::Unexplained)
    } else if !settings.may_terminate {
        Some(RefusalReason::Forbidden)
    } else {
        None
    }
}

/// The reason why the home is still in use.
#[derive(Debug, thiserror::Error)]
pub enum ShutdownError {
    /// At least one process cannot or must not be ended.
    #[error("{}: {}", describe_refusal(.0.reason), .0.holders.join(", "))]
    Refused(Refusal),
    /// The user answered no.
    #[error("codex is running, and you chose not to end it: {}", join_processes(.0))]
    Declined(Vec<HomeProcess>),
    /// Consent was needed, but there is neither a terminal nor a dialog to ask in.
    #[error("codex is running, and there is no terminal to ask whether to end it: {}", join_processes(.0))]
    NoPrompter(Vec<HomeProcess>),
    /// Processes did not end within the time limit, or began to use the home meanwhile.
    #[error("codex was asked to end within {} s, but the home is still in use: {}", limit.as_secs(), left.join(", "))]
    NotGone {
        /// The remaining processes, one text each.
        left: Vec<String>,
        limit: Duration,
    },
    /// No Codex program was found to stop the daemon with.
    #[error("cannot stop Codex's background daemon (PID {pid})")]
    NoProgram {
        pid: u32,
        #[source]
        source: ProgramError,
    },
    /// Codex's command to stop the daemon failed.
    #[error("cannot stop Codex's background daemon")]
    Daemon(#[source] DaemonError),
    #[error("interrupted")]
    Interrupted,
}

fn describe_refusal(reason: RefusalReason) -> &'static str {
    match reason {
        RefusalReason::Background => {
            "a background process of Codex is running, which codex-manager never ends"
        }
        RefusalReason::InsideCodex => "codex itself started this command and cannot be ended by it",
        RefusalReason::AnotherUser => "codex runs for another user",
        RefusalReason::OtherProgram => "a program other than Codex uses the home",
        RefusalReason::Unexplained => "an unknown process is writing in the home",
        RefusalReason::Forbidden => "codex is running, and the configuration forbids ending it",
    }
}

pub fn join_processes(processes: &[HomeProcess]) -> String {
    let lines: Vec<_> = processes.iter().map(ToString::to_string).collect();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn process(pid: u32, role: ProcessRole) -> HomeProcess {
        HomeProcess {
            pid,
            started: Some(1),
            is_own: true,
            name: "codex".into(),
            command_line: "codex exec".into(),
            program: None,
            role,
        }
    }

    fn seen(processes: Vec<HomeProcess>) -> HomeUsage {
        HomeUsage {
            processes,
            ..HomeUsage::default()
        }
    }

    fn reason(usage: &HomeUsage, settings: &ShutdownSettings) -> Option<RefusalReason> {
        // Neither a flag nor a yes changes a refusal.
        let plans = [true, false].map(|must_ask| plan_shutdown(usage, settings, must_ask));
        let reasons: Vec<_> = plans
            .iter()
            .map(|plan| match plan {
                ShutdownPlan::Refuse(refusal) => Some(refusal.reason),
                _ => None,
            })
            .collect();
        assert_eq!(reasons[0], reasons[1]);
        reasons[0]
    }

    #[test]
    fn plan_does_nothing_for_an_unused_home_and_asks_before_ending_codex() {
        let settings = ShutdownSettings::default();
        assert_eq!(
            plan_shutdown(&seen(vec![]), &settings, true),
            ShutdownPlan::Nothing
        );
        // A launcher whose program has ended holds nothing.
        let launcher = seen(vec![process(4, ProcessRole::Launcher)]);
        assert_eq!(
            plan_shutdown(&launcher, &settings, false),
            ShutdownPlan::Nothing
        );
        let codex = seen(vec![
            process(4, ProcessRole::Codex),
            process(5, ProcessRole::Daemon),
        ]);
        assert!(
            matches!(plan_shutdown(&codex, &settings, true), ShutdownPlan::Ask(c) if c.processes.len() == 2)
        );
        assert!(matches!(
            plan_shutdown(&codex, &settings, false),
            ShutdownPlan::Terminate(_)
        ));
    }

    #[test]
    fn each_reason_to_refuse_is_found_and_daemon_and_children_of_codex_are_none() {
        let settings = ShutdownSettings::default();
        let codex = || process(4, ProcessRole::Codex);
        let open = || PathBuf::from("x");
        let with = |other: HomeProcess| seen(vec![codex(), other]);
        assert_eq!(
            reason(&with(process(5, ProcessRole::Daemon)), &settings),
            None
        );
        assert_eq!(
            reason(&with(process(5, ProcessRole::Background)), &settings),
            Some(RefusalReason::Background)
        );
        let others = HomeProcess {
            is_own: false,
            ..process(5, ProcessRole::Codex)
        };
        assert_eq!(
            reason(&with(others), &settings),
            Some(RefusalReason::AnotherUser)
        );
        let stranger = process(5, ProcessRole::OtherProgram { open_file: open() });
        assert_eq!(
            reason(&with(stranger), &settings),
            Some(RefusalReason::OtherProgram)
        );
        let offspring = process(5, ProcessRole::CodexChild { open_file: open() });
        assert_eq!(reason(&with(offspring), &settings), None);
        let inside = HomeUsage {
            codex_ancestor: Some(4),
            ..seen(vec![codex()])
        };
        assert_eq!(reason(&inside, &settings), Some(RefusalReason::InsideCodex));
        let unexplained = HomeUsage {
            unexplained_ids: vec!["abc".into()],
            ..HomeUsage::default()
        };
        assert_eq!(
            reason(&unexplained, &settings),
            Some(RefusalReason::Unexplained)
        );
        let forbidden = ShutdownSettings {
            may_terminate: false,
            ..settings
        };
        assert_eq!(
            reason(&seen(vec![codex()]), &forbidden),
            Some(RefusalReason::Forbidden)
        );
    }

    #[test]
    fn only_on_windows_can_the_configuration_waive_consent() {
        let waived = ShutdownSettings {
            needs_consent: false,
            ..ShutdownSettings::default()
        };
        assert!(!waived.must_ask(true));
        assert!(waived.must_ask(false));
        assert!(ShutdownSettings::default().must_ask(true));
    }

    #[test]
    fn the_json_of_a_plan_has_its_kind_beside_its_processes() {
        let plan = ShutdownPlan::Ask(ShutdownTargets {
            processes: vec![process(4, ProcessRole::Codex)],
            conversations: vec![],
        });
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"do": "ask", "conversations": [], "processes": [
                {"pid": 4, "name": "codex", "command_line": "codex exec", "role": "codex process"}
            ]})
        );
    }
}
