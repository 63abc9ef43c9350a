//! The request, the records and the rules with which facts about files are read.

use super::newest_rewinds::{NewestRewind, find_newest_rewinds};
use crate::sync::cloud_folder::folder_reader::FolderReader;
use crate::sync::config::{Compare, DecisionRules, SyncConfig};
use crate::sync::continued_rollouts::ContinuedRollouts;
use crate::sync::file_group::FileGroup;
use crate::sync::plan::request::PlanRequest;
use crate::sync::records::Records;
use crate::sync::scope::Scope;
use std::collections::{HashMap, HashSet};
use std::sync::OnceLock;

pub(crate) struct FactReader<'a> {
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) config: &'a SyncConfig,
    pub(super) scope: &'a Scope,
    pub(super) records: &'a Records,
    pub(super) rules: DecisionRules,
    pub(crate) folder: FolderReader<'a>,
    pub(super) groups: &'a HashMap<String, FileGroup>,
    /// By the id of the thread; see [`find_newest_rewinds`].
    pub(super) newest_rewinds: HashMap<String, NewestRewind>,
    pub(super) continued_rollouts: OnceLock<ContinuedRollouts>,
    /// The keys of the local conversations that `exclude_globs` excludes; empty without globs.
    pub(super) excluded_keys: OnceLock<HashSet<String>>,
}

impl<'a> FactReader<'a> {
    pub(crate) fn new(
        request: &'a PlanRequest<'a>,
        scope: &'a Scope,
        records: &'a Records,
        groups: &'a HashMap<String, FileGroup>,
    ) -> Self {
        let config = request.config;
        let mut rules = config.policy.rules;

        if records.state.has_gaps {
            // The state may have lost the record that shows which side changed. By mtime, sync could overwrite the
            // newer version; the three-way comparison reports a conflict instead.
            rules.compare = Compare::ThreeWay;
        }

        Self {
            request,
            config,
            scope,
            records,
            rules,
            folder: FolderReader {
                config,
                scope,
                records,
                accept_unlisted: request.accept_unlisted,
                is_resolving: request.policy_override.is_some(),
            },
            groups,
            newest_rewinds: find_newest_rewinds(groups, &records.state),
            continued_rollouts: OnceLock::new(),
            excluded_keys: OnceLock::new(),
        }
    }
}
