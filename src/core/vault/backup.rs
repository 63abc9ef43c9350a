//! Makes a snapshot of a folder by `restic backup`.

use super::error::VaultError;
use super::fault::Fault;
use super::restic::Restic;
use super::snapshot_id::short_id;
use super::tags::SnapshotTags;
use crate::archive::CapturedTree;
use crate::io::{Progress, events, pluralize};
use serde::Deserialize;
use std::path::Path;

/// The maximum number of runs of restic for one backup, if files change while restic reads them.
const MAX_RUNS: u32 = 5;

/// A new snapshot, with the statistics of restic: the last line of `restic backup --json`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SnapshotReport {
    /// The id in the length that restic prints: short before 0.17, then complete.
    #[serde(rename = "snapshot_id")]
    pub(crate) id: String,
    /// Number of files that the previous snapshot does not have.
    pub files_new: u64,
    /// Number of files that differ from the previous snapshot.
    pub files_changed: u64,
    /// Number of files that are the same as in the previous snapshot.
    pub files_unmodified: u64,
    /// Number of bytes added to the repository, before compression.
    #[serde(rename = "data_added", default)]
    pub added_bytes: u64,
    /// The ids of snapshots of earlier runs, whose files changed while restic read them, if they could not be removed.
    #[serde(skip)]
    pub superseded: Vec<String>,
}

impl SnapshotReport {
    /// Returns the beginning of the id, which is all that restic 0.14 prints.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }
}

/// Cumulative figures of a running backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
struct BackupStatus {
    total_bytes: u64,
    bytes_done: u64,
    files_done: u64,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "message_type", rename_all = "snake_case")]
enum BackupLine {
    Status(BackupStatus),
    Summary(SnapshotReport),
    #[serde(other)]
    Other,
}

/// Makes a snapshot of a captured home, for `host` and the profile of its account. If files changed while restic read
/// them, makes another one, so that the snapshot has exactly the captured content, and removes the earlier ones.
///
/// # Errors
/// restic fails, or files changed in each of [`MAX_RUNS`] runs. Earlier snapshots are unaffected.
pub fn backup(
    restic: &Restic,
    tree: &mut CapturedTree,
    host: &str,
    profile: Option<&str>,
    progress: &dyn Progress,
) -> Result<SnapshotReport, VaultError> {
    let mut superseded: Vec<String> = Vec::new();
    let result = backup_until_unchanged(restic, tree, host, profile, &mut superseded, progress);

    // Also after an error, because a failed backup leaves snapshots.
    if restic.forget(superseded.iter().map(String::as_str)).is_ok() {
        superseded.clear();
    }

    Ok(SnapshotReport {
        superseded,
        ..result?
    })
}

/// Makes snapshots until no file has changed while restic read it. Adds the ids of the earlier snapshots to
/// `superseded_ids`, also after an error.
fn backup_until_unchanged(
    restic: &Restic,
    tree: &mut CapturedTree,
    host: &str,
    profile: Option<&str>,
    superseded_ids: &mut Vec<String>,
    progress: &dyn Progress,
) -> Result<SnapshotReport, VaultError> {
    for _ in 0..MAX_RUNS {
        let metadata = tree.manifest.metadata.clone();
        let tags = SnapshotTags {
            profile: profile.map(str::to_owned),
            metadata,
            imported_digest: None,
        };
        let (tags, more_options) = (tags.to_tags(), []);
        let report = run_backup(restic, &tree.root, host, &tags, &more_options, progress)?;
        // Added before the check of the files, so that the snapshot is also removed if the check fails.
        superseded_ids.push(report.id.clone());

        let changed_count = tree.copy_changed_files()?;
        if changed_count == 0 {
            superseded_ids.pop();
            return Ok(report);
        }

        events::info!(
            "{} changed while restic read them; running it again",
            pluralize(changed_count, "file")
        );
    }

    let home = tree.manifest.metadata.source_codex_home.clone();
    Err(VaultError::Changing(home))
}

/// Runs `restic backup` with `more_options` on the content of `folder`. Fails if restic could not read a file, although
/// restic then makes a snapshot without this file.
pub(super) fn run_backup(
    restic: &Restic,
    folder: &Path,
    host: &str,
    tags: &[String],
    more_options: &[&str],
    progress: &dyn Progress,
) -> Result<SnapshotReport, VaultError> {
    // Hard links change the ctime of files that did not change.
    let mut args = vec!["backup", "--json", "--ignore-ctime", "--host", host];
    args.extend(tags.iter().flat_map(|tag| ["--tag", tag]));
    args.extend(more_options);
    // Relative, so that the tree of the snapshot begins at the home and not at `/`.
    args.push(".");

    let mut report = None;
    let mut last_status = BackupStatus::default();

    // Returns true for a line that shows progress.
    let handle_line = |line: &[u8]| match serde_json::from_slice(line) {
        Ok(BackupLine::Status(status)) => {
            // Keeps the largest figures, so that a figure that falls is not counted again when it rises.
            let previous = std::mem::replace(&mut last_status, status);
            last_status.total_bytes = last_status.total_bytes.max(previous.total_bytes);
            last_status.bytes_done = last_status.bytes_done.max(previous.bytes_done);
            progress.expect_bytes(status.total_bytes.saturating_sub(previous.total_bytes));
            progress.add_bytes(status.bytes_done.saturating_sub(previous.bytes_done));
            // restic repeats its status while it waits for a server.
            previous != status
        }
        Ok(BackupLine::Summary(summary)) => {
            report = Some(summary);
            true
        }
        Ok(BackupLine::Other) | Err(_) => false,
    };
    restic.run_lines(folder, &args, handle_line)?;

    report.ok_or_else(|| restic.fault_error(Fault::Other, "ended without a snapshot"))
}
