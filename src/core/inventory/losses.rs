//! `losses.json`: the conversations that lacked messages at the last check, and the losses that the user accepted.
//!
//! `doctor` and `vault forget` use this record instead of comparing again.

use super::cooldown::LOCK_NAME;
use crate::io::{Document, DocumentError, Timestamp, document};
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
}

impl LossRecord {
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
