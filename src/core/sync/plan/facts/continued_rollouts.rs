//! Finds the planned steps and conflicts that affect a rollout which another rollout continues.

use super::fact_reader::FactReader;
use crate::sync::continued_rollouts::ContinuedRollouts;
use crate::sync::file_group::FileGroup;
use crate::sync::plan::sync_plan::SyncPlan;
use crate::sync::plan::sync_step::{Conflict, Op, SyncStep};
use crate::sync::rollouts;
use crate::sync::sides::{ObservedFile, Side};
use std::collections::HashSet;

/// A rollout whose base is unknown, because its first line was not read.
pub(crate) struct UnreadRollout {
    pub(crate) id: String,
    pub(crate) path: String,
}

impl<'a> FactReader<'a> {
    /// Returns the continued rollouts of both sides. They are read once, and only if a plan needs them.
    fn continued_rollouts(&self) -> &ContinuedRollouts {
        self.continued_rollouts.get_or_init(|| {
            let remote_only = self.groups.values().filter(|group| group.local.is_empty());
            let remote_files = remote_only.flat_map(|group| &group.remote);
            let remote_files = remote_files.filter(|file| rollouts::is_below_sessions(&file.path));
            let remote_paths =
                remote_files.map(|file| self.config.file_path(Side::Remote, &file.path));

            let groups = self.groups.iter();
            let on_both_sides =
                groups.filter(|(_, group)| !group.local.is_empty() && !group.remote.is_empty());
            let ids = on_both_sides.filter_map(|(key, _)| rollouts::rollout_id(key));
            let ids: HashSet<_> = ids.collect();
            let is_on_both_sides = |id: &str| ids.contains(id);
            ContinuedRollouts::read(&self.config.local, remote_paths, is_on_both_sides)
        })
    }

    /// Returns the files that the steps would delete although a rollout that stays continues them.
    pub(crate) fn find_continued_deletions(
        &self,
        steps: &[SyncStep],
    ) -> Vec<(&'a str, &'a FileGroup)> {
        let deletions = steps.iter().filter(|step| step.is_deletion());
        let deletions = deletions.filter_map(|step| Some((step, rollouts::rollout_id(&step.key)?)));
        let deletions: Vec<_> = deletions.collect();
        let deleted_ids: HashSet<_> = deletions.iter().map(|(_, id)| id.as_str()).collect();

        let is_deleted = |id: &str| deleted_ids.contains(id);
        let wrong_deletions = deletions
            .iter()
            .filter(|(_, id)| self.continued_rollouts().is_needed(id, is_deleted));
        let files = wrong_deletions.filter_map(|(step, _)| self.groups.get_key_value(&step.key));
        files.map(|(key, group)| (&**key, group)).collect()
    }

    /// Returns the newest unread rollout: it is not downloaded, has not arrived, was left alone, or is copied by a
    /// step. `None` if the steps delete no rollout or all rollouts were read.
    pub(crate) fn find_unread_rollout(&self, plan: &SyncPlan) -> Option<UnreadRollout> {
        let is_deletion = |step: &&SyncStep| step.is_deletion();
        let (mut deletions, copies): (Vec<_>, Vec<_>) = plan.steps.iter().partition(is_deletion);
        deletions.retain(|step| rollouts::is_key(&step.key));
        if deletions.is_empty() {
            return None;
        }

        let placeholders = self.groups.values().flat_map(|group| &group.placeholders);
        let undelivered_paths = plan.notices.undelivered.iter().map(|file| &file.path);
        let left_alone = plan.notices.waiting.iter().chain(&plan.notices.skipped);
        let read_ids = self.continued_rollouts().rollout_ids();

        let paths = placeholders.map(|file| &file.path);
        let paths = paths.chain(undelivered_paths);
        let paths = paths.chain(left_alone.map(|(path, _)| path));
        let keys = paths.filter_map(|path| Some((rollouts::key(path)?, path)));
        // A rollout on both sides is read in the home only, where its first line may be incomplete.
        let copied_keys = copies.iter().map(|step| (step.key.clone(), &step.path));
        let rollouts = keys
            .chain(copied_keys)
            .filter_map(|(key, path)| Some((rollouts::rollout_id(&key)?, path)));
        let unread_rollouts = rollouts.filter(|(id, _)| !read_ids.contains(&**id));
        // An id with a time begins with it, so the greatest id is the newest rollout.
        let (id, path) = unread_rollouts.max()?;
        let path = path.clone();
        Some(UnreadRollout { id, path })
    }

