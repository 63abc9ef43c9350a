//! Whole folders: removing them, making them durable.

use super::{IoContext, IoError};
use std::fs;
use std::path::Path;

/// Removes a file, link or folder with everything in it. Links are removed, not followed.
/// What is not there is no error.
#[allow(
    clippy::disallowed_methods,
    reason = "the one place that removes whole folders"
)]
pub fn remove(path: &Path) -> Result<(), IoError> {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match result {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at("remove", path),
    }
}

/// Asks the system to begin writing what is in `file`, and does not wait: a [`sync`] to come has
/// less to wait for then. Advice alone; nothing is durable after it.
pub fn begin_sync(file: &fs::File) {
    // The advice that the pages are not needed begins to write those that are dirty; those that
    // are not yet clean stay.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = file;
}

/// Makes everything below `folder` durable: contents, names and attributes.
pub fn sync(folder: &Path) -> Result<(), IoError> {
    // One syncfs is durable for all of it, and reports write errors since Linux 5.8; one fsync a
    // file costs a journal commit each.
    #[cfg(target_os = "linux")]
    {
        let file = fs::File::open(folder).at("open", folder)?;
        rustix::fs::syncfs(&file)
            .map_err(std::io::Error::from)
            .at("sync", folder)
    }
    #[cfg(not(target_os = "linux"))]
    {
        for entry in walkdir::WalkDir::new(folder).contents_first(true) {
            let entry = entry
                .map_err(|e| {
                    e.into_io_error()
                        .unwrap_or_else(|| std::io::ErrorKind::Other.into())
                })
                .at("walk", folder)?;
            if entry.file_type().is_file() {
                fs::File::open(entry.path())
                    .and_then(|f| f.sync_all())
                    .at("fsync", entry.path())?;
            } else if entry.file_type().is_dir() {
                super::atomic::sync_folder(entry.path())?;
            }
        }
        Ok(())
    }
}
