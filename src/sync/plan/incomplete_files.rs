//! Files that are waited for: which machine has the newest version of each, and whether `--accept-unlisted` may
//! take one as it is.

use super::undelivered::newest;
use super::versions::ZERO_FILLED;
use super::{PlanError, Planner, key_of};
use crate::sync::manifest;
use crate::sync::remote_manifests;
use crate::sync::scan::Side;
use crate::sync::scope::Scope;
use std::collections::HashSet;
use std::fmt::Write as _;

impl Planner<'_> {
    /// Waits for a file that no machine lists as it is.
    pub(super) fn wait_for_listing(&mut self, path: &str, why: &str) {
        self.unlisted.insert(path.to_owned());
        self.plan.waiting.push((path.to_owned(), why.to_owned()));
    }

    /// Names the manifests that cannot be read, and the machine that has the newest version of each file that is
    /// waited for.
    pub(super) fn report_incomplete(&mut self, scope: &Scope) -> Result<(), PlanError> {
        let (cloud, own) = (&self.request.config.cloud, self.own_manifest());
        let not_here = remote_manifests::not_downloaded(cloud, &own)?;
        if let Some(read) = self.manifests.get() {
            self.plan.skipped.extend(read.refused.iter().cloned());
        }
        let ahead = std::mem::take(&mut self.undelivered);
        let keys = self
            .plan
            .waiting
            .iter()
            .map(|(path, _)| manifest::key_of(path));
        let keys: HashSet<String> = keys.chain(ahead.keys().cloned()).collect();
        let former = &self.state.former_manifests;
        let listed = remote_manifests::listed_versions(
            cloud,
            &own,
            former,
            &keys,
            &remote_manifests::MANIFEST_LIMITS,
        )?;
        self.report_undelivered(&ahead, &listed, scope)?;
        let mut waiting = std::mem::take(&mut self.plan.waiting);
        for (path, why) in &mut waiting {
            let key = manifest::key_of(path);
            let is_ahead = |version: &&_| {
                ahead
                    .get(&key)
                    .is_some_and(|ahead| ahead.may_include(version))
            };
            let versions = listed.get(&key).into_iter().flatten();
            let machines: Vec<&str> = newest(&key, versions.filter(is_ahead))
                .into_iter()
                .map(|version| &*version.machine)
                .collect();
            let has_newest = match &*machines {
                [] if self.has_local_version(path) => "this machine".to_owned(),
                [] => String::new(),
                machines => machines.join(" or "),
            };
            self.plan.may_accept_unlisted |= machines.is_empty() && self.unlisted.contains(path);
            if why == ZERO_FILLED {
                let on = if has_newest.is_empty() {
                    "the machine that has it"
                } else {
                    &has_newest
                };
                let _ = write!(
                    why,
                    "; remove it from the cloud folder and run codex-manager sync run --apply on {on}"
                );
            } else if !has_newest.is_empty() {
                let _ = write!(why, "; {has_newest} has the newest version");
            }
        }
        self.plan.waiting = waiting;
        let not_here = not_here.iter().map(|name| manifest::display_name(name));
        let not_here = not_here.map(|path| (path, remote_manifests::NOT_DOWNLOADED.to_owned()));
        self.plan.waiting.extend(not_here);
        Ok(())
    }

    /// Whether this machine has a version of a file that is waited for in the cloud folder.
    fn has_local_version(&self, path: &str) -> bool {
        let last = self.state.files.get(&key_of(path));
        let path = last.map_or(path, |last| &last.local.path);
        self.request.config.file_path(Side::Local, path).is_file()
    }
}
