//! The report of an account: its quota, the source, and the reason why a live figure is missing.

use crate::codex::{CredentialStore, Freshness, Identity, LoginStorageError, ProbeFailure};
use crate::io::Timestamp;
use crate::quota::state::compute_verdict;
use crate::quota::{AccountEntry, LoginState, Observation};
use chrono::{DateTime, Utc};
use std::path::PathBuf;

/// The account of a home and its quota.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatusReport {
    /// The account; `None` if the home is signed out or the account cannot be determined.
    pub identity: Option<Identity>,
    pub plan: Option<String>,
    pub store: CredentialStore,
    pub observation: Option<Observation>,
    /// True if the observation was made now; false if it is a stored one.
    pub is_fresh: bool,
    /// The reason why Codex could not be asked or gave no figures.
    pub problem: Option<StatusProblem>,
    pub notes: Vec<String>,
    pub login: LoginState,
    /// The age of the login in the auth.json of the home.
    pub freshness: Option<Freshness>,
}

impl StatusReport {
    /// Returns true if the windows are fresh, or the login is paid by use and has none.
    pub fn is_complete(&self) -> bool {
        self.is_fresh || self.is_billed_by_use()
    }

    pub fn is_billed_by_use(&self) -> bool {
        let identity = self.identity.as_ref();
        identity.is_some_and(|account| account.kind.is_billed_by_use())
    }

    /// Returns the time at which the account is available again, by its windows and its spend cap; `None` if the
    /// account is available, or if the account or that time is unknown.
    pub fn next_available_at(&self, now: &DateTime<Utc>) -> Option<Timestamp> {
        let mut entry = AccountEntry::new(self.identity.clone()?);
        entry.observation.clone_from(&self.observation);
        compute_verdict(&entry, now).next_available_at
    }
}

/// The reason why there is no live figure. The texts are safe to print.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatusProblem {
    #[error("not signed in")]
    SignedOut,
    /// auth.json does not have Codex's form, so Codex cannot read it either.
    #[error("auth.json is {reason}: {}", path.display())]
    Unreadable {
        path: PathBuf,
        /// The defect, as a sentence fragment.
        reason: String,
    },
    /// auth.json is a folder, a pipe or another special file.
    #[error("auth.json is {reason}: {}", path.display())]
    NotAFile {
        path: PathBuf,
        /// The kind of file, as a sentence fragment.
        reason: String,
    },
    #[error("auth.json cannot be read ({reason}): {}", path.display())]
    Denied { path: PathBuf, reason: String },
    /// Another Codex home owns the login, so Codex was not started with the copy.
    #[error("not asked, because the login is a copy of the one in another Codex home, or older: {}", .0.display())]
    OwnedElsewhere(PathBuf),
    /// Codex could not store a renewed login, so it was not started.
    #[error(transparent)]
    Storage(#[from] LoginStorageError),
    /// Codex gave no answer.
    #[error(transparent)]
    Probe(#[from] ProbeFailure),
    /// The server refuses the token, and Codex could not renew it.
    #[error("the login has expired: {0}")]
    Spent(ProbeFailure),
    /// Codex answered for another account, so its figures were dropped.
    #[error("Codex answered for {live}, but auth.json is the login of {home}")]
    AnotherAccount {
        /// The account of the answer.
        live: String,
        /// The account in auth.json.
        home: String,
    },
    /// The server sent this number of windows, none of which can be interpreted.
    #[error("cannot interpret the server's quota windows ({0} of them)")]
    NotUnderstood(usize),
}
