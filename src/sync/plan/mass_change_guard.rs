//! Many files at once: a cloud folder that has lost most of its files, what the configuration no longer
//! names, and deletions in bulk.

use super::grouping::FileGroup;
use super::{PlanError, Planner, SyncAction, SyncStep};
use crate::io::IoError;
use crate::io::quantity::pluralize;
use crate::sync::config::DeletePolicy;
use crate::sync::scan::{Side, Stat};
use crate::sync::scope::{Scope, ScopeMatch};
use crate::sync::state::{Deletion, SyncedFile};
use std::collections::HashMap;

/// So many deletions at once are never held back, unless they are more than half of all files.
const MIN_DELETION_LIMIT: usize = 5;
/// More than so many deletions at once are always held back.
const MAX_DELETION_LIMIT: usize = 20;

impl Planner<'_> {
    /// A folder that has lost most of what it had is not mounted, or not downloaded. What neither side
    /// has any more is forgotten. What the configuration no longer names is not missed.
    pub(super) fn refuse_unmounted(
        &mut self,
        groups: &HashMap<String, FileGroup>,
        scope: &Scope,
    ) -> Result<(), PlanError> {
        let mut missing = 0;
        let mut lost = Vec::new();
        let state = self.state;
        for (key, last) in &state.files {
            match groups.get(key) {
                Some(group)
                    if !group.remote.is_empty() || group.has_placeholder || group.is_blocked => {}
                // A word that arrived tells that the folder is there.
                Some(_) if self.open_deletions(key)?.next().is_some() => {}
                Some(_) if state.deleted.contains_key(key) => {}
                Some(_) => missing += 1,
                None if is_out_of_scope(last, scope) => self.keep_out_of_scope(key, last)?,
                // Here somebody has done the same; or a run that was killed has, and has said so.
                None if state.deleted.contains_key(key)
                    || self.open_deletions(key)?.next().is_some() =>
                {
                    self.plan.forgotten.push(key.clone());
                }
                None => {
                    missing += 1;
                    self.plan.forgotten.push(key.clone());
                    lost.push((key, last));
                }
            }
        }
        if self.plan.out_of_scope > 0 {
            let files = match self.plan.out_of_scope {
                1 => "1 file".to_owned(),
                n => format!("{n} files"),
            };
            let why = format!("{files} no longer synced: left as they are on both sides");
            self.plan
                .notes
                .push(("include_roots, exclude_globs".into(), why));
        }
        if self.request.refill {
            return Ok(());
        }
        let known = self.known_count();
        let many = missing > (known / 4).max(20);
        let unmarked = || !self.is_renamed && !self.own_manifest().exists();
        if missing > 0 && (many || unmarked()) {
            return Err(PlanError::MostFilesMissing {
                missing,
                known,
                cloud: self.request.config.cloud.clone(),
            });
        }
        self.publish_lost_deletions(lost)
    }

    /// What was deleted here, and is gone from the cloud folder without anybody's word, is gone for all:
    /// else the next machine would bring it back. Not where that is many, or where this machine may have forgotten what
    /// became of it since.
    fn publish_lost_deletions(
        &mut self,
        lost: Vec<(&String, &SyncedFile)>,
    ) -> Result<(), PlanError> {
        let is_asked = self.rules.delete == DeletePolicy::Propagate;
        let knows = !self.is_renamed && !self.state.has_gaps;
        let is_many = lost.len() > self.deletion_limit() && !self.request.delete_many;
        if !is_asked || !knows || is_many {
            return Ok(());
        }
        for (key, last) in lost {
            let Some((_, digest)) = last.contents else {
                continue;
            };
            let digest = digest.to_string();
            let is_same = |deletion: &Deletion| deletion.digest == digest;
            let is_asked = self.open_deletions(key)?.any(is_same);
            if !is_asked {
                self.plan.deletions.push((key.clone(), digest));
            }
        }
        Ok(())
    }

    /// How many deletions go over without `--delete-many`: a tenth of the files, but at least
    /// [`FEW_DELETIONS`], at most [`MANY_DELETIONS`], and never more than half of them.
    fn deletion_limit(&self) -> usize {
        let known = self.known_count();
        let floor = MIN_DELETION_LIMIT.min(known / 2).max(1);
        (known / 10).clamp(floor, MAX_DELETION_LIMIT)
    }

    /// A file that the configuration no longer names: what is known of it is kept for the day that it
    /// is named again. Where a side has lost it meanwhile, that is no deletion to be sent on then.
    fn keep_out_of_scope(&mut self, key: &str, last: &SyncedFile) -> Result<(), IoError> {
        let config = self.request.config;
        let local = Stat::at(&config.file_path(Side::Local, &last.local.path))?;
        let remote = Stat::at(&config.file_path(Side::Remote, &last.remote.path))?;
        if local.is_some() && remote.is_some() {
            self.plan.out_of_scope += 1;
        } else {
            self.plan.forgotten.push(key.to_owned());
        }
        Ok(())
    }

    /// How many of the files that are synced the last sync has seen.
    fn known_count(&self) -> usize {
        self.state
            .files
            .len()
            .saturating_sub(self.plan.out_of_scope)
    }

    /// Many deletions at once are more likely a folder that somebody has lost: they stay as they are on
    /// both sides until somebody says that they are meant. Nothing else waits for that.
    pub(super) fn hold_mass_deletions(&mut self) {
        // What this machine has said it deletes goes on where it stopped.
        let is_under_way = |step: &SyncStep| self.state.deleted.contains_key(&step.key);
        let is_deletion = |step: &SyncStep| match step.action {
            SyncAction::DeleteLocal => true,
            SyncAction::DeleteCloud => !is_under_way(step),
            _ => false,
        };
        let count = self
            .plan
            .steps
            .iter()
            .filter(|step| is_deletion(step))
            .count();
        let limit = self.deletion_limit();
        if self.request.delete_many || count <= limit {
            return;
        }
        let steps = std::mem::take(&mut self.plan.steps).into_iter();
        let (held, steps): (Vec<SyncStep>, _) = steps.partition(is_deletion);
        self.plan.steps = steps;
        self.plan.held_deletions = held.len();
        for step in held {
            let side = match step.action {
                SyncAction::DeleteCloud => "here",
                _ => "on another machine",
            };
            let why = format!(
                "deleted {side}, and not sent on: {} at once (at most {limit})",
                pluralize(count, "deletion")
            );
            self.plan.skipped.push((step.path, why));
        }
    }
}

/// Whether a file of the last sync is none of those that are synced now.
fn is_out_of_scope(last: &SyncedFile, scope: &Scope) -> bool {
    [&last.local, &last.remote]
        .into_iter()
        .all(|place| scope.classify(&place.path) == ScopeMatch::Excluded)
}
