//! The newest snapshot of another machine, and the files that it changed.

use super::causality::VersionId;
use super::snapshot_manifest::SnapshotManifest;
use super::store::RemoteSnapshot;
use crate::sync::manifest::ManifestEntry;
use crate::sync::sides::Stat;
use std::collections::BTreeMap;

/// A newest snapshot of another machine, with its manifest.
#[derive(Debug)]
pub(super) struct OtherMachine {
    pub(super) head: RemoteSnapshot,
    pub(super) manifest: SnapshotManifest,
}

impl OtherMachine {
    /// Returns true if the machine `self` knew the version of a file that `other` has, and has a different version.
    pub(super) fn replaces(&self, other: &Self, key: &str) -> bool {
        let find_version = |machine: &Self| Some(machine.manifest.files.get(key)?.version.clone());
        let (Some(own_version), Some(other_version)) = (find_version(self), find_version(other))
        else {
            return false;
        };
        own_version != other_version && self.manifest.knowledge.knows(key, &other_version)
    }
}

/// A file that another machine changed or deleted.
#[derive(Debug, Default)]
pub(super) struct IncomingFile {
    pub(super) key: String,
    /// Empty if the machine deleted the file.
    pub(super) files: BTreeMap<String, ManifestEntry>,
    /// `None` if the machine deleted the file.
    pub(super) version: Option<VersionId>,
    /// True for `VersionOrder::Concurrent`: both machines may have changed the file, or this machine lacks it.
    pub(super) is_concurrent: bool,
    /// False if this machine must publish the files under a new version id, because two machines may have used the id
    /// `version` for different contents. Has no meaning for a deletion.
    pub(super) may_keep_version: bool,
    /// The size and mtime of each file in the staged tree before the sync, by path.
    pub(super) stats_before_sync: BTreeMap<String, Stat>,
}
