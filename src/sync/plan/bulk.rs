//! Many files at once: a cloud folder that has lost most of its files, what the configuration no longer
//! names, and deletions in bulk.

use super::grouping::Group;
use super::{Action, PlanError, Planner, Step};
use crate::io::IoError;
use crate::io::quantity::counted;
use crate::sync::scan::{Side, Stat};
use crate::sync::state::Last;
use crate::sync::travel::{Scope, Take};
use std::collections::HashMap;

impl Planner<'_> {
    /// A folder that has lost most of what it had is not mounted, or not downloaded. What neither side
    /// has any more is forgotten. What the configuration no longer names is not missed.
    pub(super) fn refuse_hollow(
        &mut self,
        groups: &HashMap<String, Group>,
        scope: &Scope,
    ) -> Result<(), PlanError> {
        let mut missing = 0;
        let state = self.state;
        for (key, last) in &state.files {
            match groups.get(key) {
                Some(group) if !group.there.is_empty() || group.stand_in || group.blocked => {}
                // A word that arrived tells that the folder is there.
                Some(_) if self.open_deletions(key)?.next().is_some() => {}
                Some(_) => missing += 1,
                None if is_outside(last, scope) => self.leave_outside(key, last)?,
                // Here somebody has done the same.
                None if self.open_deletions(key)?.next().is_some() => {
                    self.plan.forgotten.push(key.clone());
                }
                None => {
                    missing += 1;
                    self.plan.forgotten.push(key.clone());
                }
            }
        }
        if self.plan.outside > self.state.outside {
            let files = match self.plan.outside {
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
        let known = self.known();
        let many = missing > (known / 4).max(20);
        let unmarked = || !self.is_renamed && !self.own_manifest().exists();
        if missing > 0 && (many || unmarked()) {
            return Err(PlanError::Hollow {
                missing,
                known,
                cloud: self.request.config.cloud.clone(),
            });
        }
        Ok(())
    }

    /// A file that the configuration no longer names: what is known of it is kept for the day that it
    /// is named again. Where a side has lost it meanwhile, that is no deletion to be sent on then.
    fn leave_outside(&mut self, key: &str, last: &Last) -> Result<(), IoError> {
        let config = self.request.config;
        let here = Stat::at(&config.place(Side::Here, &last.here.path))?;
        let there = Stat::at(&config.place(Side::There, &last.there.path))?;
        if here.is_some() && there.is_some() {
            self.plan.outside += 1;
        } else {
            self.plan.forgotten.push(key.to_owned());
        }
        Ok(())
    }

    /// How many of the files that are synced the last sync has seen.
    fn known(&self) -> usize {
        self.state.files.len().saturating_sub(self.plan.outside)
    }

    /// Many deletions at once are more likely a folder that somebody has lost: they stay as they are on
    /// both sides until somebody says that they are meant. Nothing else waits for that.
    pub(super) fn hold_many_deletions(&mut self) {
        let is_deletion =
            |step: &Step| matches!(step.action, Action::DeleteLocal | Action::DeleteCloud);
        let count = self
            .plan
            .steps
            .iter()
            .filter(|step| is_deletion(step))
            .count();
        let limit = (self.known() / 10).clamp(1, 20);
        if self.request.delete_many || count <= limit {
            return;
        }
        let steps = std::mem::take(&mut self.plan.steps).into_iter();
        let (held, steps): (Vec<Step>, _) = steps.partition(is_deletion);
        self.plan.steps = steps;
        self.plan.held_back = held.len();
        for step in held {
            let side = match step.action {
                Action::DeleteCloud => "here",
                _ => "on another machine",
            };
            let why = format!(
                "deleted {side}, and not sent on: {} at once (at most {limit})",
                counted(count, "deletion")
            );
            self.plan.skipped.push((step.path, why));
        }
    }
}

/// Whether a file of the last sync is none of those that are synced now.
fn is_outside(last: &Last, scope: &Scope) -> bool {
    [&last.here, &last.there]
        .into_iter()
        .all(|place| scope.takes(&place.path) == Take::No)
}
