//! The memory of this machine between two runs: its own last snapshot and the snapshots that it has joined. Losing it
//! costs time, not data: the machine takes a new id, and joins all snapshots again.

use super::causality::Knowledge;
use super::heads::{find_heads, is_same_id};
use super::snapshot_manifest::{FileVersions, SnapshotManifest};
use super::store::RemoteSnapshot;
use crate::io::document::{self, Document, DocumentError};
use crate::io::hash::Sha256Digest;
use crate::io::{IoError, atomic, file_open};
use crate::sync::config::SyncConfig;
use crate::sync::state::Replica;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const POSITION_FILE: &str = "position.json";
/// The manifest of the last publication.
pub(super) const PUBLISHED_FILE: &str = "published.jsonl";
/// Name of the folder for the state of a run that is not published yet.
const RUN_FOLDER: &str = "run";
/// The manifest of a publication that has begun.
pub(super) const NEXT_FILE: &str = "next.jsonl";

/// The [`TakenVersions`] of a run that is not published yet.
pub(super) const TAKEN_FILE: &str = "taken.json";

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) replica: String,
    /// Id of the snapshot of the last publication, or the beginning of that id.
    pub(super) snapshot: Option<String>,
    /// Number of the last publication.
    pub(super) number: u64,
    /// The versions that this machine has merged. During a run these include merges that are not published yet, so only
    /// the commit of a run may write the position.
    pub(super) knowledge: Knowledge,
    /// Ids of the snapshots that were merged completely.
    pub(super) joined: BTreeSet<String>,
    /// Digest of the settings that select the merged files.
    pub(super) scope: String,
}

impl Position {
    /// Returns true if the snapshot was merged completely.
    pub(super) fn has_joined(&self, snapshot: &RemoteSnapshot) -> bool {
        let mut joined = self.joined.iter();
        joined.any(|id| is_same_id(&snapshot.id, id))
    }
}

impl Document for Position {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}

/// Versions of other machines that an unpublished run may have placed in the home, by key.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TakenVersions {
    pub(super) files: BTreeMap<String, Vec<FileVersions>>,
    /// Keys of the files whose first version an earlier run placed in the home.
    #[serde(default)]
    pub(super) placed: BTreeSet<String>,
}

impl Document for TakenVersions {
    const SCHEMA: u64 = 1;
    const INDENTED: bool = false;
}

/// The files of the position are in the folder of the state.
impl Replica {
    /// Reads the position; returns a new one with the id `new_id` if the file is missing or damaged. After a change of
    /// the settings, all snapshots are joined again, because the new settings may include other files.
    pub(super) fn read_position(
        &self,
        config: &SyncConfig,
        new_id: impl FnOnce() -> String,
    ) -> Result<Position, DocumentError> {
        let document = document::read::<Position>(&self.folder.join(POSITION_FILE))?;
        let mut position = document.good().unwrap_or_else(|| Position {
            replica: new_id(),
            ..Position::default()
        });
        let scope = digest_scope(config);
        if position.scope != scope {
            position.scope = scope;
            position.joined.clear();
        }
        Ok(position)
    }

    pub(super) fn write_position(&self, position: &Position) -> Result<(), IoError> {
        atomic::create_private_folder(&self.folder)?;
        document::write(&self.folder.join(POSITION_FILE), position)
    }

    /// Reads [`PUBLISHED_FILE`] or [`NEXT_FILE`]; `None` if the file is missing or damaged.
    pub(super) fn read_own_manifest(
        &self,
        name: &str,
    ) -> Result<Option<SnapshotManifest>, IoError> {
        let file = file_open::open_if_exists(&self.folder.join(name))?;
        // A damaged file counts as missing: the newest snapshot has the same information.
        Ok(file.and_then(|file| SnapshotManifest::parse(file, "this machine").ok()))
    }

    /// Returns the newest snapshots of another machine, without those that this machine has joined completely. A
    /// returned snapshot appeared after the last sync of this machine, has a version that waits for a decision, or was
    /// joined with other settings. Returns an empty list if this machine has never joined a snapshot. `replica_id` is
    /// the id of the other machine's replica, and `listed` has all snapshots of the store.
    pub fn find_unjoined(
        &self,
        config: &SyncConfig,
        replica_id: &str,
        listed: &[RemoteSnapshot],
    ) -> Result<Vec<RemoteSnapshot>, DocumentError> {
        // Only a new position gets this id, and a new position has seen no snapshot.
        let unused_id = String::new;
        let position = self.read_position(config, unused_id)?;
        if position.knowledge.seen.is_empty() {
            return Ok(Vec::new());
        }
        let mut heads = find_heads(listed);
        heads.retain(|head| head.replica == replica_id && !position.has_joined(head));
        Ok(heads)
    }

    /// Returns this replica with the state of a run that is not published yet. The folder of the run may not exist.
    pub(super) fn of_unpublished_run(&self) -> Self {
        self.with_run_folder(self.folder.join(RUN_FOLDER))
    }

    /// Records a manifest that is about to be published.
    pub(super) fn write_next_manifest(&self, bytes: &[u8]) -> Result<(), IoError> {
        atomic::create_private_folder(&self.folder)?;
        atomic::write(&self.folder.join(NEXT_FILE), bytes)
    }

    /// Records that the manifest of [`Self::write_next_manifest`] was published.
    pub(super) fn record_published(&self) -> Result<(), IoError> {
        let next_path = self.folder.join(NEXT_FILE);
        if next_path.exists() {
            atomic::rename(&next_path, &self.folder.join(PUBLISHED_FILE))?;
        }
        Ok(())
    }
}

/// Returns the id of this machine in the store; `None` if this machine has no readable position.
pub fn replica_id(state_folder: &Path) -> Option<String> {
    let path = state_folder.join(POSITION_FILE);
    let position = document::read::<Position>(&path).ok()?.good()?;
    Some(position.replica)
}

fn digest_scope(config: &SyncConfig) -> String {
    // The digest of the `Debug` text: after a rename of a field or variant, one run joins all snapshots again.
    let settings = (&config.scope, config.policy.rules.delete);
    Sha256Digest::of(format!("{settings:?}").as_bytes()).to_string()
}
