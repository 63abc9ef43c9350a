//! The inputs that all groups share, and the plan in the making.

use super::request::PlanRequest;
use super::steps::ObservedFile;
use super::sync_plan::SyncPlan;
use super::undelivered_version::UndeliveredFiles;
use crate::io::IoError;
use crate::sync::config::{Compare, DecisionRules};
use crate::sync::conflict_copies::{self, ConflictCopies};
use crate::sync::identity;
use crate::sync::ledger::Ledger;
use crate::sync::manifest::{self, ManifestEntry};
use crate::sync::remote_manifests::RemoteManifests;
use crate::sync::resolutions;
use crate::sync::scan::Side;
use crate::sync::state::SyncState;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

/// Entries of this machine's ledger, by key as in manifests.
#[derive(Debug, Default)]
pub(super) struct LedgerVersions {
    /// Versions that this machine attests.
    pub(super) attested: HashMap<String, Vec<ManifestEntry>>,
    /// Versions that a killed run may have downloaded without recording them in the state; the newest one last.
    pub(super) downloaded: HashMap<String, Vec<ManifestEntry>>,
}

/// Builds the plan. Holds the inputs that all groups share; each module above this one adds the methods for its own
/// rules.
pub(super) struct Planner<'a> {
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) rules: DecisionRules,
    pub(super) state: &'a SyncState,
    /// Manifests of other machines, read at first use: a sync without changes does not need them.
    pub(super) manifests: OnceCell<RemoteManifests>,
    /// This machine's ledger, read at first use.
    pub(super) ledger: OnceCell<LedgerVersions>,
    /// Entries of this machine's manifest in the cloud folder, by key, read at first use.
    pub(super) own_published: OnceCell<HashMap<String, Vec<ManifestEntry>>>,
    pub(super) conflict_copies: ConflictCopies,
    /// True if this machine gets a new manifest name in this run, so its manifest does not exist yet.
    pub(super) is_renamed: bool,
    /// With `session_mode = "last_date_only"`, the date that is synced.
    pub(super) latest_date: Option<String>,
    /// Paths in `plan.notices.waiting` whose present content no machine attests; `--accept-unlisted` could use them.
    pub(super) unlisted: BTreeSet<String>,
    /// Versions that other machines list and that are not in the cloud folder yet.
    pub(super) undelivered: UndeliveredFiles,
    pub(super) plan: SyncPlan,
}

impl<'a> Planner<'a> {
    /// Creates a planner that has read nothing yet and whose plan is empty.
    pub(super) fn new(
        request: &'a PlanRequest<'a>,
        state: &'a SyncState,
        conflict_copies: ConflictCopies,
    ) -> Self {
        let mut rules = request.config.policy.rules;
        if state.has_gaps {
            // The damaged state may have known which side changed. Times would guess, and a wrong guess overwrites
            // the newer version; the three-way comparison reports a conflict instead.
            rules.compare = Compare::ThreeWay;
        }
        Self {
            request,
            rules,
            state,
            manifests: OnceCell::new(),
            ledger: OnceCell::new(),
            own_published: OnceCell::new(),
            conflict_copies,
            is_renamed: false,
            latest_date: None,
            unlisted: BTreeSet::new(),
            undelivered: UndeliveredFiles::new(),
            plan: SyncPlan::default(),
        }
    }

    /// Returns the root folder of a side.
    pub(super) fn root(&self, side: Side) -> &Path {
        self.request.config.root(side)
    }

    /// Returns the full path of a file.
    pub(super) fn full(&self, seen: &ObservedFile) -> PathBuf {
        self.request.config.file_path(seen.side, &seen.path)
    }

    /// Returns the manifests of all other machines.
    pub(super) fn manifests(&self) -> Result<&RemoteManifests, IoError> {
        if let Some(read) = self.manifests.get() {
            return Ok(read);
        }
        let read = identity::read_remote_manifests(self.request.config, self.state)?;
        Ok(self.manifests.get_or_init(|| read))
    }

    /// Returns the path of this machine's manifest.
    pub(super) fn own_manifest(&self) -> PathBuf {
        identity::own_manifest_path(self.request.config, self.state)
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

    /// Adds a file to the waiting files, because no machine attests its present content.
    pub(super) fn wait_for_listing(&mut self, path: &str, why: &str) {
        self.unlisted.insert(path.to_owned());
        self.plan
            .notices
            .waiting
            .push((path.to_owned(), why.to_owned()));
    }

    /// Returns true if the user decided on any machine that a version may be dropped.
    pub(super) fn may_drop(&self, name: &str) -> Result<bool, IoError> {
        let records = [&self.state.resolutions, &self.manifests()?.resolutions];
        Ok(resolutions::is_dropped(name, records))
    }

    /// Returns the full path of a conflict copy on a side.
    pub(super) fn conflict_copy_path(&self, side: Side, name: &str) -> PathBuf {
        let folder = &self.request.replica.folder;
        conflict_copies::folder(side, folder, &self.request.config.cloud).join(name)
    }
}
