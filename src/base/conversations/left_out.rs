//! The parts of rollouts that a reader left out.

use std::ops::AddAssign;

/// The reason why a rollout with [`LeftOut::is_cut`] is skipped.
pub(crate) const CUT_REASON: &str = "the compressed text is damaged; only its beginning was read";

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The number of lines that were too long to read.
    pub long_lines: usize,
    /// The number of lines that are no JSON. An incomplete last line does not count, because Codex may be writing it.
    pub damaged_lines: usize,
    /// True if a compressed rollout is damaged, and only the lines before the damage were read.
    pub is_cut: bool,
}

impl AddAssign for LeftOut {
    fn add_assign(&mut self, other: Self) {
        self.long_lines += other.long_lines;
        self.damaged_lines += other.damaged_lines;
        self.is_cut |= other.is_cut;
    }
}
