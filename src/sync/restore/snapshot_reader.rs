//! Reads the files of a snapshot, a folder or a `.zip`.

use crate::io::file_open;
use crate::sync::backup::{self, BackupError, SnapshotFile, SyncSnapshot};
use crate::sync::sides::mode_of;
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

    /// Calls `read` with the content of a file and its mode, if known.
    pub(super) fn read_with<T>(
        &mut self,
        snapshot_file: &SnapshotFile,
        read: impl FnOnce(&mut dyn io::Read, Option<u32>) -> io::Result<T>,
    ) -> io::Result<T> {
        let root = match self {
            Self::Zip(zip) => {
                let mut file = zip
                    .by_name(&snapshot_file.path_in_snapshot())
                    .map_err(io::Error::other)?;
                let mode = file.unix_mode();
                return read(&mut file, mode);
            }
            Self::Folder(root) => root,
        };
        let mut path = root.clone();
        for part in Path::new(&snapshot_file.path_in_snapshot()).components() {
            path.push(part);
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(io::Error::other("a link in a snapshot is not followed"));
            }
        }
        let mut file = file_open::open_no_link(&path)?;
        let mode = mode_of(&file.metadata()?);
        read(&mut file, mode)
    }
}
