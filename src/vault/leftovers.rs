//! Removes the secrets that killed commands left in the vault's folder.

use super::folder::{folder, staging_folder};
use super::process_note::is_backup_running;
use super::tree_lock::{IMPORT, LOCK, TREE};
use crate::archive::tree_capture::is_always_copied;
use crate::io::lock::FileLock;
use crate::io::{IoError, staging, tree};
use std::fs;
use std::path::{Path, PathBuf};

/// Removes downloaded snapshots, the copies of the login, of other secrets and of databases that a backup
/// made, and an unpacked archive. Leaves those of running commands and of their restic. Links to
/// conversations stay for the next backup.
///
/// # Errors
/// A file cannot be removed. The next command tries again.
pub(crate) fn remove_leftovers(manager_home: &Path) -> Result<(), IoError> {
    let unremoved = staging::remove_stale_temps(&staging_folder(manager_home));
    unremoved.into_iter().next().map_or(Ok(()), Err)?;
    let folder = folder(manager_home);
    if find(&folder).is_empty() {
        return Ok(());
    }
    let Ok(_lock) = FileLock::try_exclusive(&folder.join(LOCK)) else {
        return Ok(());
    };
    if is_backup_running(&folder) {
        return Ok(());
    }
    // A backup may have ended meanwhile.
    find(&folder).iter().try_for_each(|path| tree::remove(path))
}

fn find(folder: &Path) -> Vec<PathBuf> {
    let root = folder.join(TREE);
    let entries = fs::read_dir(&root).into_iter().flatten().flatten();
    let copies = entries.filter(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        !is_folder && is_always_copied(Path::new(&entry.file_name()))
    });
    let mut found: Vec<_> = copies.map(|entry| entry.path()).collect();
    let import = folder.join(IMPORT);
    found.extend(import.symlink_metadata().is_ok().then_some(import));
    found
}
