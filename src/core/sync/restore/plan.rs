//! The plan of a restore: which files of a snapshot go where. Nothing is written.

use super::error::SyncRestoreError;
use super::snapshot_reader::{SnapshotReader, list_files};
use crate::sync::backup::{self, SnapshotFile, SnapshotList, SyncSnapshot};
use crate::sync::config::{SyncConfig, SyncRemote};
use crate::sync::plan::check_cloud_identity;
use crate::sync::sides::Side;
use crate::sync::state::Replica;
use crate::sync::{line_merge, rollouts, scope, secrets};
use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};
use std::{fs, io};

/// The files that a restore would write.
#[derive(Debug)]
pub struct SyncRestorePlan {
    pub snapshot: SyncSnapshot,
    pub target: Side,
    pub files: Vec<SnapshotFile>,
    /// Files that are not restored, each with the reason: files that sync never copies, and texts with tokens.
    pub skipped: Vec<(String, String)>,
}

/// Plans to restore the files of the side `target` from the snapshot `from`, or from the newest one.
///
/// - Without `target`, the side is the home, unless all files of the snapshot are from the cloud folder.
/// - Through the vault, the side is always the home. Without `from` and `target`, the newest snapshot with files of the
///   home is restored.
/// - Of a snapshot by codexSync, or of one without files of the side, all files are restored.
pub fn plan(
    config: &SyncConfig,
    replica: &Replica,
    from: Option<&str>,
    target: Option<Side>,
) -> Result<SyncRestorePlan, SyncRestoreError> {
    let is_vault = config.remote == SyncRemote::Vault;
    let needs_local_files = is_vault && from.is_none() && target.is_none();
    let (snapshot, list) = choose_snapshot(&config.backup.folder, from, needs_local_files)?;

    let target = match target {
        Some(target) => target,
        None if has_only_cloud_files(list.as_ref()) && !is_vault => Side::Remote,
        None => Side::Local,
    };
    if target == Side::Remote {
        check_cloud_identity(config, replica)?;
    }

    let mut files = match list {
        Some(list) => {
            let is_of_side = |file: &&SnapshotFile| file.side() == target;
            let own: Vec<_> = list.files.iter().filter(is_of_side).cloned().collect();
            if own.is_empty() { list.files } else { own }
        }
        None => list_files(&snapshot)?,
    };

    files.sort_by(|a, b| a.path.cmp(&b.path));
    for snapshot_file in &files {
        refuse_path_outside(&snapshot, &snapshot_file.path)?;
    }

    // All files are read now, so that no half of a damaged snapshot is restored.
    let mut source = SnapshotReader::open(&snapshot)?;
    let (mut restorable, mut skipped) = (Vec::new(), Vec::new());
    for snapshot_file in files {
        match find_reason_to_skip(&mut source, &snapshot, target, &snapshot_file)? {
            Some(why) => skipped.push((snapshot_file.path, why)),
            None => restorable.push(snapshot_file),
        }
    }

    let plan = SyncRestorePlan {
        snapshot,
        target,
        files: restorable,
        skipped,
    };

    // A blocked destination is refused before anything is written.
    for snapshot_file in &plan.files {
        target_path(&plan, config, &snapshot_file.path)?;
    }
    Ok(plan)
}

/// Returns the snapshot `name`, or the newest one, with its list. With `needs_local_files`, passes over snapshots of
/// files of the cloud folder alone.
fn choose_snapshot(
    folder: &Path,
    name: Option<&str>,
    needs_local_files: bool,
) -> Result<(SyncSnapshot, Option<SnapshotList>), SyncRestoreError> {
    for snapshot in list_candidates(folder, name)? {
        let list = backup::read_file_list(&snapshot)?;
        let lacks_needed_files = needs_local_files && has_only_cloud_files(list.as_ref());
        if !lacks_needed_files {
            return Ok((snapshot, list));
        }
    }
    Err(SyncRestoreError::NoLocalFiles(folder.to_path_buf()))
}

fn has_only_cloud_files(list: Option<&SnapshotList>) -> bool {
    list.is_some_and(|SnapshotList { files, .. }| {
        !files.is_empty() && files.iter().all(|file| file.side() == Side::Remote)
    })
}

