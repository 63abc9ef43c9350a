//! The input of a run.

use super::error::ApplyError;
use crate::io::Progress;
use crate::sync::config::SyncConfig;
use crate::sync::state::Replica;
use chrono::{DateTime, Utc};

/// The input of [`apply`](super::apply) besides the plan and its state.
pub struct ApplyRequest<'a> {
    pub config: &'a SyncConfig,
    /// The stored state for this pair of Codex home and cloud folder.
    pub replica: &'a Replica,
    /// Called before each change of a file. The run stops if it returns false.
    pub keep_going: &'a dyn Fn() -> bool,
    /// Receives the number of bytes as they are written.
    pub progress: &'a dyn Progress,
    /// Time of the run, for the name of the snapshot and for pruning.
    pub now: DateTime<Utc>,
}

impl ApplyRequest<'_> {
    pub(super) fn check_interrupt(&self) -> Result<(), ApplyError> {
        if (self.keep_going)() {
            Ok(())
        } else {
            Err(ApplyError::Interrupted)
        }
    }
}
