//! The result of a backup.

use crate::archive::path_note::PathNote;
use crate::copies::losses::report::LossJson;

/// The parts of a backup's result that are not in its metadata.
pub(crate) struct BackupResult {
    pub(crate) reused_bytes: u64,
    pub(crate) excluded: Vec<PathNote>,
    pub(crate) skipped: Vec<PathNote>,
    pub(crate) damaged: Vec<PathNote>,
    /// Conversations that lack messages which the previous archive has.
    pub(crate) losses: Vec<LossJson>,
    /// Id of the snapshot in the vault, with `--vault`.
    pub(crate) snapshot: Option<String>,
}
