//! The parts of rollouts that a reader left out.

use std::ops::AddAssign;
use std::path::{Path, PathBuf};

/// The reason why a rollout with [`LeftOut::damaged_rollout`] counts as skipped.
pub(crate) const DAMAGED_ROLLOUT_REASON: &str =
    "the compressed text is damaged; only its beginning was read";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The number of lines that were too long to read.
    pub long_lines: usize,
    /// The number of lines that are no JSON. Damage in a line without texts may not be found, because only its
    /// beginning is checked. An incomplete last line does not count, because Codex may be writing it.
    pub damaged_lines: usize,
    /// The first damaged compressed rollout. Only its lines before the damage were read.
    pub damaged_rollout: Option<PathBuf>,
}

impl LeftOut {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn add_damaged_rollout(&mut self, path: &Path) {
        self.damaged_rollout.get_or_insert_with(|| path.to_owned());
    }
}

impl AddAssign for LeftOut {
    fn add_assign(&mut self, other: Self) {
        self.long_lines += other.long_lines;
        self.damaged_lines += other.damaged_lines;
        self.damaged_rollout = self.damaged_rollout.take().or(other.damaged_rollout);
    }
}
