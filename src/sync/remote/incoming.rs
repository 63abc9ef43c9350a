//! The changes in the newest snapshot of another machine.

use super::causality::{Knowledge, VersionId};
use super::heads::Head;
use super::snapshot_manifest::{FileVersions, SnapshotManifest, copy_name};
use crate::sync::manifest::ManifestEntry;
use crate::sync::resolutions;
use crate::sync::scope::{Scope, ScopeMatch};
use crate::sync::sides::Stat;
use crate::sync::state::SyncState;
use std::collections::BTreeMap;

/// A newest snapshot of another machine, with its manifest.
#[derive(Debug)]
pub(super) struct OtherMachine {
    pub(super) head: Head,
    pub(super) manifest: SnapshotManifest,
}

impl OtherMachine {
    /// Returns true if the version id may name two versions, because two machines with a copied disk share a replica
    /// id.
    fn is_ambiguous(&self, version: &VersionId) -> bool {
        self.head.is_forked && version.0 == self.head.snapshot.replica
    }
}

/// A file that another machine changed or deleted.
#[derive(Debug)]
pub(super) struct IncomingFile {
    pub(super) key: String,
    /// Empty if the machine deleted the file.
    pub(super) files: BTreeMap<String, ManifestEntry>,
    pub(super) version: Option<VersionId>,
    /// True if the other machine did not know this machine's version: both changed the file.
    pub(super) is_concurrent: bool,
    /// True if this machine had replaced the version before. Taking it again creates a new version.
    pub(super) was_known: bool,
    /// The files as they were placed, by path.
    pub(super) placed: BTreeMap<String, Stat>,
}

/// Returns true if the state records this content, because a killed run took it or both machines synced it through a
/// folder.
pub(super) fn is_agreed(key: &str, file: &FileVersions, state: &SyncState) -> bool {
    let last = state.files.get(key);
    let entry = last.and_then(|last| file.files.get(&last.remote.path));
    let text = last.and_then(|last| last.contents);
    entry.is_some_and(|entry| text.is_some_and(|(_, digest)| digest == entry.digest))
}

/// The files and the knowledge of this machine, to compare other machines with.
pub(super) struct OwnSide<'a> {
    /// The files of the next snapshot, by key.
    pub(super) current: &'a BTreeMap<String, FileVersions>,
    pub(super) knowledge: &'a Knowledge,
    /// The manifest of this machine's last publication.
    pub(super) published: &'a SnapshotManifest,
    pub(super) state: &'a SyncState,
    pub(super) scope: &'a Scope,
}

impl OwnSide<'_> {
    /// Returns the files that another machine changed and this machine has not merged.
    pub(super) fn find_incoming(&self, other: &OtherMachine) -> Vec<IncomingFile> {
        let manifest = &other.manifest;
        let changed = manifest.files.iter().filter_map(|(key, file)| {
            let own = self.current.get(key);
            let is_same = own.is_some_and(|own| own.has_same_files(file));
            if is_same || !self.is_wanted(file, manifest) || !self.is_new(key, file, other) {
                return None;
            }
            let knows = |own: &FileVersions| {
                !other.is_ambiguous(&own.version) && manifest.knowledge.knows(key, &own.version)
            };
            Some(IncomingFile {
                key: key.clone(),
                files: file.files.clone(),
                version: Some(file.version.clone()),
                is_concurrent: !own.is_some_and(knows),
                was_known: own.is_some() && self.knowledge.knows(key, &file.version),
                placed: BTreeMap::new(),
            })
        });
        let deleted = manifest.deleted.iter().filter_map(|(key, deletion)| {
            let own = self.current.get(key)?;
            let is_gone = !manifest.files.contains_key(key)
                && !other.head.is_forked
                && manifest.knowledge.knows(key, &own.version)
                && !self.state.resolutions.contains(&deletion.id)
                && !manifest.resolved.contains(&deletion.id);
            is_gone.then(|| IncomingFile {
                key: key.clone(),
                files: BTreeMap::new(),
                version: None,
                is_concurrent: false,
                was_known: false,
                placed: BTreeMap::new(),
            })
        });
        changed.chain(deleted).collect()
    }

    /// Returns true if this machine has not merged the version. A file that this machine does not have is new unless it
    /// was deleted: earlier settings may have excluded it.
    fn is_new(&self, key: &str, file: &FileVersions, other: &OtherMachine) -> bool {
        let is_absent = !self.current.contains_key(key)
            && !self.published.deleted.contains_key(key)
            && !self.state.deleted.contains_key(key);
        is_absent || other.is_ambiguous(&file.version) || !self.knowledge.knows(key, &file.version)
    }

    /// Returns true for files that the settings include, and for conflict copies that wait for a decision.
    fn is_wanted(&self, file: &FileVersions, manifest: &SnapshotManifest) -> bool {
        let resolved = [&self.state.resolutions, &manifest.resolved];
        file.files.keys().all(|path| match copy_name(path) {
            Some(name) => !resolutions::is_dropped(name, resolved),
            None => self.scope.classify(path) == ScopeMatch::Synced,
        })
    }
}
