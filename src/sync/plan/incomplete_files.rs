//! Report of the files that the sync waits for: which machine has the newest version of each, and whether
//! `--accept-unlisted` would help.

use super::delivery::ZERO_FILLED;
use super::error::PlanError;
use super::groups::key_of;
use super::inputs::Planner;
use super::undelivered::newest;
use crate::sync::manager_folder;
use crate::sync::manifest;
use crate::sync::remote_manifests;
use crate::sync::scan::Side;
use crate::sync::scope::Scope;
use std::collections::HashSet;
use std::fmt::Write as _;

impl Planner<'_> {
    /// Completes the plan's lists: manifests that cannot be read, undelivered versions, and for each waiting file the
    /// machine that has its newest version. `--accept-unlisted` is offered only for files of which no machine lists a
    /// newer version; otherwise it could overwrite a version that is still being delivered with an older one.
    pub(super) fn report_incomplete(&mut self, scope: &Scope) -> Result<(), PlanError> {
        let (cloud, own) = (&self.request.config.cloud, self.own_manifest());
        let placeholders = remote_manifests::not_downloaded(cloud, &own)?;
        if let Some(read) = self.manifests.get() {
            self.plan
                .notices
                .skipped
                .extend(read.refused.iter().cloned());
        }
        let undelivered = std::mem::take(&mut self.undelivered);
        let keys = self
            .plan
            .notices
            .waiting
            .iter()
            .map(|(path, _)| manifest::key_of(path));
        let keys: HashSet<String> = keys.chain(undelivered.keys().cloned()).collect();
        let former = &self.state.own.former;
        let listed = remote_manifests::listed_versions(
            cloud,
            &own,
            former,
            &keys,
            &remote_manifests::MANIFEST_LIMITS,
        )?;
        self.report_undelivered(&undelivered, &listed, scope)?;
        let mut waiting = std::mem::take(&mut self.plan.notices.waiting);
        for (path, why) in &mut waiting {
            let key = manifest::key_of(path);
            let is_newer = |version: &&_| {
                undelivered
                    .get(&key)
                    .is_some_and(|file| file.may_include(version))
            };
            let versions = listed.get(&key).into_iter().flatten();
            let newest = newest(&key, versions.filter(is_newer)).into_iter();
            let machines: Vec<&str> = newest.map(|version| &*version.machine).collect();
            self.plan.notices.may_accept_unlisted |=
                machines.is_empty() && self.unlisted.contains(path);
            self.add_newest_machine(path, why, &machines);
        }
        self.plan.notices.waiting = waiting;
        for name in placeholders {
            let why = remote_manifests::NOT_DOWNLOADED.to_owned();
            let path = manager_folder::display_name(&name);
            self.plan.notices.waiting.push((path, why));
        }
        Ok(())
    }

    /// Adds to the reason for waiting where the newest version is: on one of the `machines`, or on this one.
    fn add_newest_machine(&self, path: &str, why: &mut String, machines: &[&str]) {
        let newest_on = match machines {
            [] if self.has_local_version(path) => "this machine".to_owned(),
            [] => String::new(),
            machines => machines.join(" or "),
        };
        if why == ZERO_FILLED {
            let on = if newest_on.is_empty() {
                "the machine that has it"
            } else {
                &newest_on
            };
            let _ = write!(
                why,
                "; remove it from the cloud folder and run codex-manager sync run --apply on {on}"
            );
        } else if !newest_on.is_empty() {
            let _ = write!(why, "; {newest_on} has the newest version");
        }
    }

    /// Returns true if the Codex home has a version of a waiting file.
    fn has_local_version(&self, path: &str) -> bool {
        let last = self.state.files.get(&key_of(path));
        let path = last.map_or(path, |last| &last.local.path);
        self.request.config.file_path(Side::Local, path).is_file()
    }
}
