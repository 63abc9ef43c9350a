//! Finds the steps that would remove lines of a rollout which another rollout continues. A rewind or a fork records an
//! offset in its base, the rollout that it continues, and Codex cannot open it if the text of the base before that
//! offset differs.

use super::fact_reader::FactReader;
use crate::codex::rollout::open_plain;
use crate::history::files;
use crate::history::rollout::{ends_line_at, read_head};
use crate::sync::index_updates::ContentChange;
use crate::sync::plan::sync_plan::SyncPlan;
use crate::sync::plan::sync_step::{Op, SyncStep};
use crate::sync::rollouts;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

impl FactReader<'_> {
    /// Returns the keys of the steps that would replace lines of a rollout that another rollout continues.
    pub(crate) fn find_steps_replacing_continued(&self, steps: &[SyncStep]) -> Vec<String> {
        let replacing_steps = steps.iter().filter_map(|step| {
            let id = rollouts::rollout_id(&step.key)?;
            let is_copy = |op: &Op| matches!(op, Op::KeepConflictCopy { .. });
            let is_diverged =
                step.change == ContentChange::Replaced || step.ops.iter().any(is_copy);
            let copy = step.ops.iter().find_map(|op| match op {
                Op::Copy(copy) if copy.over.is_some() => Some(copy),
                _ => None,
            })?;
            is_diverged.then_some((step, id, copy))
        });
        let replacing_steps: Vec<_> = replacing_steps.collect();
        if replacing_steps.is_empty() {
            return Vec::new();
        }

        let offsets = self.read_continued_offsets(steps);
        let lossy_keys = replacing_steps.into_iter().filter_map(|(step, id, copy)| {
            let new_path = copy.from.full_path(self.config);
            let old_path = self.config.file_path(copy.to.0, &copy.to.1);
            let offsets_in_rollout = || offsets.iter().filter(|(base_id, _)| *base_id == id);
            let loses = |new: &Path, old: &Path| {
                offsets_in_rollout().any(|(_, offset)| loses_lines(new, old, *offset))
            };

            let is_chosen = self
                .request
                .policy_override
                .is_some_and(|(path, _)| path == step.path);
            // If rollouts continue both versions, the user decides which version stays.
            let is_lossy =
                loses(&new_path, &old_path) && !(is_chosen && loses(&old_path, &new_path));
            is_lossy.then(|| step.key.clone())
        });
        lossy_keys.collect()
    }

    /// Returns the keys of the steps that copy a rollout which continues a rollout in conflict. Codex could not open
    /// the copied rollout on the side that has the other version of the conflict.
    pub(crate) fn find_steps_continuing_conflicts(&self, plan: &SyncPlan) -> Vec<String> {
        let ids_in_conflict = plan.conflicts.iter().filter_map(|conflict| {
            let key = rollouts::key(&conflict.path)?;
            rollouts::rollout_id(&key)
        });
        let ids_in_conflict: HashSet<String> = ids_in_conflict.collect();

        // Without a conflict, no rollout has to be read.
        let steps = plan
            .steps
            .iter()
            .filter(|step| !ids_in_conflict.is_empty() && rollouts::is_key(&step.key));
        let continuing_steps = steps.filter(|step| {
            let mut sources = step.ops.iter().flat_map(Op::sources);
            sources.any(|seen| {
                let parent_id = rollouts::read_parent_id(&seen.full_path(self.config));
                parent_id.is_some_and(|parent_id| ids_in_conflict.contains(&parent_id))
            })
        });
        continuing_steps.map(|step| step.key.clone()).collect()
    }

    /// Reads the rollouts of the home and the rollouts that the steps add to it. For each rollout that continues
    /// another one, returns the id of the continued rollout and the offset in it.
    fn read_continued_offsets(&self, steps: &[SyncStep]) -> Vec<(String, u64)> {
        let (local_files, _) = files::find_readable(&self.config.local);
        let local_paths = local_files.iter().map(|file| file.path(&self.config.local));

        let arriving = steps
            .iter()
            .filter(|step| step.change == ContentChange::New);
        let arriving = arriving.flat_map(|step| step.ops.iter().flat_map(Op::sources));
        let arriving_paths = arriving.map(|seen| seen.full_path(self.config));

        let read_base = |path: PathBuf| {
            let base = read_head(&path).ok().flatten()?.base_cut()?;
            Some((base.rollout_id, base.offset))
        };
        let paths = local_paths.chain(arriving_paths);
        paths.filter_map(read_base).collect()
    }
}

/// Returns true if a line of `old` ends at `offset`, and `new` differs from `old` before that offset. Returns false if
/// a file cannot be read.
fn loses_lines(new: &Path, old: &Path, offset: u64) -> bool {
    // The step does not copy a file that cannot be read.
    ends_line_at(old, offset).unwrap_or(false) && !have_same_start(new, old, offset).unwrap_or(true)
}

fn have_same_start(first: &Path, second: &Path, bytes: u64) -> io::Result<bool> {
    const BUFFER_BYTES: usize = 64 << 10;
    let (mut first, mut second) = (open_plain(first)?, open_plain(second)?);
    let mut buffers = [vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]];

    let mut remaining = bytes;
    while remaining > 0 {
        let size = usize::try_from(remaining).map_or(BUFFER_BYTES, |bytes| bytes.min(BUFFER_BYTES));
        let [a, b] = &mut buffers;
        let result = first.read_exact(&mut a[..size]);
        match result.and_then(|()| second.read_exact(&mut b[..size])) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if a[..size] != b[..size] {
            return Ok(false);
        }
        remaining -= size as u64;
    }
    Ok(true)
}
