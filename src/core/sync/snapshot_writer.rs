//! Writes snapshots: copies of the files that a sync overwrites, in a folder or in a `.zip`.

use super::backup::{
    BackupError, LIST_NAME, SnapshotFile, SnapshotList, TIMESTAMP_FORMAT, UNFINISHED_FOLDER,
    next_snapshot_number,
};
use super::config::{SnapshotCompression, SyncConfig};
use super::plan::{ObservedFile, Op, SyncPlan};
use super::sides::{Side, set_mtime};
use crate::io::atomic::{self, TempFile};
use crate::io::{IoContext, IoError, Staging, document, file_open, modes, zip_file};
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;

#[derive(Debug, Default)]
pub(crate) struct SnapshotResult {
    /// Name of the snapshot; `None` if no file had to be copied.
    pub name: Option<String>,
    /// Files that are not in the snapshot, each with the reason. They must not be overwritten.
    pub not_copied: Vec<(SnapshotFile, String)>,
}

/// Copies the files that the plan overwrites or removes to a new snapshot, except unreadable files.
///
/// # Errors
/// The snapshot could not be written; it does not exist then.
pub(crate) fn back_up_plan(
    plan: &SyncPlan,
    config: &SyncConfig,
    now: DateTime<Utc>,
) -> Result<SnapshotResult, BackupError> {
    // The local files first, then the remote ones.
    let mut overwritten: BTreeMap<(bool, String), ObservedFile> = BTreeMap::new();
    for target in plan.steps.iter().flat_map(|s| &s.ops).flat_map(Op::targets) {
        let is_remote = target.side == Side::Remote;
        overwritten.insert((is_remote, target.path.clone()), target);
    }
    let files = overwritten.into_values().map(|target| {
        let path = config.root(target.side).join(&target.path);
        let file = SnapshotFile::new(target.side, target.path, target.stat);
        (path, file)
    });
    write_snapshot(config, files.collect(), now, UnreadableFiles::LeaveOut)
}

/// The treatment of files that cannot be copied to a snapshot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum UnreadableFiles {
    LeaveOut,
    /// No snapshot is made.
    Refuse,
}

/// Copies files, each given with its current path, to a new snapshot. Returns the name of the snapshot; `None` if no
/// file exists.
///
/// # Errors
/// The snapshot could not be written, or a file could not be copied to it. Then there is no snapshot.
pub(crate) fn back_up_files(
    config: &SyncConfig,
    mut files: Vec<(PathBuf, SnapshotFile)>,
    now: DateTime<Utc>,
) -> Result<Option<String>, BackupError> {
    // Files that are gone in the meantime need no copy.
    files.retain(|(path, _)| path.exists());

    // An incomplete snapshot would be the latest one, which a restore without `--from` uses.
    let snapshot = write_snapshot(config, files, now, UnreadableFiles::Refuse)?;

    match snapshot.not_copied.into_iter().next() {
        None => Ok(snapshot.name),
        Some((file, why)) => {
            let path = config.root(file.side()).join(file.path);
            let failed = Err(io::Error::other(why)).at("keep", path);
            failed.map_err(BackupError::from)
        }
    }
}

/// Writes a snapshot of the readable files, and publishes it unless an unreadable file is refused.
fn write_snapshot(
    config: &SyncConfig,
    files: Vec<(PathBuf, SnapshotFile)>,
    now: DateTime<Utc>,
    unreadable_files: UnreadableFiles,
) -> Result<SnapshotResult, BackupError> {
    if files.is_empty() {
        return Ok(SnapshotResult::default());
    }

    let folder = &config.backup.folder;
    let unfinished = Staging::create_in(&folder.join(UNFINISHED_FOLDER))?;
    let number = next_snapshot_number(config)?;
    let base_name = format!("{}-{}", config.machine_id, now.format(TIMESTAMP_FORMAT));

    // Written in the unfinished folder, so that a killed run leaves no snapshot that looks complete.
    let root = unfinished.path("snapshot");
    let (list, not_copied) = copy_readable(&root, files, number)?;
    let is_refused = unreadable_files == UnreadableFiles::Refuse && !not_copied.is_empty();
    if list.files.is_empty() || is_refused {
        return Ok(SnapshotResult {
            name: None,
            not_copied,
        });
    }

    let (path, extension) = match config.backup.compression {
        SnapshotCompression::None => (root, ""),
        SnapshotCompression::Zip => {
            let path = unfinished.path("snapshot.zip");
            write_zip(&path, &root, &list)?;
            (path, ".zip")
        }
    };
    let name = Some(rename_to_free_name(&path, folder, &base_name, extension)?);
    Ok(SnapshotResult { name, not_copied })
}

