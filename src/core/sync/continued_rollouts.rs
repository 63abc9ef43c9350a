//! The rollouts that other rollouts continue. A rewind or a fork records its base, which is the rollout that it
//! continues, and an offset in the base. Codex cannot open a rewind or fork if the base is missing or has another text
//! before that offset. Rollouts are identified by id, because compression and archiving change their paths.

use super::sides::Side;
use crate::codex::rollout::{compare_texts, parse_rollout_id};
use crate::history::files;
use crate::history::rollout::{ends_line_at, read_head};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The id of a rollout that continues another one, and the offset in the plain text of the base.
type Continuation = (String, Option<u64>);

/// Maps the id of each continued rollout to the rollouts that continue it, and an empty id to those that continue none.
/// Ids are in lower case.
#[derive(Debug, Default)]
pub struct ContinuedRollouts(HashMap<String, Vec<Continuation>>);

impl ContinuedRollouts {
    /// Reads the first lines of the rollouts of the home and of `other_paths`. A rollout that cannot be read continues
    /// none.
    pub fn read(home: &Path, other_paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let (local_files, _) = files::find_readable(home);
        let local_paths = local_files.iter().map(|file| file.path(home));

        let mut continued = Self::default();
        for path in local_paths.chain(other_paths) {
            let head = read_head(&path).ok().flatten();
            if let Some((head, id)) = head.zip(parse_rollout_id(&path)) {
                let base_id = head.base_id().unwrap_or_default().to_lowercase();
                let continuations = continued.0.entry(base_id).or_default();
                continuations.push((id.to_lowercase(), head.base_end_offset()));
            }
        }
        continued
    }

    fn continuations(&self, id: &str) -> &[Continuation] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns the ids of the rollouts whose first lines were read.
    pub(crate) fn read_ids(&self) -> HashSet<&str> {
        let rollouts = self.0.values().flatten();
        rollouts.map(|(id, _)| id.as_str()).collect()
    }

    /// Returns true if a rollout for which `is_deleted` returns false continues the rollout `id`.
    pub(crate) fn is_needed(&self, id: &str, is_deleted: impl Fn(&str) -> bool) -> bool {
        let mut continuations = self.continuations(id).iter();
        continuations.any(|(id, _)| !is_deleted(id))
    }

    /// Returns the sides that need to keep their version of the rollout `id`: another rollout continues lines that only
    /// this version has. If both sides need to, one of the continuing rollouts will not open. Returns no side if a file
    /// cannot be read, because no step copies such a file.
    pub(crate) fn find_needed_sides(&self, id: &str, local: &Path, remote: &Path) -> Vec<Side> {
        let offsets = self.continuations(id).iter();
        let offsets: Vec<u64> = offsets.filter_map(|(_, offset)| *offset).collect();
        // The comparison reads both files, and most rollouts have no offset to check.
        let comparison = offsets
            .first()
            .and_then(|_| compare_texts(local, remote).ok());
        let Some((_, common_len)) = comparison else {
            return Vec::new();
        };
        let is_needed = |(_, path): &(Side, &Path)| {
            let mut offsets = offsets.iter().filter(|offset| **offset > common_len);
            offsets.any(|offset| ends_line_at(path, *offset).unwrap_or_default())
        };
        let sides = [(Side::Local, local), (Side::Remote, remote)].into_iter();
        sides.filter(is_needed).map(|(side, _)| side).collect()
    }
}
