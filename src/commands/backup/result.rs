//! The result of a backup.

use crate::archive::path_note::PathNote;
use crate::commands::losses::report::LossJson;

/// The parts of a backup's result that are not in its metadata.
pub(super) struct BackupResult {
    pub(super) reused_bytes: u64,
    pub(super) excluded: Vec<PathNote>,
    pub(super) skipped: Vec<PathNote>,
    pub(super) damaged: Vec<PathNote>,
    /// Conversations that lack messages which the previous archive has.
    pub(super) losses: Vec<LossJson>,
    /// Id of the snapshot in the vault, with `--vault`.
    pub(super) snapshot: Option<String>,
}
