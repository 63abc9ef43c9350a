//! The rollouts that other rollouts continue. A rewind or a fork records its base, which is the rollout that it
//! continues, and an offset in it. Codex cannot open it without the base, or if the text of the base before that offset
//! differs. All are found by the id of the rollout, because a rollout can be compressed or archived.

use super::contents;
use super::sides::Side;
use crate::codex::rollout::{open_plain, parse_rollout_id};
use crate::history::files;
use crate::history::rollout::{ends_line_at, read_head};
use crate::io::hash::Sha256Digest;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The id of a rollout that continues another one, and the offset in the plain text of the base.
type Continuation = (String, Option<u64>);

/// Maps the id of each continued rollout to the rollouts that continue it. Ids are in lower case.
#[derive(Debug, Default)]
pub(crate) struct ContinuedRollouts(HashMap<String, Vec<Continuation>>);

impl ContinuedRollouts {
    /// Reads the first lines of the rollouts of the home and of `other_paths`. A rollout that cannot be read continues
    /// none.
    pub(crate) fn read(home: &Path, other_paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let (local_files, _) = files::find_readable(home);
        let local_paths = local_files.iter().map(|file| file.path(home));

        let mut continued = Self::default();
        for path in local_paths.chain(other_paths) {
            let head = read_head(&path).ok().flatten();
            let base = head.and_then(|head| Some((head.base_id()?, head.base_end_offset())));
            if let Some(((base_id, offset), id)) = base.zip(parse_rollout_id(&path)) {
                let continuations = continued.0.entry(base_id.to_lowercase()).or_default();
                continuations.push((id.to_lowercase(), offset));
            }
        }
        continued
    }

    fn continuations(&self, id: &str) -> &[Continuation] {
        self.0.get(id).map_or(&[], Vec::as_slice)
    }

    /// Returns true if a rollout for which `is_deleted` returns false continues the rollout `id`.
    pub(crate) fn is_needed(&self, id: &str, is_deleted: impl Fn(&str) -> bool) -> bool {
        let mut continuations = self.continuations(id).iter();
        continuations.any(|(id, _)| !is_deleted(id))
    }

    /// Returns true if a rollout continues the version `old` of the rollout `id`, and the version `new` lacks lines up
    /// to its offset. Returns false if a file cannot be read, because no step copies such a file.
    pub(crate) fn loses_lines(&self, id: &str, new: &Path, old: &Path) -> bool {
        let lacks_lines = |offset| -> io::Result<bool> {
            if !ends_line_at(old, offset)? {
                return Ok(false);
            }
            let (digest, _) = Sha256Digest::of_reader(&mut open_plain(old)?.take(offset))?;
            Ok(!contents::text_begins_with(new, offset, &digest)?)
        };
        let mut offsets = self
            .continuations(id)
            .iter()
            .filter_map(|(_, offset)| *offset);
        offsets.any(|offset| lacks_lines(offset).unwrap_or_default())
    }

    /// Returns the side with the only version of the rollout `id` that can be kept. `None` if no rollout continues the
    /// lines of one version alone: rollouts that continue both cannot be opened all.
    pub(crate) fn find_needed_side(&self, id: &str, local: &Path, remote: &Path) -> Option<Side> {
        let is_local_needed = self.loses_lines(id, remote, local);
        let is_remote_needed = self.loses_lines(id, local, remote);
        match (is_local_needed, is_remote_needed) {
            (true, false) => Some(Side::Local),
            (false, true) => Some(Side::Remote),
            _ => None,
        }
    }
}