/// Returns the snapshots from which [`choose_snapshot`] chooses: the one named `name`, or without a name all of them,
/// the newest first.
///
/// # Errors
/// There is no such snapshot, or `name` is a path.
fn list_candidates(
    folder: &Path,
    name: Option<&str>,
) -> Result<Vec<SyncSnapshot>, SyncRestoreError> {
    let mut snapshots = backup::list_snapshots(folder)?;
    if let Some(name) = name {
        // A path could lead out of the folder. A backslash separates folders on Windows only.
        let is_file_name = Path::new(name).file_name() == Some(OsStr::new(name));
        if !is_file_name || name.contains('\\') {
            return Err(SyncRestoreError::Outside {
                folder: folder.to_path_buf(),
                name: name.to_owned(),
            });
        }
        snapshots.retain(|snapshot| snapshot.name == name);
    }

    if !snapshots.is_empty() {
        return Ok(snapshots);
    }
    Err(match name {
        Some(name) => SyncRestoreError::NoSuchSnapshot(folder.join(name)),
        None => SyncRestoreError::NoSnapshots(folder.to_path_buf()),
    })
}

/// Checks that a file of the snapshot is undamaged, and returns the reason why it is not restored; `None` if it may be
/// restored. A login is recognized under any name.
///
/// # Errors
/// The file is missing or damaged.
fn find_reason_to_skip(
    source: &mut SnapshotReader,
    snapshot: &SyncSnapshot,
    target: Side,
    file: &SnapshotFile,
) -> Result<Option<String>, SyncRestoreError> {
    let damaged_error = |e: &dyn std::fmt::Display| SyncRestoreError::Damaged {
        path: snapshot.path.join(file.path_in_snapshot()),
        why: e.to_string(),
    };

    let size = source
        .read_with(file, |from, _| io::copy(from, &mut io::sink()))
        .map_err(|e| damaged_error(&e))?;
    if size != file.size && !snapshot.is_zip() {
        return Err(damaged_error(&"its size differs from the recorded one"));
    }

    if let Some(why) = scope::never_synced_reason(&file.path) {
        return Ok(Some(why.to_owned()));
    }
    // Conversations contain the output of commands, so they may contain tokens.
    if rollouts::key(&file.path).is_some() {
        return Ok(None);
    }

    // A text with a token may go back to the home. A prompt, which may quote a token, may go to both sides.
    let may_quote_tokens = line_merge::is_mergeable(&file.path);
    let secret = source
        .read_with(file, |from, _| match target {
            Side::Remote if !may_quote_tokens => secrets::find_secret_in_text(from, size),
            _ => secrets::find_whole_secret(from, size),
        })
        .map_err(|e| damaged_error(&e))?;
    Ok(secret.map(|why| why.to_string()))
}

fn refuse_path_outside(snapshot: &SyncSnapshot, path: &str) -> Result<(), SyncRestoreError> {
    let mut parts = Path::new(path).components();
    let has_only_names = parts.all(|part| matches!(part, Component::Normal(_)));
    // On other systems, `\` is an ordinary character in file names.
    let has_parent_part = path.split(['/', '\\']).any(|part| part == "..");
    let leads_outside = has_parent_part || (cfg!(windows) && path.contains('\\'));

    if has_only_names && !path.is_empty() && !leads_outside {
        return Ok(());
    }
    Err(SyncRestoreError::Unsafe {
        snapshot: snapshot.path.clone(),
        path: path.to_owned(),
        why: "it leads outside the snapshot".to_owned(),
    })
}

/// Returns the destination of a file. Refuses a destination that is a folder, below a file, or at or below a link; only
/// an entry at the top of the home may be a link.
pub(super) fn target_path(
    plan: &SyncRestorePlan,
    config: &SyncConfig,
    path: &str,
) -> Result<PathBuf, SyncRestoreError> {
    let blocked = |why: &str| SyncRestoreError::Unsafe {
        snapshot: plan.snapshot.path.clone(),
        path: path.to_owned(),
        why: format!("{why} blocks its destination"),
    };

    let mut partial_path = config.root(plan.target).to_path_buf();
    let last_depth = path.matches('/').count();
    for (depth, name) in path.split('/').enumerate() {
        partial_path.push(name);
        // A path that does not exist yet is created, so it blocks nothing.
        let Ok(meta) = fs::symlink_metadata(&partial_path) else {
            continue;
        };
        if meta.is_symlink() && (plan.target == Side::Remote || depth > 0) {
            return Err(blocked("a link"));
        }
        if depth < last_depth && !partial_path.is_dir() {
            return Err(blocked("a file"));
        }
    }

    let target = config.file_path(plan.target, path);
    if target.is_dir() {
        return Err(blocked("a folder"));
    }
    Ok(target)
}
