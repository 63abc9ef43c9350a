//! The rollouts that other rollouts continue. A rewind or a fork records its base, which is the rollout that it
//! continues, and an offset in the base. Codex cannot open a rewind or fork if the base is missing or has another text
//! before that offset. Rollouts are identified by id, because compression and archiving change their paths.

use super::sides::Side;
use crate::codex::rollout::{compare_texts, parse_rollout_id};
use crate::history::files;
use crate::history::rollout::{ends_line_at, read_head};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A rollout that continues another one.
#[derive(Debug)]
struct Continuation {
    /// In lower case.
    id: String,
    /// The offset in the plain text of the base.
    base_end: Option<u64>,
    /// The only side that has the rollout; `None` if both sides have it.
    only_side: Option<Side>,
}

/// Maps the id of each base, in lower case, to the rollouts that continue it. Rollouts without a base are under an
/// empty id, so that `rollout_ids` includes them.
#[derive(Debug, Default)]
pub struct ContinuedRollouts(HashMap<String, Vec<Continuation>>);

impl ContinuedRollouts {
    /// Reads the first lines of the rollouts of the home and of `remote_paths`. Skips rollouts that cannot be read.
    /// `is_on_both_sides` gets the id of a rollout in lower case.
    pub fn read(
        home: &Path,
        remote_paths: impl IntoIterator<Item = PathBuf>,
        is_on_both_sides: impl Fn(&str) -> bool,
    ) -> Self {
        let (local_files, _skipped) = files::find_readable(home);
        let local_paths = local_files.iter().map(|file| file.path(home));
        let local = local_paths.map(|path| (Side::Local, path));
        let remote = remote_paths.into_iter().map(|path| (Side::Remote, path));

        let mut continued = Self::default();
        for (side, path) in local.chain(remote) {
            let head = read_head(&path).ok().flatten();
            if let Some((head, id)) = head.zip(parse_rollout_id(&path)) {
                let base_id = head.base_id().unwrap_or_default().to_lowercase();
                let continuations = continued.0.entry(base_id).or_default();
                continuations.push(Continuation {
                    only_side: (!is_on_both_sides(&id)).then_some(side),
                    base_end: head.base_end_offset(),
                    id,
                });
            }
        }
        continued
    }

    fn continuations(&self, id: &str) -> &[Continuation] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns the ids of the rollouts whose first lines were read.
    pub(crate) fn rollout_ids(&self) -> HashSet<&str> {
        let rollouts = self.0.values().flatten();
        rollouts.map(|rollout| rollout.id.as_str()).collect()
    }

    /// Returns true if a rollout for which `is_deleted` returns false continues the rollout `id`.
    pub(crate) fn is_needed(&self, id: &str, is_deleted: impl Fn(&str) -> bool) -> bool {
        let mut continuations = self.continuations(id).iter();
        continuations.any(|continuation| !is_deleted(&continuation.id))
    }

    /// Returns the sides that have to keep their version of the rollout `id`: only this version has the lines that
    /// another rollout continues. If both sides have to keep theirs, one of the continuing rollouts will not open.
    /// Returns no side if a file cannot be read, because no step copies such a file.
    pub(crate) fn find_needed_sides(&self, id: &str, local: &Path, remote: &Path) -> Vec<Side> {
        let continuations = self.continuations(id).iter();
        let base_ends =
            continuations.filter_map(|rollout| Some((rollout.base_end?, rollout.only_side)));
        let base_ends: Vec<_> = base_ends.collect();
        // The comparison reads both files, and most rollouts have no offset to check.
        if base_ends.is_empty() {
            return Vec::new();
        }
        let Ok((_relation, common_len)) = compare_texts(local, remote) else {
            return Vec::new();
        };

        let ends_line = |path: &Path, offset: u64| ends_line_at(path, offset).unwrap_or_default();
        let is_needed = |side: &Side| {
            let [own, other] = [*side, side.other()].map(|side| side.select(local, remote));
            let mut unshared_ends = base_ends.iter().filter(|(offset, _)| *offset > common_len);
            // Both versions may end a line at this offset. Then the rollout continues the version on its own side,
            // because sync copies no rollout that continues a conversation in conflict.
            unshared_ends.any(|(offset, only_side)| {
                let is_on_other_side = *only_side == Some(side.other());
                let continues_other = || is_on_other_side && ends_line(other, *offset);
                ends_line(own, *offset) && !continues_other()
            })
        };
        let sides = [Side::Local, Side::Remote].into_iter();
        sides.filter(is_needed).collect()
    }
}
