//! Guards against mass changes: a cloud folder that lacks most of its files is probably not mounted, and many
//! deletions at once are probably a lost folder. Files that the configuration no longer includes are neither.

use super::error::PlanError;
use super::groups::FileGroup;
use super::inputs::Planner;
use super::steps::{SyncAction, SyncStep};
use crate::io::IoError;
use crate::io::quantity::pluralize;
use crate::sync::config::DeletePolicy;
use crate::sync::scan::{Side, Stat};
use crate::sync::scope::{Scope, ScopeMatch};
use crate::sync::state::{Deletion, SyncedFile};
use std::collections::HashMap;

/// Lower bound of the number of deletions that need no consent, unless that is more than half of all files.
const MIN_DELETION_LIMIT: usize = 5;
/// Upper bound of the number of deletions that need no consent.
const MAX_DELETION_LIMIT: usize = 20;
/// Number of missing files that never count as an unmounted folder while this machine's manifest exists.
const ALLOWED_MISSING: usize = 20;

impl Planner<'_> {
    /// Fails if the cloud folder lacks more than a quarter of the known files and more than [`ALLOWED_MISSING`], or any
    /// known file together with this machine's manifest: it is probably not mounted or not downloaded. Files that a
    /// machine deleted or that the configuration no longer includes are not missing. Files that neither side has any
    /// more are forgotten.
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
                // Deleted by a machine whose manifest is in the folder, so the folder is mounted.
                Some(_) if self.pending_deletions(key)?.next().is_some() => {}
                Some(_) if state.deleted.contains_key(key) => {}
                Some(_) => missing += 1,
                None if is_out_of_scope(last, scope) => self.keep_out_of_scope(key, last)?,
                // Both sides lack the file, and its deletion is published: two users deleted it, or a killed run did.
                None if state.deleted.contains_key(key)
                    || self.pending_deletions(key)?.next().is_some() =>
                {
                    self.plan.records.forgotten.push(key.clone());
                }
                None => {
                    missing += 1;
                    self.plan.records.forgotten.push(key.clone());
                    lost.push((key, last));
                }
            }
        }
        if self.plan.out_of_scope > 0 {
            let files = match self.plan.out_of_scope {
                1 => "1 file is".to_owned(),
                n => format!("{n} files are"),
            };
            let why = format!("{files} no longer synced; both sides stay as they are");
            self.plan
                .notices
                .notes
                .push(("include_roots, exclude_globs".into(), why));
        }
        if self.request.refill {
            return Ok(());
        }
        let known = self.known_count();
        let many = missing > (known / 4).max(ALLOWED_MISSING);
        let lacks_own_manifest = || !self.is_renamed && !self.own_manifest().exists();
        if missing > 0 && (many || lacks_own_manifest()) {
            return Err(PlanError::MostFilesMissing {
                missing,
                known,
                cloud: self.request.config.cloud.clone(),
            });
        }
        self.publish_lost_deletions(lost)
    }

    /// Plans to publish the deletion of files that neither side has any more and that no machine reports as deleted;
    /// otherwise a machine that still has them would restore them. Publishes nothing if these are many, or if the state
    /// may be out of date (it has gaps, or this machine was renamed as a clone): another machine may have re-created
    /// them.
    fn publish_lost_deletions(
        &mut self,
        lost: Vec<(&String, &SyncedFile)>,
    ) -> Result<(), PlanError> {
        let propagates = self.rules.delete == DeletePolicy::Propagate;
        let is_state_current = !self.is_renamed && !self.state.has_gaps;
        let is_many = lost.len() > self.deletion_limit() && !self.request.delete_many;
        if !propagates || !is_state_current || is_many {
            return Ok(());
        }
        for (key, last) in lost {
            let Some((_, digest)) = last.contents else {
                continue;
            };
            let digest = digest.to_string();
            let is_same = |deletion: &Deletion| deletion.digest == digest;
            let is_published = self.pending_deletions(key)?.any(is_same);
            if !is_published {
                self.plan.records.lost_deletions.push((key.clone(), digest));
            }
        }
        Ok(())
    }

    /// Returns the number of deletions that are copied without `--delete-many`: a tenth of the known files, at least
    /// [`MIN_DELETION_LIMIT`] or half of them, whichever is less, at least 1, and at most [`MAX_DELETION_LIMIT`].
    fn deletion_limit(&self) -> usize {
        let known = self.known_count();
        let floor = MIN_DELETION_LIMIT.min(known / 2).max(1);
        (known / 10).clamp(floor, MAX_DELETION_LIMIT)
    }

    /// Keeps the state of a file that the configuration no longer includes, in case it is included again. If a side
    /// lost the file meanwhile, the state is forgotten, so that the loss never counts as a deletion.
    fn keep_out_of_scope(&mut self, key: &str, last: &SyncedFile) -> Result<(), IoError> {
        let config = self.request.config;
        let local = Stat::at(&config.file_path(Side::Local, &last.local.path))?;
        let remote = Stat::at(&config.file_path(Side::Remote, &last.remote.path))?;
        if local.is_some() && remote.is_some() {
            self.plan.out_of_scope += 1;
        } else {
            self.plan.records.forgotten.push(key.to_owned());
        }
        Ok(())
    }

    /// Returns the number of files of the last sync that the configuration still includes.
    fn known_count(&self) -> usize {
        self.state
            .files
            .len()
            .saturating_sub(self.plan.out_of_scope)
    }

    /// Holds back all deletions if there are more than [`Self::deletion_limit`], until the user confirms them with
    /// `--delete-many`: the user more likely lost a folder. All other steps stay in the plan.
    pub(super) fn hold_mass_deletions(&mut self) {
        // A published deletion belongs to a killed run, and the user confirmed it then.
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
        self.plan.notices.held_deletions = held.len();
        for step in held {
            let side = match step.action {
                SyncAction::DeleteCloud => "on this machine",
                _ => "on another machine",
            };
            let why = format!(
                "deleted {side}, but not on the other side: {} at once (at most {limit})",
                pluralize(count, "deletion")
            );
            self.plan.notices.skipped.push((step.path, why));
        }
    }
}

/// Returns true if the configuration no longer includes the file on either side.
fn is_out_of_scope(last: &SyncedFile, scope: &Scope) -> bool {
    [&last.local, &last.remote]
        .into_iter()
        .all(|place| scope.classify(&place.path) == ScopeMatch::Excluded)
}
