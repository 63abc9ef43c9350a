//! The request, the records and the rules with which facts about files are read.

use crate::sync::config::{Compare, DecisionRules, SyncConfig};
use crate::sync::plan::request::PlanRequest;
use crate::sync::records::Records;
use crate::sync::remote::folder::folder_reader::FolderReader;
use crate::sync::scope::Scope;

pub(crate) struct FactReader<'a> {
    pub(super) request: &'a PlanRequest<'a>,
    pub(super) config: &'a SyncConfig,
    pub(super) scope: &'a Scope,
    pub(super) records: &'a Records,
    pub(super) rules: DecisionRules,
    pub(crate) folder: FolderReader<'a>,
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
            folder: FolderReader {
                config,
                scope,
                records,
                accept_unlisted: request.accept_unlisted,
                is_resolving: request.policy_override.is_some(),
            },
        }
    }
}
