//! `notices.json`: the notices that the user has seen, so that `notify` and `backup` show each once.

use super::observations;
use crate::codex::Identity;
use crate::io::{Document, DocumentError, Timestamp, document};
use crate::quota::window::SAME_WINDOW;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The name of the document below the manager home.
pub const FILE_NAME: &str = "notices.json";

/// The lock of a run of `notify`. Without it, two simultaneous runs would both show a notice.
pub const LOCK_NAME: &str = "notices.lock";

/// The condition that a notice reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    AccountReady,
    QuotaUsed,
    ResetExpires,
    OldBackup,
    LostMessages,
    LostConversations,
}

/// A notice about a condition that holds now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DesktopNotice {
    pub kind: NoticeKind,
    /// The name of the account that the notice is about, if there is one.
    pub account: Option<String>,
    pub message: String,
    /// The keys of the accounts, windows, banked resets or conversations that the notice is about. A window and a
    /// banked reset have the time of their end.
    #[serde(skip)]
    pub subjects: BTreeMap<String, Option<Timestamp>>,
}

/// The content of `notices.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoticeState {
    /// The accounts that were in cooldown and whose readiness was not notified yet, as names of their observation
    /// files.
    waiting: BTreeSet<String>,
    /// The subjects of notices that were shown and still hold, with the ends that were shown.
    shown: BTreeMap<String, Option<Timestamp>>,
    /// The notes of commands that were printed, which are never printed again.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    printed: BTreeSet<String>,
}

/// Returns true if a command has printed `note`.
///
/// # Errors
/// The document cannot be read, or is of a newer version.
pub fn was_printed(manager_home: &Path, note: &str) -> Result<bool, DocumentError> {
    let state = document::read::<NoticeState>(&manager_home.join(FILE_NAME))?.good();
    Ok(state.is_some_and(|state| state.printed.contains(note)))
}

/// Records that a command prints `note`. Returns true the first time.
///
/// # Errors
/// The document cannot be read or written, is of a newer version, or the user interrupts the wait for its lock.
pub fn is_first_time(manager_home: &Path, note: &str) -> Result<bool, DocumentError> {
    // Most notes were printed before, and then the lock is not needed.
    if was_printed(manager_home, note)? {
        return Ok(false);
    }
    let (path, lock) = (manager_home.join(FILE_NAME), manager_home.join(LOCK_NAME));
    let record = |state: &mut NoticeState| state.printed.insert(note.to_owned());
    document::update(&path, &lock, record).map(|(is_new, _moved_aside)| is_new)
}

impl Document for NoticeState {}

impl NoticeState {
    /// Records that an account is in cooldown, so that its readiness is notified.
    pub fn note_cooldown(&mut self, account: &Identity) {
        self.waiting.insert(observations::file_name(account));
    }

    /// Returns true if an account was in cooldown and its readiness was not notified since.
    pub fn is_waiting(&self, account: &Identity) -> bool {
        self.waiting.contains(&observations::file_name(account))
    }

    /// Forgets shown notices whose condition no longer holds, so that they are shown again when the condition recurs. A
    /// subject with an end is remembered until that end, because the figures of two sources differ by a percent, and
    /// some sources lack a window.
    pub fn forget_ended(&mut self, current: &[DesktopNotice], now: &DateTime<Utc>) {
        let still_holds =
            |subject: &String| current.iter().any(|n| n.subjects.contains_key(subject));
        self.shown
            .retain(|subject, end| still_holds(subject) || end.is_some_and(|at| at > *now));
    }

    /// Returns true if the user has not seen at least one of the subjects of `notice`. A subject with another end
    /// counts as new.
    pub fn is_unseen(&self, notice: &DesktopNotice) -> bool {
        let mut subjects = notice.subjects.iter();
        subjects.any(|(subject, end)| match (self.shown.get(subject), end) {
            (None, _) => true,
            (Some(Some(shown_end)), Some(end)) => (*end - shown_end).abs() > SAME_WINDOW,
            (Some(_), _) => false,
        })
    }

    /// Records that the user has seen a notice. An account that is ready no longer waits.
    pub fn note_shown(&mut self, notice: &DesktopNotice) {
        self.shown.extend(notice.subjects.clone());
        if notice.kind == NoticeKind::AccountReady {
            self.waiting
                .retain(|account| !notice.subjects.contains_key(account));
        }
    }
}
