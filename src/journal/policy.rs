//! The policy that each user of the journal adds to its recovery.

use crate::codex::process::{self, Holder};
use crate::io::IoError;
use crate::io::environment::Environment;
use std::path::Path;

/// The policy of transactions that need none.
pub(crate) struct NoPolicy;

impl RecoveryPolicy for NoPolicy {}

/// Exchanges files only while no process uses the Codex home.
pub(crate) struct IdleHome<'a> {
    /// The environment, which may say where Codex has its databases.
    pub env: &'a Environment,
}

impl RecoveryPolicy for IdleHome<'_> {
    fn holders(&self, home: &Path) -> Vec<Holder> {
        let outside = process::outside_folders(home, self.env);
        process::find_holders(home, &outside)
    }
}

/// The knowledge about the files of a transaction that its recovery needs.
pub(crate) trait RecoveryPolicy {
    /// Called before the entry at the live path `outgoing` in `home` is replaced by the one at
    /// `incoming`, or removed if that is `None`. May replace the file at `incoming`.
    ///
    /// # Errors
    /// The entry must not be replaced. The recovery stops.
    fn before_exchange(
        &self,
        _home: &Path,
        _outgoing: &Path,
        _incoming: Option<&Path>,
    ) -> Result<(), IoError> {
        Ok(())
    }

    /// Returns the processes that use the folder `home`. While there are any, nothing is exchanged.
    fn holders(&self, _home: &Path) -> Vec<Holder> {
        Vec::new()
    }

    /// Returns true if a later write to the file at the live path `path` in `home` does not have to
    /// be kept.
    fn is_disposable(&self, _home: &Path, _path: &Path) -> bool {
        false
    }
}
