//! The changes in the newest snapshot of another machine.

use super::causality::{Knowledge, VersionId};
use super::join::Join;
use super::other_machine::{IncomingFile, OtherMachine};
use super::snapshot_manifest::{FileVersions, SnapshotManifest, parse_copy_name};
use super::store::Remote;
use crate::sync::resolutions;
use crate::sync::scope::ScopeMatch;
use crate::sync::state::SyncState;

/// The causal order of the versions of two machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VersionOrder {
    /// This machine has merged the version of the other one, or decided not to use it.
    Known,
    /// The other machine knew the version of this one.
    Newer,
    /// Neither machine knew the version of the other one, this machine lacks the file, or two contents have one version
    /// id.
    Concurrent,
}

impl<R: Remote> Join<'_, R> {
    /// Returns the files that another machine changed and this machine has not merged.
    pub(super) fn find_incoming(
        &self,
        state: &SyncState,
        other: &OtherMachine,
    ) -> Vec<IncomingFile> {
        let manifest = &other.manifest;
        let changed_files = manifest.files.iter().filter_map(|(key, file)| {
            let own = self.outgoing.get(key);
            let is_same = own.is_some_and(|own| own.has_same_files(file));
            let order = self.determine_causal_order(state, key, file, &manifest.knowledge);
            let is_merged = is_same || order == VersionOrder::Known;
            if is_merged || !self.is_wanted(state, file, manifest) {
                return None;
            }

            Some(IncomingFile {
                key: key.clone(),
                files: file.files.clone(),
                version: Some(file.version.clone()),
                is_concurrent: order == VersionOrder::Concurrent,
                may_keep_version: !self.forked_replicas.is_ambiguous(&file.version),
                ..IncomingFile::default()
            })
        });

        let deleted_files = manifest.deleted.iter().filter_map(|(key, deletion)| {
            let own = self.outgoing.get(key)?;
            // The other machine knew the version that it deleted, and no machine has cancelled the deletion.
            let is_gone = !manifest.files.contains_key(key)
                && self.knows(&manifest.knowledge, key, &own.version)
                && !state.resolutions.contains(&deletion.id)
                && !manifest.resolved.contains(&deletion.id);
            is_gone.then(|| IncomingFile {
                key: key.clone(),
                ..IncomingFile::default()
            })
        });

        changed_files.chain(deleted_files).collect()
    }

    /// Returns true if a machine with this `knowledge` has merged the version. No machine counts as knowing a
    /// version that two machines may have published with different contents.
    fn knows(&self, knowledge: &Knowledge, key: &str, version: &VersionId) -> bool {
        !self.forked_replicas.is_ambiguous(version) && knowledge.knows(key, version)
    }

    /// Compares this machine's version of a file with `file`, the version of a machine with the knowledge
    /// `other_knowledge`.
    fn determine_causal_order(
        &self,
        state: &SyncState,
        key: &str,
        file: &FileVersions,
        other_knowledge: &Knowledge,
    ) -> VersionOrder {
        let is_known = self.knows(&self.position.knowledge, key, &file.version)
            || self.is_replaced_by_own(key, &file.version);

        let Some(own) = self.outgoing.get(key) else {
            // A file that this machine lacks and did not delete is new: the settings may not have included it before.
            let is_deleted = self.published_manifest.deleted.contains_key(key)
                || state.deleted.contains_key(key);
            return if is_known && is_deleted {
                VersionOrder::Known
            } else {
                VersionOrder::Concurrent
            };
        };

        // Two contents have one version id. If the contents are equal, the caller ignores the order.
        if own.version == file.version {
            return VersionOrder::Concurrent;
        }

        let rank = |VersionId(replica, number): &VersionId| (*number, replica.clone());
        let other_knows_own = self.knows(other_knowledge, key, &own.version);
        match (is_known, other_knows_own) {
            // Each machine decided for the version of the other one. On all machines, the version with the greater
            // number wins, and with equal numbers that of the greater replica id.
            (true, true) if rank(&own.version) < rank(&file.version) => VersionOrder::Newer,
            (true, _) => VersionOrder::Known,
            (false, true) => VersionOrder::Newer,
            (false, false) => VersionOrder::Concurrent,
        }
    }

    /// Returns true if this machine's version of a file replaced `version`: a waiting machine has the same version as
    /// this machine and knew `version`. This machine may have changed the file since, and must not lose the change to
    /// an older version.
    fn is_replaced_by_own(&self, key: &str, version: &VersionId) -> bool {
        let Some(own_file) = self.outgoing.get(key) else {
            return false;
        };
        let is_ambiguous = self.forked_replicas.is_ambiguous(&own_file.version);
        !is_ambiguous
            && self.waiting_machines.iter().any(|machine| {
                let file = machine.manifest.files.get(key);
                file.is_some_and(|file| file.version == own_file.version)
                    && self.knows(&machine.manifest.knowledge, key, version)
            })
    }

    /// Returns true for files that the settings include, and for conflict copies that wait for a decision.
    fn is_wanted(
        &self,
        state: &SyncState,
        file: &FileVersions,
        manifest: &SnapshotManifest,
    ) -> bool {
        let resolved = [&state.resolutions, &manifest.resolved];
        file.files.keys().all(|path| match parse_copy_name(path) {
            Some(name) => !resolutions::is_dropped(name, resolved),
            None => self.scope.classify(path) == ScopeMatch::Synced,
        })
    }
}
