//! Puts the files of a snapshot in place.

use super::error::SyncRestoreError;
use super::plan::{SyncRestorePlan, target_path};
use super::records::{ResolutionRecorder, publish, record_entry};
use super::snapshot_reader::SnapshotReader;
use crate::io::IoContext;
use crate::io::atomic::{self, TempFile};
use crate::sync::backup::SnapshotFile;
use crate::sync::config::SyncConfig;
use crate::sync::contents;
use crate::sync::ledger::Ledger;
use crate::sync::mtime::set_mtime;
use crate::sync::scan::{Side, Stat};
use crate::sync::snapshot_writer;
use crate::sync::state::Replica;
use chrono::{DateTime, Utc};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Restores the files, each by one rename, after copying what they replace to a safety snapshot. Returns the
/// name of that snapshot. Files in the cloud folder are recorded as written by this machine, because other
/// machines wait for files that no machine attests. The caller holds the lock of `replica`.
///
/// # Errors
/// See [`SyncRestoreError`].
pub(crate) fn apply(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    replica: &Replica,
    now: DateTime<Utc>,
) -> Result<Option<String>, SyncRestoreError> {
    let mut replaced_files = Vec::new();
    let mut over = Vec::with_capacity(plan.files.len());
    for kept in &plan.files {
        let path = target_path(plan, config, &kept.path)?;
        let remote = Stat::at(&path)?;
        over.push(remote);
        if let Some(stat) = remote {
            let replaced = SnapshotFile {
                cloud: plan.target == Side::Remote,
                path: kept.path.clone(),
                mtime_ns: stat.mtime_ns,
                size: stat.size,
            };
            replaced_files.push((path, replaced));
        }
    }
    let safety = snapshot_writer::back_up_files(config, replaced_files, now)?;
    let put = || -> Result<usize, (usize, SyncRestoreError)> {
        let mut source = SnapshotReader::open(&plan.snapshot).map_err(|e| (0, e))?;
        let mut ledger = match plan.target {
            Side::Local => None,
            Side::Remote => Some(Ledger::open(&replica.folder).map_err(|e| (0, e.into()))?),
        };
        let mut resolution_recorder =
            ResolutionRecorder::of(config, replica).map_err(|e| (0, e))?;
        for (done, (kept, over)) in plan.files.iter().zip(over).enumerate() {
            let staged = stage(plan, config, &mut source, kept, ledger.as_mut());
            staged
                .and_then(|staged| {
                    resolution_recorder.record_keep(kept, staged.temp.path())?;
                    staged.put(over)
                })
                .map_err(|e| (done, e))?;
        }
        Ok(plan.files.len())
    };
    let stopped = |(done, cause): (usize, SyncRestoreError)| SyncRestoreError::Stopped {
        done,
        all: plan.files.len(),
        safety: safety.clone(),
        cause: Box::new(cause),
    };
    let done = put().map_err(stopped)?;
    if plan.target == Side::Remote {
        publish(config, replica).map_err(|e| stopped((done, e)))?;
    }
    Ok(safety)
}

/// A restored file, complete and durable, beside its destination.
struct StagedFile {
    temp: TempFile,
    path: PathBuf,
}

impl StagedFile {
    /// Renames the file to its destination, if that still is as `over`.
    fn put(self, over: Option<Stat>) -> Result<(), SyncRestoreError> {
        let Self { temp, path } = self;
        if Stat::at(&path)? != over {
            return Err(SyncRestoreError::Changed(path));
        }
        if over.is_some() {
            return Ok(temp.replace_synced(&path)?);
        }
        match temp.publish_unsynced(&path) {
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                Err(SyncRestoreError::Changed(path))
            }
            named => {
                named?;
                Ok(atomic::sync_folder(atomic::parent_of(&path))?)
            }
        }
    }
}

/// Writes a file beside its destination, and records it in the ledger if it goes to the cloud folder.
fn stage(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    source: &mut SnapshotReader,
    kept: &SnapshotFile,
    ledger: Option<&mut Ledger>,
) -> Result<StagedFile, SyncRestoreError> {
    let path = target_path(plan, config, &kept.path)?;
    let folder = atomic::parent_of(&path);
    match plan.target {
        Side::Local => atomic::create_private_folder(folder)?,
        Side::Remote => atomic::create_durable_below(&config.cloud, folder)?,
    }
    let mut temp = TempFile::beside(&path)?;
    let from = plan.snapshot.path.join(kept.inside());
    let file = temp.file();
    let size = source
        .with(kept, |from, mode| {
            let size = io::copy(from, file)?;
            set_mode(file, mode)?;
            Ok(size)
        })
        .at("read", &from)?;
    set_mtime(temp.file(), kept.mtime_ns).at("set time", &path)?;
    temp.sync()?;
    if let Some(ledger) = ledger {
        let digest = contents::raw_digest(temp.path()).at("read", &path)?;
        record_entry(ledger, kept, Stat::at(&path)?, size, digest)?;
    }
    Ok(StagedFile { temp, path })
}

/// Applies the recorded mode, restricted to the permissions that files of the user may have.
fn set_mode(file: &fs::File, mode: Option<u32>) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(mode) = mode {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(mode & 0o755 | 0o600);
        crate::io::modes::ignore_refusal(file.set_permissions(mode))?;
    }
    #[cfg(not(unix))]
    let _ = (file, mode);
    Ok(())
}
