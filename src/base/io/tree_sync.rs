//! Makes whole folders durable.

use super::io_error::{IoContext, IoError};
use super::{atomic, file_open, flush, parallel};
use std::fs::{FileType, Metadata};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// The largest number of new files that Linux syncs one by one, and of syncs in flight.
const MAX_SINGLE_SYNCS: usize = 256;

/// Makes everything below `folder` durable: contents, names and attributes.
pub(crate) fn sync_tree(folder: &Path) -> Result<(), IoError> {
    #[cfg(target_os = "linux")]
    {
        // Syncing the whole file system also waits for the writes of other programs, so a few new files
        // are synced one by one. For many, one call is cheaper; it reports write errors since Linux
        // 5.8, and also works for files that may not be opened.
        if !has_many_new_files(folder)? {
            match sync_entries(folder) {
                Err(e) if e.source.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => return synced,
            }
        }

        #[allow(clippy::disallowed_methods, reason = "a folder, and no file")]
        let folder_file = std::fs::File::open(folder);
        folder_file
            .and_then(|f| Ok(rustix::fs::syncfs(&f)?))
            .at("sync", folder)
    }
    #[cfg(not(target_os = "linux"))]
    sync_entries(folder)
}

/// Makes everything on the file systems of these paths durable, by one `syncfs` call each. Returns false if a call
/// failed or is unreliable: only Linux reports write errors, and FUSE does not forward the call.
pub fn sync_file_systems<'a>(paths: impl IntoIterator<Item = &'a Path>) -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        const FUSE_MAGIC: u32 = 0x6573_5546;

        #[allow(
            clippy::disallowed_methods,
            reason = "a folder, or a file of this program"
        )]
        let sync = |path: &Path| {
            let file = std::fs::File::open(path)?;
            if u32::try_from(rustix::fs::fstatfs(&file)?.f_type) == Ok(FUSE_MAGIC) {
                return Ok(false);
            }
            rustix::fs::syncfs(&file)?;
            std::io::Result::Ok(true)
        };

        let mut synced_devices = std::collections::BTreeSet::new();
        paths.into_iter().all(|path| {
            let Ok(meta) = path.metadata() else {
                return false;
            };
            // One call is enough for all paths on a file system.
            let is_first_path = synced_devices.insert(meta.dev());
            !is_first_path || sync(path).unwrap_or(false)
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        paths.into_iter().next().is_none()
    }
}

/// Syncs each file and folder by a call of its own, several in parallel.
fn sync_entries(folder: &Path) -> Result<(), IoError> {
    parallel::run_ordered(
        MAX_SINGLE_SYNCS,
        sync_entry,
        // Returns the first error.
        |synced| synced,
        |jobs| {
            for entry in WalkDir::new(folder).follow_root_links(false) {
                let entry = entry.map_err(std::io::Error::from).at("list", folder)?;
                let kind = entry.file_type();
                if jobs.submit((entry.into_path(), kind)).is_err() {
                    break;
                }
            }
            Ok(())
        },
    )
}

fn sync_entry((path, kind): (PathBuf, FileType)) -> Result<(), IoError> {
    if kind.is_dir() {
        atomic::sync_folder(&path)
    } else if kind.is_file() {
        let synced = file_open::open_to_flush(&path).and_then(|file| {
            if is_new_file(&file.metadata()?) {
                flush::sync_all(&file)
            } else {
                flush::sync_data(&file)
            }
        });
        synced.at("fsync", &path)
    } else {
        Ok(())
    }
}

/// Returns true if there are more than [`MAX_SINGLE_SYNCS`] new files below `folder`.
#[cfg(target_os = "linux")]
fn has_many_new_files(folder: &Path) -> Result<bool, IoError> {
    let mut new_files = 0;
    for entry in WalkDir::new(folder).follow_root_links(false) {
        let entry = entry.map_err(std::io::Error::from).at("list", folder)?;
        let is_new = |meta: Metadata| meta.is_file() && is_new_file(&meta);
        if entry.metadata().is_ok_and(is_new) {
            new_files += 1;
        }
        if new_files > MAX_SINGLE_SYNCS {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns true for a file with one hard link, and always on Windows. A file with another link existed before, so it
/// was synced then.
fn is_new_file(meta: &Metadata) -> bool {
    #[cfg(unix)]
    {
        std::os::unix::fs::MetadataExt::nlink(meta) == 1
    }
    #[cfg(not(unix))]
    {
        let _ = meta;
        true
    }
}