/// Renames a finished snapshot to the first free name. Another run may create one in the same second.
fn rename_to_free_name(
    finished: &Path,
    folder: &Path,
    base: &str,
    extension: &str,
) -> Result<String, IoError> {
    let mut name = format!("{base}{extension}");
    for number in 2.. {
        match atomic::rename_to_free(finished, &folder.join(&name)) {
            Err(e) if e.source.kind() == io::ErrorKind::AlreadyExists => {
                name = format!("{base}-{number}{extension}");
            }
            renamed => return renamed.map(|()| name),
        }
    }
    unreachable!("numbers have no end")
}

/// Copies the readable files to the folder `root`, and writes their list there, with the number of the snapshot.
/// Returns the list, and the unreadable files, each with the reason.
fn copy_readable(
    root: &Path,
    files: Vec<(PathBuf, SnapshotFile)>,
    number: u64,
) -> Result<(SnapshotList, Vec<(SnapshotFile, String)>), IoError> {
    let (mut copied, mut not_copied) = (Vec::new(), Vec::new());
    for (source, mut file) in files {
        match copy_into_folder(root, &source, &file) {
            Ok(size) => {
                file.size = size;
                copied.push(file);
            }
            // The file may be on a failing disk or in a cloud folder that is offline.
            Err(e) if e.path == source => {
                let why = if e.is_not_found() {
                    "it was removed in the meantime".to_owned()
                } else {
                    format!("it cannot be backed up ({})", e.source)
                };
                not_copied.push((file, why));
            }
            Err(e) => return Err(e),
        }
    }

    let list = SnapshotList {
        number,
        files: copied,
    };
    if !list.files.is_empty() {
        atomic::write(&root.join(LIST_NAME), &document::encode(root, &list)?)?;
    }
    Ok((list, not_copied))
}

fn copy_into_folder(root: &Path, source: &Path, file: &SnapshotFile) -> Result<u64, IoError> {
    let mut from = file_open::open(source).at("open", source)?;
    let mode = from.metadata().at("inspect", source)?.permissions();
    let target = root.join(file.path_in_snapshot());
    atomic::create_private_folder(atomic::parent_of(&target))?;
    let mut to = TempFile::create_beside(&target)?;
    let copied = io::copy(&mut from, to.file());
    let size = attribute_copy_error(copied, source, &target)?;
    set_mtime(to.file(), file.mtime_ns).at("set time", &target)?;
    modes::ignore_refusal(to.file().set_permissions(mode)).at("set mode", &target)?;
    to.replace(&target)?;
    Ok(size)
}

/// Writes the snapshot in the folder `root` to a `.zip` at `path`.
fn write_zip(path: &Path, root: &Path, list: &SnapshotList) -> Result<(), IoError> {
    let mut temp = TempFile::create_beside(path)?;
    let names = list.files.iter().map(SnapshotFile::path_in_snapshot);
    let written = zip_file::write(temp.file(), |zip| -> Result<(), IoError> {
        for name in names.chain([LIST_NAME.to_owned()]) {
            let source = root.join(&name);
            let mut file = file_open::open(&source).at("open", &source)?;
            let mode = modes::mode_of(&file.metadata().at("inspect", &source)?) & 0o777;
            let options = SimpleFileOptions::default().large_file(true);
            let started = zip.start_file(name, options.unix_permissions(mode));
            started.map_err(io::Error::from).at("write", path)?;
            zip_file::add_content(zip, &mut file).at("read", &source)?;
        }
        Ok(())
    });
    written.at("write", path)??;
    temp.replace(path)
}

/// Adds a path to the error of a copy. If `source` cannot be read, adds `source`, so that the caller leaves the file
/// out. Otherwise adds `target`, and the snapshot fails.
fn attribute_copy_error(
    copied: io::Result<u64>,
    source: &Path,
    target: &Path,
) -> Result<u64, IoError> {
    let read_source_again = || io::copy(&mut file_open::open(source)?, &mut io::sink());
    match copied {
        Err(e) if read_source_again().is_ok() => Err(e).at("write", target),
        copied => copied.at("copy", source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_staged_file_that_cannot_be_read_into_a_zip_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let staged = folder.path().join(LIST_NAME);
        fs::create_dir(&staged).unwrap();
        let (number, files) = (1, Vec::new());
        let list = SnapshotList { number, files };
        let written = write_zip(&folder.path().join("a.zip"), folder.path(), &list);
        assert_eq!(written.unwrap_err().path, staged);
    }

    #[test]
    fn existing_snapshot_names_are_not_reused() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|n| {
                let finished = folder.path().join("finished");
                atomic::write(&finished, n.to_string().as_bytes()).unwrap();
                rename_to_free_name(&finished, folder.path(), "a-1", ".zip").unwrap()
            })
            .collect();
        assert_eq!(names, ["a-1.zip", "a-1-2.zip", "a-1-3.zip"]);
        for (n, name) in names.iter().enumerate() {
            let text = fs::read_to_string(folder.path().join(name)).unwrap();
            assert_eq!(text, n.to_string());
        }
    }
}
