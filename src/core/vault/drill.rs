//! Tests a snapshot: restores it into a temporary folder and checks the result.

use super::contents::SnapshotContents;
use super::error::VaultError;
use super::folder::{create_staging, staging_parent};
use super::materialize::materialize;
use super::restic::Restic;
use super::snapshot::Snapshot;
use crate::accounts::AuthPolicy;
use crate::archive::{ArchiveReader, Compression, verify};
use crate::codex::{AppServerError, Program, kind_of, thread_list};
use crate::io::{Environment, Progress, Silent, Timestamp};
use crate::restore::{RestoreRequest, RestoreTarget, Selection, apply};
use std::path::Path;
use std::time::{Duration, Instant};

pub struct DrillOptions<'a> {
    /// The manager home, with the temporary folder.
    pub manager_home: &'a Path,
    pub codex: Option<&'a Program>,
    pub env: &'a Environment,
    /// The current time in the local zone.
    pub now: Timestamp,
    /// The longest time that Codex may take without progress.
    pub timeout: Duration,
}

#[derive(Debug)]
pub struct DrillReport {
    pub files: u64,
    /// Size of all files together, in bytes.
    pub bytes: u64,
    /// Number of conversations that Codex listed in the restored home; `None` without Codex, or if there was a problem.
    pub conversations: Option<usize>,
    /// Problems for the user; empty for a good drill.
    pub problems: Vec<String>,
}

/// Converts the snapshot into an archive, checks its digests and databases, restores it without its login into a
/// temporary folder, and lets Codex list the conversations there. Ends after the first check that finds a problem.
/// Removes all files. `progress` counts the downloaded bytes.
///
/// # Errors
/// restic fails, the snapshot differs from its manifest, the archive cannot be restored, the disk is full, or the user
/// interrupts.
pub fn run_drill(
    restic: &Restic,
    snapshot: &Snapshot,
    options: &DrillOptions<'_>,
    progress: &dyn Progress,
) -> Result<DrillReport, VaultError> {
    let staging = create_staging(options.manager_home)?;
    let mut contents = SnapshotContents::read(restic, snapshot)?;
    let (folder, compression) = (staging.folder(), Compression::Fast);
    let (archive_file, finished_archive) = materialize(
        restic,
        snapshot,
        &mut contents,
        folder,
        compression,
        progress,
    )?;

    let tmp_folder = staging_parent(options.manager_home);
    let verified = verify::verify(archive_file.path(), &tmp_folder, &Silent)?;
    // If the new archive cannot be read, the local disk is at fault, and the snapshot may be sound.
    if let Some(e) = verified.read_error {
        return Err(e.into());
    }

    let metadata = &finished_archive.manifest.metadata;
    let mut report = DrillReport {
        files: metadata.files,
        bytes: metadata.bytes,
        conversations: None,
        problems: verified.problems,
    };
    if !report.problems.is_empty() {
        return Ok(report);
    }

    let archive = ArchiveReader::open(archive_file.path())?;
    let home = staging.path("home");
    restore_to_temporary_home(&home, &archive, options)?;

    let Some(codex) = options.codex else {
        return Ok(report);
    };
    match thread_list::count_conversations(codex, &home, options.env, options.timeout) {
        Ok(0) if has_rollouts(&archive) => {
            let problem = "Codex lists none of the restored conversations";
            report.problems.push(problem.to_owned());
        }
        Ok(count) => report.conversations = Some(count),
        Err(AppServerError::Interrupted) => return Err(VaultError::Interrupted),
        Err(e) => report
            .problems
            .push(format!("Codex lists no conversations: {e}")),
    }
    Ok(report)
}

fn restore_to_temporary_home(
    home: &Path,
    archive: &ArchiveReader,
    options: &DrillOptions<'_>,
) -> Result<(), VaultError> {
    let request = RestoreRequest {
        archive,
        folder: home.to_path_buf(),
        target: RestoreTarget::Elsewhere,
        selection: Selection::default(),
        merge: false,
        // A Codex that starts with a copy of a login could renew it, and so invalidate the original.
        auth: AuthPolicy::Skip,
        may_switch_account: false,
        // The home is new, so there is nothing to back up.
        safety_backup: false,
        safety_without_logins: false,
        may_write_outside: false,
        // `None` lets the restore probe the disk.
        ignores_case: None,
        manager_home: options.manager_home,
        machine: None,
        env: options.env,
        now: options.now,
        planned_after: Instant::now(),
    };

    apply::apply(&request, &Silent)?;
    Ok(())
}

fn has_rollouts(archive: &ArchiveReader) -> bool {
    let mut files = archive.contents().files.iter();
    files.any(|file| kind_of(file.path.as_path()).is_rollout_folder())
}
