//! The records of all machines about files: the state of the last sync, the ledger, the manifests and the conflict
//! copies. A plan reads the ledger when it first needs a version of it, and the other records before it compares files.

use super::config::SyncConfig;
use super::conflict_copies::ConflictCopies;
use super::ledger::Ledger;
use super::listed_versions::RemoteManifests;
use super::manifest::{self, ManifestEntry};
use super::state::{Deletion, Replica, SyncState, SyncedFile};
use super::{resolutions, rollouts};
use crate::io::IoError;
use crate::io::hash::Sha256Digest;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Versions by [`manifest::folded_key`]. Of several versions of a path, the newest is the last one.
type VersionsByKey = HashMap<String, Vec<ManifestEntry>>;

pub(crate) struct Records {
    pub(crate) state: SyncState,
    pub(crate) conflict_copies: ConflictCopies,
    pub(crate) manifests: RemoteManifests,
    /// The folder with the ledger.
    run_folder: PathBuf,
    /// Read when one of its versions is first needed: it may have many thousands, and a plan without changes needs
    /// none.
    ledger: OnceLock<LedgerVersions>,
    /// Locked while the ledger is read, so that only one thread reads it.
    ledger_reading: Mutex<()>,
}

struct LedgerVersions {
    /// Versions that this machine attests.
    own: VersionsByKey,
    /// Versions that a killed run may have downloaded without recording them in the state.
    downloaded: VersionsByKey,
}

impl Records {
    /// Reads the conflict copies, and adds the state and the manifests of the other machines.
    pub(crate) fn read(
        config: &SyncConfig,
        replica: &Replica,
        state: SyncState,
        manifests: RemoteManifests,
    ) -> Result<Self, IoError> {
        Ok(Self {
            state,
            conflict_copies: ConflictCopies::read(&replica.folder, &config.cloud)?,
            manifests,
            run_folder: replica.run_folder().to_path_buf(),
            ledger: OnceLock::new(),
            ledger_reading: Mutex::new(()),
        })
    }

    fn ledger(&self) -> Result<&LedgerVersions, IoError> {
        let reading = self.ledger_reading.lock();
        let _reading = reading.unwrap_or_else(PoisonError::into_inner);
        if let Some(versions) = self.ledger.get() {
            return Ok(versions);
        }
        let ledger = Ledger::read(&self.run_folder)?;
        let versions = LedgerVersions {
            own: group_by_key(ledger.superseded.into_iter().chain(ledger.files)),
            downloaded: group_by_key(ledger.downloaded),
        };
        Ok(self.ledger.get_or_init(|| versions))
    }

    pub(crate) fn last_synced(&self, key: &str) -> Option<&SyncedFile> {
        self.state.files.get(key)
    }

    /// Returns the versions of a file that this machine attests.
    pub(crate) fn own_versions(&self, key: &str) -> Result<&[ManifestEntry], IoError> {
        Ok(find_versions(&self.ledger()?.own, key))
    }

    /// Returns the versions of a file that a killed run may have downloaded.
    pub(crate) fn downloaded_versions(&self, key: &str) -> Result<&[ManifestEntry], IoError> {
        Ok(find_versions(&self.ledger()?.downloaded, key))
    }

    /// Returns the versions of a file that other machines or this one attest.
    pub(crate) fn attested_versions(
        &self,
        key: &str,
    ) -> Result<impl Iterator<Item = &ManifestEntry> + Clone, IoError> {
        let listed_entries = self.manifests.listed_entries(key);
        Ok(listed_entries.chain(self.own_versions(key)?))
    }

    /// Returns the resolutions of this machine, and those of the other machines.
    pub(crate) fn resolutions(&self) -> [&BTreeSet<String>; 2] {
        [&self.state.resolutions, &self.manifests.resolutions]
    }

    /// Returns true if the user decided on any machine that the version with this conflict copy name may be dropped.
    pub(crate) fn may_drop(&self, copy_name: &str) -> bool {
        resolutions::is_dropped(copy_name, self.resolutions())
    }

    /// Returns the deletions of a file that other machines publish and that are not cancelled.
    pub(crate) fn pending_deletions(&self, key: &str) -> impl Iterator<Item = &Deletion> {
        let requested = self.manifests.pending_deletions(key);
        requested.filter(|deletion| !self.state.resolutions.contains(&deletion.id))
    }

    /// Returns true if this machine or another one published the deletion of a file.
    pub(crate) fn has_deletion(&self, key: &str) -> bool {
        self.state.deleted.contains_key(key) || self.pending_deletions(key).next().is_some()
    }

    /// Returns the digests of the deleted versions of a file, whose deletions are published and not cancelled.
    pub(crate) fn deleted_versions(&self, key: &str) -> Vec<Sha256Digest> {
        // The records of resolutions also hold the ids of cancelled deletions.
        let own_deletion = self.state.deleted.get(key).filter(|deletion| {
            let mut record_sets = self.resolutions().into_iter();
            !record_sets.any(|records| records.contains(&deletion.id))
        });
        let deletions = self.pending_deletions(key).chain(own_deletion);
        let digests = deletions.filter_map(|deletion| Sha256Digest::parse(&deletion.digest));
        digests.collect()
    }

    /// Returns true if the deletion of the version with the digest `deleted_digest` also covers `version`, so that no
    /// machine waits for `version`. A deletion covers all versions, with one exception: if a manifest still lists the
    /// deleted version of a conversation, longer versions of the conversation are not covered.
    pub(crate) fn deletion_covers(
        &self,
        key: &str,
        version: &ManifestEntry,
        deleted_digest: Sha256Digest,
    ) -> Result<bool, IoError> {
        let mut attested_versions = self.attested_versions(key)?;
        let deleted_entry = attested_versions.find(|entry| entry.digest == deleted_digest);
        Ok(match deleted_entry {
            Some(deleted_entry) if rollouts::is_key(key) && version.digest != deleted_digest => {
                version.size <= deleted_entry.size
            }
            _ => true,
        })
    }
}

fn group_by_key(entries: impl IntoIterator<Item = (String, ManifestEntry)>) -> VersionsByKey {
    let mut versions = VersionsByKey::new();
    for (path, entry) in entries {
        let versions_of_key = versions.entry(manifest::folded_key(&path)).or_default();
        versions_of_key.push(entry);
    }
    versions
}

fn find_versions<'v>(versions: &'v VersionsByKey, key: &str) -> &'v [ManifestEntry] {
    let versions_of_key = versions.get(&manifest::fold_name(key));
    versions_of_key.map_or(&[], Vec::as_slice)
}
