//! Reads the facts about files. Only this folder and `scan` read the disk while a plan is made.

use super::file_version::FileVersion;
use crate::sync::config::{Compare, DecisionRules, DeletePolicy, SyncConfig};
use crate::sync::conflict_copies;
use crate::sync::decide::FileKind;
use crate::sync::plan::records::Records;
use crate::sync::plan::request::PlanRequest;
use crate::sync::plan::sync_step::ObservedFile;
use crate::sync::scan::ListedFile;
use crate::sync::scope::Scope;
use crate::sync::secrets;
use crate::sync::sides::Side;
use std::path::{Path, PathBuf};

pub(crate) struct FactReader<'a> {
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) config: &'a SyncConfig,
    pub(super) scope: &'a Scope,
    pub(super) records: &'a Records,
    pub(super) rules: DecisionRules,
}

impl<'a> FactReader<'a> {
    pub(crate) fn new(
        request: &'a PlanRequest<'a>,
        scope: &'a Scope,
        records: &'a Records,
    ) -> Self {
        let config = request.config;
        let mut rules = config.policy.rules;
        if records.state.has_gaps {
            // The damaged state may have known which side changed. Times would guess, and a wrong guess overwrites
            // the newer version; the three-way comparison reports a conflict instead.
            rules.compare = Compare::ThreeWay;
        }
        Self {
            request,
            config,
            scope,
            records,
            rules,
        }
    }

    /// Returns the decision rules for one path, with the policy that `sync resolve` gives for it.
    pub(super) fn rules_for(&self, path: &str, kind: FileKind) -> DecisionRules {
        let mut rules = self.rules;
        if let Some((resolved, policy)) = self.request.policy_override
            && resolved == path
        {
            rules.conflict = policy;
        }
        if kind == FileKind::Lines {
            rules.delete = DeletePolicy::Never;
        }
        rules
    }

    /// Returns true if files with equal size and time count as equal without reading them.
    pub(super) fn trusts_mtime(&self) -> bool {
        self.rules.compare == Compare::Mtime
    }

    /// Returns a version that is used without a check of its attestation.
    pub(super) fn version(&self, side: Side, found: &ListedFile) -> FileVersion {
        FileVersion {
            full_path: self.config.file_path(side, &found.path),
            mtime_ns: found.stat.mtime_ns,
            seen: ObservedFile::of(side, found),
            attested: None,
            bytes: None,
            secret: None,
        }
    }

    /// Returns the side with the newer time, or neither within the tolerance.
    pub(super) fn newer(&self, local: &FileVersion, remote: &FileVersion) -> Option<Side> {
        let apart = i128::from(local.mtime_ns) - i128::from(remote.mtime_ns);
        if apart.abs() <= self.config.policy.tolerance_nanos {
            None
        } else if apart > 0 {
            Some(Side::Local)
        } else {
            Some(Side::Remote)
        }
    }

    /// Returns the full path of a conflict copy on a side.
    pub(super) fn conflict_copy_path(&self, side: Side, name: &str) -> PathBuf {
        let folder = &self.request.replica.folder;
        conflict_copies::full_path(side, name, folder, &self.config.cloud)
    }
}

/// Returns true if a file is a login and nothing else, which is not copied under any name. If it cannot be read,
/// copying it fails with the reason.
pub(super) fn is_login(path: &Path) -> bool {
    secrets::is_login(path).unwrap_or_default()
}
