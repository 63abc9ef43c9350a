//! The data that the plans of all files share. It is read before any decision and stays as it is while a plan is made.

use super::request::PlanRequest;
use crate::io::IoError;
use crate::sync::config::{Compare, DecisionRules, SyncConfig};
use crate::sync::conflict_copies::{self, ConflictCopies};
use crate::sync::identity;
use crate::sync::ledger::Ledger;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::resolutions;
use crate::sync::scan::Side;
use crate::sync::scope::Scope;
use crate::sync::state::SyncState;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

/// Versions by key as in manifests, the newest one last.
type VersionsByKey = HashMap<String, Vec<ManifestEntry>>;

/// The request, and what machines have recorded about files: the state of the last sync, the ledger, the manifests and
/// the conflict copies.
pub(super) struct Inputs<'a> {
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) config: &'a SyncConfig,
    pub(super) scope: &'a Scope,
    pub(super) rules: DecisionRules,
    pub(super) state: &'a SyncState,
    pub(super) conflict_copies: ConflictCopies,
    /// True if this machine gets a new manifest name in this run, so its manifest does not exist yet.
    pub(super) is_renamed: bool,
    /// Manifests of the other machines.
    pub(super) manifests: RemoteManifests,
    /// Versions in the ledger that this machine attests.
    own: VersionsByKey,
    /// Versions in the ledger that a killed run may have downloaded without recording them in the state.
    downloaded: VersionsByKey,
}

impl<'a> Inputs<'a> {
    /// Reads the conflict copies and the ledger. `manifests` are those of the other machines.
    pub(super) fn new(
        request: &'a PlanRequest<'a>,
        scope: &'a Scope,
        state: &'a SyncState,
        manifests: RemoteManifests,
        is_renamed: bool,
    ) -> Result<Self, IoError> {
        let config = request.config;
        let mut rules = config.policy.rules;
        if state.has_gaps {
            // The damaged state may have known which side changed. Times would guess, and a wrong guess overwrites
            // the newer version; the three-way comparison reports a conflict instead.
            rules.compare = Compare::ThreeWay;
        }
        let ledger = Ledger::read(&request.replica.folder)?;
        Ok(Self {
            request,
            config,
            scope,
            rules,
            state,
            conflict_copies: ConflictCopies::read(&request.replica.folder, &config.cloud)?,
            is_renamed,
            manifests,
            own: by_key(ledger.earlier.into_iter().chain(ledger.files)),
            downloaded: by_key(ledger.downloaded),
        })
    }

    /// Returns the path of this machine's manifest.
    pub(super) fn own_manifest(&self) -> PathBuf {
        identity::own_manifest_path(self.config, self.state)
    }

    /// Returns the versions of a file that this machine attests.
    pub(super) fn own_versions(&self, key: &str) -> &[ManifestEntry] {
        versions_of(&self.own, key)
    }

    /// Returns the versions of a file that a killed run may have downloaded.
    pub(super) fn downloaded_versions(&self, key: &str) -> &[ManifestEntry] {
        versions_of(&self.downloaded, key)
    }

    /// Returns the versions of a file that other machines or this one attest.
    pub(super) fn attested_versions(&self, key: &str) -> impl Iterator<Item = &ManifestEntry> {
        self.manifests.entries(key).chain(self.own_versions(key))
    }

    /// Returns the decision rules for one path, with the policy that `sync resolve` gives for it.
    pub(super) fn rules_for(&self, path: &str) -> DecisionRules {
        let mut rules = self.rules;
        if let Some((_, policy)) = self.request.policy_override
            && self.has_policy_override(path)
        {
            rules.conflict = policy;
        }
        rules
    }

    /// Returns true if `sync resolve` decides about this path.
    pub(super) fn has_policy_override(&self, path: &str) -> bool {
        self.request
            .policy_override
            .is_some_and(|(resolved, _)| resolved == path)
    }

    /// Returns true if files with equal size and time count as equal without reading them.
    pub(super) fn trusts_mtime(&self) -> bool {
        self.rules.compare == Compare::Mtime
    }

    /// Returns true if the user decided on any machine that a version may be dropped.
    pub(super) fn may_drop(&self, name: &str) -> bool {
        resolutions::is_dropped(name, self.resolutions())
    }

    /// Returns the resolutions of this machine and of the others.
    pub(super) fn resolutions(&self) -> [&BTreeSet<String>; 2] {
        [&self.state.resolutions, &self.manifests.resolutions]
    }

    /// Returns the full path of a conflict copy on a side.
    pub(super) fn conflict_copy_path(&self, side: Side, name: &str) -> PathBuf {
        let folder = &self.request.replica.folder;
        conflict_copies::full_path(side, name, folder, &self.config.cloud)
    }

    /// Returns true if other machines write manifests, or did.
    pub(super) fn has_other_machines(&self) -> bool {
        self.state.has_other_machines || self.manifests.machines > 0
    }
}

fn by_key(entries: impl IntoIterator<Item = (String, ManifestEntry)>) -> VersionsByKey {
    let mut versions = VersionsByKey::new();
    for (path, entry) in entries {
        versions
            .entry(manifest::key_of(&path))
            .or_default()
            .push(entry);
    }
    versions
}

fn versions_of<'v>(versions: &'v VersionsByKey, key: &str) -> &'v [ManifestEntry] {
    versions
        .get(&manifest::fold_name(key))
        .map_or(&[], Vec::as_slice)
}
