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
    /// Returns true if this machine had joined the version that `other` has of a file, and both have different versions.
    pub(super) fn replaces(&self, other: &Self, key: &str) -> bool {
        let version = |machine: &Self| Some(machine.manifest.files.get(key)?.version.clone());
        let (Some(mine), Some(theirs)) = (version(self), version(other)) else {
            return false;
        };
        mine != theirs && self.manifest.knowledge.knows(key, &theirs)
    }
}

/// A file that another machine changed or deleted.
#[derive(Debug)]
pub(super) struct IncomingFile {
    pub(super) key: String,
    /// Empty if the machine deleted the file.
    pub(super) files: BTreeMap<String, ManifestEntry>,
    /// `None` if the machine deleted the file.
    pub(super) version: Option<VersionId>,
    /// True unless one of the machines knew the version of the other one: then both changed the file.
    pub(super) is_concurrent: bool,
    /// False if other machines could take the name of the version for another one.
    pub(super) keeps_name: bool,
    /// The size and mtime of each file in the staged tree before the sync, by path.
    pub(super) placed: BTreeMap<String, Stat>,
}
