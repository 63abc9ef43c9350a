//! `losses.json`: the conversations that lacked messages at the last check, those that were only in copies, and the
//! losses that the user accepted.
//!
//! `doctor`, `sessions` and `vault forget` use this record instead of comparing again.

use super::cooldown::LOCK_NAME;
use crate::codex::RolloutName;
use crate::history::files;
use crate::io::{Document, DocumentError, OrdinaryPath, Timestamp, document};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The name of the document below the manager home.
pub(crate) const FILE_NAME: &str = "losses.json";

/// The digests of messages whose loss the user accepted, by the id of the conversation. The digests include the times.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLosses(BTreeMap<String, BTreeSet<u64>>);

impl AcceptedLosses {
    /// Returns true if the user accepted the loss of the message with this digest in the conversation `id`.
    pub fn contains(&self, id: &str, digest: u64) -> bool {
        self.0
            .get(id)
            .is_some_and(|digests| digests.contains(&digest))
    }

    pub fn add(&mut self, id: &str, digests: BTreeSet<u64>) {
        self.0.entry(id.to_owned()).or_default().extend(digests);
    }

    /// Returns the ids of the conversations with accepted losses.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Removes the messages that `others` contains.
    pub fn remove_all(&mut self, others: &Self) {
        self.0.retain(|id, digests| {
            digests.retain(|digest| !others.contains(id, *digest));
            !digests.is_empty()
        });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A conversation that lacks messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLoss {
    pub home: String,
    /// The id of the conversation, in lower case.
    pub session_id: String,
    pub title: String,
    pub lost_messages: usize,
    /// Sets of snapshot ids. The vault keeps every lost message if it keeps at least one snapshot of each set.
    pub snapshots: Vec<Vec<String>>,
}

/// A conversation that only copies have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGone {
    /// The time of the first check that missed it.
    pub since: Timestamp,
    /// True if it vanished with so many others that `backup` warned.
    pub is_loss: bool,
}

/// The conversations of a home that only copies have, by id in lower case.
pub type KnownGoneById = BTreeMap<String, KnownGone>;

/// The content of `losses.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LossRecord {
    /// The time of the last check that found losses or compared known ones; `None` if there was none.
    pub checked_at: Option<Timestamp>,
    /// The losses that are not accepted.
    pub losses: Vec<KnownLoss>,
    /// The accepted losses by Codex home.
    accepted_in: BTreeMap<String, AcceptedLosses>,
    /// The conversations that only copies have, by Codex home.
    gone_from: BTreeMap<String, KnownGoneById>,
    /// The ids of whole conversations whose loss the user accepted, by Codex home.
    accepted_gone: BTreeMap<String, BTreeSet<String>>,
}

impl LossRecord {
    pub fn gone_from(&self, home: &str) -> KnownGoneById {
        self.gone_from.get(home).cloned().unwrap_or_default()
    }

    pub fn set_gone(&mut self, home: &str, gone: KnownGoneById) {
        self.gone_from.insert(home.to_owned(), gone);
        self.gone_from.retain(|_, gone| !gone.is_empty());
    }

    /// Returns the ids of the whole conversations whose loss the user accepted in a Codex home.
    pub fn accepted_gone_in(&self, home: &str) -> BTreeSet<String> {
        self.accepted_gone.get(home).cloned().unwrap_or_default()
    }

    /// Accepts that these conversations are only in copies.
    pub fn accept_gone(&mut self, home: &str, ids: impl IntoIterator<Item = String>) {
        let accepted = self.accepted_gone.entry(home.to_owned()).or_default();
        accepted.extend(ids);
        if let Some(gone) = self.gone_from.get_mut(home) {
            gone.retain(|id, _| !accepted.contains(id));
        }
    }

    /// Removes the conversations that are live again from the record of a home, also from the accepted ones.
    pub fn remove_returned(&mut self, home: &str, live_ids: &BTreeSet<String>) {
        if let Some(gone) = self.gone_from.get_mut(home) {
            gone.retain(|id, _| !live_ids.contains(id));
        }
        if let Some(accepted) = self.accepted_gone.get_mut(home) {
            accepted.retain(|id| !live_ids.contains(id));
        }
    }

    pub fn accepted_in(&self, home: &str) -> AcceptedLosses {
        self.accepted_in.get(home).cloned().unwrap_or_default()
    }

    /// Accepts the loss of messages in a Codex home.
    pub fn accept(&mut self, home: &str, id: &str, digests: BTreeSet<u64>) {
        let accepted = self.accepted_in.entry(home.to_owned()).or_default();
        accepted.add(id, digests);
    }

    /// Ends the acceptance of messages that are in a Codex home again.
    pub fn withdraw_acceptance(&mut self, home: &str, returned: &AcceptedLosses) {
        if let Some(accepted) = self.accepted_in.get_mut(home) {
            accepted.remove_all(returned);
        }
    }
}

impl Document for LossRecord {}

/// Reads the record. A missing or damaged one counts as empty; the next [`update`] moves a damaged one aside.
///
/// # Errors
/// The document cannot be read, or is of a newer version.
pub fn read(manager_home: &Path) -> Result<LossRecord, DocumentError> {
    let record = document::read(&manager_home.join(FILE_NAME))?;
    Ok(record.good().unwrap_or_default())
}

/// Returns the name of a Codex home in the record. It does not depend on the spelling of the path.
pub fn home_key(home: &Path) -> String {
    home.canonical_or_self().display().to_string()
}

/// Returns the recorded conversations of a Codex home that only copies have and that are gone since `oldest` or later,
/// without those that are live again. None if the record cannot be read.
pub fn read_gone(manager_home: &Path, home: &Path, oldest: DateTime<Utc>) -> KnownGoneById {
    let record = read(manager_home).unwrap_or_default();
    let mut gone = record.gone_from(&home_key(home));
    gone.retain(|_, known| known.since.to_utc() >= oldest);
    // Without a recorded conversation, the home is not listed.
    if !gone.is_empty() {
        for rollout in files::find_rollouts(home).unwrap_or_default() {
            let name = RolloutName::parse(&rollout.relative);
            if let Some(id) = name.as_ref().and_then(RolloutName::id) {
                gone.remove(&id.to_lowercase());
            }
        }
    }
    gone
}

/// Changes the record, durable on return.
///
/// # Errors
/// The document cannot be read or written, or is of a newer version.
pub fn update(
    manager_home: &Path,
    change: impl FnOnce(&mut LossRecord),
) -> Result<(), DocumentError> {
    let path = manager_home.join(FILE_NAME);
    document::update(&path, &manager_home.join(LOCK_NAME), change).map(drop)
}