    /// Returns the conflicts that take the place of steps, each with the key of the step. Such a step would replace
    /// lines of a rollout that another rollout continues.
    pub(crate) fn find_continued_conflicts(&self, steps: &[SyncStep]) -> Vec<(String, Conflict)> {
        let replacing_steps = steps.iter().filter(|step| step.replaces_lines);
        let conflicts = replacing_steps
            .filter_map(|step| Some((step.key.clone(), self.find_continued_conflict(step)?)));
        conflicts.collect()
    }

    fn find_continued_conflict(&self, step: &SyncStep) -> Option<Conflict> {
        let id = rollouts::rollout_id(&step.key)?;
        let copy = step.ops.iter().find_map(|op| match op {
            Op::Copy(copy) => Some(copy),
            _ => None,
        })?;

        // Finds a replaced file that other rollouts continue. Its name may differ from the name of the copy: it may be
        // compressed or archived.
        let side = copy.to.side;
        let targets = step.ops.iter().flat_map(Op::targets);
        let old_files = targets.filter(|file| file.side == side);
        let (local, remote, needed_sides) = old_files
            .map(|old_file| {
                let (local, remote) = side.to_local_and_remote(old_file, copy.from.clone());
                let needed_sides = self.find_needed_sides(&id, &local, &remote);
                (local, remote, needed_sides)
            })
            .find(|(.., needed_sides)| needed_sides.contains(&side))?;

        // If rollouts continue both versions, the user decides which version stays.
        let needed_side = (needed_sides.len() == 1).then_some(side);
        if needed_side.is_none() && self.request.decides(&step.path) {
            return None;
        }
        let [local_path, remote_path] = [&local, &remote].map(|file| file.full_path(self.config));
        // If the messages cannot be read, the conflict is shown without them.
        let versions = self.read_conflicting_versions(&step.key, &local_path, &remote_path);
        Some(Conflict {
            path: step.path.clone(),
            reason: Conflict::describe_continued(needed_side),
            versions: versions.unwrap_or_default(),
            local: Some(local),
            remote: Some(remote),
            needed_side,
        })
    }

    fn find_needed_sides(
        &self,
        id: &str,
        local: &ObservedFile,
        remote: &ObservedFile,
    ) -> Vec<Side> {
        let [local, remote] = [local, remote].map(|file| file.full_path(self.config));
        let continued_rollouts = self.continued_rollouts();
        continued_rollouts.find_needed_sides(id, &local, &remote)
    }

    /// Sets `needed_side` of each conflict with exactly one version that other rollouts continue.
    pub(crate) fn set_needed_sides(&self, conflicts: &mut [Conflict]) {
        for conflict in conflicts {
            let id = rollouts::key(&conflict.path).and_then(|key| rollouts::rollout_id(&key));
            if let (Some(id), Some(local), Some(remote)) = (id, &conflict.local, &conflict.remote) {
                conflict.needed_side = match self.find_needed_sides(&id, local, remote)[..] {
                    [side] => Some(side),
                    _ => None,
                };
            }
        }
    }

    /// Returns the keys of the steps whose rollouts continue a rollout in conflict, directly or through other rollouts
    /// of the steps. Codex could not open such a rollout on the side with the other version of the conflict.
    pub(crate) fn find_steps_continuing_conflicts(&self, plan: &SyncPlan) -> HashSet<String> {
        let conflicts = plan.conflicts.iter();
        let mut blocked_ids: HashSet<String> = conflicts
            .filter_map(|conflict| rollouts::rollout_id(&rollouts::key(&conflict.path)?))
            .collect();
        let mut blocked_keys = HashSet::new();
        if blocked_ids.is_empty() {
            return blocked_keys;
        }

        // Reads only the files that the steps copy.
        let steps = plan.steps.iter();
        let steps = steps.filter(|step| rollouts::is_key(&step.key));
        let keys_with_bases = steps.map(|step| {
            let sources = step.ops.iter().flat_map(Op::sources);
            let base_ids =
                sources.filter_map(|file| rollouts::read_parent_id(&file.full_path(self.config)));
            (&step.key, base_ids.collect::<Vec<_>>())
        });
        let keys_with_bases: Vec<_> = keys_with_bases.collect();
        loop {
            let old_count = blocked_keys.len();
            for (key, base_ids) in &keys_with_bases {
                if base_ids.iter().any(|id| blocked_ids.contains(id)) {
                    blocked_ids.extend(rollouts::rollout_id(key));
                    blocked_keys.insert((*key).clone());
                }
            }
            if blocked_keys.len() == old_count {
                return blocked_keys;
            }
        }
    }
}
