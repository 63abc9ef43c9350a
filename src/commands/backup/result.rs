//! The plan and the result of a backup.

use crate::archive::metadata::Metadata;
use crate::archive::path_note::PathNote;
use crate::archive::scope::CaptureScope;
use crate::inventory::status::StatusReport;

/// The scope, quota and metadata of a backup, collected without writing.
pub(in crate::commands) struct BackupPlan {
    pub(in crate::commands) scope: CaptureScope,
    pub(super) report: StatusReport,
    pub(in crate::commands) metadata: Metadata,
    pub(super) stem: String,
    /// Globs of the command line. One that matches nothing is reported; globs of config.toml need
    /// not match in every home.
    pub(in crate::commands) globs: Vec<String>,
}

/// The parts of a backup's result that are not in its metadata.
pub(super) struct BackupResult {
    pub(super) reused_bytes: u64,
    pub(super) excluded: Vec<PathNote>,
    pub(super) skipped: Vec<PathNote>,
    pub(super) damaged: Vec<PathNote>,
    /// Id of the snapshot in the vault, with `--vault`.
    pub(super) snapshot: Option<String>,
}
