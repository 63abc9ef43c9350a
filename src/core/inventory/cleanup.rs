//! Finds and removes leftovers of killed commands in the manager home.
//!
//! There are three kinds, each with its own test for a live writer: temp files
//! ([`crate::io::temp_name`]), staging folders below `tmp/` ([`staging::is_staging_name`]), and
//! unfinished backups of a sync ([`crate::sync::backup`]).

use crate::io::{IoError, atomic, staging};
use crate::sync::backup;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use walkdir::{DirEntry, WalkDir};

/// Folders of the manager home that may hold temp files, each with the depth of subfolders to
/// search.
const TEMP_FILE_FOLDERS: [(&str, usize); 11] = [
    ("", 0),
    ("backups", 0),
    ("backups/.trash", 1),
    ("profiles", 2),
    ("observations", 0),
    ("sync", 2),
    ("history", 1),
    ("schedule", 1),
    ("logs", 0),
    ("tmp", 1),
    ("vault", 0),
];

/// The default folder for files that a sync overwrites.
const DEFAULT_SYNC_BACKUPS: &str = "sync-backups";

/// Returns the existing folders of [`TEMP_FILE_FOLDERS`] with their subfolders, except staging folders.
fn list_temp_folders(manager_home: &Path) -> Vec<PathBuf> {
    // A staging folder is found and removed as a whole.
    let is_searched = |entry: &DirEntry| {
        let is_staging = staging::is_staging_name(entry.file_name());
        entry.depth() == 0 || (entry.file_type().is_dir() && !is_staging)
    };
    let folders = TEMP_FILE_FOLDERS.into_iter().flat_map(|(name, max_depth)| {
        let walk = WalkDir::new(manager_home.join(name)).max_depth(max_depth);
        walk.into_iter().filter_entry(is_searched).flatten()
    });
    folders.map(DirEntry::into_path).collect()
}

/// Lists leftovers in the manager home, and temp files in `other_folders`. Changes nothing. `now` is
/// the system time, which is compared with mtimes.
pub fn find_leftovers(
    manager_home: &Path,
    other_folders: &[PathBuf],
    now: SystemTime,
) -> Vec<PathBuf> {
    let mut leftovers = staging::find_stale(&manager_home.join("tmp"), staging::STAGING_PREFIX);
    let sync_backups = manager_home.join(DEFAULT_SYNC_BACKUPS);
    let unfinished = sync_backups.join(backup::UNFINISHED_FOLDER);
    leftovers.extend(staging::find_stale(&unfinished, staging::STAGING_PREFIX));
    for folder in list_temp_folders(manager_home).iter().chain(other_folders) {
        leftovers.extend(atomic::find_stale_temps(folder, now));
    }
    leftovers.sort();
    leftovers.dedup();
    leftovers
}

/// Removes stale staging folders and temp files from the manager home. Returns the errors of removing folders, and
/// ignores errors of removing temp files. Leaves unfinished backups of a sync to the next sync.
pub fn remove_leftovers(manager_home: &Path) -> Vec<IoError> {
    let failures = staging::remove_stale(&manager_home.join("tmp"));
    for folder in list_temp_folders(manager_home) {
        atomic::remove_stale_temps(&folder);
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn leftovers_are_found_in_every_folder_that_is_written_and_in_no_other() {
        let home = tempfile::tempdir().unwrap();
        let searched = [
            "",
            "backups",
            "backups/.trash/x",
            "profiles",
            "profiles/a",
            "profiles/a/history",
            "observations",
            "sync/replica",
            "history/2026",
            "schedule",
            "logs",
            "tmp/restores",
            "tmp/login-x",
            "vault",
        ];
        let others = ["isolated/home", "backups/auth/a@x.com", "tmp/staging-x"];
        let temp = |folder: &str| {
            let folder = home.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(format!("{}x", crate::io::temp_name::TEMP_PREFIX));
            drop(atomic::create_private(&path).unwrap());
            path
        };
        let mut expected: Vec<_> = searched.map(temp).into();
        let others = others.map(temp);
        expected.push(home.path().join("tmp/staging-x"));
        expected.sort();
        let later = fs::metadata(&others[0]).unwrap().modified().unwrap()
            + std::time::Duration::from_secs(61);
        assert_eq!(find_leftovers(home.path(), &[], later), expected);
        assert!(remove_leftovers(home.path()).is_empty());
        assert_eq!(
            find_leftovers(home.path(), &[], later),
            Vec::<PathBuf>::new()
        );
        assert!(others[0].exists() && others[1].exists());
    }
}
