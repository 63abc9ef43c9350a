//! The inputs that the plans of all files share. Nothing changes them while a plan is made.

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
use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::PathBuf;

/// Entries of this machine's ledger, by key as in manifests.
#[derive(Debug, Default)]
pub(super) struct LedgerVersions {
    pub(super) attested: HashMap<String, Vec<ManifestEntry>>,
    /// Versions that a killed run may have downloaded without recording them in the state; the newest one last.
    pub(super) downloaded: HashMap<String, Vec<ManifestEntry>>,
}

/// The request, and what machines have recorded about files: the state of the last sync, the ledger, the manifests and
/// the conflict copies. Manifests and ledger are read at first use: a sync without changes does not need them.
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
    manifests: OnceCell<RemoteManifests>,
    /// Entries of this machine's ledger, by key.
    ledger: OnceCell<LedgerVersions>,
}

impl<'a> Inputs<'a> {
    /// Reads the conflict copies. `manifests` are those of the other machines, if they were read already.
    pub(super) fn new(
        request: &'a PlanRequest<'a>,
        scope: &'a Scope,
        state: &'a SyncState,
        manifests: Option<RemoteManifests>,
        is_renamed: bool,
    ) -> Result<Self, IoError> {
        let config = request.config;
        let mut rules = config.policy.rules;
        if state.has_gaps {
            // The damaged state may have known which side changed. Times would guess, and a wrong guess overwrites
            // the newer version; the three-way comparison reports a conflict instead.
            rules.compare = Compare::ThreeWay;
        }
        Ok(Self {
            request,
            config,
            scope,
            rules,
            state,
            conflict_copies: ConflictCopies::read(&request.replica.folder, &config.cloud)?,
            is_renamed,
            manifests: manifests.map_or_else(OnceCell::new, OnceCell::from),
            ledger: OnceCell::new(),
        })
    }

    /// Returns the manifests of all other machines.
    pub(super) fn manifests(&self) -> Result<&RemoteManifests, IoError> {
        if let Some(read) = self.manifests.get() {
            return Ok(read);
        }
        let read = identity::read_remote_manifests(self.config, self.state)?;
        Ok(self.manifests.get_or_init(|| read))
    }

    /// Returns the manifests of all other machines if they were read already.
    pub(super) fn manifests_if_read(&self) -> Option<&RemoteManifests> {
        self.manifests.get()
    }

    /// Returns the path of this machine's manifest.
    pub(super) fn own_manifest(&self) -> PathBuf {
        identity::own_manifest_path(self.config, self.state)
    }

    /// Returns the ledger of this machine.
    pub(super) fn ledger(&self) -> Result<&LedgerVersions, IoError> {
        if let Some(read) = self.ledger.get() {
            return Ok(read);
        }
        let contents = Ledger::read(&self.request.replica.folder)?;
        let mut own = LedgerVersions::default();
        for (path, entry) in contents.earlier.into_iter().chain(contents.files) {
            let of_key = own.attested.entry(manifest::key_of(&path)).or_default();
            of_key.push(entry);
        }
        for (path, entry) in contents.downloaded {
            let of_key = own.downloaded.entry(manifest::key_of(&path)).or_default();
            of_key.push(entry);
        }
        Ok(self.ledger.get_or_init(|| own))
    }

    /// Returns the versions of a file that this machine attests.
    pub(super) fn ledger_versions(&self, key: &str) -> Result<&[ManifestEntry], IoError> {
        let own = self.ledger()?.attested.get(&manifest::fold_name(key));
        Ok(own.map_or(&[], Vec::as_slice))
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
    pub(super) fn may_drop(&self, name: &str) -> Result<bool, IoError> {
        let records = [&self.state.resolutions, &self.manifests()?.resolutions];
        Ok(resolutions::is_dropped(name, records))
    }

    /// Returns the full path of a conflict copy on a side.
    pub(super) fn conflict_copy_path(&self, side: Side, name: &str) -> PathBuf {
        let folder = &self.request.replica.folder;
        conflict_copies::full_path(side, name, folder, &self.config.cloud)
    }

    /// Returns the versions of a file that other machines or this one attest.
    pub(super) fn attested_versions<'s>(
        &'s self,
        key: &str,
    ) -> Result<impl Iterator<Item = &'s ManifestEntry>, IoError> {
        let others = self.manifests()?.entries(key);
        Ok(others.iter().chain(self.ledger_versions(key)?))
    }

    /// Returns true if other machines write manifests, or did.
    pub(super) fn has_other_machines(&self) -> Result<bool, IoError> {
        Ok(self.state.has_other_machines || self.manifests()?.machines > 0)
    }
}
