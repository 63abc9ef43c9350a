//! The granularity in which a staged home is exchanged with the live one.

/// The entries of the home that one exchange step covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExchangeMode {
    /// The whole home, in one call.
    WholeHome,
    /// Each changed top-level entry by itself.
    TopLevelEntries,
    /// Each changed file by itself, as for a few files of a large home.
    SingleFiles,
}
