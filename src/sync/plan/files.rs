//! Plans the groups one by one, each by the rules of its kind of file.

use super::error::PlanError;
use super::groups::{FileGroup, display_path};
use super::inputs::Planner;
use crate::sync::config::SessionMode;
use crate::sync::line_merge;
use crate::sync::manager_folder;
use crate::sync::read_failure;
use crate::sync::rollouts;
use crate::sync::scan::{ListedFile, Side};
use std::collections::HashMap;
use std::path::Path;

impl Planner<'_> {
    /// Plans all groups: those inside the roots, and the conversations that they continue.
    pub(super) fn plan_groups(
        &mut self,
        groups: HashMap<String, FileGroup>,
    ) -> Result<(), PlanError> {
        let all_days = self.request.config.scope.session_mode == SessionMode::All;
        // A companion is a conversation outside of the roots or of another day; see `ListedFile::companion`. If all
        // days are synced, one that was synced before stays synced.
        let (inside, outside): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(key, group)| {
            group.files().any(|found| !found.companion)
                || (all_days && self.state.files.contains_key(key))
        });
        let mut parents = Vec::new();
        for (key, group) in inside {
            self.plan_group_or_skip(&key, &group, (!outside.is_empty()).then_some(&mut parents))?;
        }
        // A conversation cannot be resumed without those that it continues, so these are synced too, recursively, even
        // if they are companions.
        let mut by_id = HashMap::new();
        if !parents.is_empty() {
            by_id.extend(outside.iter().filter_map(|(key, group)| {
                let id = rollouts::id(key)?;
                Some((id, (key, group)))
            }));
        }
        while let Some(id) = parents.pop() {
            if let Some((key, group)) = by_id.remove(&id) {
                self.plan_group_or_skip(key, group, Some(&mut parents))?;
            }
        }
        Ok(())
    }

    /// Plans one group, and skips it if one of its files cannot be read. Errors of files that all groups depend on,
    /// such as manifests, end the plan.
    fn plan_group_or_skip(
        &mut self,
        key: &str,
        group: &FileGroup,
        parents: Option<&mut Vec<String>>,
    ) -> Result<(), PlanError> {
        match self.plan_group(key, group, parents) {
            Err(PlanError::Io(e)) => {
                let roots = [Side::Local, Side::Remote].map(|side| self.root(side));
                let of_side = roots.iter().find_map(|root| e.path.strip_prefix(root).ok());
                // The user may have linked a top-level folder to a place outside of the home: then the error names the
                // target.
                let is_link_target = |found: &&ListedFile| {
                    self.request.config.file_path(Side::Local, &found.path) == e.path
                };
                let linked = || {
                    group
                        .local
                        .iter()
                        .find(is_link_target)
                        .map(|f| Path::new(&f.path))
                };
                let of_side = of_side.or_else(linked);
                let manager_folder = self.root(Side::Remote).join(manager_folder::MANAGER_FOLDER);
                let Some(relative) = of_side.filter(|_| !e.path.starts_with(manager_folder)) else {
                    // Without the manifests no decision is reliable.
                    return Err(e.into());
                };
                let path = relative.to_string_lossy().replace('\\', "/");
                self.plan
                    .notices
                    .skipped
                    .push((path, read_failure::reason(&e.source)));
                Ok(())
            }
            done => done,
        }
    }

    /// Plans one group. Adds the id of the conversation that this one continues to `parents`.
    fn plan_group(
        &mut self,
        key: &str,
        group: &FileGroup,
        parents: Option<&mut Vec<String>>,
    ) -> Result<(), PlanError> {
        let last = self.state.files.get(key);
        // Merges on two machines can have equal size and time but different lines, so line-based files are always read.
        if last.is_some_and(|last| group.matches_last_sync(last)) && !line_merge::is_mergeable(key)
        {
            self.plan.unchanged += 1;
            return Ok(());
        }
        if group.is_blocked {
            return Ok(());
        }
        if group.has_placeholder {
            let why = "is not downloaded to this machine";
            self.plan
                .notices
                .waiting
                .push((display_path(key, group), why.into()));
            return Ok(());
        }
        if rollouts::is_key(key) {
            if let Some(parents) = parents {
                for (side, list) in [(Side::Local, &group.local), (Side::Remote, &group.remote)] {
                    let full = list.iter().map(|found| self.root(side).join(&found.path));
                    parents.extend(full.filter_map(|path| rollouts::parent(&path)));
                }
            }
            self.plan_conversation(key, group)
        } else if line_merge::is_mergeable(key) {
            self.plan_line_file(key, group)
        } else {
            self.plan_plain_file(key, group)
        }
    }
}
