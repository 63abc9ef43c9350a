//! Errors that prevent a plan.

use crate::io::quantity::pluralize;
use crate::io::{DocumentError, IoError};
use crate::sync::codexsync::CodexSyncStateError;
use std::path::PathBuf;

/// Errors that prevent a plan. Nothing was changed, unless [`apply`](crate::sync::apply::apply) returns the error: it
/// checks the cloud folder between its steps too.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file or folder that all decisions depend on cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    State(#[from] DocumentError),
    #[error("the cloud folder does not exist: {}", .0.display())]
    NoCloud(PathBuf),
    /// `.codex-manager`, or an entry that has to be a folder in it, is a file or a link. Writing to a link would leave
    /// the cloud folder.
    #[error("not a folder, but a file or a link: {}", .0.display())]
    NotAFolder(PathBuf),
    /// The state is unreadable and the cloud folder has no manifest, so it may be unmounted.
    #[error("the state of the last sync is damaged and the cloud folder contains no manifest; the folder seems unmounted or not fully downloaded: {}", .0.display())]
    NoManifest(PathBuf),
    /// The cloud folder lost its manifests, or all its content, after the plan was made.
    #[error("the cloud folder no longer has the content that it had when the plan was made; it seems unmounted: {}", .0.display())]
    Unmounted(PathBuf),
    /// The Codex home does not exist, although the state of the last sync lists files in it.
    #[error("the Codex home does not exist, but did at the last sync: {}", .0.display())]
    NoCodexHome(PathBuf),
    /// The cloud folder lacks more than a quarter of the known files and more than 20, or any of them together with
    /// this machine's manifest.
    #[error("{missing} of {} {} missing in the cloud folder; it seems unmounted or not fully downloaded: {}", pluralize(*known, "file"), if *missing == 1 { "is" } else { "are" }, cloud.display())]
    MostFilesMissing {
        /// Number of known files that the cloud folder lacks.
        missing: usize,
        /// Number of files of the last sync.
        known: usize,
        cloud: PathBuf,
    },
    #[error(transparent)]
    CodexSyncImport(#[from] CodexSyncStateError),
    /// This machine's manifest is a placeholder of the cloud client.
    #[error("this machine's manifest is not downloaded: {}", .0.display())]
    ManifestNotDownloaded(PathBuf),
    #[error("filters.exclude_globs: {0}")]
    InvalidGlob(String),
}
