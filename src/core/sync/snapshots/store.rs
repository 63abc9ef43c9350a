//! A store of snapshots, as a run needs it.

use super::error::RemoteError;
use super::snapshot_manifest::SnapshotManifest;
use crate::io::random_id::random_id;
use crate::io::{DocumentError, IoError};
use std::collections::BTreeSet;
use std::path::Path;

/// Name of the manifest at the root of a snapshot.
pub const MANIFEST: &str = "manifest.jsonl";
/// Name of the folder at the root of a snapshot that has the files.
pub const HOME: &str = "home";

/// A snapshot in a store, as the store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSnapshot {
    pub id: String,
    /// Id of the replica that published the snapshot.
    pub replica: String,
    /// Name of the machine, for messages.
    pub machine: String,
    /// Number of the publication.
    pub number: u64,
    /// Id, or beginning of the id, of this replica's previous snapshot.
    pub base: Option<String>,
}

/// A snapshot to publish, with the fields of [`RemoteSnapshot`]. The store chooses the id.
#[derive(Debug, Clone)]
pub struct Publication {
    pub replica: String,
    pub machine: String,
    pub number: u64,
    pub base: Option<String>,
}

impl Publication {
    pub fn with_id(self, id: String) -> RemoteSnapshot {
        RemoteSnapshot {
            id,
            replica: self.replica,
            machine: self.machine,
            number: self.number,
            base: self.base,
        }
    }
}

/// A store of snapshots. A snapshot appears as a whole, perhaps late, and never changes.
pub trait Remote {
    type Error: From<RemoteError> + From<IoError> + From<DocumentError>;

    /// Returns an id that no other replica has.
    fn new_replica_id(&self) -> String {
        random_id()
    }

    /// Lists all snapshots, or at least the newest ones of each replica.
    fn snapshots(&self) -> Result<Vec<RemoteSnapshot>, Self::Error>;

    fn manifest(&self, snapshot: &RemoteSnapshot) -> Result<SnapshotManifest, Self::Error>;

    /// Writes the `wanted` files of a snapshot below [`HOME`] in `folder`. The folder may have other versions of some
    /// wanted files, and no other files.
    fn fetch(
        &self,
        snapshot: &RemoteSnapshot,
        manifest: &SnapshotManifest,
        wanted: &BTreeSet<&str>,
        folder: &Path,
    ) -> Result<(), Self::Error>;

    /// Makes a snapshot of the folder `tree`, which has [`MANIFEST`] and [`HOME`], and returns the id of the snapshot.
    fn publish(&self, tree: &Path, publication: &Publication) -> Result<String, Self::Error>;
}
