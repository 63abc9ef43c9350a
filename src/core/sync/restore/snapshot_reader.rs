//! Reads the files of a snapshot, a folder or a `.zip`.

use super::error::SyncRestoreError;
use crate::io::{IoContext, IoError, file_open, modes};
use crate::sync::backup::{self, BackupError, SnapshotFile, SyncSnapshot};
use crate::sync::scope;
use crate::sync::sides::{Side, Stat};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Reads files from a snapshot without following links in it.
pub(super) enum SnapshotReader {
    Zip(zip::ZipArchive<fs::File>),
    Folder(PathBuf),
}

impl SnapshotReader {
    pub(super) fn open(snapshot: &SyncSnapshot) -> Result<Self, BackupError> {
        if !snapshot.is_zip() {
            return Ok(Self::Folder(snapshot.path.clone()));
        }
        Ok(Self::Zip(backup::open_zip(snapshot)?))
    }

    /// Calls `read` with the content of a file and its mode; 0600 if the mode is unknown.
    pub(super) fn read_with<T>(
        &mut self,
        snapshot_file: &SnapshotFile,
        read: impl FnOnce(&mut dyn io::Read, u32) -> io::Result<T>,
    ) -> io::Result<T> {
        let root = match self {
            Self::Zip(zip) => {
                let mut file = zip
                    .by_name(&snapshot_file.path_in_snapshot())
                    .map_err(io::Error::other)?;
                let mode = file.unix_mode().unwrap_or(0o600);
                return read(&mut file, mode);
            }
            Self::Folder(root) => root,
        };

        // `open_no_link` refuses a link only in the place of the file, so the folders above it are checked first.
        let mut path = root.clone();
        for part in Path::new(&snapshot_file.path_in_snapshot()).components() {
            path.push(part);
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(io::Error::other("a link in a snapshot is not followed"));
            }
        }

        let mut file = file_open::open_no_link(&path)?;
        let mode = modes::mode_of(&file.metadata()?);
        read(&mut file, mode)
    }
}

/// Lists the files of a snapshot of codexSync, which has no list. Skips files that are never synced, such as logins,
/// although codexSync copied them.
pub(super) fn list_files(snapshot: &SyncSnapshot) -> Result<Vec<SnapshotFile>, SyncRestoreError> {
    let mut files = if snapshot.is_zip() {
        list_files_in_zip(snapshot)?
    } else {
        list_files_in_folder(snapshot)?
    };
    // Codex has renewed the login since; the old one would sign the user out.
    files.retain(|file| scope::never_synced_reason(&file.path).is_none());
    Ok(files)
}

/// Lists the files in a `.zip`, all with the mtime of the snapshot. Skips names that are not Unicode.
fn list_files_in_zip(snapshot: &SyncSnapshot) -> Result<Vec<SnapshotFile>, SyncRestoreError> {
    let mut zip = backup::open_zip(snapshot)?;
    let mut files = Vec::new();
    for index in 0..zip.len() {
        let file = zip.by_index(index).map_err(io::Error::from);
        let file = file.at("read", &snapshot.path)?;
        let name = file.name().map(std::borrow::Cow::into_owned);

        if file.is_file()
            && let Ok(path) = name
        {
            let stat = Stat {
                size: file.size(),
                mtime_ns: snapshot.modified_ns,
            };
            files.push(SnapshotFile::new(Side::Local, path, stat));
        }
    }
    Ok(files)
}

fn list_files_in_folder(snapshot: &SyncSnapshot) -> Result<Vec<SnapshotFile>, IoError> {
    let root = &snapshot.path;
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.map_err(io::Error::from).at("walk", root)?;
        if !entry.file_type().is_file() {
            continue;
        }

        let stat =
            Stat::from_metadata(&fs::symlink_metadata(entry.path()).at("inspect", entry.path())?);
        let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
        // Paths in a snapshot have `/` on all systems.
        let names: Option<Vec<_>> = relative.iter().map(|name| name.to_str()).collect();
        if let Some(names) = names {
            files.push(SnapshotFile::new(Side::Local, names.join("/"), stat));
        }
    }

    Ok(files)
}
