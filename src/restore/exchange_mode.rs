//! The granularity in which a staged home is exchanged with the live one.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// The entries of the home that one exchange step covers.
pub(super) enum ExchangeMode {
    /// The whole home, in one call.
    WholeHome,
    /// Each changed top-level entry by itself.
    TopLevelEntries,
    /// Each changed file by itself, as for a few files of a large home.
    SingleFiles {
        /// Folders that are exchanged as a whole all the same, by their paths in the home.
        whole_folders: BTreeSet<PathBuf>,
    },
}

impl ExchangeMode {
    /// Returns true if the whole home is exchanged in one call.
    pub(super) fn is_whole_home(&self) -> bool {
        matches!(self, Self::WholeHome)
    }
}
